# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: the rendezvous.wireguard authors
"""The scenario's inventory, edited step by step as its owner would."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml


class Inventory:
    """That of the scenario, with what a test has changed in it so far."""

    def __init__(self, scenario: Path, directory: Path) -> None:
        self.away = scenario / "away.yml"
        self.path = directory / "inventory.yml"
        self._text = yaml.safe_load((scenario / "inventory.yml").read_text())
        self.change(lambda _hub, _peers: None)

    def change(self, edit: Callable[[dict[str, Any], dict[str, Any]], object]) -> Path:
        """The file, after the hub's hosts and the peers have been edited."""
        children = self._text["all"]["children"]
        edit(children["wireguard_hub"]["hosts"], children["wireguard_peers"]["hosts"])
        self.path.write_text(yaml.safe_dump(self._text))
        return self.path
