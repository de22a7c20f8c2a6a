# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: the rendezvous.wireguard authors
"""A hub on loopback that answers what the test wants, over real HTTP."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

from tests.unit.program.hub.fake import key

ALICE, BOB, CAROL, PHONE = (key(number) for number in (5, 6, 7, 9))
NUMBERS = {ALICE: 5, BOB: 6, CAROL: 7, PHONE: 9}


def record(number: int, **fields: Any) -> dict[str, Any]:
    """What a hub says of the peer 192.168.7.`number`, an agent that is online."""
    return {
        "address": f"192.168.7.{number}/32",
        "endpoint": f"198.51.100.{number}:51820",
        "online": True,
        "hands_shaken_at": 1000,
        "signals": True,
        "instance": "0123456789abcdef",
        "candidates": [],
        "version": "0.1.0",
        "polls": False,
        **fields,
    }


def report(state: str, **fields: Any) -> dict[str, Any]:
    """What an agent says of a link."""
    usual = {"strategy": "relay", "endpoint": None, "rtt_s": None, "since_at": 900.0, "why": "because"}
    return {"state": state, **usual, **fields}


class FakeHub:
    """`answers` by path: an object for JSON, bytes as they are, or a number for nothing but that status."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.asked: list[str] = []
        self.silent = threading.Event()
        """Set when the test is over; until then whoever asks for a path in `mute` waits."""
        self.mute: set[str] = set()
        self.answers: dict[str, Any] = {}

    def speak_v1(self, peers: dict[str, Any], links: dict[str, Any] | None = None) -> None:
        self.answers = {
            "/v1/peers": {"revision": 7, "peers": peers},
            "/v1/links": {"links": links or {}},
        }

    def speak_origin(self, online: list[str], offline: tuple[str, ...] = ()) -> None:
        told = {
            f"/peer/{one}": {
                "endpoint": f"198.51.100.{NUMBERS[one]}:51820",
                "allowed_ips": f"192.168.7.{NUMBERS[one]}/32",
                "hands_shaken_at": "1000",
            }
            for one in (*online, *offline)
        }
        self.answers = {"/online-peers": online, **told}


@contextmanager
def serving() -> Iterator[FakeHub]:
    """A hub that serves."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = unquote(self.path)
            hub.asked.append(path)
            if path in hub.mute:
                hub.silent.wait(20)
                return
            answer = hub.answers.get(path, 404)
            status = answer if isinstance(answer, int) else 200
            if isinstance(answer, tuple):
                status, answer = answer
            body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_request(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub = FakeHub(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield hub
    finally:
        hub.silent.set()
        server.shutdown()
        thread.join()
        server.server_close()
