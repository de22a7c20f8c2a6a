# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""Keys that were removed from an interface for good: /etc/wireguard/IF.removed, one line each.

WireGuard refuses a key that it does not know. What keeps a run of Ansible from letting the key in again, say
from a stolen machine that is still in somebody's inventory, is this file. It is for people as well: who
deletes a line takes the key back.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from ._node import Node, NodeError, write_private
from ._wireguard import keys

HEADING = "# Keys that were removed from {name} and are not let in again. Delete a line to allow its key.\n"


@dataclass(frozen=True)
class Removed:
    """One removed key."""

    public_key: str
    at: str
    """The day, as people write it: 2025-11-25."""
    name: str

    def __str__(self) -> str:
        return f"{self.name} ({self.public_key})" if self.name else self.public_key


def path(node: Node) -> str:
    """Where the file is."""
    return os.path.join(node.directory, f"{node.name}.removed")


def read(node: Node) -> dict[str, Removed]:
    """The removed keys; none without a file. NodeError names a line that is damaged."""
    try:
        with open(path(node), encoding="utf-8") as file:
            lines = file.read().splitlines()
    except FileNotFoundError:
        return {}
    except UnicodeDecodeError:
        raise NodeError(f"{path(node)} is not UTF-8 text: correct or move it") from None
    found = {}
    for number, line in enumerate(lines, start=1):
        if line.strip() and not line.startswith("#"):
            key, day, name = (*line.split(None, 2), "", "")[:3]
            try:
                found[keys.check_key(key)] = Removed(key, day, name)
            except ValueError as error:
                where = f"{path(node)}, line {number}"
                raise NodeError(f"{where}: {error}: correct or delete the line") from None
    return found


def render(node: Node, removed: Mapping[str, Removed]) -> str:
    """The text of the file."""
    lines = (f"{one.public_key} {one.at} {one.name}".rstrip() + "\n" for one in removed.values())
    return HEADING.format(name=node.name) + "".join(lines)


def write(node: Node, removed: Mapping[str, Removed]) -> None:
    """Replace the file."""
    write_private(path(node), render(node, removed))


def explain(node: Node, removed: Removed) -> str:
    """Why a key is not let in, and what to do."""
    when = f" on {removed.at}" if removed.at else ""
    return (
        f"the key of peer {removed} was removed from {node.name}{when} and is not let in again: take the "
        "host out of the inventory; or give it a new key, a host with `rendezvous.wireguard.keypair: {path: "
        f"/etc/wireguard/{node.name}.key, regenerate: always}}` on it, a device with "
        "wg_client_config_regenerate; or, if it was removed by mistake, delete the line of its key in "
        f"{path(node)} on the hub"
    )
