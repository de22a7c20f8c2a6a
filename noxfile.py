# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: the rendezvous.wireguard authors
"""The Makefile's checks as nox sessions. What they do stands in the Makefile alone."""

from __future__ import annotations

import nox

nox.options.default_venv_backend = "none"
nox.options.sessions = ["check", "plugins"]


@nox.session
@nox.parametrize("target", ["lint", "types", "simulation", "lab", "integration", "molecule"])
def check(session: nox.Session, target: str) -> None:
    """A check that does not depend on the version of ansible-core."""
    session.run("make", target, external=True)


@nox.session
@nox.parametrize(
    ("target", "core"),
    [("unit", "2.18"), ("unit", "2.19"), ("unit", "newest"), ("sanity", "2.18"), ("sanity", "2.19")],
)
def plugins(session: nox.Session, target: str, core: str) -> None:
    """A check of the plugins under each supported ansible-core."""
    session.run("make", target, f"CORE={core}", external=True)
