# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""What the hub says of each peer, and what counts as a change of it."""

from __future__ import annotations

import dataclasses
import ipaddress

import pytest

from wg_rendezvous._wireguard import dump
from wg_rendezvous.hub.records import Changes, Records
from wg_rendezvous.hub.registrations import FORGET_S, POLLS_S, Claim, Registrations
from wg_rendezvous.hub.registry import Registry

from .fake import device, key, peer

RUN, OTHER_RUN = "0123456789abcdef", "fedcba9876543210"
DIRECT, RELAYED = {"state": "direct"}, {"state": "relayed"}
SILENT_AT_S = 100.0


class World:
    """A registry, registrations and records of peers 5 and 6."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.registry, self.registrations = Registry(), Registrations()
        self.registry.set_addresses([ipaddress.ip_interface("127.7.0.1/24")])
        self.records = Records(self.registry, self.registrations, 17)
        self.look(peer(5), peer(6))

    def look(self, *peers: dump.Peer, at_s: float | None = None) -> Changes:
        self.now_s = self.now_s + 1 if at_s is None else at_s
        self.registry.observe(device(*peers), self.now_s, 1000 + self.now_s)
        return self.records.refresh(self.now_s)

    def register(self, claim: Claim, by: int = 5) -> Changes:
        self.registrations.register(key(by), claim, self.registry.known_keys(), self.now_s)
        return self.records.refresh_one(key(by), self.now_s)

    def open(self, by: int = 5) -> Changes:
        self.registrations.stream_opened(key(by))
        return self.records.refresh_one(key(by), self.now_s)

    def close(self, by: int = 5) -> Changes:
        self.registrations.stream_closed(key(by), self.now_s)
        return self.records.refresh_one(key(by), self.now_s)

    def told(self, of: int = 5, to: int | None = None) -> dict[str, object]:
        told = self.records.tell(key(of), None if to is None else key(to))
        assert told is not None
        return told


@pytest.fixture
def world() -> World:
    return World()


ALICE = Changes((key(5),))
NOTHING = Changes()


def test_a_look_that_shows_nothing_new_is_no_change(world: World) -> None:
    before = world.records.revision
    assert world.look(peer(5), peer(6)) == NOTHING
    assert world.look(peer(5, rx_bytes=200), peer(6, tx_bytes=200)) == NOTHING
    assert world.records.revision == before


def test_a_handshake_alone_is_no_change_but_is_told(world: World) -> None:
    before = world.records.revision
    assert world.look(peer(5, latest_handshake_at=1002), peer(6)) == NOTHING
    assert world.records.revision == before
    assert world.told()["hands_shaken_at"] == 1002


def test_endpoint_address_and_online_are_changes_and_each_makes_a_revision(world: World) -> None:
    start = world.records.revision
    shaken = {"latest_handshake_at": 1001, "endpoint": "198.51.100.5:40000"}
    assert world.look(peer(5, **shaken), peer(6)) == ALICE
    assert world.look(peer(5, **shaken, allowed_ips=("127.7.0.55/32",)), peer(6)) == ALICE
    assert world.told()["address"] == "127.7.0.55/32"
    assert set(
        world.look(peer(5, **shaken, allowed_ips=("127.7.0.55/32",)), peer(6), at_s=SILENT_AT_S).changed
    ) == {
        key(5),
        key(6),
    }
    assert world.told()["online"] is False
    assert world.records.revision == start + 3


def test_a_peer_that_was_added_or_removed_is_told(world: World) -> None:
    assert world.look(peer(5), peer(6), peer(7)) == Changes((key(7),))
    assert world.look(peer(5), peer(7)) == Changes((), (key(6),))
    assert world.records.tell(key(6)) is None


def test_a_peer_without_an_address_of_its_own_is_there_without_one(world: World) -> None:
    world.look(peer(5, allowed_ips=("10.0.0.0/8",)), peer(6))
    assert world.told()["address"] is None
    assert world.told()["endpoint"] == "198.51.100.5:51820"


def test_a_run_is_made_known_when_its_stream_opens(world: World) -> None:
    assert world.register(Claim(RUN)) == NOTHING
    assert (world.told()["instance"], world.told()["signals"]) == (None, False)
    assert world.open() == ALICE
    assert (world.told()["instance"], world.told()["signals"]) == (RUN, True)
    assert world.close() == ALICE
    assert (world.told()["instance"], world.told()["signals"]) == (RUN, False)
    world.look(peer(5), peer(6), at_s=world.now_s + FORGET_S)
    assert world.told()["instance"] is None


def test_version_and_candidates_are_changes_and_links_are_not(world: World) -> None:
    assert world.register(Claim(RUN, version="1")) == ALICE
    assert world.register(Claim(RUN, candidates=("10.0.0.5:5",))) == ALICE
    assert world.register(Claim(RUN, links={key(6): DIRECT})) == NOTHING
    assert world.register(Claim(RUN)) == NOTHING
    assert (world.told()["version"], world.told()["candidates"]) == ("1", ["10.0.0.5:5"])


def test_an_open_stream_is_online_however_silent_the_device(world: World) -> None:
    world.register(Claim(RUN))
    world.open()
    world.look(peer(5), peer(6), at_s=SILENT_AT_S)
    assert world.told()["online"] is True
    assert world.records.online(SILENT_AT_S) == [key(5)]
    world.close()
    assert world.told()["online"] is False


def test_linked_is_what_the_present_run_said_of_the_receiver(world: World) -> None:
    world.look(peer(5), peer(6), peer(7))
    world.register(Claim(RUN, links={key(6): DIRECT, key(7): RELAYED}))
    assert [world.told(to=number)["linked"] for number in (6, 7)] == [True, False]
    assert "linked" not in world.told()

    world.register(Claim(OTHER_RUN))
    assert world.told(to=6)["linked"] is False
    world.register(Claim(OTHER_RUN, links={key(6): DIRECT}))
    assert world.told(to=6)["linked"] is True
    world.register(Claim(OTHER_RUN, links={key(6): None}))
    assert world.told(to=6)["linked"] is False


@pytest.mark.parametrize(
    ("state", "linked"),
    [
        *(("provisional", True), ("direct", True), ("doubtful", True)),
        *(("relayed", False), ("opening", False), ("knocking", False)),
    ],
)
def test_linked_is_traffic_that_was_moved(world: World, state: str, linked: bool) -> None:
    world.register(Claim(RUN, links={key(6): {"state": state}}))
    assert world.told(to=6)["linked"] is linked


def test_who_asked_as_the_origin_does_polls_for_two_minutes(world: World) -> None:
    world.look(peer(5), peer(6), at_s=SILENT_AT_S)
    world.registrations.polled(key(5), SILENT_AT_S)
    assert world.look(peer(5), peer(6), at_s=SILENT_AT_S + POLLS_S) == ALICE
    assert world.told()["polls"] is True
    assert world.look(peer(5), peer(6), at_s=SILENT_AT_S + POLLS_S + 0.1) == ALICE
    assert world.told()["polls"] is False


def test_reports_are_merged_and_those_of_strangers_ignored(world: World) -> None:
    world.register(Claim(RUN, links={key(6): DIRECT, key(9): DIRECT, key(5): DIRECT}))
    world.register(Claim(RUN, links={}))
    assert world.registrations.links() == {key(5): {key(6): DIRECT}}


@pytest.mark.parametrize(
    ("later", "taken"),
    [
        (Claim(RUN, number=6), False),
        (Claim(RUN, number=7), True),
        (Claim(RUN, number=8), True),
        (Claim(RUN), True),
        (Claim(OTHER_RUN, number=6), True),
    ],
    ids=["smaller", "equal", "larger", "none", "another run"],
)
def test_a_registration_that_comes_after_newer_ones_is_ignored(
    world: World, later: Claim, taken: bool
) -> None:
    """Its agent gave it up, but the kernel went on sending it."""
    world.register(Claim(RUN, "2", ("10.0.0.5:5",), {key(6): DIRECT}, ("0" * 16,), number=7))
    world.register(
        dataclasses.replace(later, version="1", candidates=(), links={key(6): RELAYED}, secrets=())
    )
    told = world.told()["version"], world.told()["candidates"], world.told()["secrets"]
    assert told == (("1", [], []) if taken else ("2", ["10.0.0.5:5"], ["0" * 16]))
    assert world.registrations.links() == {key(5): {key(6): RELAYED if taken else DIRECT}}


def test_one_that_came_late_or_has_no_number_makes_no_later_one_late(world: World) -> None:
    world.register(Claim(RUN, number=7))
    world.register(Claim(RUN, number=5))
    world.register(Claim(RUN))
    world.register(Claim(RUN, version="1", number=6))
    assert world.told()["version"] is None


def test_reports_of_a_peer_that_was_removed_go_with_it(world: World) -> None:
    world.register(Claim(RUN, links={key(6): DIRECT}))
    world.register(Claim(RUN, links={key(5): DIRECT}), by=6)
    world.look(peer(5))
    assert world.registrations.links() == {key(5): {}}


def test_another_run_forgets_what_the_last_one_said(world: World) -> None:
    world.register(Claim(RUN, version="1", candidates=("10.0.0.5:5",), links={key(6): DIRECT}))
    world.open()
    assert world.registrations.is_another_run(key(5), OTHER_RUN)
    assert world.register(Claim(OTHER_RUN)) == ALICE
    assert (world.told()["version"], world.told()["candidates"], world.told()["signals"]) == (None, [], False)
    assert world.registrations.links() == {key(5): {}}


def test_a_registration_is_forgotten_a_minute_after_its_stream_closed(world: World) -> None:
    world.register(Claim(RUN, version="1"))
    world.open()
    world.look(peer(5), peer(6), at_s=1000)
    world.close()
    world.look(peer(5), peer(6), at_s=1000 + FORGET_S - 0.1)
    assert world.told()["version"] == "1"
    assert world.look(peer(5), peer(6), at_s=1000 + FORGET_S) == ALICE
    assert world.told()["version"] is None
    assert world.registrations.get(key(5)) is None


def test_a_registration_that_never_had_a_stream_is_forgotten_a_minute_after_the_last_one(
    world: World,
) -> None:
    world.register(Claim(RUN))
    world.look(peer(5), peer(6), at_s=50)
    world.register(Claim(RUN))
    world.look(peer(5), peer(6), at_s=50 + FORGET_S - 0.1)
    assert world.registrations.get(key(5)) is not None
    world.look(peer(5), peer(6), at_s=50 + FORGET_S)
    assert world.registrations.get(key(5)) is None


def test_everybody_gets_all_records_but_his_own(world: World) -> None:
    assert set(world.records.all_but(key(5))) == {key(6)}
    assert set(world.records.all_but(None)) == {key(5), key(6)}
    assert "linked" in world.records.all_but(key(5), linked=True)[key(6)]
