# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""The private key of a node in its own file (DESIGN §4, Keys)."""

from __future__ import annotations

import os
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ._node import NodeError, change, changed, check_private, locked, write_private
from ._wireguard import keys


def read_private_key(path: str) -> str | None:
    """The key in a file, None if there is no such file. NodeError if it is damaged or others can read it."""
    try:
        check_private(path)
    except FileNotFoundError:
        return None
    with open(path, "rb") as file:
        content = file.read(1024)
    try:
        return keys.check_key(content.decode("ascii").strip())
    except (UnicodeDecodeError, ValueError) as error:
        problem = "not text" if isinstance(error, UnicodeDecodeError) else str(error)
    raise NodeError(
        f"{path} is damaged ({problem}): restore it from a backup, "
        f"or make a new key (module keypair with regenerate=always)"
    )


def ensure_keypair(module: AnsibleModule, path: str, regenerate: str) -> dict[str, Any]:
    """Let there be a private key; return its public key.

    `regenerate`: "never" makes a key only if there is none, "fail" not even then, "always" makes a new one.
    In check mode a key that would be made is made up, so that what depends on its public key can go on.
    """
    if module.check_mode:
        return _ensure(module, path, regenerate)
    if os.path.isdir(path):
        raise NodeError(f"{path} is a directory: write the path of the key file, such as {path}/wg0.key")
    with locked(os.path.dirname(path)):
        return _ensure(module, path, regenerate)


def _ensure(module: AnsibleModule, path: str, regenerate: str) -> dict[str, Any]:
    before = _public_key_or_damage(path) if regenerate == "always" else _public_key(path)
    if before is None and regenerate == "fail":
        raise NodeError(f"{path} does not exist: restore it, or let it be made with regenerate=never")
    after = before
    if before is None or regenerate == "always":
        private_key = keys.generate_private_key()
        module.no_log_values.add(private_key)
        after = keys.public_key(private_key)
        if module.check_mode:
            warn_of_stand_in(module, path)
        else:
            write_private_key(path, private_key)
    return {"public_key": after, **changed([change_of_key(path, before, after)])}


def warn_of_stand_in(module: AnsibleModule, path: str) -> None:
    """Say in check mode that a key that would be made will be another one than is shown."""
    module.warn(f"check mode: {path} would be made; the public key shown for it is only a stand-in")


def write_private_key(path: str, private_key: str) -> None:
    """Put a key into its file."""
    write_private(path, private_key + "\n")


def change_of_key(path: str, before: str | None, after: str | None) -> dict[str, str]:
    """The entry of the diff, of public keys only."""
    texts = (f"public key: {key}\n" if key else "" for key in (before, after))
    return change(path, *texts)


def _public_key(path: str) -> str | None:
    private_key = read_private_key(path)
    return None if private_key is None else keys.public_key(private_key)


def _public_key_or_damage(path: str) -> str | None:
    try:
        return _public_key(path)
    except NodeError as error:
        return str(error)
