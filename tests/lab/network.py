# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""The lab's network: a hub at the core, sites behind NATs, three routers between any two NATs.

    node -lan- NAT -wan- router ---- core ---- router -wan- NAT -lan- node
                                      |
                                     hub

A packet that leaves a node with TTL 2, 3 or 4 passes its own NAT and dies at one of the three routers.
What passes the core is counted by outer addresses, and so is what nodes behind one NAT send one another:
which path packets take is seen from outside. The faults of `Network` are the field's, not the program's.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from tests.lab.namespaces import Namespace, unique_prefix
from tests.lab.wireguard import INTERFACE, VPN, VPN6, Node
from tests.nat_profiles import NatProfile

HUB_ADDRESS = "203.0.113.2"
HUB_OTHER_ADDRESS = "203.0.113.6"
HUB_NAME = "hub.lab.example"
HUB_VPN_ADDRESS = "192.168.7.1"
CORE_ADDRESS = "203.0.113.1"
"""Outside of the VPN, as any other address of the internet."""
HUB_VPN_ADDRESS6 = "fd77::1"
VPNS = {"4": (VPN,), "6": (VPN6,), "46": (VPN, VPN6)}
LARGE_BYTES = 300
"""IP packets longer than this are data: handshakes (176 bytes), keepalives and openers are shorter."""
NARROW_BYTES = 1000
"""What a narrow path lets through."""

# A packet that `delay.py` holds back passes twice, and is counted once.
_CORE_RULES = "".join(
    f"""
table {family} core {{
    set datagrams {{ type {kind} . {kind}; flags dynamic; size 4096; counter; }}
    set large {{ type {kind} . {kind}; flags dynamic; size 4096; counter; }}
    set blocked {{ type {kind} . {kind}; }}
    set narrow {{ type {kind} . {kind}; }}
    chain forward {{
        type filter hook forward priority filter; policy accept;
        oifname "delay" accept
        {family} saddr . {family} daddr @blocked drop
        meta length > {NARROW_BYTES} {family} saddr . {family} daddr @narrow drop
        meta l4proto udp update @datagrams {{ {family} saddr . {family} daddr }}
        meta l4proto udp meta length > {LARGE_BYTES} update @large {{ {family} saddr . {family} daddr }}
    }}
}}
"""
    for family, kind in (("ip", "ipv4_addr"), ("ip6", "ipv6_addr"))
)

# What nodes behind one NAT send one another.
_LAN_RULES = f"""
table bridge lan {{
    set large {{ type ipv4_addr . ipv4_addr; flags dynamic; size 4096; counter; }}
    set large6 {{ type ipv6_addr . ipv6_addr; flags dynamic; size 4096; counter; }}
    chain forward {{
        type filter hook forward priority filter; policy accept;
        ether type ip meta length > {LARGE_BYTES} update @large {{ ip saddr . ip daddr }}
        ether type ip6 meta length > {LARGE_BYTES} update @large6 {{ ip6 saddr . ip6 daddr }}
    }}
}}
"""

# What leaves a site, openers included, which the core does not see.
_SENT_RULES = """
table ip sent {
    set to { type ipv4_addr; flags dynamic; size 4096; counter; }
    chain forward {
        type filter hook forward priority filter; policy accept;
        iifname "lan" oifname "wan" meta l4proto udp update @to { ip daddr }
    }
}
"""

# What ufw and firewalld do, and the cure for it (DESIGN fact 16).
_HUB_DROPS_INVALID = """
table inet hub_filter {
    chain forward {
        type filter hook forward priority filter; policy accept;
        ct state invalid drop
    }
}
"""
_HUB_NOTRACK = """
table inet hub_notrack {
    chain prerouting {
        type filter hook prerouting priority raw; policy accept;
        iifname "wg0" fib daddr oifname "wg0" notrack
    }
}
"""


def stateful_firewall6(policy: str) -> str:
    """A router that lets in what was asked for (RFC 6092), and does with the rest what `policy` says."""
    refuse = {"drop": "drop", "reject": "reject with icmpv6 admin-prohibited", "accept": "accept"}[policy]
    return f"""
table ip6 firewall {{
    chain forward {{
        type filter hook forward priority filter; policy drop;
        iifname "lan" oifname "wan" accept
        ct state established,related accept
        meta l4proto udp {refuse}
    }}
}}
"""


@dataclasses.dataclass
class Access:
    """A NAT with its public address, behind a router of its provider; a LAN for nodes behind it."""

    number: int
    nat: Namespace
    router: Namespace
    address: str
    nodes: int = 0
    moved_to: int = 41000

    @property
    def gateway(self) -> str:
        return f"198.51.100.{8 * self.number + 1}"

    @property
    def prefix6(self) -> str:
        return f"2001:db8:{self.number + 1}:"


@dataclasses.dataclass
class Site:
    """A node behind a NAT."""

    node: Node
    access: Access
    lan_address: str
    address6: str

    @property
    def nat(self) -> Namespace:
        return self.access.nat

    @property
    def router(self) -> Namespace:
        return self.access.router

    @property
    def nat_address(self) -> str:
        return self.access.address


class Network:
    """Hub and sites, with WireGuard up and every node known to the hub. Use it as a context manager.

    profiles    one NAT for each access
    directory   logs of the programs go there
    keys        private keys of the nodes, in the order of the sites; made here if not given
    notrack     the hub does not track packets between VPN addresses; it always drops `ct state invalid`
    behind      how many nodes are behind each NAT; one if not given
    ipv6        drop, reject or accept: the nodes have global addresses behind stateful firewalls
    delay_s     every packet takes so long to pass the core
    inside      "4", "6" or "46": the address families inside the VPN
    hub_name    the nodes know the hub by HUB_NAME, from their own /etc/hosts
    """

    def __init__(
        self,
        profiles: Sequence[NatProfile],
        directory: Path,
        keys: Sequence[str] | None = None,
        notrack: bool = True,
        behind: Sequence[int] | None = None,
        ipv6: str | None = None,
        delay_s: float = 0.0,
        hub_name: bool = False,
        inside: str = "4",
    ) -> None:
        self.directory = directory
        self.vpns = VPNS[inside]
        self.hub_address = HUB_ADDRESS
        self._prefix = unique_prefix()
        self._namespaces: list[Namespace] = []
        self._letters = iter("abcdefgh")
        self._ipv6 = ipv6
        try:
            self.core = self._namespace("core")
            self.core.sysctl(_forwarding(ipv6))
            self.core.nft(_CORE_RULES)
            self.hub = self._hub(notrack)
            self.accesses = [self._access(number, profile) for number, profile in enumerate(profiles)]
            self.sites = [
                self._site(access)
                for access, count in zip(self.accesses, behind or [1] * len(profiles), strict=True)
                for _ in range(count)
            ]
            if delay_s:
                self._delay(delay_s)
            for number, node in enumerate(self.nodes):
                addresses = [f"192.168.7.{number + 5}/24", f"fd77::{number + 5}/64"]
                node.up(*self._inside(addresses), private_key=keys[number] if keys else None)
                self.hub.wg_set_peer(node.public_key, allowed_ips=",".join(node.addresses))
                if hub_name:
                    node.knows_host(HUB_NAME, HUB_ADDRESS)
                host = HUB_NAME if hub_name else HUB_ADDRESS
                self.join(node, f"{host}:{self.hub.listen_port}")
            for node in self.nodes:
                node.wait_for_handshake(self.hub.public_key)
        except BaseException:
            self.remove()
            raise

    def _inside(self, addresses: Sequence[str]) -> list[str]:
        """Those of the families that the VPN has."""
        versions = {ipaddress.ip_network(vpn).version for vpn in self.vpns}
        return [address for address in addresses if ipaddress.ip_interface(address).version in versions]

    def join(
        self,
        node: Node,
        endpoint: str = f"{HUB_ADDRESS}:51820",
        vpns: Sequence[str] = (),
        more: Sequence[str] = (),
        interface: Sequence[str] = (),
    ) -> None:
        """The node has the hub for the whole VPN, or for `vpns`, and for `more` networks, with their routes;
        `interface` are more lines of that section in its file.
        """
        node.hub_address = self.hub.address
        node.join(self.hub.public_key, endpoint, ", ".join([*(vpns or self.vpns), *more]), interface)
        for network in more:
            node.run("ip", "route", "replace", network, "dev", INTERFACE)

    def attach_subnet(self, site: Site, network: str) -> Node:
        """A machine behind the site's node, in a subnet that the hub sends there; its address is the
        network's second, the node's the first.
        """
        subnet = ipaddress.ip_network(network)
        machine = self._node(f"lan-{site.node.name[-1]}")
        machine.address = str(subnet[2])
        node_end, machine_end = (f"{subnet[number]}/{subnet.prefixlen}" for number in (1, 2))
        self.core.run(
            "ip",
            "link",
            "add",
            "inner0",
            "netns",
            site.node.name,
            "type",
            "veth",
            "peer",
            "name",
            "eth0",
            "netns",
            machine.name,
        )
        for namespace, interface, address in (
            (site.node, "inner0", node_end),
            (machine, "eth0", machine_end),
        ):
            namespace.run("ip", "address", "add", address, "dev", interface)
            namespace.run("ip", "link", "set", interface, "up")
        machine.run("ip", "route", "add", "default", "via", str(subnet[1]))
        site.node.sysctl({"net.ipv4.ip_forward": "1"})
        self.hub.wg_set_peer(site.node.public_key, allowed_ips=",".join([*site.node.addresses, network]))
        self.hub.run("ip", "route", "add", network, "dev", INTERFACE)
        return machine

    @property
    def nodes(self) -> list[Node]:
        return [site.node for site in self.sites]

    def _namespace(self, role: str) -> Namespace:
        namespace = Namespace(self._prefix + role)
        self._namespaces.append(namespace)
        namespace.sysctl(_AT_ONCE)
        return namespace

    def _node(self, role: str) -> Node:
        node = Node(self._prefix + role, self.directory / role)
        self._namespaces.append(node)
        node.sysctl(_AT_ONCE)
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
                "net.ipv6.conf.all.forwarding": "1",
            }
        )
        hub.nft(_HUB_DROPS_INVALID + (_HUB_NOTRACK if notrack else ""))
        hub.up(*self._inside([f"{HUB_VPN_ADDRESS}/24", f"{HUB_VPN_ADDRESS6}/64"]), listen_port=51820)
        return hub

    def _access(self, number: int, profile: NatProfile) -> Access:
        letter = "abcdefgh"[number]
        nat, router = self._namespace(f"nat-{letter}"), self._namespace(f"router-{letter}")
        access = Access(number, nat, router, f"198.51.100.{8 * number + 2}")
        core_end, router_end = (f"192.0.2.{4 * number + end}" for end in (1, 2))

        # Where containers run, the kernel filters what a bridge forwards as if it were routed.
        for family in ("ip", "ip6"):
            nat.run("sysctl", "-e", "-q", "-w", f"net.bridge.bridge-nf-call-{family}tables=0")
        nat.run("ip", "link", "add", "lan", "type", "bridge")
        nat.run("ip", "address", "add", f"10.0.{number}.1/24", "dev", "lan")
        nat.run("ip", "link", "set", "lan", "up")
        nat.nft(_LAN_RULES + _SENT_RULES)
        _connect(nat, "wan", f"{access.address}/29", router, "customer", f"{access.gateway}/29")
        nat.run("ip", "route", "add", "default", "via", access.gateway)
        nat.nft(profile.ruleset())
        nat.sysctl(profile.sysctls())
        _connect(router, "core", f"{router_end}/30", self.core, f"site-{letter}", f"{core_end}/30")
        router.run("ip", "route", "add", "default", "via", core_end)
        router.sysctl(_forwarding(self._ipv6))
        self.core.run("ip", "route", "add", f"198.51.100.{8 * number}/29", "via", router_end)
        if self._ipv6:
            self._access6(access, letter, self._ipv6)
        return access

    def _access6(self, access: Access, letter: str, policy: str) -> None:
        outside, inside = f"fd00:0:0:{2 * access.number}:", f"fd00:0:0:{2 * access.number + 1}:"
        for namespace, interface, address in (
            (access.nat, "lan", f"{access.prefix6}:1/64"),
            (access.nat, "wan", f"{inside}:2/64"),
            (access.router, "customer", f"{inside}:1/64"),
            (access.router, "core", f"{outside}:2/64"),
            (self.core, f"site-{letter}", f"{outside}:1/64"),
        ):
            _add_address6(namespace, interface, address)
        access.nat.sysctl({"net.ipv6.conf.all.forwarding": "1"})
        access.nat.nft(stateful_firewall6(policy))
        _add_route6(access.nat, "default", f"{inside}:1")
        _add_route6(access.router, "default", f"{outside}:1")
        _add_route6(access.router, f"{access.prefix6}:/48", f"{inside}:2")
        _add_route6(self.core, f"{access.prefix6}:/48", f"{outside}:2")

    def _site(self, access: Access) -> Site:
        site = Site(self._node(f"node-{next(self._letters)}"), access, "", "")
        self._plug_in(site, access)
        return site

    def _plug_in(self, site: Site, access: Access) -> None:
        access.nodes += 1
        host = access.nodes + 1
        site.access, site.lan_address = access, f"10.0.{access.number}.{host}"
        port = f"port-{host}"
        _cable(access.nat, port, site.node, "lan0")
        access.nat.run("ip", "link", "set", port, "master", "lan")
        site.node.run("ip", "address", "add", f"{site.lan_address}/24", "dev", "lan0")
        site.node.run("ip", "route", "add", "default", "via", f"10.0.{access.number}.1")
        if self._ipv6:
            site.address6 = f"{access.prefix6}:{host}"
            _add_address6(site.node, "lan0", f"{site.address6}/64")
            _add_route6(site.node, "default", f"{access.prefix6}:1")

    def _delay(self, delay_s: float) -> None:
        """All that the sites and the hub send makes a detour at the core, through `delay.py`."""
        script = str(Path(__file__).with_name("delay.py"))
        process = self.core.start(sys.executable, script, str(delay_s), stdout=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        self.core.run("ip", "route", "add", "default", "dev", "delay", "table", "77")
        for interface in ("hub", *(f"site-{letter}" for letter in "abcdefgh"[: len(self.accesses)])):
            self.core.run("ip", "rule", "add", "iif", interface, "lookup", "77")

    # --- what is seen from outside ---

    def counted(self, name: str = "large") -> dict[tuple[str, ...], int]:
        """UDP packets that passed the core so far, by outer (source, destination): "large" or all."""
        return {
            pair: count
            for family in ("ip", *(["ip6"] if self._ipv6 else []))
            for pair, count in _counts(self.core, family, "core", name).items()
        }

    def counted_everywhere(self) -> dict[tuple[str, ...], int]:
        """Large packets that passed the core or went from one node to another on its LAN."""
        counts = self.counted()
        for access in self.accesses:
            if access.nodes > 1:
                counts.update(_counts(access.nat, "bridge", "lan", "large"))
                counts.update(_counts(access.nat, "bridge", "lan", "large6"))
        return counts

    def sent_to(self, site: Site, address: str) -> int:
        """UDP packets from behind the site's NAT to this address so far."""
        return _counts(site.nat, "ip", "sent", "to").get((address,), 0)

    # --- faults ---

    def block(self, a: Site, b: Site, blocked: bool = True) -> None:
        """Let the core drop everything between two sites' NATs; with blocked=False, forward it again."""
        self.block_one_way(a, b, blocked)
        self.block_one_way(b, a, blocked)

    def block_one_way(self, a: Site, b: Site, blocked: bool = True) -> None:
        """The same, for what goes from a to b."""
        self._set(f"blocked {{ {a.nat_address} . {b.nat_address} }}", blocked)

    def narrow(self, a: Site, b: Site, narrow: bool = True) -> None:
        """Let the core drop large packets between two sites' NATs, and say nothing (RFC 2923)."""
        for one, other in ((a, b), (b, a)):
            self._set(f"narrow {{ {one.nat_address} . {other.nat_address} }}", narrow)

    def _set(self, element: str, add: bool) -> None:
        self.core.nft(f"{'add' if add else 'delete'} element ip core {element}\n")

    def lose_nat_state(self, site: Site) -> None:
        """The NAT forgets everything, as by a reboot that takes no time."""
        site.nat.run("conntrack", "-F")

    def move_mappings(self, site: Site) -> None:
        """The NAT forgets everything, and maps to another port from now on, the same for all destinations."""
        site.access.moved_to += 1
        rule = f'oifname "wan" meta l4proto udp masquerade to :{site.access.moved_to}-{site.access.moved_to}'
        site.nat.nft(f"insert rule ip nat_profile postrouting {rule}\n")
        self.lose_nat_state(site)

    def change_address(self, site: Site) -> None:
        """The provider gives the NAT another public address."""
        before, access = site.access.address, site.access
        access.address = f"198.51.100.{8 * access.number + 3}"
        access.nat.run("ip", "address", "del", f"{before}/29", "dev", "wan")
        access.nat.run("ip", "address", "add", f"{access.address}/29", "dev", "wan")
        access.nat.run("ip", "route", "replace", "default", "via", access.gateway)
        self.lose_nat_state(site)

    def roam(self, site: Site, access: Access) -> None:
        """Unplug the node, and plug it in behind another NAT."""
        site.node.run("ip", "link", "delete", "lan0")
        self._plug_in(site, access)

    def move_hub(self) -> None:
        """The hub has another public address, and the old one is gone."""
        self.hub_address = HUB_OTHER_ADDRESS
        for namespace, interface, before, after in (
            (self.core, "hub", "203.0.113.1/30", "203.0.113.5/30"),
            (self.hub, "wan", f"{HUB_ADDRESS}/30", f"{HUB_OTHER_ADDRESS}/30"),
        ):
            namespace.run("ip", "address", "del", before, "dev", interface)
            namespace.run("ip", "address", "add", after, "dev", interface)
        self.hub.run("ip", "route", "replace", "default", "via", "203.0.113.5")

    def cut_off_hub(self, cut_off: bool = True) -> None:
        """Unplug the hub's machine; with cut_off=False, plug it in again."""
        self.hub.run("ip", "link", "set", "wan", "down" if cut_off else "up")
        if not cut_off:
            self.hub.run("ip", "route", "replace", "default", "via", "203.0.113.1")

    # --- the end ---

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


# Link-local addresses are used at once, without seconds of duplicate address detection (RFC 4862, 5.4).
_AT_ONCE = {"net.ipv6.conf.default.accept_dad": "0", "net.ipv6.conf.all.accept_dad": "0"}


def _forwarding(ipv6: str | None) -> dict[str, str]:
    return {"net.ipv4.ip_forward": "1", **({"net.ipv6.conf.all.forwarding": "1"} if ipv6 else {})}


def _counts(namespace: Namespace, family: str, table: str, name: str) -> dict[tuple[str, ...], int]:
    listing = json.loads(namespace.run("nft", "--json", "list", "set", family, table, name))
    elements = next(entry["set"] for entry in listing["nftables"] if "set" in entry).get("elem", [])
    counts = {}
    for element in elements:
        value = element["elem"]["val"]
        pair = tuple(value["concat"]) if isinstance(value, dict) else (value,)
        counts[pair] = element["elem"]["counter"]["packets"]
    return counts


def _connect(
    a: Namespace, a_interface: str, a_address: str, b: Namespace, b_interface: str, b_address: str
) -> None:
    """A cable with an address on each end. a has no private files: it has to see /run/netns."""
    _cable(a, a_interface, b, b_interface)
    for namespace, interface, address in ((a, a_interface, a_address), (b, b_interface, b_address)):
        namespace.run("ip", "address", "add", address, "dev", interface)


def _cable(a: Namespace, a_interface: str, b: Namespace, b_interface: str) -> None:
    a.run("ip", "link", "add", a_interface, "type", "veth", "peer", "name", b_interface, "netns", b.name)
    for namespace, interface in ((a, a_interface), (b, b_interface)):
        namespace.run("ip", "link", "set", interface, "up")


def _add_address6(namespace: Namespace, interface: str, address: str) -> None:
    namespace.run("ip", "-6", "address", "add", address, "dev", interface, "nodad")


def _add_route6(namespace: Namespace, to: str, via: str) -> None:
    namespace.run("ip", "-6", "route", "add", to, "via", via)
