# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""What is believed of what the hub says about a peer: which address may be moved to a direct
peer, and which endpoints may be tried.

Host candidates (RFC 8445, section 5.1.1) are what peers say of themselves, reflexive endpoints what the hub
sees; `ladder` tells which are tried.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Union

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

    def host_route(self, allowed_ips: str) -> str:
        """The one host route in `allowed_ips` (`"address/bitmask"`) that may become a direct
        peer's, as `"192.168.7.6/32"`.

        It has to lie in a network of the interface, must be neither our own address nor the
        hub's, and the hub peer has to cover it, so that traffic falls back to the relay.
        Raises UnacceptableError.
        """
        try:
            claimed = ipaddress.ip_network(allowed_ips.strip())
        except ValueError:
            raise UnacceptableError(f"the hub gives {allowed_ips!r} as its address, which is none") from None
        if claimed.num_addresses != 1:
            raise UnacceptableError(
                f"the hub gives {claimed} as its address; only a host route can be direct"
            )
        address = claimed.network_address
        if not any(address in interface.network for interface in self.own):
            raise UnacceptableError(f"{address} is outside the interface's network")
        if address == self.hub:
            raise UnacceptableError(f"{address} is the hub's own address")
        if any(address == interface.ip for interface in self.own):
            raise UnacceptableError(f"{address} is this node's own address")
        if not any(address in network for network in self.relayed):
            raise UnacceptableError(
                f"{address} is not in the hub peer's AllowedIPs, so it could not fall back"
            )
        return str(claimed)

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
        if any(address in interface.network for interface in self.own):
            raise UnacceptableError(f"endpoint {text} lies inside the VPN")
        return f"[{address}]:{number}" if address.version == 6 else f"{address}:{number}"


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
