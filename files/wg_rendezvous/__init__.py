# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""The node program of `rendezvous.wireguard`: hub, agent and status in one zipapp (DESIGN §5)."""

__version__ = "0.3.0"
