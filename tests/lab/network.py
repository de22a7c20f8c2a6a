# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""The lab's network: a hub at the core, sites behind NATs, three routers between any two NATs.

    node -lan- NAT -wan- router ---- core ---- router -wan- NAT -lan- node
                                      |
                                     hub

A packet that leaves a node with TTL 2, 3 or 4 passes its own NAT and dies at one of the three routers.
What passes the core is counted by outer addresses, so which path packets take is seen from outside.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from tests.lab.namespaces import Namespace, unique_prefix
from tests.lab.wireguard import Node
from tests.nat_profiles import NatProfile

HUB_ADDRESS = "203.0.113.2"
HUB_VPN_ADDRESS = "192.168.7.1"
LARGE_BYTES = 300
"""IP packets longer than this are data: handshakes (176 bytes), keepalives and openers are shorter."""

_CORE_RULES = f"""
table ip core {{
    set datagrams {{ type ipv4_addr . ipv4_addr; flags dynamic; size 4096; counter; }}
    set large {{ type ipv4_addr . ipv4_addr; flags dynamic; size 4096; counter; }}
    set blocked {{ type ipv4_addr . ipv4_addr; }}
    chain forward {{
        type filter hook forward priority filter; policy accept;
        ip saddr . ip daddr @blocked drop
        meta l4proto udp update @datagrams {{ ip saddr . ip daddr }}
        meta l4proto udp ip length > {LARGE_BYTES} update @large {{ ip saddr . ip daddr }}
    }}
}}
"""

# What ufw and firewalld do, and the cure for it (DESIGN fact 16).
_HUB_DROPS_INVALID = """
table ip hub_filter {
    chain forward {
        type filter hook forward priority filter; policy accept;
        ct state invalid drop
    }
}
"""
_HUB_NOTRACK = """
table ip hub_notrack {
    chain prerouting {
        type filter hook prerouting priority raw; policy accept;
        iifname "wg0" ip saddr 192.168.7.0/24 ip daddr 192.168.7.0/24 ip daddr != 192.168.7.1 notrack
    }
}
"""


@dataclasses.dataclass(frozen=True)
class Site:
    """A node behind a NAT, which has a public address, behind a router of its provider."""

    node: Node
    nat: Namespace
    router: Namespace
    nat_address: str
    lan_address: str


class Network:
    """Hub and sites, with WireGuard up and every node known to the hub. Use it as a context manager.

    profiles    one NAT for each site
    keys        private keys of the nodes, in the order of the sites; made here if not given
    notrack     the hub does not track packets between VPN addresses; it always drops `ct state invalid`
    directory   logs of the programs go there
    """

    def __init__(
        self,
        profiles: Sequence[NatProfile],
        directory: Path,
        keys: Sequence[str] | None = None,
        notrack: bool = True,
    ) -> None:
        self.directory = directory
        self._prefix = unique_prefix()
        self._namespaces: list[Namespace] = []
        try:
            self.core = self._namespace("core")
            self.core.sysctl({"net.ipv4.ip_forward": "1"})
            self.core.nft(_CORE_RULES)
            self.hub = self._hub(notrack)
            self.sites = [self._site(number, profile) for number, profile in enumerate(profiles)]
            for number, node in enumerate(self.nodes):
                node.up(f"192.168.7.{number + 5}/24", private_key=keys[number] if keys else None)
                self.hub.wg_set_peer(node.public_key, allowed_ips=f"{node.address}/32")
                node.join(self.hub.public_key, f"{HUB_ADDRESS}:{self.hub.listen_port}")
            for node in self.nodes:
                node.wait_for_handshake(self.hub.public_key)
        except BaseException:
            self.remove()
            raise

    @property
    def nodes(self) -> list[Node]:
        return [site.node for site in self.sites]

    def _namespace(self, role: str) -> Namespace:
        namespace = Namespace(self._prefix + role)
        self._namespaces.append(namespace)
        return namespace

    def _node(self, role: str) -> Node:
        node = Node(self._prefix + role, self.directory / role)
        self._namespaces.append(node)
        return node

    def _hub(self, notrack: bool) -> Node:
        hub = self._node("hub")
        _connect(self.core, "hub", "203.0.113.1/30", hub, "wan", f"{HUB_ADDRESS}/30")
        hub.run("ip", "route", "add", "default", "via", "203.0.113.1")
        hub.sysctl(
            {
                "net.ipv4.ip_forward": "1",
                "net.ipv4.conf.all.send_redirects": "0",
                "net.ipv4.conf.default.send_redirects": "0",
            }
        )
        hub.nft(_HUB_DROPS_INVALID + (_HUB_NOTRACK if notrack else ""))
        hub.up(f"{HUB_VPN_ADDRESS}/24", listen_port=51820)
        return hub

    def _site(self, number: int, profile: NatProfile) -> Site:
        letter = "abcdefgh"[number]
        node, nat, router = (
            self._node(f"node-{letter}"),
            self._namespace(f"nat-{letter}"),
            self._namespace(f"router-{letter}"),
        )
        lan, link = f"10.0.{number}", f"192.0.2.{4 * number}"
        gateway, nat_address = f"198.51.100.{8 * number + 1}", f"198.51.100.{8 * number + 2}"
        core_end, router_end = (link.rpartition(".")[0] + f".{4 * number + end}" for end in (1, 2))

        _connect(nat, "lan", f"{lan}.1/24", node, "lan0", f"{lan}.2/24")
        node.run("ip", "route", "add", "default", "via", f"{lan}.1")
        _connect(nat, "wan", f"{nat_address}/29", router, "customer", f"{gateway}/29")
        nat.run("ip", "route", "add", "default", "via", gateway)
        nat.nft(profile.ruleset())
        nat.sysctl(profile.sysctls())
        _connect(router, "core", f"{router_end}/30", self.core, f"site-{letter}", f"{core_end}/30")
        router.run("ip", "route", "add", "default", "via", core_end)
        router.sysctl({"net.ipv4.ip_forward": "1"})
        self.core.run("ip", "route", "add", f"198.51.100.{8 * number}/29", "via", router_end)
        return Site(node, nat, router, nat_address, f"{lan}.2")

    def counted(self, name: str = "large") -> dict[tuple[str, str], int]:
        """UDP packets that passed the core so far, by outer (source, destination): "large" or all."""
        listing = json.loads(self.core.run("nft", "--json", "list", "set", "ip", "core", name))
        elements = next(entry["set"] for entry in listing["nftables"] if "set" in entry).get("elem", [])
        counts = {}
        for element in elements:
            source, destination = element["elem"]["val"]["concat"]
            counts[source, destination] = element["elem"]["counter"]["packets"]
        return counts

    def block(self, a: Site, b: Site, blocked: bool = True) -> None:
        """Let the core drop everything between two sites' NATs; with blocked=False, forward it again."""
        pairs = f"{{ {a.nat_address} . {b.nat_address}, {b.nat_address} . {a.nat_address} }}"
        self.core.nft(f"{'add' if blocked else 'delete'} element ip core blocked {pairs}\n")

    def remove(self) -> None:
        """End everything in the namespaces and remove them."""
        while self._namespaces:
            self._namespaces.pop().remove()

    def __enter__(self) -> Network:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.remove()


def _connect(
    a: Namespace, a_interface: str, a_address: str, b: Namespace, b_interface: str, b_address: str
) -> None:
    """A cable with an address on each end. a has no private files: it has to see /run/netns."""
    a.run("ip", "link", "add", a_interface, "type", "veth", "peer", "name", b_interface, "netns", b.name)
    for namespace, interface, address in ((a, a_interface, a_address), (b, b_interface, b_address)):
        namespace.run("ip", "address", "add", address, "dev", interface)
        namespace.run("ip", "link", "set", interface, "up")
