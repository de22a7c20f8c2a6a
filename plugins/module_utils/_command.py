# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""Commands on a node: how every module runs them.

Not by `AnsibleModule.run_command`. It asks twice whether the command has ended, and when that happens in
between, it waits a second for pipes that are closed already: 2 of 1000 commands with ansible-core 2.19. Where
a new key was looked for twenty times a second, that was a second in which a host could send nothing.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence

NOT_FOUND = 127
"""The exit code of a command that is not there, as in a shell."""
ENVIRONMENT = {"LC_ALL": "C", "WG_ENDPOINT_RESOLUTION_RETRIES": "2"}
"""Messages in English, and a host name that does not resolve fails in seconds, not in minutes (wg(8))."""


def run(argv: Sequence[str], stdin: str | None = None) -> tuple[int, str, str]:
    """Run a command to its end: its exit code, standard output and standard error.

    Names are looked up in PATH, and in /usr/sbin and /sbin, where not every user's PATH leads. OSError if the
    system cannot start a process.
    """
    path = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"
    try:
        done = subprocess.run(
            list(argv),
            check=False,
            input=(stdin or "").encode(),
            capture_output=True,
            env={**os.environ, **ENVIRONMENT, "PATH": path},
        )
    except FileNotFoundError as error:
        return NOT_FOUND, "", f"{argv[0]}: {error.strerror}"
    return done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
