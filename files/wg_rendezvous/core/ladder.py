# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""Which candidate pairs a rendezvous tries, and in which order: the cheapest first (DESIGN section 5).

Host candidates where both peers are behind one reflexive address, or have IPv6; then the reflexive endpoints,
those that the hub sees.  When all have failed there are the restart condition (`refresh`) and the relay.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass

from .candidates import Address, Place, UnacceptableError, host_candidates
from .events import PeerView

HOST, REFLEXIVE = "host", "reflexive"
HOST_RUNGS = 3
"""More host candidates are not tried: each costs a second when it fails."""
ULA = ipaddress.ip_network("fc00::/7")
SITE_BITS = 48
"""ULA of one site share so many bits (RFC 4193, section 3.1)."""


@dataclass(frozen=True)
class Rung:
    """One candidate pair: the own endpoint that the peer is to use, and the peer's that we use."""

    strategy: str
    mine: str
    yours: str


def rungs(place: Place, own: PeerView, other: PeerView) -> list[Rung]:
    """The candidate pairs between two peers as the hub sees them, best first; empty if there is none."""
    found = _all_rungs(place, own, other)
    hosts = [rung for rung in found if rung.strategy == HOST]
    return hosts[:HOST_RUNGS] + found[len(hosts) :]


def endpoints_of(place: Place, own: PeerView, other: PeerView) -> list[str]:
    """All endpoints of `other` that it may ask us to use: it has its own order, and so its own best ones."""
    return [rung.yours for rung in _all_rungs(place, own, other)]


def why_none(place: Place, own: PeerView, other: PeerView) -> str:
    """Why there is no candidate pair: a sentence, "" if there is one."""
    if _all_rungs(place, own, other):
        return ""
    for view, whose in ((own, "of this node"), (other, "of it")):
        if not view.endpoint:
            return f"the hub names no endpoint {whose} yet"
    if not _same_family(own, other):
        return f"no common IP family: the hub sees this node at {own.endpoint}, and it at {other.endpoint}"
    return f"its endpoint {other.endpoint} is none to send to"


def is_same_address(one: str, other: str) -> bool:
    """Whether two endpoints have the same IP address."""
    return _host(one) == _host(other)


def is_behind_one_nat(rung: Rung) -> bool:
    """Whether it is one of two peers that the hub sees at the same address."""
    return _host(rung.yours).version == 4 if rung.strategy == HOST else is_same_address(rung.mine, rung.yours)


def is_claimed(view: PeerView | None, endpoint: str) -> bool:
    """Whether only the peer itself says that this address is its own: the hub sees it at another one."""
    return view is None or _reflexive(view) != _host(endpoint)


def _all_rungs(place: Place, own: PeerView, other: PeerView) -> list[Rung]:
    """The host candidates first."""
    found: list[Rung] = []
    if own.endpoint and other.endpoint:
        if _reflexive(own) is not None and _reflexive(own) == _reflexive(other):
            found += _pairs(_usable(own.candidates, place, 4), _usable(other.candidates, place, 4))
        found += _pairs(_usable(own.candidates, place, 6), _usable(other.candidates, place, 6))
        if not _same_family(own, other):
            return found
        try:
            yours = place.endpoint(other.endpoint)
        except UnacceptableError:
            return found
        found.append(Rung(REFLEXIVE, own.endpoint, yours))
    return found


def _same_family(own: PeerView, other: PeerView) -> bool:
    """Whether the reflexive endpoints are of one IP version: else no packet gets from one to the other."""
    mine, yours = _reflexive(own), _reflexive(other)
    return mine is None or yours is None or mine.version == yours.version


def _reflexive(view: PeerView) -> Address | None:
    """The address that the hub sees, None if it names none."""
    try:
        return _host(view.endpoint or "")
    except ValueError:
        return None


def _usable(candidates: Iterable[str], place: Place, version: int) -> list[str]:
    return [one for one in host_candidates(candidates, place.inside) if _host(one).version == version]


def _pairs(mine: list[str], yours: list[str]) -> list[Rung]:
    """Each of yours with the nearest of mine, those with the longest common prefix first."""
    found = []
    for your in yours:
        near = max(mine, key=lambda one: _common_bits(one, your), default=None)
        if near is not None and _can_reach(near, your):
            found.append(Rung(HOST, near, your))
    return sorted(found, key=lambda rung: -_common_bits(rung.mine, rung.yours))


def _can_reach(mine: str, yours: str) -> bool:
    """A ULA reaches those of its own site only."""
    if _host(mine).version == 4 or not (_is_ula(mine) or _is_ula(yours)):
        return True
    return _common_bits(mine, yours) >= SITE_BITS


def _is_ula(endpoint: str) -> bool:
    return _host(endpoint) in ULA


def _common_bits(one: str, other: str) -> int:
    a, b = _host(one), _host(other)
    return a.max_prefixlen - (int(a) ^ int(b)).bit_length()


def _host(endpoint: str) -> Address:
    return ipaddress.ip_address(endpoint.rsplit(":", 1)[0].strip("[]"))
