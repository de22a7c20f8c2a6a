# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""What was measured, beside what was wanted and what others reach."""

from __future__ import annotations

import collections
import statistics
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Goal:
    """What is wanted of one figure: its median and its worst value; `others` is what others reach."""

    median: float | None = None
    worst: float | None = None
    others: str = ""

    def missed_by(self, values: list[float]) -> bool:
        """Whether the values are not good enough."""
        return any(
            wanted is not None and got > wanted
            for wanted, got in ((self.median, statistics.median(values)), (self.worst, max(values)))
        )

    def __str__(self) -> str:
        median = [] if self.median is None else [f"{self.median:g} median"]
        worst = [] if self.worst is None else [f"{self.worst:g} worst"]
        return ", ".join(median + worst)


class Results:
    """Figures by their names, in the order in which they came."""

    def __init__(self) -> None:
        self.values: dict[str, list[float]] = collections.defaultdict(list)
        self.goals: dict[str, Goal] = {}
        self.failures: list[str] = []

    def add(self, name: str, value: float, goal: Goal) -> None:
        """One more value of a figure."""
        self.values[name].append(value)
        self.goals[name] = goal

    def missed(self) -> list[str]:
        """The figures that are not as wanted."""
        return [name for name, values in self.values.items() if self.goals[name].missed_by(values)]

    def table(self) -> str:
        """A line for each figure."""
        head = ("", "runs", "median", "worst", "goal", "[others]")
        rows = [
            (
                name,
                str(len(values)),
                f"{statistics.median(values):.2f}",
                f"{max(values):.2f}",
                str(self.goals[name]) + (" MISSED" if self.goals[name].missed_by(values) else ""),
                f"[{self.goals[name].others}]" if self.goals[name].others else "",
            )
            for name, values in self.values.items()
        ]
        return "\n".join(_aligned([head, *rows]))


def _aligned(rows: list[tuple[str, ...]]) -> Iterable[str]:
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
