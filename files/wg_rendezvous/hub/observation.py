# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""Reading the device for the registry: once a second, sooner when somebody asks, at most 4 times a second.

Answers come from memory, so their cost does not grow with the number of peers or of questions. Who has to
know what the device says *now* (`newer`) gets a read at once: up to 4 may follow one another, and in the long
run it is 4 a second. Who is content with a young memory (`current`) leaves one of them for those who are not.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable

from .._wireguard import dump
from ..clock import boottime_s
from ..core.pacing import TokenBucket
from ..wg import Device, DeviceError, DeviceGone
from .readmission import Readmission
from .registry import Registry

logger = logging.getLogger("wg_rendezvous.hub")

READS_PER_S = 4.0
BURST = 4.0
YOUNG_S = 1 / READS_PER_S
IDLE_INTERVAL_S = 1.0
# The interface's own addresses change when an admin changes them.
ADDRESSES_INTERVAL_S = 30.0
HEALTHY_S = 5.0
STALL_S = 20.0
"""`wg` is given 5 s for an answer: whoever has not even seen one fail for so long is stuck."""


class Observation:
    """Keeps `registry` as fresh as it has to be. To be made inside a running event loop."""

    def __init__(self, device: Device, registry: Registry, clock: Callable[[], float] = boottime_s) -> None:
        self.registry = registry
        self.clock = clock
        self.reads = 0
        self.read_s = 0.0
        """How long the latest read took."""
        self.on_read: Callable[[], None] = lambda: None
        """Called after every read that succeeded, with the registry up to date."""
        self._device = device
        self._readmission = Readmission(device)
        self._reads_left = TokenBucket(READS_PER_S, BURST, self.clock())
        self._started_at_s = float("-inf")
        self._known_at_s = float("-inf")
        """When the latest read that is done was started."""
        self._succeeded_at_s = float("-inf")
        self._addresses_at_s = float("-inf")
        self._ended_monotonic_s = time.monotonic()
        self._is_wanted = self._is_urgent = False
        self._asked = asyncio.Event()
        self._done = asyncio.Event()

    async def read(self) -> None:
        """Read the device now. Raises DeviceGone, DeviceError."""
        self._is_wanted = self._is_urgent = False
        self._started_at_s = started_at_s = self.clock()
        self._reads_left.take(1, started_at_s)
        try:
            if started_at_s - self._addresses_at_s >= ADDRESSES_INTERVAL_S:
                self.registry.set_addresses(await self._device.addresses())
                self._addresses_at_s = started_at_s
            self._take_in(await self._device.read(), started_at_s)
        finally:
            self.reads += 1
            self._known_at_s = started_at_s
            self.read_s = self.clock() - started_at_s
            self._ended_monotonic_s = time.monotonic()
            self._done.set()
            self._done = asyncio.Event()

    def _take_in(self, device: dump.Device, started_at_s: float) -> None:
        self._succeeded_at_s = started_at_s
        for event in self.registry.observe(device, started_at_s, time.time()):
            logger.info(event.message, extra={"fields": dict(event.fields)})
        self._readmission.observe(device, started_at_s)
        self.on_read()

    async def run(self) -> None:
        """Read for ever, and add anew who has no session any more (`readmission`).

        Raises DeviceGone; other failures are logged, and tried again.
        """
        while True:
            await self._turn()
            try:
                await self.read()
                await self._readmission.act()
            except DeviceGone:
                raise
            except DeviceError as error:
                logger.warning("the device could not be read", extra={"fields": {"reason": str(error)}})

    async def _turn(self) -> None:
        """Return when it is time for the next read."""
        while (pause_s := self._due_at_s() - self.clock()) > 0:
            self._asked.clear()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._asked.wait(), pause_s)

    def _due_at_s(self) -> float:
        now_s = self.clock()
        if self._is_urgent:
            return self._reads_left.available_at(1, now_s)
        pause_s = YOUNG_S if self._is_wanted else IDLE_INTERVAL_S
        return max(self._started_at_s + pause_s, self._reads_left.available_at(2, now_s))

    def want(self) -> None:
        """Have the device read soon; its answer is not waited for."""
        self._is_wanted = True
        self._asked.set()

    async def current(self) -> None:
        """Return when memory is young enough to answer from; another read is on its way."""
        self.want()
        if self.clock() - self._known_at_s >= YOUNG_S:
            await self._done.wait()

    async def newer(self) -> None:
        """Return when a read that started after this call is done; it starts at once, but for BURST."""
        asked_at_s = self.clock()
        while self._known_at_s < asked_at_s:
            if self._started_at_s < asked_at_s:
                self._is_urgent = True
                self._asked.set()
            await self._done.wait()

    def goes_on(self) -> bool:
        """Whether looks at the device still come to an end, one way or the other.  To start this program anew
        would help nobody where the device does not answer, or is slow since the node has too much to do: all
        agents would have to open new streams, which is more to do.  Judged by a clock that stands still while
        the node sleeps, as the watchdog's does."""
        return time.monotonic() - self._ended_monotonic_s < STALL_S

    def is_healthy(self) -> bool:
        """Whether the device answered lately."""
        return self.clock() - self._succeeded_at_s < HEALTHY_S
