# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""Whom the hub adds anew, and that it loses nobody by it."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest

from wg_rendezvous._wireguard import dump
from wg_rendezvous.hub.readmission import AT_ONCE, HANDSHAKE_S, SESSION_S, Readmission, Sessions
from wg_rendezvous.wg import DeviceError, DeviceGone, Entry

from .fake import FakeDevice, device, key, peer


class Looks:
    """Looks at the hub's device, one a second; `over` is who had no session at which of them."""

    def __init__(self) -> None:
        self.sessions = Sessions()
        self.at_s = 0.0
        self.over: list[tuple[float, str]] = []

    def until(self, at_s: float, *peers: dump.Peer) -> None:
        """The device has these peers until then."""
        while self.at_s <= at_s:
            over = self.sessions.observe(device(*peers), self.at_s)
            self.over += [(self.at_s, one.public_key) for one in over]
            self.at_s += 1


def test_a_peer_that_is_silent_has_no_session_180_s_after_its_handshake() -> None:
    looks = Looks()
    looks.until(100, peer(5))
    looks.until(150, peer(5, latest_handshake_at=1101, rx_bytes=200))  # first seen at second 101
    looks.until(101 + SESSION_S, peer(5, latest_handshake_at=1101, rx_bytes=300))
    assert looks.over == [(101 + SESSION_S, key(5))]


def test_who_shakes_hands_or_is_about_to_is_left_alone() -> None:
    looks = Looks()
    for step in range(40):  # initiations of a handshake that is not completed, as often as they may be
        looks.until(13 * step, peer(5, rx_bytes=148 * (step + 1)), peer(6, latest_handshake_at=1000 + step))
    assert looks.over == []
    looks.until(13 * 39 + HANDSHAKE_S, peer(5, rx_bytes=148 * 40), peer(6, latest_handshake_at=1039))
    assert looks.over[0] == (13 * 38 + 1 + HANDSHAKE_S, key(5))
    assert {who for _, who in looks.over} == {key(5)}


def test_an_entry_that_has_taken_nothing_has_nothing_to_forget() -> None:
    looks = Looks()
    looks.until(1000, peer(5, latest_handshake_at=0, rx_bytes=0, tx_bytes=148 * 30))
    assert looks.over == []


def test_an_entry_that_the_hub_sees_for_the_first_time_may_have_a_session() -> None:
    looks = Looks()
    looks.until(SESSION_S - 1, peer(5, latest_handshake_at=1))
    assert looks.over == []


class Silent(FakeDevice):
    """A device whose peers have been silent; it may fail in the middle of adding one anew."""

    def __init__(self, *peers: dump.Peer) -> None:
        super().__init__(*peers)
        self.anew: list[Entry] = []
        self.secret_failure: Exception | None = None
        self.secret_readings = 0

    async def preshared_keys(self) -> dict[str, str]:
        self.secret_readings += 1
        if self.secret_failure is not None:
            raise self.secret_failure
        return {peer.public_key: f"secret of {peer.public_key}" for peer in self.peers}

    async def add_anew(self, entry: Entry) -> None:
        gone = entry.peer.public_key
        self.peers = tuple(one for one in self.peers if one.public_key != gone)
        if self.failure is not None:
            raise self.failure
        self.peers = (*self.peers, replace(entry.peer, latest_handshake_at=0, rx_bytes=0))
        self.anew.append(entry)


async def turn(readmission: Readmission, fake: Silent, at_s: float) -> None:
    """A look at the device, and what follows."""
    readmission.observe(device(*fake.peers), at_s)
    await readmission.act()


async def test_a_silent_peer_is_added_anew_once_and_no_other_is_touched() -> None:
    fake = Silent(peer(5), peer(6))
    readmission = Readmission(fake)
    await turn(readmission, fake, 0)
    for at_s in (SESSION_S, SESSION_S + 1, 10 * SESSION_S):
        fake.change(6, latest_handshake_at=int(1000 + at_s))
        await turn(readmission, fake, at_s)
    assert fake.anew == [Entry(peer(5), f"secret of {key(5)}")]


async def test_preshared_keys_are_read_once_a_turn_and_only_when_somebody_is_due() -> None:
    fake = Silent(*(peer(number) for number in range(5, 5 + AT_ONCE)))
    readmission = Readmission(fake)
    await turn(readmission, fake, 0)
    assert fake.secret_readings == 0
    await turn(readmission, fake, SESSION_S)
    assert (len(fake.anew), fake.secret_readings) == (AT_ONCE, 1)


async def test_a_peer_that_could_not_be_added_again_is_tried_until_it_is_there(
    caplog: pytest.LogCaptureFixture,
) -> None:
    fake = Silent(peer(5))
    readmission = Readmission(fake)
    await turn(readmission, fake, 0)
    fake.failure = DeviceError("out of memory")
    await turn(readmission, fake, SESSION_S)
    assert key(5) not in [one.public_key for one in fake.peers]
    assert [(one.levelno, one.message) for one in caplog.records] == [
        (logging.ERROR, "peer could not be added anew; it is tried again")
    ]
    await turn(readmission, fake, SESSION_S + 1)
    fake.failure = None
    await turn(readmission, fake, SESSION_S + 2)
    await turn(readmission, fake, SESSION_S + 3)
    assert fake.anew == [Entry(peer(5), f"secret of {key(5)}")]
    assert [one.public_key for one in fake.peers] == [key(5)]
    assert "secret" not in caplog.text


async def test_a_peer_is_not_removed_if_its_preshared_key_cannot_be_read() -> None:
    fake = Silent(peer(5))
    readmission = Readmission(fake)
    await turn(readmission, fake, 0)
    fake.secret_failure = DeviceError("no answer")
    await turn(readmission, fake, SESSION_S)
    assert fake.peers == (peer(5),)


async def test_an_interface_that_is_gone_ends_it() -> None:
    fake = Silent(peer(5))
    readmission = Readmission(fake)
    await turn(readmission, fake, 0)
    fake.failure = DeviceGone("interface wg0 does not exist")
    with pytest.raises(DeviceGone):
        await turn(readmission, fake, SESSION_S)
