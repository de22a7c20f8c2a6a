# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""The interface's configuration as the admin has it: what is in it is not the agent's to change."""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Mapping
from pathlib import Path

from .._wireguard import conf

logger = logging.getLogger(__name__)

DIRECTORY = Path("/etc/wireguard")


class Configuration:
    """`IF.conf` of wg-quick(8), read again whenever it has changed.  No file is an empty configuration.

    Making one raises ValueError if the file cannot be understood.  A later version that cannot be is
    logged once, and the one before it goes on to count.
    """

    def __init__(self, interface: str, directory: Path = DIRECTORY) -> None:
        self.path = directory / f"{interface}.conf"
        self._changed_ns = self._stamp()
        self._peers: Mapping[str, conf.Peer] = {}
        self.pinned_port: int | None = None
        self._read()

    def peers(self) -> Mapping[str, conf.Peer]:
        """The peers in the file, by public key."""
        changed_ns = self._stamp()
        if changed_ns != self._changed_ns:
            self._changed_ns = changed_ns
            try:
                self._read()
            except ValueError as error:
                logger.warning(
                    "the configuration is not understood; what it said before counts",
                    extra={"fields": {"file": str(self.path), "error": str(error)}},
                )
        return self._peers

    def _read(self) -> None:
        try:
            text = self.path.read_text()
        except FileNotFoundError:
            text = ""
        except OSError as error:
            raise ValueError(f"{self.path} cannot be read: {error.strerror}") from None
        try:
            read = conf.parse(text)
            self._peers, self.pinned_port = read.peers(), read.interface().listen_port
        except ValueError as error:
            raise ValueError(f"{self.path}: {error}") from None

    def _stamp(self) -> int:
        try:
            return self.path.stat().st_mtime_ns
        except OSError:
            return 0


def named(endpoint: str) -> bool:
    """Whether the host of `endpoint` (`"hub.example.net:51820"`) is a name, and not an address."""
    try:
        ipaddress.ip_address(endpoint.rsplit(":", 1)[0].strip("[]"))
    except ValueError:
        return True
    return False
