# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Options of the modules that write IF.conf, and of those that only read."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  directory:
    description:
      - Where the configuration of the interface is.
      - Runs for the same directory wait for one another, also when several hosts delegate them at the same
        time.
    type: path
    default: /etc/wireguard
notes:
  - The file is always written with mode V(0600), at once. Comments and settings that the module does not
    know are kept.
  - If the interface is down, only the file is written; it is never brought up or down.
  - A file with C(SaveConfig = true) is refused, since C(wg-quick) would overwrite it with what happens to
    run, the peers of the agent included.
  - Peers that the agent of the node has added (C(/run/wg-rendezvous/)) are neither seen nor touched.
"""

    # For modules that describe one interface.
    INFO = r"""
options:
  interface:
    description:
      - The interface.
    type: str
    default: wg0
  directory:
    description:
      - Where the configuration of the interface is, from which the names of the peers come.
    type: path
    default: /etc/wireguard
"""
