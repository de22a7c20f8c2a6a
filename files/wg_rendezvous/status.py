# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""`wg-rendezvous status`: ask the hub or agent of this node, over its unix socket, who is reached how.

Standard library only: importing aiohttp would take longer than the answer (DESIGN fact 19).
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import sys
import time
from collections.abc import Sequence
from typing import Any

from .config import RUN_DIRECTORY, StatusOptions

TIMEOUT_S = 5.0


class StatusError(Exception):
    """Nobody answers; the text says why and what to do."""


def run(options: StatusOptions) -> int:
    """Print the status. Returns 0, or 1 if an interface did not answer (one line each on stderr)."""
    interfaces = [options.interface] if options.interface else served_interfaces(RUN_DIRECTORY)
    if not interfaces:
        print(f"wg-rendezvous: no hub and no agent runs here: {RUN_DIRECTORY} has no socket", file=sys.stderr)
    answers = [_ask_or_say(interface) for interface in interfaces]
    found = [answer for answer in answers if answer is not None]
    if options.json:
        if not options.interface or found:
            print(json.dumps(found[0] if options.interface else found, indent=2))
    elif found:
        print("\n\n".join(render(status, time.time()) for status in found))
    return 0 if answers and found == answers else 1


def _ask_or_say(interface: str) -> dict[str, Any] | None:
    try:
        return ask(f"{RUN_DIRECTORY}/{interface}.sock")
    except StatusError as error:
        print(f"wg-rendezvous: {interface}: {error}", file=sys.stderr)
        return None


def served_interfaces(directory: str) -> list[str]:
    """The interfaces that have a socket in `directory`, in order."""
    try:
        names = os.listdir(directory)
    except OSError:
        return []
    return sorted(name[: -len(".sock")] for name in names if name.endswith(".sock"))


def ask(path: str) -> dict[str, Any]:
    """What `GET /status` answers on the unix socket `path`. Raises StatusError."""
    connection = _UnixConnection("localhost", timeout=TIMEOUT_S)
    connection.path = path
    try:
        connection.request("GET", "/status")
        response = connection.getresponse()
        body = response.read()
        if response.status != 200:
            raise StatusError(f"{path} answered {response.status}: its log says more")
        answer: dict[str, Any] = json.loads(body)
        return answer
    except FileNotFoundError:
        raise StatusError(f"no hub and no agent runs for it: {path} does not exist") from None
    except ConnectionRefusedError:
        raise StatusError(f"nobody answers at {path}: start the hub or the agent again") from None
    except PermissionError:
        raise StatusError(f"not allowed to ask at {path}: run as root") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise StatusError(f"no usable answer at {path} ({error}): its log says more") from None
    finally:
        connection.close()


class _UnixConnection(http.client.HTTPConnection):
    path = ""

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


# --- for people ---


def render(status: dict[str, Any], now_at: float) -> str:
    """The answer of one hub or agent as text: a line about the node, then a table of its peers."""
    node = status["node"]
    title = f"{node['interface']}: {node['role']} {node['public_key']}, version {node['version']}"
    if node.get("hub"):
        title += f", hub {node['hub']}"
    if "links" in status:
        header = ["PEER", "ADDRESS", "STATE", "ENDPOINT", "STRATEGY", "RTT", "SINCE", "WHY"]
        rows = [_link_row(link, now_at) for link in status["links"]]
    else:
        header = ["PEER", "ADDRESS", "ENDPOINT", "ONLINE", "HANDSHAKE"]
        rows = [_peer_row(peer, now_at) for peer in status["peers"]]
    return "\n".join([title, *_table([header, *rows])]) if rows else f"{title}\nno peers yet"


def _link_row(link: dict[str, Any], now_at: float) -> list[str]:
    rtt_s = link.get("rtt_s")
    return [
        link["peer"],
        link.get("address") or "-",
        link["state"],
        link.get("endpoint") or "-",
        link.get("strategy") or "-",
        "-" if rtt_s is None else f"{rtt_s * 1000:.1f} ms",
        _age(link.get("since_at"), now_at),
        link.get("why") or "-",
    ]


def _peer_row(peer: dict[str, Any], now_at: float) -> list[str]:
    return [
        peer["peer"],
        peer.get("address") or "-",
        peer.get("endpoint") or "-",
        "yes" if peer["online"] else "no",
        _age(peer.get("hands_shaken_at"), now_at),
    ]


def _age(then_at: float | None, now_at: float) -> str:
    """How long ago, in the largest unit that leaves at least two of it."""
    if not then_at:
        return "-"
    age_s = max(0, int(now_at - then_at))
    for unit, length_s in (("d", 86400), ("h", 3600), ("min", 60)):
        if age_s >= 2 * length_s:
            return f"{age_s // length_s} {unit} ago"
    return f"{age_s} s ago"


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
