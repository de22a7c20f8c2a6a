# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""The node program with the files that go with it: put in place, or only looked at."""

from __future__ import annotations

import base64
import os
import shutil
import sys
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from . import _command, _files
from ._node import NodeError, changed

FILES_SPEC: dict[str, Any] = {
    "type": "list",
    "elements": "dict",
    "default": [],
    "options": {
        "dest": {"type": "path", "required": True},
        "content": {"type": "str", "required": True},
        "mode": {"type": "raw", "default": "0644"},
    },
}
"""The modules' option `files`."""


def ensure(module: AnsibleModule, given: Mapping[str, Any]) -> dict[str, Any]:
    """The program first, since the units run it. Options and result are those of the module `node_program`.

    NodeError if something else is where the program or its link belongs, or if it does not run.
    """
    dest, checksum, link = given["dest"], given["checksum"], given["link"]
    if not os.path.isabs(dest):
        raise NodeError(f"dest {dest!r} is not an absolute path: write e.g. {_files.PROGRAM}")
    if os.path.isdir(dest):
        name = os.path.basename(_files.PROGRAM)
        raise NodeError(f"{dest} is a directory: move it away, or write dest={dest}/{name}")
    if link:
        _files.check_link(link)
    result = {"dest": dest, "checksum": checksum, "program_wanted": False}
    if not (module.check_mode or given["program"]) and module.sha1(dest) != checksum:
        return {**result, "program_wanted": True, **changed([])}

    program = zlib.decompress(base64.b64decode(given["program"])) if given["program"] else None
    changes = _files.ensure_binary(module, dest, program, checksum, given["mode"])
    if link:
        changes += _files.ensure_link(module, link, dest)
    for file in given["files"]:
        changes += _files.ensure_text(module, file["dest"], file["content"], file["mode"])
    if not module.check_mode:
        compile_program(dest)
    return {**result, **changed(changes)}


def current(module: AnsibleModule, given: Mapping[str, Any]) -> bool:
    """Whether `ensure` would find nothing to do. For a module that changes nothing, in whatever mode it runs.

    Raises NodeError as `ensure` does.
    """
    module.check_mode = True
    return not ensure(module, {"program": None, **given})["changed"] and compiled(given["dest"])


def compile_program(dest: str) -> None:
    """Let the program compile itself, unless it has: the services may not write there.

    It is asked each time, since the node may have got another Python.
    """
    code, output, errors = _command.run(("python3", dest, "--version"))
    if code:
        raise NodeError(
            f"{dest} does not run with python3, which has to be 3.9 or newer: {(errors or output).strip()}"
        )


def compiled(program: str) -> bool:
    """Whether the program has compiled itself for the node's python3, if that is what runs this; else no."""
    if os.path.realpath(shutil.which("python3") or "") != os.path.realpath(sys.executable):
        return False
    with zipfile.ZipFile(program) as archive:
        digest = archive.read("DIGEST").decode()
    # As the program itself names it: files/wg_rendezvous/__main__.py.
    name = f"wg-rendezvous-{digest}.{sys.implementation.cache_tag}"
    return os.path.isdir(os.path.join(os.path.dirname(program), "__pycache__", name))
