# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""Mesh secrets on a node, and the preshared keys that come from them (docs/preshared-keys.md).

The preshared key of a hub and a peer never changes while their keys stay: WireGuard has no way to change it
at both ends at once. It is chosen when one of them gets a key: from the hub's newest secret, and the peer
goes by what the hub has; a rotation of keys (`_rotation`, `_handover`) brings another one.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from ._node import Node, NodeError, change, write_private
from ._wireguard import keys, mesh_secret


class SecretsFile:
    """IF.mesh-secret of a node. Making one raises ValueError if it is damaged or others can read it."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.path = mesh_secret.path(node.name, node.directory)
        self.secrets = mesh_secret.read(self.path)
        node.hide(self.secrets)

    @property
    def ids(self) -> list[str]:
        """Of the secrets, the newest first."""
        return [mesh_secret.secret_id(secret) for secret in self.secrets]

    def change_to(self, wanted: Sequence[str]) -> dict[str, str]:
        """How it changes; the secrets themselves are not in it."""
        return change(self.path, mesh_secret.describe(self.secrets), mesh_secret.describe(wanted))

    def write(self, wanted: Sequence[str]) -> None:
        """Give it these secrets; none is no file."""
        if tuple(wanted) == self.secrets:
            return
        if wanted:
            write_private(self.path, mesh_secret.render(wanted))
        else:
            os.unlink(self.path)

    def newest(self, own_key: str, peer_key: str) -> str | None:
        """The preshared key of a pair that has none yet, from the newest secret; None without secrets."""
        return next(iter(self._derived(own_key, peer_key)), None)

    def of(self, own_key: str, peer_key: str, secret_id: str) -> str:
        """The preshared key that comes from the secret with this id. Fails as `find` does."""
        for secret, derived in zip(self.secrets, self._derived(own_key, peer_key)):
            if mesh_secret.secret_id(secret) == secret_id:
                return derived
        return self._stand_in(f"takes the mesh secret {secret_id}, which is none of")

    def find(self, own_key: str, peer_key: str, wanted_id: str, present: str | None) -> str | None:
        """The preshared key with this id, "" for none: the one that is there, or one from any of the secrets.

        NodeError if it is none of these; in check mode a stand-in, as the secrets may have yet to be written.
        """
        candidates = ([present] if present else []) + self._derived(own_key, peer_key)
        for candidate in candidates:
            if wanted_id == mesh_secret.preshared_key_id(candidate):
                return candidate
        if not wanted_id:
            return None
        comes_from = "that comes from none of the mesh secrets of"
        return self._stand_in(f"has a preshared key with {peer_key} {comes_from}")

    def _stand_in(self, problem: str) -> str:
        """For a preshared key that is not here: in check mode any; else NodeError: the other end has it."""
        if self.node.module.check_mode:
            return keys.generate_private_key()
        listed = ", ".join(self.ids) or "there is none"
        raise NodeError(
            f"the other end {problem} {self.node.name} here ({listed}): give both hosts the same "
            "wg_interface_mesh_secret, and deploy both with rendezvous.wireguard.site"
        )

    def _derived(self, own_key: str, peer_key: str) -> list[str]:
        derived = [mesh_secret.preshared_key(secret, own_key, peer_key) for secret in self.secrets]
        self.node.hide(derived)
        return derived
