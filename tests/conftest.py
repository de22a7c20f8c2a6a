# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: the rendezvous.wireguard authors
"""What all tests share: the checkout reachable as the collection that it is.

pyproject.toml puts files/ (for wg_rendezvous) and build/collections (for ansible_collections) on the path.
"""

from __future__ import annotations

from pathlib import Path

from hypothesis import settings

CHECKOUT = Path(__file__).resolve().parent.parent


def link_collection() -> None:
    """Make the checkout an installed collection in build/collections, as `make collections` does."""
    link = CHECKOUT / "build/collections/ansible_collections/rendezvous/wireguard"
    if not link.is_symlink():
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to("../../../..")


link_collection()
# How long an example takes says more about the machine than about the code.
settings.register_profile("without deadline", deadline=None)
settings.load_profile("without deadline")
