# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""Word from the kernel that links, addresses or routes have changed (rtnetlink(7)); not what, only that."""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import Callable

logger = logging.getLogger(__name__)

NETLINK_ROUTE = 0
# <linux/rtnetlink.h>
RTMGRP_LINK = 0x1
RTMGRP_IPV4_IFADDR, RTMGRP_IPV4_ROUTE = 0x10, 0x40
RTMGRP_IPV6_IFADDR, RTMGRP_IPV6_ROUTE = 0x100, 0x400
GROUPS = RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_IFADDR | RTMGRP_IPV6_ROUTE
PIECE_BYTES = 64 * 1024


class Changes:
    """Calls `changed` when something has, any number of times for one change."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._socket: socket.socket | None = None

    def open(self) -> None:
        """Begin. A node where that is not allowed is not watched, and that is logged."""
        try:
            made = socket.socket(
                socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, NETLINK_ROUTE
            )
        except OSError as error:
            self._complain(error)
            return
        try:
            made.bind((0, GROUPS))
        except OSError as error:
            made.close()
            self._complain(error)
            return
        self._socket = made
        asyncio.get_running_loop().add_reader(made, self._read, made)

    def close(self) -> None:
        """End."""
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None

    def _read(self, opened: socket.socket) -> None:
        """Empty the socket. That messages were lost (ENOBUFS) means that there were some."""
        try:
            while opened.recv(PIECE_BYTES):
                pass
        except BlockingIOError:
            pass
        except OSError as error:
            logger.debug("netlink", extra={"fields": {"error": str(error)}})
        self._changed()

    def _complain(self, error: OSError) -> None:
        logger.warning("the own addresses are not watched", extra={"fields": {"error": str(error)}})
