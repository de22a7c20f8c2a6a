# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""A discrete-event scheduler: simulated time, and every random choice drawn from one seed."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable

Callback = Callable[[], None]


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
        self._queue: list[tuple[float, int, Timer]] = []

    def number(self) -> int:
        """A number that was not given out before."""
        return next(self._numbers)

    def call_in(self, delay_s: float, callback: Callback) -> Timer:
        """Call back in `delay_s`. What is due at one time happens in the order it was asked for."""
        timer = Timer(self.now + max(0.0, delay_s), callback)
        heapq.heappush(self._queue, (timer.at, self.number(), timer))
        return timer

    def changed(self) -> None:
        """Say that the state which paths depend on is another one now."""
        self._dirty = True

    def run_until(self, at: float, stop: Callable[[], bool] | None = None) -> bool:
        """Let everything up to the time `at` happen, or until `stop()` holds, asked after every change.

        Returns whether `stop()` held.
        """
        if stop is not None and stop():
            return True
        while self._queue and self._queue[0][0] <= at:
            self.now, _, timer = heapq.heappop(self._queue)
            timer.fire()
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
