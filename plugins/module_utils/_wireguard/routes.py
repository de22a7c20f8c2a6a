# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""Cryptokey routing: which peer of an interface a packet goes to."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Protocol, TypeVar, Union

Address = Union[ipaddress.IPv4Address, ipaddress.IPv6Address]


class HasAllowedIPs(Protocol):
    """A peer, of a file or of a device."""

    @property
    def allowed_ips(self) -> tuple[str, ...]:
        """Networks, as address/bits."""


AnyPeer = TypeVar("AnyPeer", bound=HasAllowedIPs)


def peer_towards(address: Address, peers: Iterable[AnyPeer]) -> AnyPeer | None:
    """The one of `peers` to which packets to `address` go, by the longest prefix; None if there is none."""
    claims = [
        (network.prefixlen, peer)
        for peer in peers
        for network in map(ipaddress.ip_network, peer.allowed_ips)
        if address in network
    ]
    return max(claims, key=lambda claim: claim[0])[1] if claims else None
