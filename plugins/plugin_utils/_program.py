# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Packing the node program into one file.

The action plugin `node_program` and `make program` both use `pack`, so that what is tested by hand is what
Ansible ships. As a script: `python3 plugins/plugin_utils/_program.py build/wg-rendezvous.pyz`.
"""

from __future__ import annotations

import hashlib
import io
import os
import sys
import zipfile

SHEBANG = b"#!/usr/bin/env python3\n"
MAIN = "__main__.py"
# Names the content; the program unpacks itself to a directory that is called so.
DIGEST = "DIGEST"
PACKAGE = "wg_rendezvous"
# The program's copy of plugins/module_utils/_wireguard: a link in the checkout, a directory in the zipapp.
SHARED = "_wireguard"
OLDEST_DATE = (1980, 1, 1, 0, 0, 0)


def pack(program_dir: str, wireguard_dir: str) -> bytes:
    """The zipapp (PEP 441) of `program_dir` with `wireguard_dir` as its package `_wireguard`.

    Same sources, same bytes, wherever and whenever: stored, sorted, one date, one mode. Raises OSError if a
    directory is missing, KeyError if the program has no `__main__.py`.
    """
    members = _sources(program_dir, PACKAGE, skip=SHARED)
    members.update(_sources(wireguard_dir, f"{PACKAGE}/{SHARED}"))
    members[MAIN] = members[f"{PACKAGE}/{MAIN}"]
    members[DIGEST] = _digest(members)
    archive = io.BytesIO(SHEBANG)
    archive.seek(0, io.SEEK_END)
    with zipfile.ZipFile(archive, "a", zipfile.ZIP_STORED) as writer:
        for name in sorted(members):
            entry = zipfile.ZipInfo(name, OLDEST_DATE)
            entry.create_system = 3  # Unix, also when packed elsewhere
            entry.external_attr = 0o100644 << 16
            writer.writestr(entry, members[name])
    return archive.getvalue()


def pack_collection(collection_dir: str) -> bytes:
    """The zipapp of the collection (a checkout or an installed one) at `collection_dir`."""
    return pack(
        os.path.join(collection_dir, "files", PACKAGE),
        os.path.join(collection_dir, "plugins", "module_utils", SHARED),
    )


def checksum(program: bytes) -> str:
    """The SHA-1 by which modules know the zipapp."""
    return hashlib.sha1(program, usedforsecurity=False).hexdigest()


def collection_dir() -> str:
    """The collection that this file belongs to."""
    return os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def _sources(directory: str, prefix: str, skip: str | None = None) -> dict[str, bytes]:
    """{name in the archive: content} of the files below `directory`, without `skip` in it and caches."""
    found = {}
    with os.scandir(directory) as entries:
        for entry in entries:
            if (
                entry.name in (skip, "__pycache__")
                or entry.name.startswith(".")
                or entry.name.endswith(".pyc")
            ):
                continue
            if entry.is_dir():
                found.update(_sources(entry.path, f"{prefix}/{entry.name}"))
            else:
                with open(entry.path, "rb") as source:
                    found[f"{prefix}/{entry.name}"] = source.read()
    return found


def _digest(members: dict[str, bytes]) -> bytes:
    """A short name for exactly these members."""
    digest = hashlib.sha256()
    for name in sorted(members):
        digest.update(f"{name}\0{len(members[name])}\0".encode() + members[name])
    return digest.hexdigest()[:16].encode()


def main(argv: list[str]) -> int:
    """Write the zipapp to the path in `argv`; returns the exit code."""
    if len(argv) != 1:
        print("usage: _program.py build/wg-rendezvous.pyz", file=sys.stderr)
        return 2
    path = os.path.abspath(argv[0])
    os.makedirs(os.path.dirname(path), exist_ok=True)
    temporary = f"{path}.{os.getpid()}"
    with open(temporary, "wb") as target:
        target.write(pack_collection(collection_dir()))
    os.chmod(temporary, 0o755)
    os.replace(temporary, path)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
