# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""The only parsers and writers of WireGuard's formats: keys, `wg show dump`, IF.conf, and their differences.

Pure Python 3.9, standard library only, relative imports, nothing of Ansible: the modules use this package on
the nodes, and the node program carries it as `wg_rendezvous._wireguard` (DESIGN §4).
"""
