# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""Listening sockets: where, for whom, and why not."""

from __future__ import annotations

import ipaddress
import os
import socket
import stat
from pathlib import Path

import pytest

from wg_rendezvous import web

ADDRESSES = [ipaddress.ip_interface(text) for text in ("fd07::1/64", "192.168.7.1/24", "192.168.7.9/24")]


def test_a_listener_is_bound_to_the_address_and_to_the_interface() -> None:
    with web.listener("127.0.0.1", 0, "lo") as made:
        assert made.getsockname()[0] == "127.0.0.1"
        assert made.getsockopt(socket.SOL_SOCKET, web.SO_BINDTODEVICE, 16).rstrip(b"\0") == b"lo"
        socket.create_connection(made.getsockname(), 5).close()


@pytest.mark.parametrize(
    ("host", "interface", "says"),
    [
        ("192.0.2.1", "lo", "give --listen an address that the interface has"),
        ("127.0.0.1", "rwh-nothere", "bring rwh-nothere up"),
    ],
)
def test_what_cannot_be_listened_on_is_said_with_the_remedy(host: str, interface: str, says: str) -> None:
    with pytest.raises(web.ListenError, match=says):
        web.listener(host, 0, interface)


def test_a_port_that_is_taken_is_said() -> None:
    with (
        web.listener("127.0.0.1", 0, "lo") as first,
        pytest.raises(web.ListenError, match="something else listens"),
    ):
        web.listener("127.0.0.1", first.getsockname()[1], "lo")


@pytest.mark.parametrize(
    ("wanted", "hosts"),
    [
        (None, ["192.168.7.1", "192.168.7.9", "fd07::1"]),
        ("192.168.7.9", ["192.168.7.9"]),
        ("fd07::1", ["fd07::1"]),
    ],
)
def test_the_program_listens_on_the_interfaces_own_addresses(wanted: str | None, hosts: list[str]) -> None:
    assert web.listen_hosts(wanted, ADDRESSES, "wg0") == hosts


def test_an_address_that_the_interface_does_not_have_is_refused() -> None:
    with pytest.raises(web.ListenError, match=r"192\.168\.7\.2 is no address of wg0: use 192\.168\.7\.1 or"):
        web.listen_hosts("192.168.7.2", ADDRESSES, "wg0")
    with pytest.raises(web.ListenError, match="wg0 has no address"):
        web.listen_hosts(None, [], "wg0")


def test_a_unix_listener_is_for_its_owner_only_and_makes_its_directory(tmp_path: Path) -> None:
    path = tmp_path / "run" / "wg-rendezvous" / "wg0.sock"
    umask = os.umask(0o077)
    try:
        with web.unix_listener(str(path)):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert stat.S_IMODE(path.parent.stat().st_mode) == 0o755
    finally:
        os.umask(umask)


def test_what_a_dead_process_left_is_replaced_and_a_living_one_is_not(tmp_path: Path) -> None:
    path = str(tmp_path / "wg0.sock")
    web.unix_listener(path).close()
    with web.unix_listener(path), pytest.raises(web.ListenError, match="another wg-rendezvous"):
        web.unix_listener(path)
