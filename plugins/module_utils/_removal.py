# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""Peers that go for good, by name or key."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from . import _removed
from ._keypair import read_private_key
from ._mesh_secret import SecretsFile
from ._node import Node, NodeError, change, changed
from ._peers import PeersUpdate, public
from ._removed import Removed
from ._wireguard import check, conf, keys


def remove_peers(node: Node, wanted: Sequence[str], kept: Mapping[str, str]) -> dict[str, Any]:
    """Remove peers for good. `kept`: names that must not go, and where each of them is written.

    What was removed already is left alone. NodeError names everything that cannot be removed.
    """
    check.interface_name(node.name)
    with node.locked():
        known = node.parse_conf(node.read_conf() or "").peers()
        removed = _removed.read(node)
        going = _find(node, wanted, known, removed, kept)
        day = time.strftime("%Y-%m-%d")
        after = {
            **removed,
            **{peer.public_key: Removed(peer.public_key, day, peer.name or "") for peer in going},
        }
        note = change(_removed.path(node), *(_removed.render(node, one) for one in (removed, after)))
        result: dict[str, Any] = {}
        if going:
            update = PeersUpdate(node, {peer.public_key: None for peer in going}, exclusive=False)
            if not node.module.check_mode:
                _removed.write(node, after)  # first: a run in between must not let it in again
                update.commit()
            result = changed([*update.changes, note])
        listed = [{"name": peer.name, "public_key": peer.public_key} for peer in going]
        return {"removed": listed, **changed([]), **result}


def check_admission(node: Node, public_keys: Iterable[str]) -> dict[str, Any]:
    """The key of a hub that has been deployed, what its mesh secrets are called, what it has with whom, and
    which of these keys were removed from it for good."""
    check.interface_name(node.name)
    found = hub_state(node)
    removed = found["refused"]
    return {
        **found,
        "deployed": os.path.exists(os.path.join(node.directory, f"{node.name}.key")),
        "public_key": _public_key(node),
        "refused": {key: removed[key] for key in public_keys if key in removed},
        "mesh_secrets": found["present_mesh_secrets"],
        **changed([]),
    }


def _public_key(node: Node) -> str | None:
    """The one that the peers know: that runs, or that would; IF.key may have another one, as after a rotation
    that was killed."""
    running = (node.try_run(("wg", "show", node.name, "public-key")) or "(none)").strip()
    if running != "(none)":
        return running
    private_key = node.parse_conf(node.read_conf() or "").interface().private_key
    private_key = private_key or read_private_key(os.path.join(node.directory, f"{node.name}.key"))
    return keys.public_key(private_key) if private_key else None


def hub_state(node: Node) -> dict[str, Any]:
    """What a hub is asked for its peers, as `check_admission` and the preflight return it.

    `refused` has every key that was removed for good, and why it is not let in again. NodeError as
    `_removed.read`.
    """
    peers = node.parse_conf(node.read_conf() or "").peers()
    return {
        "refused": {key: _removed.explain(node, one) for key, one in _removed.read(node).items()},
        "claims": _claims(peers),
        "preshared_key_ids": {key: public(peer)["preshared_key_id"] or "" for key, peer in peers.items()},
        "present_mesh_secrets": SecretsFile(node).ids,
    }


def _claims(peers: Mapping[str, conf.Peer]) -> dict[str, dict[str, Any]]:
    """Whose each network is, by the file: name and key, and in `also` those that the key is to replace or
    that are to replace it."""
    also: dict[str, list[str]] = {}
    for peer in peers.values():
        if peer.replaces:
            also.setdefault(peer.public_key, []).append(peer.replaces)
            also.setdefault(peer.replaces, []).append(peer.public_key)
    return {
        network: {"public_key": key, "name": peer.name, "also": also.get(key, [])}
        for key, peer in peers.items()
        for network in peer.allowed_ips
    }


def _find(
    node: Node,
    wanted: Iterable[str],
    known: Mapping[str, conf.Peer],
    removed: Mapping[str, Removed],
    kept: Mapping[str, str],
) -> list[conf.Peer]:
    going: dict[str, conf.Peer] = {}
    problems = []
    for text in map(str.strip, wanted):
        key = _key(text)
        # A name has two keys while the host changes from one to the other: both go.
        found = [peer for peer in known.values() if key == peer.public_key or (not key and text == peer.name)]
        known_as = [text, *(what for peer in found for what in (peer.name, peer.public_key) if what)]
        named = next(filter(kept.__contains__, known_as), None)
        if named is not None:
            problems.append(_explain_kept(named, kept))
        elif not found and not any(text in (one.name, one.public_key) for one in removed.values()):
            names = ", ".join(sorted(peer.name or peer.public_key for peer in known.values())) or "no peer"
            problems.append(
                f"{text!r} is no peer of {node.name}: write a name or a public key; there is {names}"
            )
        going.update({peer.public_key: peer for peer in found})
    if problems:
        raise NodeError("; ".join(problems))
    return list(going.values())


def _key(text: str) -> str | None:
    with suppress(ValueError):
        return keys.check_key(text)
    return None


def _explain_kept(name: str, kept: Mapping[str, str]) -> str:
    return f"{name!r} is still in {kept[name]}, and the next run would let it in again: remove it there first"
