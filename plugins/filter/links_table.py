# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""One table of all links, from what the agents of several hosts say about theirs."""

from __future__ import annotations

DOCUMENTATION = r"""
name: links_table
short_description: One table of who reaches whom how
version_added: 0.1.0
author:
  - The rendezvous.wireguard authors (!UNKNOWN)
description:
  - Turns the answers of C(wg-rendezvous status --json) from several hosts into the lines of one table, with
    the hosts' names in the place of keys.
options:
  _input:
    description: The registered result of that command by host name.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Print who reaches whom how
  ansible.builtin.debug:
    msg: "{{ {'alice': status_of_alice, 'bob': status_of_bob} | rendezvous.wireguard.links_table }}"
"""

RETURN = r"""
_value:
  description: The lines of the table, the header first.
  type: list
  elements: str
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

HEADER = ("FROM", "TO", "STATE", "ENDPOINT", "STRATEGY", "RTT", "WHY")


def links_table(answers: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Lines of equal columns; a host without an answer has one line that says why."""
    statuses = {host: _status(answer) for host, answer in answers.items()}
    names = {status["node"]["public_key"]: host for host, status in statuses.items() if status}
    rows = [row for host, answer in answers.items() for row in _rows(host, statuses[host], answer, names)]
    return _columns([HEADER, *rows])


def _status(answer: Mapping[str, Any]) -> dict[str, Any] | None:
    try:
        status: dict[str, Any] = json.loads(answer.get("stdout") or "")
    except ValueError:
        return None
    return status


def _rows(
    host: str, status: Mapping[str, Any] | None, answer: Mapping[str, Any], names: Mapping[str, str]
) -> Iterable[Sequence[str]]:
    if status is None:
        why = " ".join(str(answer.get("stderr") or answer.get("msg") or "no answer").split())
        return [(host, "-", "unknown", "-", "-", "-", why)]
    return [_row(host, link, names) for link in status.get("links", [])]


def _row(host: str, link: Mapping[str, Any], names: Mapping[str, str]) -> Sequence[str]:
    rtt_s = link.get("rtt_s")
    return (
        host,
        names.get(link["peer"], link["peer"]),
        link["state"],
        link.get("endpoint") or "-",
        link.get("strategy") or "-",
        "-" if rtt_s is None else f"{rtt_s * 1000:.1f} ms",
        link.get("why") or "-",
    )


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Names and functions."""
        return {"links_table": links_table}
