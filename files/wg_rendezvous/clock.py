# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""The clock of every timer of agent and hub."""

from __future__ import annotations

import time


def boottime_s() -> float:
    """Seconds since boot on CLOCK_BOOTTIME: it goes on during suspend, and nobody sets it (DESIGN §5)."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
