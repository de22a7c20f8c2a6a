# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""What the service manager hears."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from wg_rendezvous import notify


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        made.bind(str(tmp_path / "notify"))
        made.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield made


def test_each_call_is_one_message(manager: socket.socket) -> None:
    notify.ready()
    notify.status("two\nlines")
    notify.watchdog()
    notify.stopping()
    heard = [manager.recv(100) for _ in range(4)]
    assert heard == [b"READY=1", b"STATUS=two lines", b"WATCHDOG=1", b"STOPPING=1"]


def test_an_abstract_socket_is_meant_by_an_at_sign(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        made.bind(f"\0rwh-{os.getpid()}")
        monkeypatch.setenv("NOTIFY_SOCKET", f"@rwh-{os.getpid()}")
        notify.ready()
        assert made.recv(100) == b"READY=1"


@pytest.mark.parametrize("path", [None, "/nowhere/at/all"])
def test_without_a_manager_nothing_happens(path: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    if path:
        monkeypatch.setenv("NOTIFY_SOCKET", path)
    notify.ready()


@pytest.mark.parametrize(
    ("allowed_us", "pid", "interval_s"),
    [
        ("20000000", None, 10.0),
        ("20000000", str(os.getpid()), 10.0),
        ("20000000", "1", None),
        (None, None, None),
        ("x", None, None),
    ],
    ids=["of nobody in particular", "of this process", "of another", "none", "no number"],
)
def test_the_watchdog_is_fed_at_half_its_time(
    allowed_us: str | None, pid: str | None, interval_s: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("WATCHDOG_USEC", allowed_us), ("WATCHDOG_PID", pid)):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    assert notify.watchdog_interval_s() == interval_s


async def test_the_watchdog_is_fed_only_while_all_is_well(
    manager: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "2000")
    answers = [True, False, True]
    with pytest.raises(IndexError):
        await notify.keep_alive(answers.pop)
    manager.setblocking(False)
    assert [manager.recv(100) for _ in range(2)] == [b"WATCHDOG=1"] * 2
    with pytest.raises(BlockingIOError):
        manager.recv(100)
