# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""What is believed of what the hub says about a peer: which of its networks may be moved to a direct
peer, and which endpoints may be tried.

A peer's `address` is text as `wg set` takes it: the host route at which it is asked, and after a comma each
of whatever else is its own (a second address, subnets behind it).

Host candidates (RFC 8445, section 5.1.1) are what peers say of themselves, reflexive endpoints what the hub
sees; `ladder` tells which are tried.
"""

from __future__ import annotations

import functools
import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Union

from .._wireguard.dump import Peer
from .._wireguard.routes import peer_towards

Address = Union[ipaddress.IPv4Address, ipaddress.IPv6Address]
Network = Union[ipaddress.IPv4Network, ipaddress.IPv6Network]
Interface = Union[ipaddress.IPv4Interface, ipaddress.IPv6Interface]


class UnacceptableError(ValueError):
    """A claim that is not acted on; the text says what and why."""


@dataclass(frozen=True)
class Place:
    """Where this node is in the VPN: its own addresses with their networks, the hub's VPN
    address, and what the hub peer's AllowedIPs cover."""

    own: tuple[Interface, ...]
    hub: Address
    relayed: tuple[Network, ...]

    def seen(self, peers: Iterable[Peer]) -> Place:
        """The same place with the AllowedIPs that the hub peer, one of `peers`, has now."""
        peer = hub_peer(self.hub, peers)
        return self if peer is None else replace(self, relayed=_networks(peer))

    @property
    def inside(self) -> tuple[Network, ...]:
        """What this node reaches through the tunnel, so that no endpoint can be in there.  A default route is
        not meant: WireGuard's own packets have to get past that anyway (its fwmark)."""
        routed = (network for network in self.relayed if network.prefixlen)
        return (*(interface.network for interface in self.own), *routed)

    def address(self, allowed_ips: str) -> str:
        """What of `allowed_ips` (`"address/bitmask"`, or several with commas) may become a direct peer's, the
        host route at which it is asked first: `"192.168.7.6/32,10.1.0.0/24"`.

        There has to be a host route in a network of the interface.  None may hold our own address or the
        hub's, and the hub peer has to cover each more widely, so that traffic falls back to the relay when
        the direct peer has lost it; what the hub peer does not cover at all is not ours to reach, and is left
        out, if it is not in a network of the interface.  Raises UnacceptableError.
        """
        try:
            claimed = [ipaddress.ip_network(text.strip()) for text in allowed_ips.split(",")]
        except ValueError:
            raise UnacceptableError(f"the hub gives {allowed_ips!r} as its address, which is none") from None
        hosts = [network for network in claimed if self._is_own(network) and network.num_addresses == 1]
        others = [network for network in claimed if network not in hosts]
        if not hosts:
            raise UnacceptableError(self._no_address(claimed[0]))
        for network in hosts:
            self._check_host(network.network_address)
        for network in others:
            if self._is_own(network):
                raise UnacceptableError(
                    f"the hub gives {network} as its address; only a host route can be direct"
                )
        routed = [network for network in others if _covered(network, self.relayed)]
        for network in [*hosts, *routed]:
            self._check_fallback(network)
        return ",".join(str(network) for network in [*hosts, *routed])

    def _is_own(self, network: Network) -> bool:
        """Whether it is in, or around, a network of the interface."""
        return any(_overlap(network, interface.network) for interface in self.own)

    def _no_address(self, network: Network) -> str:
        if network.num_addresses != 1:
            return f"the hub gives {network} as its address; only a host route can be direct"
        return f"{network.network_address} is outside the interface's network"

    def _check_host(self, address: Address) -> None:
        if address == self.hub:
            raise UnacceptableError(f"{address} is the hub's own address")
        if any(address == interface.ip for interface in self.own):
            raise UnacceptableError(f"{address} is this node's own address")
        if not any(address in network for network in self.relayed):
            raise UnacceptableError(
                f"{address} is not in the hub peer's AllowedIPs, so it could not fall back"
            )

    def _check_fallback(self, network: Network) -> None:
        taken = next((piece for piece in _pieces(network) if piece in self.relayed), None)
        if taken is not None:
            raise UnacceptableError(
                f"{taken} itself is in the hub peer's AllowedIPs, so it could not fall back: a wider network "
                "has to be there"
            )

    def endpoint(self, text: str) -> str:
        """The endpoint `"ip:port"` or `"[ip]:port"`, if it may be sent to.  Raises UnacceptableError."""
        try:
            host, port = text.strip().rsplit(":", 1)
            address = ipaddress.ip_address(host.strip("[]"))
            number = int(port)
        except ValueError:
            raise UnacceptableError(f"the hub gives {text!r} as its endpoint, which is not ip:port") from None
        if not 0 < number < 65536:
            raise UnacceptableError(f"endpoint {text}: no such port")
        if address.is_loopback or address.is_multicast or address.is_unspecified or address.is_link_local:
            raise UnacceptableError(f"endpoint {text}: not an address to send to")
        if any(address in network for network in self.inside):
            raise UnacceptableError(f"endpoint {text} lies inside the VPN")
        return f"[{address}]:{number}" if address.version == 6 else f"{address}:{number}"


def hub_peer(hub: Address, peers: Iterable[Peer]) -> Peer | None:
    """The one of `peers` to which packets to the hub's VPN address go, by the longest prefix."""
    return peer_towards(hub, peers)


def _networks(peer: Peer) -> tuple[Network, ...]:
    return tuple(ipaddress.ip_network(text) for text in peer.allowed_ips)


def host(address: str) -> str:
    """Where the peer with this `address` is asked: `"192.168.7.6"`."""
    return address.partition("/")[0]


def networks(address: str) -> tuple[str, ...]:
    """Whatever belongs to the peer with this `address`."""
    return tuple(address.split(","))


@functools.lru_cache(maxsize=4096)
def moved(address: str) -> tuple[str, ...]:
    """The AllowedIPs of a direct peer with this `address`.

    The hub peer has `10.1.0.0/24` as well, and WireGuard would take it from there.  Its two halves win by the
    longest prefix, and leave it where it falls back to.
    """
    return tuple(str(piece) for text in networks(address) for piece in _pieces(ipaddress.ip_network(text)))


def _pieces(network: Network) -> list[Network]:
    return [network] if network.num_addresses == 1 else list(network.subnets())


def _covered(network: Network, by: Iterable[Network]) -> bool:
    return any(
        one.version == network.version
        and one.prefixlen <= network.prefixlen
        and network.network_address in one
        for one in by
    )


def _overlap(one: Network, other: Network) -> bool:
    return one.version == other.version and (one.network_address in other or other.network_address in one)


MAX_HOST_CANDIDATES = 4
HOST_CANDIDATE = re.compile(r"(?:\[([0-9a-fA-F:.]+)\]|([0-9.]+)):([1-9][0-9]{0,4})")
HOST_NETWORKS = tuple(
    ipaddress.ip_network(text)
    for text in (
        "10.0.0.0/8",  # private: RFC 1918
        "172.16.0.0/12",
        "192.168.0.0/16",
        "100.64.0.0/10",  # shared: RFC 6598
        "2000::/3",  # global unicast: RFC 4291, section 2.4
        "fc00::/7",  # unique local: RFC 4193
    )
)


def host_candidates(texts: Iterable[str], own_networks: Iterable[Network]) -> tuple[str, ...]:
    """Those of the host candidates `texts` that may be tried, as WireGuard writes endpoints.

    A candidate is `"ip:port"` or `"[ip]:port"`.  At most 4 are accepted, all with the port of the
    first: private or shared IPv4, global or unique local IPv6, and nothing inside `own_networks`, the
    VPN.  Hub and agent both ask here, so neither relies on the other.
    """
    vpn = tuple(own_networks)
    found: dict[str, None] = {}
    port = None
    for text in texts:
        candidate = _host_candidate(text, vpn)
        if candidate is None or len(found) == MAX_HOST_CANDIDATES:
            continue
        this_port = candidate.rpartition(":")[2]
        port = port or this_port
        if this_port == port:
            found[candidate] = None
    return tuple(found)


def _host_candidate(text: str, vpn: tuple[Network, ...]) -> str | None:
    match = HOST_CANDIDATE.fullmatch(text)
    if match is None or int(match[3]) > 65535:
        return None
    try:
        address = ipaddress.IPv6Address(match[1]) if match[1] else ipaddress.IPv4Address(match[2])
    except ValueError:
        return None
    if not any(address in network for network in HOST_NETWORKS) or any(address in network for network in vpn):
        return None
    return f"[{address}]:{match[3]}" if address.version == 6 else f"{address}:{match[3]}"
