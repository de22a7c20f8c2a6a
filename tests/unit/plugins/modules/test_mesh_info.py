# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: the rendezvous.wireguard authors
"""The module, asking sockets that answer what the tests want."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.rendezvous.wireguard.plugins.module_utils import _mesh
from tests.unit.plugins.conftest import Host
from tests.unit.plugins.inventory.fake_hub import ALICE, BOB, CAROL, record, report
from tests.unit.program.hub.fake import FakeDevice, peer
from tests.unit.program.hub.served import Peer, running

from wg_rendezvous import web

LINK = {
    "peer": BOB,
    "address": "192.168.7.6/32",
    "state": "direct",
    "online": True,
    "endpoint": "198.51.100.6:51820",
    "strategy": "reflexive",
    "rtt_s": 0.01,
    "since_at": 1000.0,
    "why": "it answers",
}
AGENT = {
    "node": {
        "interface": "wg0",
        "public_key": ALICE,
        "role": "agent",
        "version": "0.1.0",
        "hub": "http://192.168.7.1:8080",
        "hub_silent": None,
    },
    "links": [LINK],
}
HUB = {
    "node": {"interface": "wg0", "public_key": CAROL, "role": "hub", "version": "0.1.0", "hub": None},
    "peers": [
        {
            "peer": ALICE,
            "address": "192.168.7.5/32",
            "endpoint": "198.51.100.5:51820",
            "online": True,
            "hands_shaken_at": 1000,
            "why": None,
        }
    ],
}
Answers = dict[str, Any]
Serve = Callable[[Answers], None]


@pytest.fixture
def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """Let the socket of wg0 answer these: objects, bytes, or a number for a status; None for never."""
    monkeypatch.setattr(_mesh, "RUN_DIRECTORY", str(tmp_path))
    listener = socket.socket(socket.AF_UNIX)
    threads: list[threading.Thread] = []
    over = threading.Event()

    def answer(answers: Answers) -> None:
        while True:
            connection, _ = listener.accept()
            with connection:
                request = connection.recv(65536)
                if not request:
                    return
                told = answers.get(request.split()[1].decode(), 404)
                if told is None:
                    over.wait(20)
                    return
                status, body = (told, b"{}") if isinstance(told, int) else (200, told)
                body = body if isinstance(body, bytes) else json.dumps(body).encode()
                head = f"HTTP/1.1 {status} OK\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
                connection.sendall(head.encode() + body)

    def start(answers: Answers) -> None:
        listener.bind(str(tmp_path / "wg0.sock"))
        listener.listen()
        threads.append(threading.Thread(target=answer, args=[answers]))
        threads[-1].start()

    yield start
    over.set()
    for thread in threads:
        with socket.socket(socket.AF_UNIX) as last:
            if thread.is_alive():
                last.connect(str(tmp_path / "wg0.sock"))
        thread.join()
    listener.close()


def info(host: Host, check: bool = False, **options: Any) -> dict[str, Any]:
    return host.module("mesh_info", check, directory=str(host.directory), **options)


@pytest.mark.parametrize("check", [False, True])
def test_an_agent_says_its_links(ready: Host, serve: Serve, check: bool) -> None:
    ready.peers({"public_key": BOB, "name": "bob", "allowed_ips": []})
    serve({"/status": AGENT})
    result = info(ready, check)

    mesh = result["mesh"]
    assert result["changed"] is False
    assert mesh.pop("asked_at") > 1000
    unknown = dict.fromkeys(
        ("endpoint", "signals", "version", "polls", "why", "candidates", "latest_handshake_at")
    )
    assert mesh == {
        "interface": "wg0",
        "role": "agent",
        "public_key": ALICE,
        "version": "0.1.0",
        "hub": "http://192.168.7.1:8080",
        "hub_silent": None,
        "peers": [{"public_key": BOB, "name": "bob", "address": "192.168.7.6/32", "online": True, **unknown}],
        "links": [
            {"from": ALICE, "to": BOB, **{k: v for k, v in LINK.items() if k not in ("peer", "address")}}
        ],
    }


def test_a_hub_says_its_peers_and_what_the_agents_report(ready: Host, serve: Serve) -> None:
    serve(
        {
            "/status": HUB,
            "/v1/peers": {"revision": 1, "peers": {ALICE: record(5)}},
            "/v1/links": {"links": {ALICE: {BOB: report("relayed")}}},
        }
    )
    mesh = info(ready)["mesh"]
    assert (mesh["role"], mesh["hub"], mesh["hub_silent"]) == ("hub", None, None)
    (alice,) = mesh["peers"]
    assert (alice["address"], alice["latest_handshake_at"]) == ("192.168.7.5/32", 1000)
    assert (alice["version"], alice["signals"], alice["candidates"]) == ("0.1.0", True, [])
    (link,) = mesh["links"]
    assert link == {"from": ALICE, "to": BOB, "online": None, **report("relayed")}


async def test_the_hub_itself_is_understood(
    ready: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_mesh, "RUN_DIRECTORY", str(tmp_path))
    async with running(FakeDevice(peer(5), peer(6))) as hub, Peer(hub, 5) as alice:
        await alice.register(version="0.1.0", links={BOB: {"state": "relayed", "why": "no answer"}})
        own = await web.start(hub.api.local_application(), [web.unix_listener(str(tmp_path / "wg0.sock"))])
        mesh = (await asyncio.to_thread(info, ready))["mesh"]
        await web.stop(own)

    assert [(one["public_key"], one["address"], one["online"]) for one in mesh["peers"]] == [
        (ALICE, "127.7.0.5/32", True),
        (BOB, "127.7.0.6/32", False),
    ]
    assert mesh["peers"][0]["version"] == "0.1.0"
    (link,) = mesh["links"]
    assert (link["from"], link["to"], link["state"], link["why"]) == (ALICE, BOB, "relayed", "no answer")


def test_a_hub_of_an_older_release_says_what_it_knows(ready: Host, serve: Serve) -> None:
    serve({"/status": HUB})
    mesh = info(ready)["mesh"]
    assert mesh["links"] == []
    assert (mesh["peers"][0]["online"], mesh["peers"][0]["version"]) == (True, None)


def test_names_that_cannot_be_read_are_a_warning(ready: Host, serve: Serve) -> None:
    ready.conf.write_text("[Interface]\nSaveConfig = true\n")
    serve({"/status": AGENT})
    result = info(ready)
    assert result["mesh"]["peers"][0]["name"] is None
    (warning,) = result["warnings"]
    assert "without the names of peers" in json.dumps(warning)


def test_no_secret_is_printed(ready: Host, serve: Serve) -> None:
    serve({"/status": AGENT})
    info(ready)
    assert ready.key.read_text().strip() not in ready.output


# --- nobody answers, or not what was asked ---


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the sockets are."""
    monkeypatch.setattr(_mesh, "RUN_DIRECTORY", str(tmp_path / "sockets"))
    (tmp_path / "sockets").mkdir()
    return tmp_path / "sockets"


def assert_failed(result: dict[str, Any], *words: str) -> None:
    assert result["failed"]
    for word in words:
        assert word in result["msg"]


def test_where_nothing_runs_it_is_said_what_to_start(host: Host, run: Path) -> None:
    assert_failed(
        info(host), f"wg0: no hub and no agent runs for it, {run}/wg0.sock", "site.yml", "wg-quick@wg0"
    )


def test_where_another_interface_is_served_it_is_named(host: Host, run: Path) -> None:
    (run / "wg1.sock").touch()
    assert_failed(info(host), "wg0: no hub and no agent", "those that have one are wg1 (option interface)")


def test_a_program_that_has_died_is_to_be_restarted(host: Host, run: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(run / "wg0.sock"))
    assert_failed(info(host), f"wg0: nobody answers at {run}/wg0.sock", "systemctl restart")


def test_who_is_not_root_has_to_become_it(host: Host, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_connection: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(_mesh._UnixConnection, "connect", refuse)
    assert_failed(info(host), f"wg0: only root may ask at {run}/wg0.sock", "become")


def test_a_name_that_is_no_interface_is_refused(host: Host) -> None:
    assert_failed(info(host, interface="../wg0"), "interface name '../wg0'")


def test_an_answer_that_does_not_come_is_not_awaited(host: Host, serve: Serve) -> None:
    serve({"/status": None})
    assert_failed(info(host, timeout_s=0.2), "no answer at", "within 0.2 s", "option timeout_s")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (500, "has status 500"),
        (b"{", "cannot be read"),
        ([], "is no object"),
        ({}, "is not what a hub or an agent says"),
        ({**AGENT, "links": [{"state": "direct"}]}, "is not what a hub or an agent says"),
        ({**AGENT, "links": 7}, "is not what a hub or an agent says"),
    ],
)
def test_nonsense_is_refused(ready: Host, serve: Serve, answer: Any, words: str) -> None:
    serve({"/status": answer})
    assert_failed(info(ready), "wg0: the answer at", words, "journalctl -u 'wg-rendezvous-*@wg0'")
