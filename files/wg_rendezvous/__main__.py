# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""`python3 -m wg_rendezvous`, and the start of `wg-rendezvous.pyz`, which has a copy of this as its own.

Python keeps no bytecode of what it imports from a zip file, so every start would compile all modules again,
which takes as long as all the rest of a start. So the first start that may write beside the file unpacks it
and compiles it in `__pycache__/wg-rendezvous-DIGEST.PYTHON`. A program that runs holds a lock on its
directory, so it may load more from there when the file has been replaced; what nothing runs from goes when
another version is unpacked.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import sys
import zipimport
from collections.abc import Iterator

PREFIX = "wg-rendezvous-"
PYTHON = str(sys.implementation.cache_tag)
"""Each Python has bytecode of its own."""
DIGEST = "DIGEST"
"""The member of the archive that names its content."""


def unpacked(archive: str, digest: str) -> str | None:
    """The directory that has the modules of `archive`, made if need be; None if it has to be done without."""
    cache = os.path.join(os.path.dirname(os.path.realpath(archive)), "__pycache__")
    directory = os.path.join(cache, f"{PREFIX}{digest}.{PYTHON}")
    try:
        if not os.path.isdir(directory):
            unpack(archive, cache, directory)
        held = hold(directory)
        if only_owner_writes(os.stat(cache)) and only_owner_writes(held):
            return directory
    except OSError:  # no right to write, no room
        pass
    return None


def unpack(archive: str, cache: str, directory: str) -> None:
    """Make `directory` from `archive`; only complete ones ever have that name. Raises OSError."""
    import compileall
    import zipfile

    umask = os.umask(0o022)
    try:
        os.makedirs(cache, exist_ok=True)
        with alone_in(cache):
            if os.path.isdir(directory):  # another process was faster
                return
            remove_idle(cache)
            coming = f"{directory}.coming"
            with zipfile.ZipFile(archive) as members:
                members.extractall(coming)
            compileall.compile_dir(coming, quiet=2, stripdir=coming, prependdir=directory)
            os.rename(coming, directory)
    finally:
        os.umask(umask)


@contextlib.contextmanager
def alone_in(cache: str) -> Iterator[None]:
    """Keep other processes from unpacking there. Raises OSError if one does: nobody waits for it."""
    descriptor = os.open(cache, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def remove_idle(cache: str) -> None:
    """Remove the versions that nothing runs from, and what was left half unpacked."""
    import shutil

    for name in os.listdir(cache):
        if name.startswith(PREFIX):
            with contextlib.suppress(OSError):
                hold(os.path.join(cache, name), fcntl.LOCK_EX)
                shutil.rmtree(os.path.join(cache, name))


def hold(directory: str, how: int = fcntl.LOCK_SH) -> os.stat_result:
    """Lock `directory` for as long as this process lives; what was locked.

    Raises OSError if it is gone, or locked otherwise.
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    held = os.fstat(descriptor)
    if not os.path.samestat(held, os.stat(directory)):
        raise FileNotFoundError(directory)
    return held


def only_owner_writes(about: os.stat_result) -> bool:
    """Whether what is there comes from ourselves or root: it is about to run as ourselves."""
    return about.st_uid in (0, os.geteuid()) and not about.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def main() -> int:
    """Run the program; its exit code."""
    loader: object = None if __spec__ is None else __spec__.loader
    if isinstance(loader, zipimport.zipimporter):
        archive = loader.archive
        digest = loader.get_data(os.path.join(archive, DIGEST)).decode()
        sys.path[0] = unpacked(archive, digest) or archive
    from wg_rendezvous.cli import main as run

    return run()


if __name__ == "__main__":
    sys.exit(main())
