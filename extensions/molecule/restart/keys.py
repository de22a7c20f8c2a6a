# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: the rendezvous.wireguard authors
"""Prints three new private keys as a JSON list, in the order of their public keys' bytes."""

from __future__ import annotations

import base64
import json
import subprocess


def wg(command: str, stdin: str = "") -> str:
    """Output of `wg genkey` or `wg pubkey`."""
    return subprocess.run(
        ["wg", command], input=stdin, check=True, capture_output=True, text=True
    ).stdout.strip()


def public_bytes(private_key: str) -> bytes:
    """By these the agents compare their keys."""
    return base64.b64decode(wg("pubkey", private_key))


print(json.dumps(sorted((wg("genkey") for _ in range(3)), key=public_bytes)))
