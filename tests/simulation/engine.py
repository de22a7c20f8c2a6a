# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""A discrete-event scheduler: simulated time, and every random choice drawn from one seed."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable

Callback = Callable[[], None]
NEVER = float("inf")


class Timer:
    """A callback that waits for its time; `cancel` makes it never happen."""

    __slots__ = ("_callback", "at")

    def __init__(self, at: float, callback: Callback) -> None:
        self.at = at
        self._callback: Callback | None = callback

    def cancel(self) -> None:
        """Do not call back. Harmless when that already happened."""
        self._callback = None

    @property
    def pending(self) -> bool:
        """Neither called back nor cancelled yet."""
        return self._callback is not None

    def fire(self) -> None:
        """Call back, once."""
        callback, self._callback = self._callback, None
        if callback is not None:
            callback()


class Alarm:
    """A timer that is put off or cancelled far more often than it goes off: the engine's queue has one entry
    for it at most, as long as it is never set to an earlier time."""

    __slots__ = ("_at", "_callback", "_engine", "_queued_at")

    def __init__(self, engine: Engine, callback: Callback) -> None:
        self._engine = engine
        self._callback = callback
        self._at = NEVER
        self._queued_at = NEVER

    def set(self, delay_s: float) -> None:
        """Call back in `delay_s`, and not at the time that was set before."""
        self._at = self._engine.now + max(0.0, delay_s)
        if self._at < self._queued_at:
            self._queue()

    def cancel(self) -> None:
        """Do not call back."""
        self._at = NEVER

    @property
    def pending(self) -> bool:
        """It is set."""
        return self._at != NEVER

    def _queue(self) -> None:
        self._queued_at = at = self._at
        self._engine.post(at - self._engine.now, lambda: self._due(at))

    def _due(self, queued_at: float) -> None:
        if queued_at != self._queued_at:
            return  # an earlier one was queued since
        self._queued_at = NEVER
        if self._at <= self._engine.now:
            self._at = NEVER
            self._callback()
        elif self._at != NEVER:
            self._queue()


class Engine:
    """Simulated time in seconds from 0 on. Two runs of one seed are equal event by event.

    Models call `changed()` when something changed that a path can depend on; `watchers` are
    called after every event in which that happened.
    """

    def __init__(self, seed: int) -> None:
        self.now = 0.0
        self.random = random.Random(seed)
        self.watchers: list[Callback] = []
        self._dirty = False
        self._numbers = itertools.count(1)
        self._queue: list[tuple[float, int, Timer | Callback]] = []

    def number(self) -> int:
        """A number that was not given out before."""
        return next(self._numbers)

    def call_in(self, delay_s: float, callback: Callback) -> Timer:
        """Call back in `delay_s`. What is due at one time happens in the order it was asked for."""
        at = self.now + delay_s if delay_s > 0.0 else self.now
        timer = Timer(at, callback)
        heapq.heappush(self._queue, (at, next(self._numbers), timer))
        return timer

    def post(self, delay_s: float, callback: Callback) -> None:
        """As `call_in`, for what is never cancelled."""
        heapq.heappush(self._queue, (self.now + delay_s, next(self._numbers), callback))

    def changed(self) -> None:
        """Say that the state which paths depend on is another one now."""
        self._dirty = True

    def run_until(self, at: float, stop: Callable[[], bool] | None = None) -> bool:
        """Let everything up to the time `at` happen, or until `stop()` holds, asked after every change.

        Returns whether `stop()` held.
        """
        if stop is not None and stop():
            return True
        queue = self._queue
        while queue and queue[0][0] <= at:
            now, _, due = heapq.heappop(queue)
            if isinstance(due, Timer):
                if not due.pending:
                    continue  # cancelled
                due = due.fire
            self.now = now
            due()
            if self._dirty:
                self._dirty = False
                for watcher in self.watchers:
                    watcher()
                if stop is not None and stop():
                    return True
        self.now = at
        return False

    def run_for(self, span_s: float, stop: Callable[[], bool] | None = None) -> bool:
        """As `run_until`, for a span of time from now."""
        return self.run_until(self.now + span_s, stop)
