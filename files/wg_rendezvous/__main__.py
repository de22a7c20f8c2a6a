# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""`python3 -m wg_rendezvous` and `python3 wg-rendezvous.pyz`."""

import sys

from wg_rendezvous.cli import main

sys.exit(main())
