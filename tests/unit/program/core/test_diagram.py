# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""The diagram in the docs is the table in the code."""

from __future__ import annotations

import runpy
from pathlib import Path

DOCS = Path(__file__).parents[4] / "docs"


def test_the_page_is_drawn_from_the_table() -> None:
    page = runpy.run_path(str(DOCS / "draw_link.py"))["page"]
    assert (DOCS / "link.md").read_text() == page(), "draw it again: see docs/draw_link.py"
