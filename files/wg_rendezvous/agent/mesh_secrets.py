# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""The mesh secrets of the interface, in `/etc/wireguard/IF.mesh-secret`: their ids for the core, and the
preshared keys that are derived from them for the device."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from .._wireguard import mesh_secret
from .configuration import DIRECTORY

logger = logging.getLogger(__name__)


class MeshSecrets:
    """That file, read again whenever it has changed.  No file means no preshared keys.

    Making one raises ValueError if the file cannot be understood.  A later version that cannot be is logged
    once, and the one before it goes on to count.
    """

    def __init__(self, interface: str, directory: Path = DIRECTORY) -> None:
        self.path = Path(mesh_secret.path(interface, str(directory)))
        self._changed_ns = self._stamp()
        self.ids: tuple[str, ...] = ()
        """Of the secrets, the newest first."""
        self._secrets: dict[str, str] = {}  # also those of before: what was decided is carried out
        self._read()

    def changed(self) -> bool:
        """Look at the file; whether there are other secrets than before."""
        stamp, before = self._stamp(), self.ids
        if stamp == self._changed_ns:
            return False
        self._changed_ns = stamp
        try:
            self._read()
        except ValueError as error:
            logger.warning(
                "the mesh secrets are not understood; those from before count",
                extra={"fields": {"error": str(error)}},
            )
        return self.ids != before

    def preshared_key(self, secret: str, own_key: str, peer: str) -> str | None:
        """The preshared key of two public keys from the secret with this id; "" for none."""
        return mesh_secret.preshared_key(self._secrets[secret], own_key, peer) if secret else None

    def used(self, preshared_keys: Mapping[str, str], own_key: str) -> dict[str, str]:
        """The ids of the secrets that these preshared keys come from, by peer."""
        return {
            peer: next(
                (one for one in self.ids if self.preshared_key(one, own_key, peer) == preshared_key),
                "unknown",
            )
            for peer, preshared_key in preshared_keys.items()
        }

    def _read(self) -> None:
        read = {mesh_secret.secret_id(secret): secret for secret in mesh_secret.read(str(self.path))}
        self.ids = tuple(read)
        self._secrets.update(read)

    def _stamp(self) -> int:
        try:
            return self.path.stat().st_mtime_ns
        except OSError:
            return 0
