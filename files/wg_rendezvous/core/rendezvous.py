# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""The pairwise protocol of two agents that send each other signals through the hub: how both of them
open, prove, move, watch and give back one link together.

Theory of operation
-------------------
The peer with the smaller key is *controlling* (RFC 8445, section 6.1.1): it alone offers, so offers never
cross. A rendezvous is known by its *session*; a signal of another session changes nothing.

    relayed      Traffic goes through the hub, and the device has no entry for the peer.
    offered      (controlling) Openers are out, the peer is in the device without a keepalive and without
                 AllowedIPs, and the offer is on its way.  When it arrives the own NAT has long been opened:
                 the offer is this end's half of the barrier, `opened` is the other half (DESIGN fact 2).
    knocking     Both ends have opened, so nothing can collide any more.  The controlled end knocks with its
                 `opened`, the controlling one only when it should have heard of that: initiations that cross
                 fail both.
    heard        (controlling) The other end sees the handshake, this one does not yet.
    verified     This end sees the handshake (fact 3); the other one is awaited.
    promoting    (controlling) `promote` is on its way; this end moves when it should have arrived, since
                 everything is lost as long as only one end has moved (fact 4).
    provisional  The AllowedIPs are moved.  A heartbeat has to come back through the link, or both go back.
                 While none does, `promote` may have been lost: the controlling end repeats it.
    direct       It did.  Heartbeats watch the link, more of them while it carries traffic.
    doubtful     One was not answered.  The hub is asked too: while it is silent as well there is nothing to
                 go back to, and the link is opened again instead.  One that is back has to open its stream
                 first, which tells whether the other agent was only away.
    withdrawing  The AllowedIPs are back at the hub; `withdraw` is repeated, ever more seldom, until the other
                 end has confirmed, has no stream any more, or is another run.

Lost, late and doubled signals need no memory: what waits for one expires, and a pair that is not in the table
changes nothing.  An offer is always taken, whatever the phase of the controlled end: it says that the other
end has nothing moved.  A withdrawal is always confirmed, also one that is not needed any more.

The table below is the whole machine.  What an effect does to the device is told in `moves`, what it signals
in `outbox`, and when a link is tried again in `retries`.
"""

from __future__ import annotations

import collections
import enum
from dataclasses import dataclass, field

from .events import PeerView
from .heartbeat import Watch
from .ladder import Rung, is_claimed, is_same_address
from .link import State
from .memory import Memory
from .pacing import TokenBucket, Turns


class Phase(enum.Enum):
    """What this end has done, and what it waits for (see above)."""

    RELAYED = "relayed"
    OFFERED = "offered"
    KNOCKING = "knocking"
    HEARD = "heard"
    VERIFIED = "verified"
    PROMOTING = "promoting"
    PROVISIONAL = "provisional"
    DIRECT = "direct"
    DOUBTFUL = "doubtful"
    WITHDRAWING = "withdrawing"


class PairEvent(enum.Enum):
    """What happens to a link."""

    START = "start"  # controlling: it is time to try, and the peer can be signalled
    OFFER = "offer"  # controlled: the other end has opened
    OPENED = "opened"  # controlling: the other end has opened too, and knocks
    KNOCK_DUE = "knock due"  # the other end's knock should have been heard by now
    HANDSHAKE = "handshake"  # the device shows one with the entry of this rendezvous
    OTHER_VERIFIED = "other verified"  # controlling: the other end sees the handshake
    PROMOTE = "promote"  # controlled: move now
    PROMOTE_DUE = "promote due"  # controlling: the other end should be moving now
    ANSWERED = "answered"  # a heartbeat came back through the link
    MISSED = "missed"  # a heartbeat was not answered, or there is a reason to doubt
    SILENT = "silent"  # none was for too long, although the hub answers
    SILENT_BLIND = "silent, and so is the hub"
    NARROW = "narrow"  # small heartbeats are answered, and those as large as the MTU are not
    EXPIRED = "expired"  # what is awaited did not come
    REFUSED = "refused"  # the other end does not want to, or cannot be signalled
    WITHDRAW = "withdraw"  # the other end has gone back to the hub
    WITHDRAWN = "withdrawn"  # and confirms that this end has
    REPEAT = "repeat"  # no confirmation yet, nor anything else that shows that the signal got there
    CLAIMED = "claimed"  # the other end says that it is direct, and this one is not
    LOST = "lost"  # something else removed the entry, or its AllowedIPs
    RESTARTED = "restarted"  # the other end is a new run, which knows of no link
    STOP = "stop"  # the peer is given up, or the agent ends
    ADOPTED = "adopted"  # found moved by an earlier run of this agent


class Effect(enum.Enum):
    """What a transition asks for."""

    OPEN = "open"  # send low-TTL openers to the target
    ADD = "add"  # the target as a silent entry: no keepalive, no AllowedIPs
    KNOCK = "knock"  # the target afresh, with a keepalive: a handshake starts now
    KNOCK_LATER = "knock later"  # when the other end's knock should have been heard
    READ = "read"  # look at the device now
    PROMOTE = "promote"  # give the entry its AllowedIPs
    PROMOTE_LATER = "promote later"  # when the signal should have arrived
    REPEAT_LATER = "repeat later"  # the signal may have been lost
    BEAT = "beat"  # heartbeats in quick succession from now on
    CONFIRM = "confirm"  # is the path as wide as the interface's MTU?
    ASK = "ask"  # does the hub answer?
    REMOVE = "remove"  # take the entry out of the device: the hub has the traffic
    FAIL = "fail"  # this rung of the ladder came to nothing: the next one, or a pause
    RETRY = "retry"  # it was direct: try again at once, and go on trying
    PAUSE = "pause"  # not now: ask again, ever more seldom
    UNPROVEN = "unproven"  # it was moved for nothing, which cost traffic: a long pause
    SEND_OFFER = "send offer"
    SEND_OPENED = "send opened"
    SEND_VERIFIED = "send verified"
    SEND_PROMOTE = "send promote"
    SEND_WITHDRAW = "send withdraw"
    SEND_WITHDRAWN = "send withdrawn"


TRYING = (Phase.OFFERED, Phase.KNOCKING, Phase.HEARD, Phase.VERIFIED, Phase.PROMOTING)
"""Phases of a rendezvous that has moved nothing yet."""
PROMOTED = (Phase.PROVISIONAL, Phase.DIRECT, Phase.DOUBTFUL)
"""Phases in which this end has moved the AllowedIPs to the direct peer."""

NOT_TRIED = "not tried yet"

GO_BACK = (Effect.REMOVE, Effect.SEND_WITHDRAW)
"""To the hub, and tell the other end."""
GO_BACK_AND_RETRY = (*GO_BACK, Effect.RETRY)
GO_BACK_UNPROVEN = (Effect.REMOVE, Effect.UNPROVEN, Effect.SEND_WITHDRAW)
FOLLOW_BACK_AND_RETRY = (Effect.REMOVE, Effect.SEND_WITHDRAWN, Effect.RETRY)
"""To the hub, since the other end has gone back."""
FOLLOW_BACK_UNPROVEN = (Effect.REMOVE, Effect.SEND_WITHDRAWN, Effect.UNPROVEN)
FOLLOW_BACK_FAILED = (Effect.REMOVE, Effect.SEND_WITHDRAWN, Effect.FAIL)
MOVE_BOTH = (Effect.SEND_PROMOTE, Effect.PROMOTE_LATER)
MOVE = (Effect.PROMOTE, Effect.BEAT)

Transition = tuple[Phase, tuple[Effect, ...]]

TRANSITIONS: dict[tuple[Phase, PairEvent], Transition] = {
    # From relayed to direct
    (Phase.RELAYED, PairEvent.START): (Phase.OFFERED, (Effect.OPEN, Effect.ADD, Effect.SEND_OFFER)),
    (Phase.OFFERED, PairEvent.OPENED): (Phase.KNOCKING, (Effect.KNOCK_LATER,)),
    (Phase.OFFERED, PairEvent.HANDSHAKE): (Phase.VERIFIED, ()),
    (Phase.OFFERED, PairEvent.OTHER_VERIFIED): (Phase.HEARD, (Effect.READ,)),
    (Phase.KNOCKING, PairEvent.KNOCK_DUE): (Phase.KNOCKING, (Effect.KNOCK,)),
    (Phase.KNOCKING, PairEvent.HANDSHAKE): (Phase.VERIFIED, (Effect.SEND_VERIFIED,)),
    (Phase.KNOCKING, PairEvent.OTHER_VERIFIED): (Phase.HEARD, (Effect.READ,)),
    (Phase.HEARD, PairEvent.HANDSHAKE): (Phase.PROMOTING, MOVE_BOTH),
    (Phase.VERIFIED, PairEvent.OTHER_VERIFIED): (Phase.PROMOTING, MOVE_BOTH),
    (Phase.VERIFIED, PairEvent.PROMOTE): (Phase.PROVISIONAL, MOVE),
    (Phase.PROMOTING, PairEvent.PROMOTE_DUE): (Phase.PROVISIONAL, (*MOVE, Effect.REPEAT_LATER)),
    (Phase.PROVISIONAL, PairEvent.REPEAT): (Phase.PROVISIONAL, (Effect.SEND_PROMOTE, Effect.REPEAT_LATER)),
    (Phase.PROVISIONAL, PairEvent.ANSWERED): (Phase.DIRECT, (Effect.CONFIRM,)),
    # Watched, while direct
    (Phase.DIRECT, PairEvent.MISSED): (Phase.DOUBTFUL, (Effect.ASK, Effect.BEAT)),
    (Phase.DOUBTFUL, PairEvent.ANSWERED): (Phase.DIRECT, ()),
    (Phase.DOUBTFUL, PairEvent.SILENT_BLIND): (Phase.DOUBTFUL, (Effect.OPEN, Effect.ASK)),
    # And back
    (Phase.PROVISIONAL, PairEvent.SILENT): (Phase.WITHDRAWING, GO_BACK_UNPROVEN),
    (Phase.DIRECT, PairEvent.NARROW): (Phase.WITHDRAWING, GO_BACK_UNPROVEN),
    (Phase.DOUBTFUL, PairEvent.SILENT): (Phase.WITHDRAWING, GO_BACK_AND_RETRY),
    (Phase.PROVISIONAL, PairEvent.WITHDRAW): (Phase.RELAYED, FOLLOW_BACK_UNPROVEN),
    (Phase.DIRECT, PairEvent.WITHDRAW): (Phase.RELAYED, FOLLOW_BACK_AND_RETRY),
    (Phase.DOUBTFUL, PairEvent.WITHDRAW): (Phase.RELAYED, FOLLOW_BACK_AND_RETRY),
    (Phase.RELAYED, PairEvent.WITHDRAW): (Phase.RELAYED, (Effect.SEND_WITHDRAWN,)),
    (Phase.RELAYED, PairEvent.PROMOTE): (Phase.WITHDRAWING, (Effect.SEND_WITHDRAW,)),  # too late
    (Phase.RELAYED, PairEvent.CLAIMED): (Phase.WITHDRAWING, (Effect.SEND_WITHDRAW,)),
    (Phase.RELAYED, PairEvent.STOP): (Phase.RELAYED, (Effect.REMOVE,)),
    (Phase.RELAYED, PairEvent.ADOPTED): (Phase.DIRECT, (Effect.BEAT,)),
    (Phase.WITHDRAWING, PairEvent.WITHDRAW): (Phase.RELAYED, (Effect.SEND_WITHDRAWN,)),
    (Phase.WITHDRAWING, PairEvent.WITHDRAWN): (Phase.RELAYED, ()),
    (Phase.WITHDRAWING, PairEvent.REPEAT): (Phase.WITHDRAWING, (Effect.SEND_WITHDRAW,)),
    (Phase.WITHDRAWING, PairEvent.CLAIMED): (Phase.WITHDRAWING, (Effect.SEND_WITHDRAW,)),
    (Phase.WITHDRAWING, PairEvent.REFUSED): (Phase.RELAYED, ()),
    (Phase.WITHDRAWING, PairEvent.RESTARTED): (Phase.RELAYED, ()),
}
for _phase in Phase:
    TRANSITIONS[_phase, PairEvent.OFFER] = (
        Phase.KNOCKING,
        (Effect.OPEN, Effect.KNOCK, Effect.SEND_OPENED),
    )
for _phase in TRYING:
    TRANSITIONS[_phase, PairEvent.EXPIRED] = (Phase.RELAYED, (Effect.REMOVE, Effect.FAIL))
    TRANSITIONS[_phase, PairEvent.REFUSED] = (Phase.RELAYED, (Effect.REMOVE, Effect.PAUSE, Effect.ASK))
    TRANSITIONS[_phase, PairEvent.WITHDRAW] = (Phase.RELAYED, FOLLOW_BACK_FAILED)
    TRANSITIONS[_phase, PairEvent.LOST] = (Phase.RELAYED, (Effect.FAIL,))
    TRANSITIONS[_phase, PairEvent.RESTARTED] = (Phase.RELAYED, (Effect.REMOVE, Effect.PAUSE))
    # The other end may be about to move.
    TRANSITIONS[_phase, PairEvent.STOP] = (Phase.WITHDRAWING, GO_BACK)
# An offer that nobody answers says nothing of the path.
TRANSITIONS[Phase.OFFERED, PairEvent.EXPIRED] = TRANSITIONS[Phase.OFFERED, PairEvent.REFUSED]
# Nor does one that got as far as a handshake say anything against it.
TRANSITIONS[Phase.VERIFIED, PairEvent.EXPIRED] = TRANSITIONS[Phase.VERIFIED, PairEvent.REFUSED]
for _phase in PROMOTED:
    TRANSITIONS[_phase, PairEvent.PROMOTE] = (_phase, ())  # said once more
    # It took a late signal of this end for a new one: then both go back.
    TRANSITIONS[_phase, PairEvent.WITHDRAWN] = (Phase.WITHDRAWING, GO_BACK_AND_RETRY)
    TRANSITIONS[_phase, PairEvent.LOST] = (Phase.WITHDRAWING, (Effect.SEND_WITHDRAW, Effect.RETRY))
    TRANSITIONS[_phase, PairEvent.RESTARTED] = (Phase.RELAYED, (Effect.REMOVE, Effect.RETRY))
    TRANSITIONS[_phase, PairEvent.STOP] = (Phase.WITHDRAWING, GO_BACK)

STATES = {
    Phase.RELAYED: State.RELAYED,
    Phase.OFFERED: State.OPENING,
    Phase.KNOCKING: State.KNOCKING,
    Phase.HEARD: State.KNOCKING,
    Phase.VERIFIED: State.KNOCKING,
    Phase.PROMOTING: State.KNOCKING,
    Phase.PROVISIONAL: State.PROVISIONAL,
    Phase.DIRECT: State.DIRECT,
    Phase.DOUBTFUL: State.DOUBTFUL,
    Phase.WITHDRAWING: State.RELAYED,
}
"""What a phase is called in reports: the names are those of all links."""


LOOKS = 4
"""So many looks at the device are remembered (`vigil`)."""


def _counted() -> collections.deque[tuple[int, int]]:
    return collections.deque(maxlen=LOOKS)


@dataclass(eq=False)
class Pair:
    """One other peer that sends signals.

    `address` is its VPN address as a host route; `view` what the hub says of it, None until it did;
    `instance` the last run of its agent that was heard of. `rung` is the candidate pair of this rendezvous,
    `rungs` those that remain. `secret` is the id of the mesh secret that its preshared key comes from, ""
    for none; as long as there is a `disagreement` about it, a sentence, the link stays relayed. `trips_s`
    is how long a signal and its answer take. `proven` is the endpoint at which it was direct last,
    `proven_mine` the one at which the hub saw this node then. Until `direct_until` a link that was lost is
    tried as one that is direct by rights, each time from `began_at` on; `lost_tries` failed before that,
    `tries` since, and with `port_tried` a fresh port did not help, as one did before with `port_helped`.
    `withdrawals` is how often the present one was signalled. `vain` maps endpoints of the peer at which it
    failed to the own one then. `counted` are the bytes that were received and sent, heartbeats not
    counted, at each of the last looks at the device. `offers`, `answers` and `claims` bound what the peer can
    make this node do. At `turn_at` it may open and knock at an address that has proven nothing. All `_at` are
    seconds of the agent's own clock (CLOCK_BOOTTIME), None: not awaited.
    """

    peer: str
    address: str
    controlling: bool
    view: PeerView | None = None
    instance: str | None = None
    phase: Phase = Phase.RELAYED
    since_at: float = 0.0
    why: str = NOT_TRIED
    session: str | None = None
    secret: str = ""
    disagreement: str = ""
    rung: Rung | None = None
    rungs: list[Rung] = field(default_factory=list)
    watch: Watch = field(default_factory=Watch)
    trips_s: float | None = None
    offered_at: float | None = None
    offer_taken_at: float = float("-inf")
    offers: TokenBucket = field(default_factory=TokenBucket)
    answers: TokenBucket = field(default_factory=TokenBucket)
    claims: TokenBucket = field(default_factory=TokenBucket)
    expires_at: float | None = None
    knock_due_at: float | None = None
    promote_due_at: float | None = None
    repeat_at: float | None = None
    retry_at: float | None = None
    turn_at: float | None = None
    counted_at: float = float("-inf")
    proven: str | None = None
    proven_mine: str | None = None
    direct_until: float = float("-inf")
    began_at: float = float("-inf")
    port_tried: bool = False
    port_helped: bool = False
    tries: int = 0
    lost_tries: int = 0
    vain: dict[str, str] = field(default_factory=dict)
    unproven: int = 0
    refusals: int = 0
    withdrawals: int = 0
    rx_bytes: int = 0
    tx_bytes: int = 0
    counted: collections.deque[tuple[int, int]] = field(default_factory=_counted)
    handshake_at: int = 0
    shaken_at: float = float("-inf")
    traffic_at: float = float("-inf")
    traffic_assumed: bool = False
    blind_at: float = float("-inf")

    @property
    def state(self) -> State:
        """The phase by the name that all links share."""
        return STATES[self.phase]

    @property
    def promoted(self) -> bool:
        """Whether this end sends the peer's traffic over the direct path."""
        return self.phase in PROMOTED

    @property
    def signals(self) -> bool:
        """Whether signals reach the peer."""
        return self.view is not None and self.view.signals

    @property
    def online(self) -> bool:
        """Whether the hub says so."""
        return self.view is not None and self.view.online

    def is_proven(self, endpoint: str, now_s: float) -> bool:
        """Whether the link was direct there lately; another port of that address is no other victim."""
        lately = now_s < self.direct_until
        return lately and self.proven is not None and is_same_address(endpoint, self.proven)

    def may_try_at(self, endpoint: str, now_s: float) -> float:
        """When that address may be tried: one of which nothing but the peer's word is known, seldom."""
        believed = self.is_proven(endpoint, now_s) or not is_claimed(self.view, endpoint)
        return now_s if believed else self.claims.available_at(1, now_s)

    def may_knock(self, endpoint: str, turns: Turns, now_s: float) -> bool:
        """Whether to open and knock there now: where it is proven at once, elsewhere in its turn."""
        proven = self.is_proven(endpoint, now_s)
        turn_at = now_s if proven else turns.comes_at(self.turn_at, now_s)
        self.turn_at = turn_at if turn_at > now_s else None
        if self.turn_at is None and not proven and is_claimed(self.view, endpoint):
            self.claims.take(1, now_s)
        return self.turn_at is None

    def memory(self, now_s: float) -> Memory | None:
        """What is worth knowing of it later on: None if it was not lost."""
        if self.promoted or now_s >= self.direct_until:
            return None
        return Memory(self.direct_until, self.proven, self.proven_mine, self.port_tried, self.port_helped)

    def remember(self, memory: Memory) -> None:
        """Go on with what an earlier link to the peer has proven and tried."""
        self.direct_until = memory.direct_until
        self.proven, self.proven_mine = memory.proven, memory.proven_mine
        self.port_tried, self.port_helped = memory.port_tried, memory.port_helped

    def on(self, event: PairEvent, now_s: float) -> tuple[Effect, ...]:
        """Take one event: move to the next phase, and return what has to be done for it."""
        phase, effects = TRANSITIONS.get((self.phase, event), (self.phase, ()))
        if phase is not self.phase:
            self.phase, self.since_at = phase, now_s
            self.expires_at = self.knock_due_at = self.promote_due_at = self.repeat_at = None
            self.withdrawals = 0
        return effects
