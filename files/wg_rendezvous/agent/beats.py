# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""Our own pings that are not answered yet: whose they are, and when they left.

On the wire a ping has a random number.  A peer that spoofs the outer source of its packets has our answers,
pings and all, sent to somebody else (DESIGN fact 18); if it could guess the number it could go on answering
pings that it does not get, and the link would stay at the victim's address.
"""

from __future__ import annotations

import ipaddress
import secrets
from dataclasses import dataclass

from ..core import actions, events

PATIENCE_S = 10.0
"""An answer that comes later than this is of no interest to anybody."""
NONCE_BITS = 64


@dataclass(frozen=True)
class _Sent:
    peer: str | None
    number: int
    at_s: float


class Pings:
    """Times are the caller's, from a clock that never goes back."""

    def __init__(self) -> None:
        self._sent: dict[tuple[str, int], _Sent] = {}  # oldest first

    def sent(self, action: actions.SendBeat, now_s: float) -> int:
        """A ping leaves now; returns its number on the wire."""
        self._forget(now_s)
        nonce = secrets.randbits(NONCE_BITS)
        self._sent[_plain(action.address), nonce] = _Sent(action.peer, action.number, now_s)
        return nonce

    def answered(self, address: str, nonce: int, now_s: float) -> events.BeatAnswered | None:
        """The event for a pong from `address`; None if that one was not asked so, or has answered already."""
        self._forget(now_s)
        sent = self._sent.pop((_plain(address), nonce), None)
        return None if sent is None else events.BeatAnswered(sent.peer, sent.number, now_s - sent.at_s)

    def __len__(self) -> int:
        return len(self._sent)

    def _forget(self, now_s: float) -> None:
        while self._sent:
            oldest = next(iter(self._sent))
            if now_s - self._sent[oldest].at_s <= PATIENCE_S:
                return
            del self._sent[oldest]


def _plain(address: str) -> str:
    """One spelling for every address: IPv6 has many."""
    return str(ipaddress.ip_address(address)) if ":" in address else address
