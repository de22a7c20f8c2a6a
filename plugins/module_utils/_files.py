# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""Files and links that a module puts in place, several in one execution."""

from __future__ import annotations

import os
import tempfile
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ._node import NodeError, change

PROGRAM = "/usr/local/lib/wg-rendezvous/wg-rendezvous.pyz"
"""The node program, unless the user of a module wants it elsewhere."""


def ensure_text(module: AnsibleModule, path: str, text: str, mode: Any) -> list[dict[str, str]]:
    """The file has this text and mode; the entries of the diff."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            before = file.read()
    except FileNotFoundError:
        before = None
    if before != text:
        _replace(module, path, text.encode())
    modes = _ensure_mode(module, path, mode)
    return [change(path, before or "", text), *(modes if before is not None else [])]


def ensure_binary(
    module: AnsibleModule, path: str, content: bytes | None, checksum: str, mode: Any
) -> list[dict[str, str]]:
    """The file has this content, whose SHA-1 is `checksum`, and mode; the entries of the diff.

    In check mode, and where the file is as wanted, there need be no content.
    """
    before = module.sha1(path) if os.path.exists(path) else None
    if before != checksum and content is not None:
        _replace(module, path, content)
    modes = _ensure_mode(module, path, mode)
    texts = (f"sha1 {one}\n" if one else "" for one in (before, checksum))
    return [change(path, *texts), *(modes if before else [])]


def check_link(path: str) -> None:
    """NodeError if there is something at `path` that is no link, and so not ours to replace."""
    if os.path.lexists(path) and not os.path.islink(path):
        raise NodeError(f"{path} is there and is no symbolic link: move it away")


def ensure_link(module: AnsibleModule, path: str, target: str) -> list[dict[str, str]]:
    """There is a symbolic link to `target`; the entries of the diff."""
    check_link(path)
    before = os.readlink(path) if os.path.islink(path) else None
    if before != target and not module.check_mode:
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        new = f"{path}.new"
        if os.path.lexists(new):
            os.unlink(new)
        os.symlink(target, new)
        os.replace(new, path)
    texts = (f"link to {one}\n" if one else "" for one in (before, target))
    return [change(path, *texts)]


def _replace(module: AnsibleModule, path: str, content: bytes) -> None:
    """At once; the directory is made if there is none."""
    if module.check_mode:
        return
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    descriptor, new = tempfile.mkstemp(dir=module.tmpdir)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    module.atomic_move(new, path)


def _ensure_mode(module: AnsibleModule, path: str, mode: Any) -> list[dict[str, str]]:
    """The entries of the diff, which are of interest if the file was there before."""
    if not os.path.exists(path):
        return []  # in check mode
    modes: dict[str, Any] = {}
    if not module.set_mode_if_different(path, mode, False, diff=modes):
        return []
    return [change(f"mode of {path}", f"{modes['before']['mode']}\n", f"{modes['after']['mode']}\n")]
