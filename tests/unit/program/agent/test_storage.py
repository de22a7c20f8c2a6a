# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""What the agent writes down."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from wg_rendezvous._wireguard import owned
from wg_rendezvous._wireguard.keys import generate_private_key
from wg_rendezvous.agent.storage import Storage

KEY = generate_private_key()


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage("wg0", tmp_path / "run", tmp_path / "lib")


def test_it_makes_its_directories_with_their_modes(storage: Storage) -> None:
    assert storage.owned_path.parent.stat().st_mode & 0o777 == 0o755
    assert storage.state_path.parent.stat().st_mode & 0o777 == 0o700


def test_owned_peers_are_read_back_by_the_agent_and_by_the_modules(storage: Storage) -> None:
    storage.write_owned({KEY: "192.168.7.6/32"})
    assert storage.read_owned() == {KEY: "192.168.7.6/32"}
    assert set(owned.read("wg0", str(storage.owned_path.parent))) == {KEY}


def test_without_peers_there_is_no_record(storage: Storage) -> None:
    storage.write_owned({KEY: "192.168.7.6/32"})
    storage.write_owned({})
    assert storage.read_owned() == {}
    assert list(storage.owned_path.parent.iterdir()) == []


def test_a_damaged_record_is_an_error_that_names_the_file(storage: Storage) -> None:
    for text in ("{", "[]", '{"peers": 3}'):
        storage.owned_path.write_text(text)
        with pytest.raises(ValueError, match=str(storage.owned_path)):
            storage.read_owned()


def test_the_state_comes_back_with_its_age(storage: Storage) -> None:
    assert storage.read_state() is None
    storage.write_state({"links": {}})
    record = json.loads(storage.state_path.read_text())
    storage.state_path.write_text(json.dumps({**record, "saved_at": record["saved_at"] - 100}))
    state, age_s = storage.read_state() or ({}, -1.0)
    assert state == {"links": {}}
    assert 100 <= age_s < 110


def test_a_clock_that_went_back_makes_no_negative_age(storage: Storage) -> None:
    storage.write_state({})
    record = json.loads(storage.state_path.read_text())
    storage.state_path.write_text(json.dumps({**record, "saved_at": record["saved_at"] + 1000}))
    assert (storage.read_state() or ({}, -1.0))[1] == 0.0


def test_the_state_is_for_root_only(storage: Storage) -> None:
    storage.write_state({})
    assert storage.state_path.stat().st_mode & 0o777 == 0o600
