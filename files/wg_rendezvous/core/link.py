# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""The state machine of one link: how traffic to one other peer gets from the hub onto a
direct path, and back.

Theory of operation
-------------------
Two things are moved separately, because WireGuard lets us (DESIGN fact 3): the *session*
with the other peer, which needs an endpoint and no AllowedIPs, and the *traffic*, which
follows the AllowedIPs.  Traffic is moved only when the session is there, and stays moved only
when an answer came back through it.

    relayed      Traffic goes through the hub.  The device has no entry for the peer, or one
                 without AllowedIPs that nobody waits for.
    opening      Low-TTL openers are out: the own NAT is open, nothing arrived at the other one.
    knocking     The device has a fresh entry with an endpoint and a keepalive, without
                 AllowedIPs.  WireGuard sends handshake initiations.  Traffic is still relayed;
                 coming from a promoted state, this is what takes it back.
    provisional  A handshake newer than the knock was seen, so the AllowedIPs were moved here.
                 The other end sees the same handshake within a round trip and moves as well
                 (fact 14).  A probe has to come back through the link, or both go back.
    direct       A probe was answered through the link.  It is probed once a pass.
    doubtful     One probe was missed.  Traffic stays; the hub is asked, and a second probe decides.

A probe that is answered while the AllowedIPs are here did come through the link: cryptokey
routing drops whatever has the peer's address and comes another way (fact 4).  Nothing else
proves the path: not a handshake (fact 6), not received bytes (fact 4).

The table below is the whole machine.  A pair that is not in it is an event that changes
nothing in that state; `Link.on` then returns no effects.  What an effect is in terms of the
device is `mesh`'s business.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


class State(enum.Enum):
    """Where the traffic goes, and what is awaited (see above)."""

    RELAYED = "relayed"
    OPENING = "opening"
    KNOCKING = "knocking"
    PROVISIONAL = "provisional"
    DIRECT = "direct"
    DOUBTFUL = "doubtful"


class LinkEvent(enum.Enum):
    """What happens to a link."""

    TRY = "try"  # a pass found the peer online, at an endpoint
    KNOCK_DUE = "knock due"  # the openers are out, and it is this end's time to knock
    HANDSHAKE = "handshake"  # the device shows a handshake newer than the knock
    ANSWERED = "answered"  # the latest probe came back through the link
    MISSED = "missed"  # the latest probe did not
    MISSED_BLIND = "missed while the hub is silent"  # neither did the hub answer
    LOST = "lost"  # something else removed the entry, or its AllowedIPs
    ADOPTED = "adopted"  # found moved by an earlier run of this agent
    WITHDRAW = "withdraw"  # the peer went offline, changed its address, or the agent stops


class Effect(enum.Enum):
    """What a transition asks for."""

    OPEN = "open"  # send low-TTL openers to the endpoint
    KNOCK = "knock"  # add the peer afresh: endpoint, keepalive, no AllowedIPs
    PROMOTE = "promote"  # give it its AllowedIPs
    PROBE = "probe"  # ask /statusz through the link, now
    PROBE_SOON = "probe soon"  # the same, PROBE_AGAIN_S later
    CONFIRM = "confirm"  # probe once more when the other end has made up its mind as well
    ASK = "ask"  # ask the hub now: is it silent as well, does it name another endpoint?
    FOLLOW = "follow"  # point the entry at the endpoint that the hub names, if it is another
    REMOVE = "remove"  # take the entry out of the device


TRANSITIONS: dict[tuple[State, LinkEvent], tuple[State, tuple[Effect, ...]]] = {
    (State.RELAYED, LinkEvent.TRY): (State.OPENING, (Effect.OPEN,)),
    (State.RELAYED, LinkEvent.WITHDRAW): (State.RELAYED, (Effect.REMOVE,)),
    (State.RELAYED, LinkEvent.ADOPTED): (State.DIRECT, (Effect.PROBE,)),
    (State.OPENING, LinkEvent.TRY): (State.OPENING, (Effect.OPEN,)),
    (State.OPENING, LinkEvent.KNOCK_DUE): (State.KNOCKING, (Effect.KNOCK,)),
    (State.OPENING, LinkEvent.WITHDRAW): (State.RELAYED, (Effect.REMOVE,)),
    (State.KNOCKING, LinkEvent.TRY): (State.KNOCKING, (Effect.OPEN,)),
    (State.KNOCKING, LinkEvent.KNOCK_DUE): (State.KNOCKING, (Effect.KNOCK,)),
    (State.KNOCKING, LinkEvent.HANDSHAKE): (State.PROVISIONAL, (Effect.PROMOTE, Effect.PROBE)),
    (State.KNOCKING, LinkEvent.LOST): (State.RELAYED, ()),
    (State.KNOCKING, LinkEvent.WITHDRAW): (State.RELAYED, (Effect.REMOVE,)),
    (State.PROVISIONAL, LinkEvent.ANSWERED): (State.DIRECT, (Effect.CONFIRM,)),
    (State.PROVISIONAL, LinkEvent.MISSED): (State.RELAYED, (Effect.REMOVE,)),
    (State.PROVISIONAL, LinkEvent.MISSED_BLIND): (State.RELAYED, (Effect.REMOVE,)),
    (State.PROVISIONAL, LinkEvent.LOST): (State.RELAYED, ()),
    (State.PROVISIONAL, LinkEvent.WITHDRAW): (State.RELAYED, (Effect.REMOVE,)),
    (State.DIRECT, LinkEvent.TRY): (State.DIRECT, (Effect.PROBE,)),
    (State.DIRECT, LinkEvent.MISSED): (State.DOUBTFUL, (Effect.ASK, Effect.PROBE_SOON)),
    (State.DIRECT, LinkEvent.MISSED_BLIND): (State.DOUBTFUL, (Effect.ASK, Effect.PROBE_SOON)),
    (State.DIRECT, LinkEvent.LOST): (State.RELAYED, ()),
    (State.DIRECT, LinkEvent.WITHDRAW): (State.RELAYED, (Effect.REMOVE,)),
    (State.DOUBTFUL, LinkEvent.TRY): (State.DOUBTFUL, (Effect.FOLLOW,)),
    (State.DOUBTFUL, LinkEvent.ANSWERED): (State.DIRECT, ()),
    (State.DOUBTFUL, LinkEvent.MISSED): (State.KNOCKING, (Effect.OPEN, Effect.KNOCK)),
    (State.DOUBTFUL, LinkEvent.MISSED_BLIND): (State.DOUBTFUL, (Effect.PROBE_SOON,)),
    (State.DOUBTFUL, LinkEvent.LOST): (State.RELAYED, ()),
    (State.DOUBTFUL, LinkEvent.WITHDRAW): (State.RELAYED, (Effect.REMOVE,)),
}

PROMOTED = frozenset({State.PROVISIONAL, State.DIRECT, State.DOUBTFUL})
"""The states in which this end has moved the AllowedIPs to the direct peer."""


@dataclass
class Link:
    """One other peer.

    `address` is its VPN address as a host route (`"192.168.7.6/32"`); `endpoint` the one that
    the hub names (`"203.0.113.7:51820"`), None until it did; `followed` the one that it named when the
    entry was pointed there.  All `_at` are seconds of the
    agent's own clock (CLOCK_BOOTTIME).
    """

    peer: str
    address: str
    endpoint: str | None = None
    state: State = State.RELAYED
    since_at: float = 0.0
    online: bool = False
    named_at: float = 0.0
    why: str = "not tried yet"
    followed: str | None = None
    tries: int = 0
    knocked_at: float | None = None
    attempt: int = 0
    knock_due_at: float | None = None
    probing: bool = False
    probe_due_at: float | None = None
    rtt_s: float | None = None
    rx_bytes: int = 0
    tx_bytes: int = 0
    heard_at: float = 0.0
    unproven: int = 0
    retry_at: float = 0.0

    @property
    def promoted(self) -> bool:
        """Whether this end sends the peer's traffic over the direct path."""
        return self.state in PROMOTED

    def on(self, event: LinkEvent, now_s: float) -> tuple[Effect, ...]:
        """Take one event: move to the next state, and return what has to be done for it."""
        state, effects = TRANSITIONS.get((self.state, event), (self.state, ()))
        if state is not self.state:
            self.state, self.since_at = state, now_s
        return effects
