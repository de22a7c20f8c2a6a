# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""What an agent knows of its hub: whether it takes signals, whether the stream is open, whether it answers.

A hub with `/v1` is heard through the stream, and asked by a heartbeat and a registration when there is a
reason. A hub of the origin is asked in every pass (`loop`).  Which of the two it is shows when the stream is
opened.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import Callable

from . import actions, events
from .actions import Registration
from .events import PeerView
from .heartbeat import Watch
from .node import Node
from .pacing import doubled_s
from .registrar import PATIENCE_MAX_S, PATIENCE_S, Registrar

ASK_EVERY_S = 0.3
WATCH_EVERY_S = 1.0
"""How often the hub is asked while links carry traffic."""
FIRST_ANSWER_S = 5.0
"""So long the first round trip is asked for, from which all waits follow; a hub may answer no heartbeats."""
SILENT_S = 1.0
"""A hub that has not answered for so long gets a new stream, instead of waiting for TCP."""
STREAM_SILENT_S = 12.0
"""A stream on which nothing came for so long is opened anew: the hub says something every 10 s."""
RECONNECT_S = 0.2
RECONNECT_MAX_S = 13.0
BACK_S, GONE_S = 5.0, 4.0
"""So long a hub that is back has to open its stream.  One from which nothing came for so long, though it was
asked, was gone."""
TRIES_OF_UNKNOWN = 2
"""A hub that has let so many tries come to nothing, in whatever way, is asked as one of the origin is."""
LOOK_AGAIN_PASSES = 5
"""After so many passes a hub of the origin is asked again whether it takes signals: it may be another one by
now."""


class Kind(enum.Enum):
    """Which protocol the hub speaks."""

    UNKNOWN = "unknown"
    SIGNALS = "signals"
    ORIGIN = "origin"


class Hub:
    """The hub of `node`.  `registration(number, peers)` makes what is to be registered: with the links to
    these peers, None: all that are promoted."""

    def __init__(self, node: Node, registration: Callable[[int, Iterable[str] | None], Registration]) -> None:
        self.node = node
        self.kind = Kind.UNKNOWN
        self.stream_open = False
        self.own = PeerView(None)
        self.watch = Watch()
        self.heard_at = float("-inf")
        self.silent: str | None = "it was not asked yet"
        self.silent_since: float | None = None
        self._back_at: float | None = None
        self._registration = registration
        self._stream_heard_at = float("-inf")
        self._numbers = 0
        self._asked_at = float("-inf")
        self._asking_until = float("-inf")
        self._ask_at: float | None = None
        self._registrar = Registrar(self._register)
        self._http_rtt_s: float | None = None
        self._first_until = float("-inf")
        self._opening_since: float | None = None
        self._open_at: float | None = None
        self._failures = 0

    @property
    def rtt_s(self) -> float:
        """The smoothed round trip of heartbeats to the hub; that of HTTP where none was answered (something
        filters their port), 0 before the first."""
        return self.watch.rtt_s or self._http_rtt_s or 0.0

    @property
    def signal_trips_s(self) -> float:
        """What a signal and its answer take, for want of a measurement: twice the way to the hub and back."""
        return 2 * self.rtt_s

    def start(self, now_s: float) -> None:
        """Open the first stream."""
        self._open(now_s)

    def heard(self, now_s: float) -> None:
        """Anything came from the hub: if its stream has ended and nothing came for a while, it is back."""
        ended = self.silent_since is not None and now_s >= self.silent_since + SILENT_S
        if ended and (self._back_at is None or now_s - self.heard_at > GONE_S):
            self._back_at = now_s
        self.heard_at = now_s

    def has_answered(self, since: float, now_s: float) -> bool:
        """Whether the hub answered after `since`, and its stream is open, or had the time to be: traffic may
        go back to it.

        The stream tells whose agents run, and those that do not are asked by TCP.  Without it an agent that
        is replaced, and will take its links over, looks as if the path to it were cut.
        """
        if self.heard_at <= since:
            return False
        return self.stream_open or (self._back_at is not None and now_s >= self._back_at + BACK_S)

    def stream_heard(self, now_s: float) -> None:
        """Anything came through the stream."""
        self._stream_heard_at = now_s
        self.heard(now_s)

    def opened(self, own: PeerView, now_s: float, rtt_s: float | None = None) -> None:
        """The stream is open, and its requests were answered within `rtt_s`."""
        self._http_rtt_s = rtt_s if rtt_s is not None else self._http_rtt_s
        self.kind, self.stream_open, self.own = Kind.SIGNALS, True, own
        self._opening_since, self._open_at, self._failures = None, None, 0
        self.silent = self.silent_since = self._back_at = None
        self.watch.forget()
        self._first_until = now_s + FIRST_ANSWER_S
        self.stream_heard(now_s)
        self._beat(now_s)
        self._registrar.tick(now_s)  # the registration of this stream may be older than a reason to ask

    def closed(self, reason: str, unsupported: bool, now_s: float) -> None:
        """The stream ended, or could not be opened."""
        self.stream_open, self._opening_since = False, None
        if unsupported:
            self.kind = Kind.ORIGIN
            self.heard(now_s)
            self._open_at = now_s + LOOK_AGAIN_PASSES * self.node.settings.interval_s
            return
        if self.silent_since is None:
            self.silent_since = now_s
        self.silent = reason
        self._open_at = now_s + doubled_s(RECONNECT_S, RECONNECT_MAX_S, self._failures)
        self._failures += 1

    @property
    def may_be_origin(self) -> bool:
        """No stream ever opened, nor did the hub say that it knows none: one of the origin may as well close
        the connection, be silent, or fail, when it is asked for what it does not know."""
        return self.kind is Kind.UNKNOWN and self._failures >= TRIES_OF_UNKNOWN

    def look_again(self, now_s: float) -> None:
        """A hub of the origin came back: it may be another one now."""
        if self.kind is Kind.ORIGIN and self._opening_since is None:
            self._open(now_s)

    def beat_answered(self, number: int, rtt_s: float, now_s: float) -> None:
        """A heartbeat was answered."""
        if self.watch.answered(number, rtt_s, now_s):
            self.heard(now_s)
            self._asking_until = min(self._asking_until, now_s)
            if self._back_at == now_s and self.kind is Kind.SIGNALS:
                self._hurry_stream(now_s)

    def _hurry_stream(self, now_s: float) -> None:
        """Open the stream now, unless that has just begun: what was sent into the silence is lost, and TCP
        repeats it ever more seldom."""
        a_moment_s = RECONNECT_S + 2 * self.signal_trips_s
        if self._opening_since is None or now_s >= self._opening_since + a_moment_s:
            self._open_at = now_s

    def ask(self, now_s: float) -> None:
        """Find out whether the hub answers, and how it sees us: there is a reason to doubt.  It was asked
        a moment ago?  Then soon, since what is to be registered may be something else by now."""
        if self.kind is Kind.SIGNALS:
            self._ask_at = max(now_s, self._asked_at + ASK_EVERY_S)
            self._ask_if_due(now_s)

    def _ask_if_due(self, now_s: float) -> None:
        if self._ask_at is None or now_s < self._ask_at:
            return
        self._ask_at, self._asked_at = None, now_s
        self._asking_until = now_s + SILENT_S
        self._beat(now_s)
        self._registrar.hurry()
        self.report((), now_s)

    def report(self, peers: Iterable[str], now_s: float) -> None:
        """Register again, with what the links to these peers are by then; the answer says how the hub sees
        us."""
        self._registrar.want(frozenset(peers))
        if self.stream_open:
            self._registrar.tick(now_s)

    def show_port(self, now_s: float) -> None:
        """WireGuard listens on another port: let the hub see it.  What it was asked before it may answer at
        the former one."""
        self._registrar.renew()
        self.report((), now_s)

    def _register(self, number: int, peers: frozenset[str], patience_s: float) -> None:
        self.node.do(actions.Register(self._registration(number, peers), patience_s))

    def registered(self, own: PeerView, number: int | None, now_s: float) -> bool:
        """The hub sees us as `own`; it says so of itself, or as the answer to that registration.  Returns
        whether that is so now: the answer to an older one is not believed."""
        self.heard(now_s)
        if number is not None and not self._registrar.succeeded(number, now_s):
            return False
        self.own = own
        return True

    def not_registered(self, failed: events.RegistrationFailed, now_s: float) -> None:
        """A registration failed."""
        if self._registrar.failed(failed.number, failed.again, now_s):
            self.node.say("info", "the hub did not take the registration", reason=failed.reason)

    def tick(self, watching: bool, now_s: float) -> None:
        """Do what is due; `watching` while links carry traffic."""
        if self._open_at is not None and now_s >= self._open_at:
            self._open(now_s)
        if self.kind is not Kind.SIGNALS:
            return
        self._ask_if_due(now_s)
        if self.stream_open:
            self._registrar.tick(now_s)
        if now_s >= self._beat_at(watching):
            self._beat(now_s)
        if self.stream_open and now_s >= self._silent_at:
            self.stream_open = False
            self.silent, self.silent_since = "nothing comes from it", self.heard_at
            self.node.say("info", "the hub is silent; opening a new stream")
            self._open(now_s)

    def wakeup_at(self, watching: bool, now_s: float) -> float:
        """When `tick` is wanted."""
        times = [float("inf") if self._open_at is None else self._open_at]
        if self.kind is Kind.SIGNALS:
            times.append(self._beat_at(watching))
            if self._ask_at is not None:
                times.append(self._ask_at)
            if self.stream_open:
                times += self._silent_at, self._registrar.wakeup_at()
        return max(now_s, min(times))

    def woke(self, for_long: bool, now_s: float) -> None:
        """This node slept: no answer to a heartbeat is awaited any more, and after a while a stream is not to
        be waited for any longer."""
        self.watch.forget()
        if for_long and self._open_at is not None and self.kind is Kind.SIGNALS:
            self._open_at, self._failures = now_s, 0

    @property
    def _silent_at(self) -> float:
        """When it counts as silent, if nothing comes until then."""
        stream_at = self._stream_heard_at + STREAM_SILENT_S + self.signal_trips_s
        since = self.watch.waiting_since(after=self.heard_at)
        if since is None or self.watch.rtt_s is None:  # heartbeats never got there: they can say nothing
            return stream_at
        return min(stream_at, since + max(SILENT_S, 4 * self.rtt_s))

    def _beat_at(self, watching: bool) -> float:
        first = self.watch.rtt_s is None and self._first_until > self.watch.sent_at
        if first or self._asking_until > self.watch.sent_at:
            return self.watch.sent_at + ASK_EVERY_S
        return self.watch.sent_at + WATCH_EVERY_S if watching else float("inf")

    def _beat(self, now_s: float) -> None:
        self._numbers += 1
        self.watch.sent(self._numbers, now_s)
        self.node.do(actions.SendBeat(None, str(self.node.place.hub), self._numbers))

    def _open(self, now_s: float) -> None:
        self._opening_since, self._open_at = now_s, None
        self.watch.forget()
        self._registrar.renew()
        # A hub with more to do than it can is no faster for who gives up soon and begins anew.
        patience_s = doubled_s(PATIENCE_S, PATIENCE_MAX_S, self._failures)
        registration = self._registration(self._registrar.next_number(), None)
        self.node.do(actions.OpenStream(registration, patience_s))
