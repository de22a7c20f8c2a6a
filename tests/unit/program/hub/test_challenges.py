# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""A peer has to answer at its new endpoint before others are sent there."""

from __future__ import annotations

import dataclasses
import ipaddress

import pytest

from wg_rendezvous._wireguard.dump import Device, Peer
from wg_rendezvous.hub.challenges import AGAIN_S, Challenges
from wg_rendezvous.hub.registry import Registry

from .fake import key

PEER = key(5)
OLD, NEW = "198.51.100.5:51820", "198.51.100.9:7777"


class Scene:
    """A registry with one peer whose agent can be asked, and the heartbeats that went out."""

    def __init__(self) -> None:
        self.registry = Registry()
        self.registry.set_addresses([ipaddress.ip_interface("127.7.0.1/24")])
        self.registry.is_challenged = lambda _key: True
        self.pings: list[tuple[str, int]] = []
        self.challenges = Challenges(self.registry, lambda *ping: self.pings.append(ping))
        self.peer = Peer(PEER, OLD, ("127.7.0.5/32",), 1000, 100, 100, 0)
        self.at_s = 100.0
        self.look(OLD)

    def look(self, endpoint: str, after_s: float = 1.0, handshake_at: int = 1000) -> None:
        """A look at the device, in which the peer is at this endpoint."""
        self.at_s += after_s
        self.peer = dataclasses.replace(
            self.peer,
            endpoint=endpoint,
            latest_handshake_at=handshake_at,
            rx_bytes=self.peer.rx_bytes + 100,
        )
        device = Device(key(1), 51820, 0, {PEER: self.peer})
        self.registry.observe(device, self.at_s, 1000 + self.at_s)
        self.challenges.refresh(self.at_s)

    @property
    def believed(self) -> str | None:
        return self.registry.believed(PEER)


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_neither_a_handshake_nor_a_request_is_enough(scene: Scene) -> None:
    scene.registry.heard(PEER, scene.at_s + 1.5)
    scene.look(NEW, handshake_at=1001)
    scene.registry.heard(PEER, scene.at_s + 0.5)
    scene.look(NEW)
    assert scene.believed == OLD


def test_the_answer_is(scene: Scene) -> None:
    scene.look(NEW)
    [(address, number)] = scene.pings
    assert address == "127.7.0.5"
    assert scene.challenges.answered(address, number) == PEER
    assert scene.believed == NEW


def test_an_answer_with_another_number_or_from_another_address_is_none(scene: Scene) -> None:
    scene.look(NEW)
    [(address, number)] = scene.pings
    assert scene.challenges.answered(address, number + 1) is None
    assert scene.challenges.answered("127.7.0.6", number) is None
    assert scene.believed == OLD


def test_a_late_answer_does_not_prove_where_the_peer_is_by_now(scene: Scene) -> None:
    scene.look(NEW)
    [(address, number)] = scene.pings
    device = Device(key(1), 51820, 0, {PEER: dataclasses.replace(scene.peer, endpoint="198.51.100.7:1")})
    scene.registry.observe(device, scene.at_s + 1, 2000)
    assert scene.challenges.answered(address, number) is None
    assert scene.believed == OLD


def test_it_is_asked_again_but_not_at_every_look(scene: Scene) -> None:
    scene.look(NEW)
    scene.look(NEW, after_s=AGAIN_S / 2)
    assert len(scene.pings) == 1
    scene.look(NEW, after_s=AGAIN_S)
    assert len({number for _, number in scene.pings}) == 2


def test_the_first_endpoint_of_all_needs_no_answer() -> None:
    assert Scene().believed == OLD
