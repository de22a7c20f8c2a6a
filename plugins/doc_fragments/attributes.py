# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What all modules support, and whom it concerns."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options: {}
attributes:
  check_mode:
    description: Can run in check mode and say what would change, without changing anything.
    support: full
  diff_mode:
    description: Says in diff mode what has changed, or in check mode what would; secrets are left out.
    support: full
  idempotent:
    description: Run again with the same options, it changes nothing.
    support: full
  platform:
    description: The systems that it is for.
    support: full
    platforms: Linux
author:
  - The rendezvous.wireguard authors (!UNKNOWN)
"""

    # For modules that only read.
    INFO = r"""
options: {}
attributes:
  check_mode:
    description: Runs in check mode as it does otherwise, since it changes nothing.
    support: full
  diff_mode:
    description: There is no difference to show, since it changes nothing.
    support: N/A
  idempotent:
    description: It changes nothing.
    support: full
  platform:
    description: The systems that it is for.
    support: full
    platforms: Linux
author:
  - The rendezvous.wireguard authors (!UNKNOWN)
"""

    # For modules that take `interface`, as meta/runtime.yml lists them.
    ACTION_GROUP = r"""
options: {}
attributes:
  action_group:
    description: Use C(group/rendezvous.wireguard.all) in C(module_defaults) to set O(interface) once.
    support: full
    membership:
      - rendezvous.wireguard.all
"""
