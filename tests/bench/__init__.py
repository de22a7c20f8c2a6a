# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""How soon links are direct, and how long anything that breaks is felt: whole runs in the lab."""
