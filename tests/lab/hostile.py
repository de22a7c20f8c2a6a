# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""A node of the VPN that says what it likes to the hub; what the hub answers is counted.

It runs no agent.  Its node needs curl.
"""

from __future__ import annotations

import collections
import json
import subprocess
import sys
import urllib.parse
from typing import Any

from tests.lab.programs import HUB_URL
from tests.lab.wireguard import Node

INSTANCE = "00112233445566778899aabbccddeeff"

# Many requests over one connection, faster than a process for each. Prints {status: count}.
_POSTER = """
import collections, http.client, json, sys, time
host, path, every_s = sys.argv[1], sys.argv[2], float(sys.argv[3])
counts = collections.Counter()
connection = http.client.HTTPConnection(host, 8080, timeout=5)
for line in sys.stdin:
    connection.request("POST", path, line.encode(), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    answer.read()
    counts[answer.status] += 1
    if answer.will_close:
        connection.close()
    time.sleep(every_s)
print(json.dumps(counts))
"""


class HostileNode:
    """What a bad peer does."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self._streams: list[subprocess.Popen[str]] = []

    def call(self, method: str, path: str, body: str = "") -> int:
        """One request; the status of the answer."""
        status = self.node.run(
            "curl", "-s", "-m", "5", "-o", "/dev/null", "-w", "%{http_code}", "-X", method,
            "-H", "Content-Type: application/json", "--data-binary", "@-", f"{HUB_URL}{path}",
            stdin=body, check=False,
        )  # fmt: skip
        return int(status or 0)

    def register(self, **more: Any) -> int:
        """PUT /v1/self."""
        return self.call("PUT", "/v1/self", json.dumps({"instance": INSTANCE, "version": "0", **more}))

    def open_stream(self) -> None:
        """Be somebody whom signals reach; they are not listened to."""
        self._streams.append(
            self.node.start("curl", "-s", "-N", f"{HUB_URL}/v1/stream", stdout=subprocess.DEVNULL)
        )

    def signal(self, key: str, **signal: Any) -> int:
        """POST /v1/signal/KEY."""
        return self.call("POST", signal_path(key), json.dumps(signal))

    def signals(self, key: str, signals: list[dict[str, Any]], every_s: float) -> collections.Counter[int]:
        """Many of them; how often which status was answered."""
        lines = "".join(json.dumps(signal) + "\n" for signal in signals)
        host = HUB_URL.removeprefix("http://").rpartition(":")[0]
        argv = (sys.executable, "-c", _POSTER, host, signal_path(key), str(every_s))
        counts: dict[str, int] = json.loads(self.node.run(*argv, stdin=lines, timeout_s=60))
        return collections.Counter({int(status): count for status, count in counts.items()})


def signal_path(key: str) -> str:
    return f"/v1/signal/{urllib.parse.quote(key, safe='')}"
