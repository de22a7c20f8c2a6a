# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""The origin's hub and agent, as its protocol is described (DESIGN section 1), and nothing more.

It shares no code with the program under test, so that both can be wrong in different ways only.

usage: origin.py hub IF ADDRESS:PORT [--raw-keys]
       origin.py agent IF http://HUB:PORT INTERVAL_S [--raw-keys]

With --raw-keys a key stands in a path as it is, with its slashes; the hub then understands nothing else.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ONLINE_S = 180
KEEPALIVE_S = 13
PEER_PORT = 8080


def wg(*arguments: str) -> str:
    return subprocess.run(["wg", *arguments], check=True, capture_output=True, text=True).stdout


def peers(interface: str) -> dict[str, dict[str, str]]:
    """What the hub tells of each peer that has shaken hands, from `wg show IF dump`."""
    records = {}
    for line in wg("show", interface, "dump").splitlines()[1:]:
        key, _psk, endpoint, allowed_ips, handshake_at, *_ = line.split("\t")
        if int(handshake_at) > time.time() - ONLINE_S:
            records[key] = {
                "endpoint": endpoint,
                "allowed_ips": allowed_ips,
                "hands_shaken_at": handshake_at,
            }
    return records


class Handler(BaseHTTPRequestHandler):
    """`/statusz` of agents, `/online-peers` and `/peer/KEY` of hubs, as the origin's loop needs them."""

    interface = ""
    is_hub = False
    raw_keys = False

    def do_GET(self) -> None:
        if self.path == "/statusz" and not self.is_hub:
            self._answer(200, "text/plain", f"peers: {len(peers(self.interface))}\n")
        elif self.is_hub and self.path == "/online-peers":
            self._answer(200, "application/json", json.dumps(list(peers(self.interface))))
        elif self.is_hub and self.path.startswith("/peer/"):
            key = self.path[len("/peer/") :]
            record = peers(self.interface).get(key if self.raw_keys else urllib.parse.unquote(key))
            answer = record or {"error": "no such peer"}
            self._answer(200 if record else 404, "application/json", json.dumps(answer))
        else:
            self._answer(404, "application/json", '{"error": "no such path"}')

    def _answer(self, status: int, content_type: str, text: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())


def get(url: str, timeout_s: float) -> str:
    with urllib.request.urlopen(url, timeout=timeout_s) as response:
        text: str = response.read().decode()
        return text


class Agent:
    """The loop."""

    def __init__(self, interface: str, hub: str, interval_s: float, raw_keys: bool) -> None:
        self.interface, self.hub, self.interval_s = interface, hub, interval_s
        self.safe = "/+=" if raw_keys else ""
        self.own_key = wg("show", interface, "public-key").strip()
        self.endpoints: dict[str, str] = {}

    def run(self) -> None:
        while True:
            started = time.monotonic()
            try:
                self.loop_once()
            except (OSError, ValueError) as error:
                print("the hub fails:", error, flush=True)
            time.sleep(max(0.0, self.interval_s - (time.monotonic() - started)))

    def loop_once(self) -> None:
        timeout_s = min(5.0, self.interval_s / 2)
        restart = False
        for key in json.loads(get(f"{self.hub}/online-peers", timeout_s)):
            if key == self.own_key:
                continue
            quoted = urllib.parse.quote(key, safe=self.safe)
            peer = json.loads(get(f"{self.hub}/peer/{quoted}", timeout_s))
            wg("set", self.interface, "peer", key, "persistent-keepalive", str(KEEPALIVE_S),
               "endpoint", peer["endpoint"], "allowed-ips", peer["allowed_ips"])  # fmt: skip
            address = peer["allowed_ips"].partition("/")[0]
            try:
                get(f"http://{address}:{PEER_PORT}/statusz", timeout_s)
                print("response from", address, flush=True)
            except OSError as error:
                print("no response from", address, error, flush=True)
                restart |= self.endpoints.get(key) == peer["endpoint"]
            self.endpoints[key] = peer["endpoint"]
        if restart:
            port = random.randrange(20000, 60000)
            print("restart of the VPN client, port", port, flush=True)
            wg("set", self.interface, "listen-port", str(port))


def main(command: str, interface: str, where: str, *more: str) -> None:
    Handler.interface, Handler.raw_keys, Handler.is_hub = interface, "--raw-keys" in more, command == "hub"
    if command == "hub":
        host, _, port = where.partition(":")
        ThreadingHTTPServer((host, int(port)), Handler).serve_forever()
    address = subprocess.run(
        ["ip", "-o", "-4", "address", "show", "dev", interface], check=True, capture_output=True, text=True
    ).stdout.split()[3].partition("/")[0]  # fmt: skip
    server = ThreadingHTTPServer((address, PEER_PORT), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    Agent(interface, where, float(more[0]), "--raw-keys" in more).run()


if __name__ == "__main__":
    main(*sys.argv[1:])
