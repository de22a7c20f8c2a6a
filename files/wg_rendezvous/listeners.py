# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""Listening sockets inside the VPN only, for hub and agent; without aiohttp, which is slow to import."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Sequence

from .wg import IPInterface

# socket.SO_BINDTODEVICE is missing in some builds of Python 3.9; the number is Linux's (socket(7)).
SO_BINDTODEVICE: int = getattr(socket, "SO_BINDTODEVICE", 25)


class ListenError(Exception):
    """A listening socket cannot be made; the text says why and what to do."""


def listen_hosts(wanted: str | None, addresses: Sequence[IPInterface], interface: str) -> list[str]:
    """The addresses to listen on: `wanted`, or all of the interface's own `addresses`, IPv4 before IPv6.

    Raises ListenError if the interface does not have it.
    """
    in_order = sorted(addresses, key=lambda address: (address.version, address.ip))
    own = [str(address.ip) for address in in_order if not address.is_link_local]
    if not own:
        raise ListenError(
            f"{interface} has no address: give it one, e.g. ip addr add 192.168.7.1/24 dev {interface}"
        )
    if wanted is not None and wanted not in own:
        raise ListenError(f"option --listen: {wanted} is no address of {interface}: use {' or '.join(own)}")
    return own if wanted is None else [wanted]


def listener(host: str, port: int, interface: str) -> socket.socket:
    """A listening TCP socket on `host`:`port` that hears `interface` only. Raises ListenError."""
    return _bound(socket.SOCK_STREAM, host, port, interface)


def datagram_listener(host: str, port: int, interface: str) -> socket.socket:
    """A UDP socket on `host`:`port` that hears `interface` only. Raises ListenError."""
    return _bound(socket.SOCK_DGRAM, host, port, interface)


def _bound(kind: socket.SocketKind, host: str, port: int, interface: str) -> socket.socket:
    """A neighbour on the LAN who routes to `host` is not heard: without SO_BINDTODEVICE Linux accepts packets
    for any own address on any interface (DESIGN fact 17). The node itself is heard: what it sends to `host`
    counts as received on the interface that has this address, though it passes `lo`.
    """
    made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, kind)
    try:
        if kind == socket.SOCK_STREAM:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.setsockopt(socket.SOL_SOCKET, SO_BINDTODEVICE, interface.encode())
        if made.family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind((host, port))
        if kind == socket.SOCK_STREAM:
            made.listen(128)
        made.setblocking(False)
        return made
    except OSError as error:
        made.close()
        remedy = {
            errno.EADDRNOTAVAIL: "give --listen an address that the interface has",
            errno.EADDRINUSE: "something else listens there: stop it, or choose another port with --listen",
            errno.EPERM: "run as root",
            errno.EACCES: "run as root",
            errno.ENODEV: f"bring {interface} up",
        }.get(error.errno or 0, "see --listen")
        raise ListenError(f"cannot listen on {host} port {port}: {error.strerror}: {remedy}") from None


def unix_listener(path: str) -> socket.socket:
    """A listening socket at `path`, for root only (0600); the directory is made if it is missing (0755).

    A file that a dead process left is replaced. Raises ListenError, also if a living process listens there.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        make_directory(os.path.dirname(path), 0o755)
        if _is_alive(path):
            raise ListenError(f"another wg-rendezvous serves {path}: stop that one first")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        umask = os.umask(0o177)
        try:
            listener.bind(path)
        finally:
            os.umask(umask)
        listener.listen(16)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise ListenError(f"cannot listen on {path}: {error.strerror or error}: run as root") from None
    except ListenError:
        listener.close()
        raise
    return listener


def _is_alive(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(1.0)
        try:
            connection.connect(path)
        except (FileNotFoundError, ConnectionRefusedError):
            return False
    return True


def make_directory(path: str, mode: int) -> None:
    """Make the directory `path` with exactly `mode` unless it exists. Raises OSError."""
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.mkdir(path)
    except FileExistsError:
        return
    os.chmod(path, mode)
