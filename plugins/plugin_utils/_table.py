# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The mesh as one table for people, from what the hub and the agents of several hosts say. Pure.

One row for each two nodes, with what both ends say of their link. Who is offline has one row, at the hub,
instead of one with every other.
"""

from __future__ import annotations

import re
import textwrap
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.rendezvous.wireguard.plugins.plugin_utils._pairs import Pair, pairs

HEADER = ("FROM", "TO", "STATE", "VIA", "RTT", "SINCE", "ENDPOINTS, OR WHY NOT DIRECT")
NAME_WIDTH = 32
LAST_WIDTH = 40
"""The last column is at least this wide, whatever width is wanted."""

Row = tuple[str, ...]


def table(answers: Mapping[str, Mapping[str, Any]], width: int) -> list[str]:
    """The lines of the table and one that counts, from the results of the module `mesh_info` by host."""
    silent = unanswered(answers)
    meshes = {host: answer["mesh"] for host, answer in answers.items() if host not in silent}
    names = _names(meshes)
    hub_rows, offline = _hub_rows(meshes, names)
    shown = [pair for pair in pairs(_links(meshes)) if not {pair.first, pair.second} & offline]
    states = Counter(pair.state for pair in shown)
    clocks = {mesh["public_key"]: float(mesh["asked_at"]) for mesh in meshes.values()}
    pair_rows = [_pair_row(pair, names, clocks) for pair in shown]
    silent_rows = [(host, "-", "unknown", "-", "-", "-", why) for host, why in silent.items()]
    rows = [row for part in (hub_rows, pair_rows, silent_rows) for row in sorted(part, key=_order)]
    return [*_columns(rows, width), _summary(states, offline, silent)]


def unanswered(answers: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Why there is no answer, by host; those that have answered are not in it."""
    return {
        host: str(answer.get("msg") or "no answer")
        for host, answer in answers.items()
        if not isinstance(answer.get("mesh"), dict)
    }


def _summary(states: Counter[str], offline: set[str], silent: Iterable[str]) -> str:
    parts = [f"{count} {state}" for state, count in sorted(states.items())]
    total = sum(states.values())
    said = f"{total} {'pair' if total == 1 else 'pairs'}" + (f": {', '.join(parts)}" if parts else "")
    if offline:
        said += f"; {len(offline)} offline"
    hosts = sorted(map(_clean, silent), key=_natural)
    if hosts:
        said += f"; {len(hosts)} did not answer: {', '.join(hosts)}"
    return said


# --- who is who ---


def _names(meshes: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Names by key: of the hosts that answered, else that in a configuration, else an address."""
    names: dict[str, str] = {}
    for field in ("address", "name"):
        for mesh in meshes.values():
            for peer in mesh["peers"]:
                if peer.get(field):
                    names[peer["public_key"]] = re.sub(r"/(32|128)$", "", str(peer[field]))
    for host, mesh in meshes.items():
        names[mesh["public_key"]] = host
    return names


def _name(key: str, names: Mapping[str, str]) -> str:
    name = _clean(names.get(key) or f"{key[:10]}...")
    return name if len(name) <= NAME_WIDTH else f"{name[: NAME_WIDTH - 3]}..."


# --- rows ---


def _hub_rows(
    meshes: Mapping[str, Mapping[str, Any]], names: Mapping[str, str]
) -> tuple[list[Row], set[str]]:
    """A row for each peer of each hub, and the keys of those that are offline."""
    rows: list[Row] = []
    offline: set[str] = set()
    for host, mesh in meshes.items():
        if mesh["role"] != "hub":
            continue
        for peer in mesh["peers"]:
            state = "online" if peer["online"] else "offline"
            said = [peer.get("endpoint"), peer.get("why")]
            if not peer["online"]:
                offline.add(peer["public_key"])
                said = [_silence(peer, mesh["asked_at"]), *said]
            last = ", ".join(str(one) for one in said if one)
            rows.append((host, _name(peer["public_key"], names), state, "-", "-", "-", last))
    return rows, offline


def _silence(peer: Mapping[str, Any], now_at: float) -> str:
    handshake_at = peer.get("latest_handshake_at")
    return f"no handshake for {_age(now_at - handshake_at)}" if handshake_at else "never had a handshake"


@dataclass(frozen=True)
class _Report:
    """What one end says, with its age by its own clock."""

    name: str
    told: Mapping[str, Any]
    age_s: float | None


def _pair_row(pair: Pair, names: Mapping[str, str], clocks: Mapping[str, float]) -> Row:
    if _natural(_name(pair.second, names)) < _natural(_name(pair.first, names)):
        pair = Pair(pair.second, pair.first, pair.back, pair.forth)
    state = pair.state
    reports = [
        _Report(_name(key, names), told, _age_s(told, clocks.get(key, told.get("asked_at"))))
        for key, told in ((pair.first, pair.forth), (pair.second, pair.back))
        if told is not None
    ]
    rtts_s = [report.told["rtt_s"] for report in reports if report.told.get("rtt_s") is not None]
    ages_s = [report.age_s for report in reports if report.age_s is not None]
    direct = state == "direct"
    # The first's as the second sees it, and the other way round.
    endpoints = f"{_endpoint(pair.back)} <-> {_endpoint(pair.forth)}" if direct else ""
    return (
        _name(pair.first, names),
        _name(pair.second, names),
        state,
        "/".join(dict.fromkeys(str(report.told.get("strategy") or "-") for report in reports)),
        f"{min(rtts_s) * 1000:.1f} ms" if direct and rtts_s else "-",
        _age(min(ages_s, default=None)),
        ", ".join(filter(None, (endpoints, _why(state, reports)))),
    )


def _why(state: str, reports: Sequence[_Report]) -> str:
    """Why it is not direct, or not for sure, in the words of both ends."""
    doubts = [report for report in reports if report.told.get("state") != "direct"]
    if not doubts:
        return ""
    if state == "changing":
        return ", ".join(f"{report.name} says {report.told.get('state')}" for report in reports)
    said = [(report.name, " ".join(str(report.told.get("why") or "").split())) for report in doubts]
    sentences = {sentence for name, sentence in said if sentence}
    if len(sentences) < 2:
        return next(iter(sentences), "")
    return "; ".join(f"{name}: {sentence}" for name, sentence in said)


def _endpoint(told: Mapping[str, Any] | None) -> str:
    return str((told or {}).get("endpoint") or "?")


def _links(meshes: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, dict[str, Any]]]:
    """What is said of each link; what an agent says itself counts more than what it reported to the hub."""
    links: dict[str, dict[str, dict[str, Any]]] = {}
    for mesh in sorted(meshes.values(), key=lambda mesh: str(mesh["role"]), reverse=True):
        for link in mesh["links"]:
            links.setdefault(link["from"], {})[link["to"]] = {**link, "asked_at": mesh["asked_at"]}
    return links


# --- text ---


def _age_s(told: Mapping[str, Any], now_at: float | None) -> float | None:
    since_at = told.get("since_at")
    return None if since_at is None or now_at is None else max(0.0, now_at - since_at)


def _age(age_s: float | None) -> str:
    """In the largest unit that leaves at least two of it."""
    if age_s is None:
        return "-"
    for unit, length_s in (("d", 86400), ("h", 3600), ("min", 60)):
        if age_s >= 2 * length_s:
            return f"{int(age_s // length_s)} {unit}"
    return f"{max(0, int(age_s))} s"


def _clean(text: str) -> str:
    """Without what could change more on a terminal than this line."""
    return "".join(character if character.isprintable() else "?" for character in text)


def _natural(text: str) -> list[tuple[int, str]]:
    """So that node10 comes after node9."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", text)]


def _order(row: Row) -> tuple[Any, ...]:
    return _natural(row[0]), _natural(row[1])


def _columns(rows: Sequence[Row], width: int) -> list[str]:
    """Columns as wide as they have to be; the last one goes on below itself."""
    heads = [tuple(map(_clean, row[:-1])) for row in (HEADER, *rows)]
    widths = [max(map(len, column)) for column in zip(*heads)]
    left = max(LAST_WIDTH, width - sum(widths) - 2 * len(widths))
    lasts = [_wrapped(row[-1], left) or ["-"] for row in (HEADER, *rows)]
    return [line for head, last in zip(heads, lasts) for line in _row(head, last, widths)]


def _wrapped(text: str, width: int) -> list[str]:
    """Lines of whole words; a name such as wg-rendezvous is one."""
    return textwrap.wrap(_clean(text), width, break_on_hyphens=False)


def _row(head: Sequence[str], last: Sequence[str], widths: Sequence[int]) -> Iterable[str]:
    for number, text in enumerate(last):
        cells = head if number == 0 else [""] * len(widths)
        yield "  ".join([*(cell.ljust(size) for cell, size in zip(cells, widths)), text]).rstrip()
