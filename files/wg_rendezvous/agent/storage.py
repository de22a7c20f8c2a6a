# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""What the agent writes down: which peers are its own (/run), and what has to survive a reboot (/var/lib)."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .._wireguard import owned
from ..config import RUN_DIRECTORY, STATE_DIRECTORY

VERSION = 1


class Storage:
    """The two files of one interface.  Its directories are made when they are missing."""

    def __init__(
        self, interface: str, run: Path = Path(RUN_DIRECTORY), state: Path = Path(STATE_DIRECTORY)
    ) -> None:
        run.mkdir(mode=0o755, parents=True, exist_ok=True)
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._interface = interface
        self.owned_path = Path(owned.path(interface, str(run)))
        self.state_path = state / f"{interface}.json"

    def read_owned(self) -> dict[str, str]:
        """The peers that an earlier run added: public key to VPN address.  Empty if there is no record.

        Raises ValueError if the record is damaged: then we cannot know whose the peers are.
        """
        peers = owned.read(self._interface, str(self.owned_path.parent))
        return {key: str(peer["address"]) for key, peer in peers.items()}

    def write_owned(self, addresses: Mapping[str, str]) -> None:
        """Record the peers that are ours, public key to VPN address; without any, there is no file."""
        if not addresses:
            self.owned_path.unlink(missing_ok=True)
            return
        text = owned.render({key: {"address": address} for key, address in addresses.items()})
        _write(self.owned_path, text, 0o644)

    def read_state(self) -> tuple[dict[str, Any], float] | None:
        """The state of an earlier run, and how many seconds ago it was saved (never less than 0).

        None if there is none.  Raises ValueError if it is damaged.
        """
        record = _read(self.state_path)
        if record is None:
            return None
        try:
            return dict(record["state"]), max(0.0, time.time() - float(record["saved_at"]))
        except (KeyError, TypeError):
            raise ValueError(f"{self.state_path} is damaged") from None

    def write_state(self, state: Mapping[str, Any]) -> None:
        """Persist `state` (JSON types)."""
        record = {"version": VERSION, "saved_at": time.time(), "state": state}
        _write(self.state_path, json.dumps(record), 0o600)


def _read(path: Path) -> dict[str, Any] | None:
    """The JSON object in `path`, None if there is no such file.  Raises ValueError."""
    try:
        record = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except ValueError:
        record = None
    if not isinstance(record, dict):
        raise ValueError(f"{path} is damaged: it is not a JSON object")
    return record


def _write(path: Path, text: str, mode: int) -> None:
    """Replace the file at once or not at all."""
    draft = path.with_suffix(".new")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    os.replace(draft, path)
