# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""Running `wg` and `ip` without blocking the event loop."""

from .device import Device, DeviceError, DeviceGone, Entry, IPInterface, PeerCommand

__all__ = ["Device", "DeviceError", "DeviceGone", "Entry", "IPInterface", "PeerCommand"]
