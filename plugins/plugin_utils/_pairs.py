# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Two nodes and what each of them says of the link between them, as one thing. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

# States of a link (docs/protocol.md, "A report") in which the traffic goes directly.
DIRECT = ("provisional", "direct", "doubtful")
TRYING = ("opening", "knocking")

Links = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""What is said by the key of who says it and the key of the other end."""


@dataclass(frozen=True)
class Pair:
    """Two nodes by their keys, and what the first says of the second and the second of the first, or None."""

    first: str
    second: str
    forth: Mapping[str, Any] | None = field(default=None)
    back: Mapping[str, Any] | None = field(default=None)

    @property
    def reports(self) -> list[Mapping[str, Any]]:
        """What there is of the two."""
        return [report for report in (self.forth, self.back) if report is not None]

    @property
    def state(self) -> str:
        """direct, trying or relayed; changing when the ends do not agree; offline when one end is."""
        if any(report.get("online") is False for report in self.reports):
            return "offline"
        direct = {report.get("state") in DIRECT for report in self.reports}
        if len(direct) == 2:
            return "changing"
        if direct == {True}:
            return "direct"
        return "trying" if any(report.get("state") in TRYING for report in self.reports) else "relayed"


def pairs(links: Links) -> Iterable[Pair]:
    """Each two nodes of which at least one says something of the other."""
    ends = {tuple(sorted((key, to))) for key, told in links.items() for to in told if key != to}
    for first, second in sorted(ends):
        yield Pair(first, second, links.get(first, {}).get(second), links.get(second, {}).get(first))


def direct_peers(links: Links) -> dict[str, set[str]]:
    """By key of a node the keys of those that it has direct links with."""
    found: dict[str, set[str]] = {}
    for pair in pairs(links):
        if pair.state == "direct":
            found.setdefault(pair.first, set()).add(pair.second)
            found.setdefault(pair.second, set()).add(pair.first)
    return found
