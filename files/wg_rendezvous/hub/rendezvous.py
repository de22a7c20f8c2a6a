# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""The hub's state behind `/v1`: records, registrations and streams, and what of a change is sent to whom.

wg dump -> registry -> records -> `peer` and `gone` events;
PUT /v1/self, GET /v1/stream -> registrations -> records -> the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from typing import Any, Callable

from ..core.pacing import CALLS_AT_ONCE, CALLS_PER_S, TokenBucket, signal_limits
from .challenges import Challenges
from .observation import Observation
from .records import Changes, Records
from .registrations import Claim, Registrations
from .streams import OPENED_AT_ONCE, OPENED_PER_S, Stream, Streams, event

logger = logging.getLogger("wg_rendezvous.hub")

CONFIRM_S = 0.3
"""How long a registration waits for the agent's answer at its new endpoint."""


def first_revision() -> int:
    """Above whatever a former run of this hub has counted to: milliseconds (fewer than 2^53)."""
    return int(time.time() * 1000)


class Rendezvous:
    """Keeps the records up to date, and tells the streams."""

    def __init__(self, observation: Observation) -> None:
        self.registrations = Registrations()
        self.records = Records(observation.registry, self.registrations, first_revision())
        self.streams = Streams()
        self.events_sent = 0
        self.signals_sent = 0
        self.streams_too_slow = 0
        self.is_stopping = False
        self._challenges: Challenges | None = None
        self._observation = observation
        self._registry = observation.registry
        self._signals: dict[str, TokenBucket] = {}
        self._claims: dict[str, TokenBucket] = {}
        self._opened: dict[str, TokenBucket] = {}
        self._changed = asyncio.Event()
        self.refresh()

    def challenge_by(self, ping: Callable[[str, int], None]) -> None:
        """From now on agents have to answer at a new endpoint; `ping(address, number)` asks them."""
        self._challenges = Challenges(self._registry, ping)
        self._registry.is_challenged = self.registrations.has_stream

    def pong(self, address: str, number: int) -> None:
        """A heartbeat was answered."""
        key = self._challenges.answered(address, number) if self._challenges is not None else None
        if key is not None:
            fields = {"peer": key, "endpoint": self._registry.believed(key), "proof": "answer"}
            logger.info("peer has a new endpoint", extra={"fields": fields})
            self._refresh_one(key)

    async def confirmed(self, key: str) -> None:
        """Return when that peer's endpoint is proven, or after a moment."""
        if key in self._registry.unproven():
            await self.wait_for_change(self.records.revision, CONFIRM_S)

    # --- changes ---

    def refresh(self) -> None:
        """Tell everybody what a look at the device has changed."""
        if self._challenges is not None:
            self._challenges.refresh(self._observation.clock())
        changes = self.records.refresh(self._observation.clock())
        for key in changes.gone:
            self.streams.close(key)
            self._signals.pop(key, None)
            self._claims.pop(key, None)
            self._opened.pop(key, None)
        # A signal to somebody whose address now belongs to another peer would reach that one.
        for key, stream in self.streams.items():
            if self._registry.peer_at(stream.address) != key:
                self.close_stream(key)
        self._tell(changes)

    def _refresh_one(self, key: str) -> None:
        self._tell(self.records.refresh_one(key, self._observation.clock()))

    def _tell(self, changes: Changes) -> None:
        if not changes:
            return
        self._changed.set()
        self._changed = asyncio.Event()
        for key in changes.gone:
            self._broadcast(key, event("gone", json.dumps({"key": key}).encode()))
        for key in changes.changed:
            self._tell_record(key)

    def _tell_record(self, key: str) -> None:
        record = {"key": key, **(self.records.tell(key) or {})}
        # `linked` depends on who is told: two texts, however many they are.
        texts = {
            linked: event("peer", json.dumps({**record, "linked": linked}).encode())
            for linked in (False, True)
        }
        own = event("self", json.dumps(self.records.tell(key) or {}).encode())
        for other, stream in self.streams.items():
            stream.send(own if other == key else texts[self.records.is_linked(key, other)])
            self.events_sent += 1

    def _broadcast(self, about: str, data: bytes) -> None:
        for other, stream in self.streams.items():
            if other != about:
                stream.send(data)
                self.events_sent += 1

    async def wait_for_change(self, revision: int, within_s: float) -> None:
        """Return when there is another revision, at the latest after `within_s`."""
        ends_at_s = time.monotonic() + within_s
        while self.records.revision == revision and not self.is_stopping:
            pause_s = ends_at_s - time.monotonic()
            if pause_s <= 0:
                return
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._changed.wait(), pause_s)

    # --- what agents do ---

    def polled(self, key: str) -> None:
        """That peer asked as an agent of the origin does."""
        self.registrations.polled(key, self._observation.clock())
        self._refresh_one(key)

    def register(self, key: str, claim: Claim) -> None:
        """Take in what an agent says of itself."""
        if self.registrations.is_another_run(key, claim.instance):
            self.streams.close(key)  # the run that it belonged to has ended
        known = self._registry.known_keys()
        self.registrations.register(key, claim, known, self._observation.clock())
        self._refresh_one(key)

    def open_stream(self, key: str, stream: Stream) -> None:
        """Signals reach that peer from now on; its first event is the snapshot."""
        self.registrations.stream_opened(key)
        self._refresh_one(key)
        self.streams.open(key, stream)
        stream.send(event("snapshot", json.dumps(self.snapshot(key)).encode()))

    def snapshot(self, key: str) -> dict[str, Any]:
        """Everything that this peer may know."""
        return {
            "revision": self.records.revision,
            "self": self.records.tell(key, to=key),
            "peers": self.records.all_but(key, linked=True),
        }

    def close_stream(self, key: str) -> None:
        """End the stream of that peer."""
        stream = self.streams.get(key)
        if stream is not None:
            stream.close()
            self.stream_ended(key, stream)

    def stream_ended(self, key: str, stream: Stream) -> None:
        """No signals reach that peer, unless another stream of it has taken over."""
        self.streams_too_slow += stream.was_slow
        stream.was_slow = False
        if self.streams.ended(key, stream):
            self.registrations.stream_closed(key, self._observation.clock())
            self._refresh_one(key)

    def may_signal(self, key: str) -> bool:
        """Whether that peer has not signalled too often; counts this time."""
        return self._may(self._signals, key, *signal_limits(len(self._registry.known_keys())))

    def may_register(self, key: str) -> bool:
        """The same for registrations: each of them is told to others too."""
        return self._may(self._claims, key, CALLS_PER_S, CALLS_AT_ONCE)

    def may_open(self, key: str) -> bool:
        """The same for streams."""
        return self._may(self._opened, key, OPENED_PER_S, OPENED_AT_ONCE)

    def _may(self, buckets: dict[str, TokenBucket], key: str, rate_per_s: float, burst: float) -> bool:
        now_s = self._observation.clock()
        bucket = buckets.setdefault(key, TokenBucket(rate_per_s, burst, now_s))
        bucket.rate_per_s, bucket.burst = rate_per_s, burst  # there may be other peers by now
        return bucket.take(1, now_s)

    def signal(self, to: str, data: bytes) -> bool:
        """Send a `signal` event. Returns False if that peer has no stream."""
        stream = self.streams.get(to)
        is_sent = stream is not None and stream.send(event("signal", data))
        self.signals_sent += is_sent
        return is_sent

    def stop(self) -> None:
        """End all streams and let nobody wait."""
        self.is_stopping = True
        self._changed.set()
        self.streams.close_all()
