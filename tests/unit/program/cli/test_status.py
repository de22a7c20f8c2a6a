# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""What `status` prints, asked of sockets that answer what the tests want."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from wg_rendezvous import status
from wg_rendezvous.config import StatusOptions

AGENT = {
    "node": {
        "interface": "wg0",
        "public_key": "OWN=",
        "role": "agent",
        "version": "0.1.0",
        "hub": "http://192.168.7.1:8080",
    },
    "links": [
        {
            "peer": "PEER=",
            "address": "192.168.7.6/32",
            "state": "direct",
            "endpoint": "198.51.100.6:51820",
            "strategy": "reflexive",
            "rtt_s": 0.0123,
            "since_at": 1000,
            "why": None,
        },
        {
            "peer": "OTHER=",
            "address": "192.168.7.7/32",
            "state": "relayed",
            "endpoint": None,
            "strategy": None,
            "rtt_s": None,
            "since_at": None,
            "why": "3 knocks failed",
        },
    ],
}
HUB = {
    "node": {"interface": "wg1", "public_key": "HUB=", "role": "hub", "version": "0.1.0", "hub": None},
    "peers": [
        {
            "peer": "PEER=",
            "address": "192.168.7.6/32",
            "endpoint": "198.51.100.6:5",
            "online": True,
            "hands_shaken_at": 1000,
        }
    ],
}
Serve = Callable[[str, Any], None]


@pytest.fixture
def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """Let the socket of an interface answer this, once."""
    monkeypatch.setattr(status, "RUN_DIRECTORY", str(tmp_path))
    threads, sockets = [], []

    def start(interface: str, answer: Any) -> None:
        body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(tmp_path / f"{interface}.sock"))
        listener.listen()

        def reply() -> None:
            connection, _ = listener.accept()
            with connection:
                assert connection.recv(65536).startswith(b"GET /status HTTP/1.1\r\n")
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))

        threads.append(threading.Thread(target=reply, daemon=True))
        sockets.append(listener)
        threads[-1].start()

    yield start
    for thread in threads:
        thread.join(5)
    for listener in sockets:
        listener.close()


def test_an_agents_links_are_a_table(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    serve("wg0", AGENT)
    monkeypatch.setattr(time, "time", lambda: 1300.0)
    assert status.run(StatusOptions()) == 0
    assert capsys.readouterr().out.splitlines() == [
        "wg0: agent OWN=, version 0.1.0, hub http://192.168.7.1:8080",
        "PEER    ADDRESS         STATE    ENDPOINT            STRATEGY   RTT      SINCE      WHY",
        "PEER=   192.168.7.6/32  direct   198.51.100.6:51820  reflexive  12.3 ms  5 min ago  -",
        "OTHER=  192.168.7.7/32  relayed  -                   -          -        -          3 knocks failed",
    ]


def test_all_interfaces_are_shown_and_a_hub_shows_its_peers(
    serve: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    serve("wg0", AGENT)
    serve("wg1", HUB)
    assert status.run(StatusOptions()) == 0
    out = capsys.readouterr().out
    assert "wg0: agent" in out
    assert "wg1: hub HUB=" in out
    assert "198.51.100.6:5  yes" in out


def test_json_is_one_object_with_interface_and_a_list_without(
    serve: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    serve("wg0", AGENT)
    assert status.run(StatusOptions("wg0", json=True)) == 0
    assert json.loads(capsys.readouterr().out) == AGENT


def test_json_of_all_is_a_list(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    serve("wg0", AGENT)
    serve("wg1", HUB)
    assert status.run(StatusOptions(json=True)) == 0
    assert json.loads(capsys.readouterr().out) == [AGENT, HUB]


def test_one_that_does_not_answer_is_named_and_the_others_are_shown(
    serve: Serve, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    serve("wg1", HUB)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "wg0.sock"))
    assert status.run(StatusOptions()) == 1
    out, err = capsys.readouterr()
    assert "wg1: hub" in out
    assert "wg0: nobody answers" in err


@pytest.mark.parametrize(
    ("interface", "says"), [(None, "no hub and no agent runs here"), ("wg0", "does not exist")]
)
@pytest.mark.usefixtures("serve")
def test_nobody_there_is_one_line(
    interface: str | None, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status.run(StatusOptions(interface)) == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert says in err


def test_an_answer_that_is_no_json_is_said(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    serve("wg0", b"hello")
    assert status.run(StatusOptions("wg0")) == 1
    assert "no usable answer" in capsys.readouterr().err
