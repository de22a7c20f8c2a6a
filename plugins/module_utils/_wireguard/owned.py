# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""The peers that the agent of this node added: /run/wg-rendezvous/IF.json (DESIGN §4, Who owns what).

The agent writes the record; the modules read it and leave those peers alone.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from .keys import check_key

DIRECTORY = "/run/wg-rendezvous"
VERSION = 1

OwnedPeers = dict[str, dict[str, Any]]
"""By public key what the agent notes of a peer: at least its "address", for example "192.168.7.6/32"."""


def path(interface: str, directory: str = DIRECTORY) -> str:
    """Where the record of an interface is."""
    return os.path.join(directory, f"{interface}.json")


def read(interface: str, directory: str = DIRECTORY) -> OwnedPeers:
    """The agent's peers by public key; none if there is no record. ValueError names a damaged record."""
    record = path(interface, directory)
    try:
        with open(record, encoding="utf-8") as file:
            text = file.read()
    except FileNotFoundError:
        return {}
    try:
        return parse(text)
    except ValueError as error:
        remedy = f"remove it, and the agent's peers with `wg set {interface} peer KEY remove`"
        raise ValueError(f"{record} is damaged ({error}); {remedy}") from None


def parse(text: str) -> OwnedPeers:
    """Read a record. ValueError says what is wrong with it."""
    record = json.loads(text)
    if not isinstance(record, dict) or record.get("version") != VERSION:
        raise ValueError(f"not a record of version {VERSION}")
    peers = record.get("peers")
    if not isinstance(peers, dict) or not all(isinstance(peer, dict) for peer in peers.values()):
        raise ValueError('"peers" does not map public keys to objects')
    return {check_key(key): peer for key, peer in peers.items()}


def render(peers: Mapping[str, Mapping[str, Any]]) -> str:
    """The record of these peers, as `parse` reads it."""
    return json.dumps({"version": VERSION, "peers": peers}, indent=1, sort_keys=True) + "\n"
