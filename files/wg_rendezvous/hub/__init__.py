# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""The hub: `wg show dump` -> observation -> registry -> answers over HTTP inside the VPN (DESIGN §5)."""

from .app import run

__all__ = ["run"]
