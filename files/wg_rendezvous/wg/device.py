# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""One WireGuard interface, read and changed by wg(8) and ip(8) as subprocesses.

Every argument that gets here is public: keys of peers, endpoints, addresses, port numbers. Preshared keys go
to `wg` on its standard input. Private and preshared keys are printed by `wg show IF dump`; its parser drops
them, and its output is never logged.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import os
import socket
import subprocess
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Union

from .._wireguard import dump

IPInterface = Union[ipaddress.IPv4Interface, ipaddress.IPv6Interface]

# wg answers in milliseconds; a user-space WireGuard that hangs must not take this program with it.
TIMEOUT_S = 5.0
PIECE_BYTES = 64 * 1024


class DeviceError(Exception):
    """`wg` or `ip` refused or could not run; the text says what it said."""


class DeviceGone(DeviceError):  # noqa: N818 - what happened, not another kind of failure
    """The interface does not exist, or not any more."""


@dataclass(frozen=True)
class PeerCommand:
    """One `peer` clause of `wg set`. None leaves a setting as it is; an empty `allowed_ips` takes all away.

    `remove=True` removes the peer and nothing else; a following command for the same key adds it anew
    (DESIGN fact 5). `persistent_keepalive_s` 0 turns keepalives off. The `preshared_key` is read by `wg` from
    /dev/stdin.
    """

    public_key: str
    remove: bool = False
    endpoint: str | None = None
    persistent_keepalive_s: int | None = None
    allowed_ips: tuple[str, ...] | None = None
    preshared_key: str | None = field(default=None, repr=False)

    def arguments(self) -> list[str]:
        """The words of this clause, as `wg set` (wg(8)) takes them."""
        words = ["peer", self.public_key]
        if self.remove:
            return [*words, "remove"]
        if self.preshared_key is not None:
            words += ["preshared-key", "/dev/stdin"]
        if self.endpoint is not None:
            words += ["endpoint", self.endpoint]
        if self.persistent_keepalive_s is not None:
            words += ["persistent-keepalive", str(self.persistent_keepalive_s)]
        if self.allowed_ips is not None:
            words += ["allowed-ips", ",".join(self.allowed_ips)]
        return words


@dataclass(frozen=True)
class Entry:
    """A peer of the device with all that it is made of."""

    peer: dump.Peer
    preshared_key: str | None = field(repr=False)


class Device:
    """The WireGuard interface `interface` of this network namespace."""

    def __init__(self, interface: str) -> None:
        self.interface = interface
        self._index: int | None = None

    async def read(self) -> dump.Device:
        """The device and its peers now, without secrets.

        Raises DeviceGone when the interface vanished or another one has taken its name (sockets bound to
        the old one would stay deaf), DeviceError when `wg` fails or its output is not understood.
        """
        self._check_index()
        text = await self._run("wg", "show", self.interface, "dump")
        try:
            return dump.parse_dump(text)
        except ValueError as error:
            raise DeviceError(str(error)) from None

    async def set(self, *commands: PeerCommand) -> None:
        """Apply `commands` in their order by one `wg set`, or one for each preshared key: it reads only one.

        Raises DeviceGone, DeviceError.
        """
        for group in _groups(commands):
            words = [word for command in group for word in command.arguments()]
            key = next((one.preshared_key for one in group if one.preshared_key is not None), None)
            await self._run("wg", "set", self.interface, *words, secret=key)

    async def preshared_keys(self) -> dict[str, str]:
        """Those of the peers that have one, by public key. Raises DeviceGone, DeviceError."""
        lines = (await self._run("wg", "show", self.interface, "preshared-keys")).splitlines()
        found = dict(line.split("\t") for line in lines)
        return {key: preshared_key for key, preshared_key in found.items() if preshared_key != "(none)"}

    async def set_listen_port(self, port: int) -> None:
        """Move the socket to `port` without taking the interface down (DESIGN fact 5)."""
        await self._run("wg", "set", self.interface, "listen-port", str(port))

    async def add_anew(self, entry: Entry) -> None:
        """Remove that peer and add it again as it was, by one `wg set`: WireGuard forgets its session and the
        newest timestamp that it has seen of it (DESIGN fact 5). Raises DeviceGone, DeviceError.
        """
        peer = entry.peer
        addition = PeerCommand(
            peer.public_key,
            endpoint=peer.endpoint,
            persistent_keepalive_s=peer.persistent_keepalive_s,
            allowed_ips=peer.allowed_ips,
            preshared_key=entry.preshared_key,
        )
        await self.set(PeerCommand(peer.public_key, remove=True), addition)

    async def addresses(self) -> list[IPInterface]:
        """The addresses of the interface with their networks, in the kernel's order."""
        return parse_addresses(await self._run("ip", "-j", "addr", "show", "dev", self.interface))

    def _check_index(self) -> None:
        try:
            index = socket.if_nametoindex(self.interface)
        except OSError:
            raise DeviceGone(
                f"interface {self.interface} does not exist: bring it up, e.g. wg-quick up {self.interface}"
            ) from None
        if self._index is None:
            self._index = index
        elif self._index != index:
            raise DeviceGone(
                f"interface {self.interface} was replaced by a new one of that name: start again"
            )

    async def _run(self, *argv: str, secret: str | None = None) -> str:
        """Standard output of `argv`. Raises DeviceGone, DeviceError."""
        try:
            return await run(*argv, secret=secret)
        except DeviceError as error:
            self._check_index()
            if "not supported" in str(error):  # Protocol, or by the kernel: Operation
                raise DeviceError(
                    f"{self.interface} is no WireGuard interface, or its wireguard-go has ended ({error})"
                ) from None
            raise


def _groups(commands: Iterable[PeerCommand]) -> list[list[PeerCommand]]:
    """The commands in their order, in as few groups as have one preshared key each at most."""
    groups: list[list[PeerCommand]] = []
    has_key = False
    for command in commands:
        if not groups or (has_key and command.preshared_key is not None):
            groups.append([])
            has_key = False
        groups[-1].append(command)
        has_key = has_key or command.preshared_key is not None
    return groups


async def run(*argv: str, secret: str | None = None) -> str:
    """Standard output of `argv` (`wg`, `ip`), whose standard input is `secret`. Raises DeviceError."""
    process = _started(argv, secret is not None)
    async with _ended(process):
        _give(process, secret)
        try:
            out, err = await asyncio.wait_for(_outputs(process), TIMEOUT_S)
        except asyncio.TimeoutError:
            raise DeviceError(f"'{' '.join(argv[:3])}' did not end within {TIMEOUT_S:g} s") from None
    if process.returncode != 0:
        reason = " ".join(err.decode(errors="replace").split()) or f"exit code {process.returncode}"
        reason = reason if secret is None else reason.replace(secret, "(hidden)")
        raise DeviceError(f"'{' '.join(argv[:3])}' failed: {reason}")
    return out.decode()


def _started(argv: Sequence[str], is_given: bool) -> subprocess.Popen[bytes]:
    """The process; something is given to it on its standard input, or nothing. Raises DeviceError.

    Not one of asyncio's: those cost twice as much, and before Python 3.12 a thread each.
    """
    # Without retries: wg would otherwise sit for a minute on an endpoint that is a name.
    environment = {**os.environ, "LC_ALL": "C", "WG_ENDPOINT_RESOLUTION_RETRIES": "0"}
    try:
        return subprocess.Popen(
            argv,
            stdin=subprocess.PIPE if is_given else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            start_new_session=True,  # Ctrl-C is for us, and must not end a change half done
        )
    except FileNotFoundError:
        package = {"wg": "wireguard-tools", "ip": "iproute2"}[argv[0]]
        raise DeviceError(f"the program '{argv[0]}' is not installed: install {package}") from None
    except OSError as error:  # no descriptors, no memory: that may pass
        raise DeviceError(f"'{argv[0]}' cannot be started: {error.strerror}") from None


@contextlib.asynccontextmanager
async def _ended(process: subprocess.Popen[bytes]) -> AsyncIterator[None]:
    """Leave no child and no pipe behind, also when the task that waits for it is cancelled."""
    try:
        yield
    finally:
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        if process.returncode is None:
            process.kill()
            await _end(process)


async def _end(process: subprocess.Popen[bytes]) -> None:
    """Wait for its end, which is near, without keeping others waiting: the kernel may hold it back."""
    while process.poll() is None:  # noqa: ASYNC110 - without a thread nothing tells that everywhere
        await asyncio.sleep(0.001)


def _give(process: subprocess.Popen[bytes], secret: str | None) -> None:
    """Write the secret, which is a line, and less than a pipe holds."""
    if process.stdin is not None:
        with contextlib.suppress(BrokenPipeError):  # it ended without reading: its exit code says why
            process.stdin.write(f"{secret}\n".encode())
            process.stdin.close()


async def _outputs(process: subprocess.Popen[bytes]) -> tuple[bytes, bytes]:
    """All of its standard output and standard error, when it has ended."""
    loop = asyncio.get_running_loop()
    closed = loop.create_future()
    pieces: dict[int, list[bytes]] = {}

    def read(descriptor: int) -> None:
        piece = os.read(descriptor, PIECE_BYTES)
        pieces[descriptor].append(piece)
        if not piece:
            loop.remove_reader(descriptor)
            is_last = all(read_so_far[-1:] == [b""] for read_so_far in pieces.values())
            if is_last and not closed.done():  # it is cancelled, perhaps in this turn of the loop
                closed.set_result(None)

    try:
        for pipe in (process.stdout, process.stderr):
            assert pipe is not None
            pieces[pipe.fileno()] = []
            loop.add_reader(pipe.fileno(), read, pipe.fileno())
        await closed
    finally:
        for descriptor in pieces:
            loop.remove_reader(descriptor)
    await _end(process)
    out, err = (b"".join(read_so_far) for read_so_far in pieces.values())
    return out, err


def parse_addresses(text: str) -> list[IPInterface]:
    """Addresses from the output of `ip -j addr show dev IF` (ip-address(8)). Raises ValueError."""
    # A point-to-point address has its prefix at the other end; "local" is always our own.
    return [
        ipaddress.ip_interface(f"{entry['local']}/{entry['prefixlen']}")
        for link in json.loads(text or "[]")
        for entry in link.get("addr_info", ())
    ]
