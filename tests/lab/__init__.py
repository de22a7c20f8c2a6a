# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""The namespace lab: the built program under real WireGuard, behind real NATs (DESIGN section 6)."""
