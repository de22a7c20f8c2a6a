# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""Telling the service manager how we are: sd_notify(3), sd_watchdog_enabled(3). Without one, nothing."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from typing import Callable


def ready() -> None:
    """Start-up is finished (`Type=notify`)."""
    _send("READY=1")


def stopping() -> None:
    """We are on our way out."""
    _send("STOPPING=1")


def status(text: str) -> None:
    """One line for people, shown by `systemctl status`."""
    _send("STATUS=" + " ".join(text.split()))


def watchdog() -> None:
    """Still alive."""
    _send("WATCHDOG=1")


def watchdog_interval_s() -> float | None:
    """How often `watchdog` has to be called: half the time allowed; None if nobody watches this process."""
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    allowed_us = os.environ.get("WATCHDOG_USEC", "")
    return int(allowed_us) / 2e6 if allowed_us.isdigit() and int(allowed_us) > 0 else None


async def keep_alive(healthy: Callable[[], bool]) -> None:
    """Call `watchdog` as often as needed, for ever, while `healthy()`; return at once if nobody watches."""
    interval_s = watchdog_interval_s()
    while interval_s is not None:
        if healthy():
            watchdog()
        await asyncio.sleep(interval_s)


def _send(message: str) -> None:
    path = os.environ.get("NOTIFY_SOCKET")
    if not path:
        return
    if path.startswith("@"):
        path = "\0" + path[1:]
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    # A manager that cannot be told is no reason to fail the service.
    with manager, contextlib.suppress(OSError):
        manager.sendto(message.encode(), path)
