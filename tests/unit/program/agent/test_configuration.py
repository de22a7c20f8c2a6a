# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""What the agent reads of the admin's configuration."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from wg_rendezvous._wireguard.keys import generate_private_key, public_key
from wg_rendezvous.agent.configuration import Configuration, named

A, B = (public_key(generate_private_key()) for _ in "ab")


def write(path: Path, text: str, at_s: int) -> None:
    path.write_text(text)
    os.utime(path, (at_s, at_s))


def peer(key: str) -> str:
    return f"[Peer]\nPublicKey = {key}\nAllowedIPs = 192.168.7.0/24\nEndpoint = hub.example.net:51820\n"


def test_no_file_is_an_empty_configuration(tmp_path: Path) -> None:
    configuration = Configuration("wg0", tmp_path)
    assert dict(configuration.peers()) == {}
    assert configuration.pinned_port is None


def test_a_listen_port_in_the_file_is_pinned(tmp_path: Path) -> None:
    write(tmp_path / "wg0.conf", "[Interface]\nListenPort = 51820\n", 1)
    assert Configuration("wg0", tmp_path).pinned_port == 51820


def test_a_peer_that_the_admin_adds_is_seen(tmp_path: Path) -> None:
    write(tmp_path / "wg0.conf", peer(A), 1)
    configuration = Configuration("wg0", tmp_path)
    assert set(configuration.peers()) == {A}
    write(tmp_path / "wg0.conf", peer(A) + peer(B), 2)
    assert set(configuration.peers()) == {A, B}


@pytest.mark.parametrize("mistake", [peer(A) + peer(A), "[Interface]\nSaveConfig = true\n"])
def test_a_mistake_is_said_once_and_what_was_before_counts(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, mistake: str
) -> None:
    write(tmp_path / "wg0.conf", peer(A), 1)
    configuration = Configuration("wg0", tmp_path)
    write(tmp_path / "wg0.conf", mistake, 2)
    assert set(configuration.peers()) == {A}
    assert set(configuration.peers()) == {A}
    assert len([record for record in caplog.records if "not understood" in record.message]) == 1


@pytest.mark.parametrize("mistake", [peer(A) + peer(A), "[Interface]\nSaveConfig = true\n"])
def test_a_mistake_at_start_is_an_error_that_names_the_file(tmp_path: Path, mistake: str) -> None:
    write(tmp_path / "wg0.conf", mistake, 1)
    with pytest.raises(ValueError, match=r"wg0\.conf"):
        Configuration("wg0", tmp_path)


def test_only_a_name_has_to_be_looked_up() -> None:
    endpoints = ["hub.example.net:51820", "203.0.113.7:51820", "[2001:db8::7]:51820"]
    assert [named(endpoint) for endpoint in endpoints] == [True, False, False]
