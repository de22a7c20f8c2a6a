# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""When the hub reads the device."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from types import SimpleNamespace

import pytest

from wg_rendezvous._wireguard import dump
from wg_rendezvous.clock import boottime_s
from wg_rendezvous.hub.observation import BURST, READS_PER_S, STALL_S, YOUNG_S, Observation
from wg_rendezvous.hub.registry import Registry
from wg_rendezvous.wg import DeviceError, DeviceGone

from .fake import FakeDevice, key, peer


class SlowDevice(FakeDevice):
    """A read takes a while, and shows what was when it began; `began` is set by the second one."""

    def __init__(self, *peers: dump.Peer) -> None:
        super().__init__(*peers)
        self.began = asyncio.Event()

    async def read(self) -> dump.Device:
        seen = await super().read()
        if self.reads == 2:
            self.began.set()
        await asyncio.sleep(0.02)
        return seen


@pytest.fixture
def fake() -> FakeDevice:
    return FakeDevice(peer(5))


@pytest.fixture
async def observation(fake: FakeDevice) -> AsyncIterator[Observation]:
    made = Observation(fake, Registry())
    await made.read()
    task = asyncio.ensure_future(made.run())
    yield made
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_however_many_ask_the_device_is_read_at_most_four_times_a_second(
    fake: FakeDevice, observation: Observation
) -> None:
    started_at_s = boottime_s()
    while boottime_s() - started_at_s < 0.6:
        await asyncio.gather(*(observation.current() for _ in range(20)))
        await asyncio.sleep(0)
    assert 2 <= fake.reads <= 1 + (boottime_s() - started_at_s) * READS_PER_S + 1


async def test_who_asks_after_a_pause_gets_a_new_look_at_once(
    fake: FakeDevice, observation: Observation
) -> None:
    await asyncio.sleep(YOUNG_S)
    fake.change(5, allowed_ips=("127.7.0.55/32",))
    asked_at_s = boottime_s()
    await observation.current()

    assert observation.registry.peer_at("127.7.0.55") == key(5)
    assert boottime_s() - asked_at_s < YOUNG_S


async def test_who_asks_soon_is_answered_from_memory_and_a_look_follows(
    fake: FakeDevice, observation: Observation
) -> None:
    await observation.newer()
    reads = fake.reads
    await observation.current()
    assert fake.reads == reads

    await asyncio.wait_for(observation.newer(), 2 * YOUNG_S)
    assert fake.reads > reads


async def test_who_has_to_know_what_is_true_now_is_told_at_once(
    fake: FakeDevice, observation: Observation
) -> None:
    for port in (1, 2, 3):  # one of the burst was the first read
        asked_at_s = boottime_s()
        fake.change(5, endpoint=f"198.51.100.5:{port}", latest_handshake_at=1000 + port)
        await observation.newer()
        assert observation.registry.believed(key(5)) == f"198.51.100.5:{port}"
        assert boottime_s() - asked_at_s < 0.05

    await asyncio.wait_for(observation.newer(), 2 / READS_PER_S)


async def test_who_asks_while_another_one_is_answered_does_not_get_that_ones_answer() -> None:
    """Two agents that start together: the second one's registration was answered with its old endpoint, as
    the read that it waited for had only begun."""
    slow = SlowDevice(peer(5))
    made = Observation(slow, Registry())
    await made.read()
    task = asyncio.ensure_future(made.run())
    another = asyncio.ensure_future(made.newer())
    await slow.began.wait()
    slow.change(5, endpoint="198.51.100.5:1", latest_handshake_at=1001)
    await made.newer()

    assert made.registry.believed(key(5)) == "198.51.100.5:1"
    assert slow.reads == 3, "a read that nobody needs"
    task.cancel()
    await asyncio.gather(task, another, return_exceptions=True)


async def test_of_many_who_have_to_know_now_the_device_is_read_four_times_a_second(
    fake: FakeDevice, observation: Observation
) -> None:
    started_at_s, reads = boottime_s(), fake.reads
    while boottime_s() - started_at_s < 1.0:
        await observation.newer()
    assert fake.reads - reads <= BURST + (boottime_s() - started_at_s) * READS_PER_S


async def test_however_many_are_content_with_memory_one_who_is_not_need_not_wait(
    fake: FakeDevice, observation: Observation
) -> None:
    started_at_s = boottime_s()
    while boottime_s() - started_at_s < 1.5:
        await observation.current()
        await asyncio.sleep(0.001)
    reads = fake.reads
    asked_at_s = boottime_s()
    await observation.newer()
    assert boottime_s() - asked_at_s < 0.05
    assert fake.reads == reads + 1


async def test_nobody_asks_and_the_device_is_read_about_once_a_second(
    fake: FakeDevice, observation: Observation
) -> None:
    assert observation.is_healthy()
    await asyncio.sleep(0.5)
    assert fake.reads == 1


async def test_a_failure_is_survived_and_makes_the_hub_unhealthy_in_time(fake: FakeDevice) -> None:
    now_s = 0.0
    made = Observation(fake, Registry(), clock=lambda: now_s)
    await made.read()
    fake.failure = DeviceError("no answer")
    task = asyncio.ensure_future(made.run())
    now_s = 4.9
    await made.current()
    assert made.is_healthy()
    now_s = 5.1
    await made.current()
    assert not made.is_healthy()

    fake.failure = None
    now_s = 5.4
    await made.current()
    assert made.is_healthy()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_it_goes_on_as_long_as_looks_come_to_an_end_also_if_they_fail(
    fake: FakeDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a busy node the watchdog ended a slow hub every half a minute, and all streams with it."""
    now_s = 0.0
    clock = SimpleNamespace(monotonic=lambda: now_s, time=time.time)
    monkeypatch.setattr("wg_rendezvous.hub.observation.time", clock)
    made = Observation(fake, Registry(), clock=lambda: now_s)
    fake.failure = DeviceError("no answer within 5 s")
    for _ in range(10):
        now_s += STALL_S - 0.1
        assert made.goes_on()
        with pytest.raises(DeviceError):
            await made.read()
    assert not made.is_healthy()
    now_s += STALL_S
    assert not made.goes_on(), "it is stuck in a look"


async def test_an_interface_that_is_gone_ends_it_and_whoever_waits(fake: FakeDevice) -> None:
    made = Observation(fake, Registry())
    task = asyncio.ensure_future(made.run())
    fake.failure = DeviceGone("interface wg0 does not exist")
    await asyncio.wait_for(made.current(), 2)
    with pytest.raises(DeviceGone):
        await task
