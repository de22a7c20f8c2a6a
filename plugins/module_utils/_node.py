# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""The node as the modules touch it: files, lock, `wg` and `ip`. All decisions are made in `_wireguard`."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import stat
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from . import _command
from ._wireguard import conf, diff, dump, owned

DIRECTORY = "/etc/wireguard"
LOCK_TIMEOUT_S = 60.0


class NodeError(Exception):
    """Something on the node does not do what it should; the text says what, and what to do."""


def run_module(module: AnsibleModule, work: Callable[[], dict[str, Any]]) -> None:
    """Do the work of a module and leave with its result, or with the sentence of its error."""
    try:
        result = work()
    except (ValueError, NodeError) as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"{error.filename or 'the node'}: {error.strerror or error}")
    else:
        module.exit_json(**result)


def change(header: str, before: str, after: str) -> dict[str, str]:
    """One entry of Ansible's diff."""
    before_header, after_header = f"{header} (before)", f"{header} (after)"
    return {"before_header": before_header, "after_header": after_header, "before": before, "after": after}


def changed(changes: Iterable[dict[str, str]]) -> dict[str, Any]:
    """`changed` and `diff` of a module's result, both from the same changes."""
    real = [entry for entry in changes if entry["before"] != entry["after"]]
    return {"changed": bool(real), "diff": real}


def change_of_steps(name: str, steps: Iterable[diff.Step]) -> dict[str, str]:
    """What the steps change on a running interface."""
    listed = list(steps)
    before = "".join(f"{step.thing}: {step.before}\n" for step in listed)
    after = "".join(f"{step.thing}: {step.after}\n" for step in listed)
    return change(f"{name} (running)", before, after)


def check_private(path: str) -> None:
    """NodeError if others than the owner can read a file, or if it is no file."""
    status = os.lstat(path)
    if not stat.S_ISREG(status.st_mode):
        raise NodeError(f"{path} is not a regular file: move it away")
    if status.st_uid not in (0, os.geteuid()):
        raise NodeError(f"{path} belongs to user {status.st_uid}: chown root {path}")
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o077:
        raise NodeError(
            f"{path} has mode {mode:04o}, so others than its owner may have read the private key: "
            f"chmod 600 {path}, or make a new key (module keypair with regenerate=always)"
        )


def write_private(path: str, content: str | bytes) -> None:
    """Replace a file at once; at no moment has it another mode than 0600. A symbolic link is followed."""
    path = os.path.realpath(path)
    directory, name = os.path.split(path)
    os.makedirs(directory, mode=0o700, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(prefix=f".{name}.", dir=directory)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


@contextmanager
def locked(directory: str) -> Iterator[None]:
    """Hold the lock of a directory of WireGuard files, so that parallel runs follow one another.

    The lock is on the directory itself, since a lock file could be removed under its holder. A directory that
    does not exist is made.
    """
    os.makedirs(directory, mode=0o700, exist_ok=True)
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        deadline = time.monotonic() + LOCK_TIMEOUT_S
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if error.errno not in (errno.EAGAIN, errno.EACCES):
                    raise
            if time.monotonic() > deadline:
                raise NodeError(
                    f"another run has held the lock on {directory} for {LOCK_TIMEOUT_S:.0f} s: "
                    f"`lslocks` names the process"
                )
            time.sleep(0.05)
        yield
    finally:
        os.close(descriptor)


def _without(message: str, secret: str | None) -> str:
    """A message of `wg` without the key that it was given."""
    return message.strip().replace(secret.strip(), "<key>") if secret else message.strip()


def run(argv: Sequence[str], stdin: str | None = None) -> str:
    """Run a command that has to succeed and return what it prints. NodeError with its message if it fails."""
    code, out, err = _command.run(argv, stdin)
    if code != 0:
        raise NodeError(f"`{' '.join(argv)}` failed: {_without(err, stdin)}")
    return out


class Node:
    """One WireGuard interface of this node: its file and its running state."""

    def __init__(self, module: AnsibleModule, name: str, directory: str = DIRECTORY) -> None:
        self.module = module
        self.name = name
        self.directory = directory
        self.conf_path = os.path.join(directory, f"{name}.conf")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock; in check mode only if there is something to lock."""
        if self.module.check_mode and not os.path.isdir(self.directory):
            yield
        else:
            with locked(self.directory):
                yield

    def hide(self, secrets: Iterable[str]) -> None:
        """Let Ansible replace these texts wherever they would appear in the output (defence in depth)."""
        self.module.no_log_values.update(secrets)

    def read_conf(self) -> str | None:
        """The text of IF.conf, None if there is none."""
        try:
            with open(self.conf_path, encoding="utf-8") as file:
                return file.read()
        except FileNotFoundError:
            return None
        except UnicodeDecodeError:
            raise NodeError(f"{self.conf_path} is not UTF-8 text: correct or move it") from None

    def restore_conf(self, text: str | None) -> None:
        """Put IF.conf back to what `read_conf` gave."""
        if text is not None:
            write_private(self.conf_path, text)
        elif os.path.exists(self.conf_path):
            os.unlink(self.conf_path)

    def parse_conf(self, text: str) -> conf.Conf:
        """Read the text of IF.conf. NodeError names the file and what in it cannot be read."""
        try:
            parsed = conf.parse(text)
            self.hide(parsed.secrets())
            parsed.interface()
            parsed.peers()
        except ValueError as error:
            raise NodeError(f"{self.conf_path}: {error}") from None
        return parsed

    def conf_changes(self, before: conf.Conf, after: conf.Conf) -> list[dict[str, str]]:
        """The change of IF.conf without secrets, and of its mode if others could read it."""
        changes = [change(self.conf_path, before.masked(), after.masked(previous=before))]
        if before != after and changes[0]["before"] == changes[0]["after"]:
            changes[0]["after"] += "# a secret changes\n"
        try:
            mode = stat.S_IMODE(os.stat(self.conf_path).st_mode)
        except FileNotFoundError:
            return changes
        if mode & 0o077:
            changes.append(change(f"mode of {self.conf_path}", f"{mode:04o}\n", "0600\n"))
        return changes

    def owned(self) -> owned.OwnedPeers:
        """The peers that the agent added to this interface."""
        return owned.read(self.name, owned.DIRECTORY)

    def runtime(self) -> diff.Runtime | None:
        """The running interface; None if it is down, or if this node has no `wg` or `ip` yet."""
        if not (self.module.get_bin_path("wg") and self.module.get_bin_path("ip")):
            return None
        code, out, _err = _command.run(("ip", "-j", "address", "show", "dev", self.name))
        if code != 0:
            return None
        device = self._device()
        link = next(entry for entry in json.loads(out) if entry.get("ifname") == self.name)
        return diff.Runtime(
            device=device,
            addresses=tuple(
                f"{address['local']}/{address['prefixlen']}"
                for address in link.get("addr_info", ())
                if address.get("scope") != "link"
            ),
            mtu=link["mtu"],
            preshared_keys=self._preshared_keys(),
        )

    def peers(self) -> Mapping[str, dump.Peer]:
        """The peers of the running interface, by public key: a part of `runtime`, sooner."""
        return self._device().peers

    def private_key(self) -> str | None:
        """The private key that runs now, to put it back if need be."""
        key = self.run(("wg", "show", self.name, "private-key")).strip()
        self.hide({key} - {"(none)"})
        return None if key == "(none)" else key

    def routes(self, table: str | None, networks: Iterable[str]) -> list[diff.Route]:
        """The routes over the interface in a table, of the address families of these networks."""
        where = ("dev", self.name, "table", "main" if table in (None, "auto") else str(table))
        routes: list[diff.Route] = []
        for family in sorted({diff.family(network) for network in networks}):
            code, out, _err = _command.run(("ip", "-j", family, "route", "show", *where))
            # A table without any route "does not exist"; protocol boot is not printed.
            entries = json.loads(out or "[]") if code == 0 else []
            found = [(conf.canonical_network(e["dst"]), e.get("protocol", "boot")) for e in entries]
            routes += [diff.Route(network, protocol) for network, protocol in found]
        return routes

    def apply(self, steps: Iterable[diff.Step]) -> None:
        """Run the steps in their order. NodeError names the first that fails."""
        for step in steps:
            self.run(step.argv, step.stdin)

    def try_apply(self, steps: Iterable[diff.Step]) -> list[str]:
        """Run all steps, and return what went wrong as sentences."""
        problems = []
        for step in steps:
            code, _out, err = _command.run(step.argv, step.stdin)
            if code != 0:
                problems.append(f"{step.thing} could not be set to {step.after}: {_without(err, step.stdin)}")
        return problems

    def run(self, argv: tuple[str, ...], stdin: str | None = None) -> str:
        """Run a command and return what it prints. NodeError with its message if it fails."""
        return run(argv, stdin)

    def try_run(self, argv: tuple[str, ...]) -> str | None:
        """What a command prints, None if it fails."""
        code, out, _err = _command.run(argv)
        return out if code == 0 else None

    def _device(self) -> dump.Device:
        code, text, err = _command.run(("wg", "show", self.name, "dump"))
        if code != 0:
            raise NodeError(f"{self.name} exists but `wg` cannot read it: {err.strip()}")
        return dump.parse_dump(text)

    def _preshared_keys(self) -> dict[str, str]:
        lines = self.run(("wg", "show", self.name, "preshared-keys")).splitlines()
        found = dict(line.split("\t") for line in lines)
        preshared_keys = {key: preshared for key, preshared in found.items() if preshared != "(none)"}
        self.hide(preshared_keys.values())
        return preshared_keys
