# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""Heartbeats: small datagrams inside the VPN that show that a path works now (docs/protocol.md).

Hub and agents listen alike, and answer every ping at once. Nothing in here raises once it listens: a ping
that cannot be sent is one that is not answered.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import socket
import struct
from collections.abc import Sequence
from typing import Any, Callable, TypeVar, cast

from .listeners import ListenError, datagram_listener

logger = logging.getLogger(__name__)

LAYOUT = struct.Struct("!4sBBHQ")
MAGIC = b"WGRV"
VERSION = 1
PING, PONG = 1, 2

UDP_HEADER_BYTES = 8
TRANSPORT_BYTES = 32
IP_HEADER_BYTES = {socket.AF_INET: 20, socket.AF_INET6: 40}

# <linux/in.h>, <linux/in6.h>, <linux/sockios.h>; Python's socket module does not name them on every version.
IP_MTU_DISCOVER, IPV6_MTU_DISCOVER = 10, 23
PMTUDISC_DO = 2
SIOCGIFMTU = 0x8921

MOST_BYTES = 65535
MOST_AT_ONCE = 1024
MOST_ADDRESSES = 4096
"""Of more, those that were quiet longest are forgotten: behind a peer there may be a whole IPv6 network."""

OnPong = Callable[[str, int], None]
T = TypeVar("T")


def pack(kind: int, number: int, size_bytes: int = LAYOUT.size) -> bytes:
    """A heartbeat, filled up with zeros to `size_bytes`."""
    return LAYOUT.pack(MAGIC, VERSION, kind, 0, number).ljust(size_bytes, b"\0")


def parse(datagram: bytes) -> tuple[int, int] | None:
    """Kind (PING, PONG) and number of a heartbeat; None for anything else."""
    if len(datagram) < LAYOUT.size:
        return None
    magic, version, kind, _reserved, number = LAYOUT.unpack_from(datagram)
    if magic != MAGIC or version != VERSION or kind not in (PING, PONG):
        return None
    return kind, number


async def listen(hosts: Sequence[str], port: int, interface: str, on_pong: OnPong | None = None) -> Beats:
    """Answer pings to `port` of each of `hosts` from `interface`; tell `on_pong` of the answers to our own,
    by address and number. Raises listeners.ListenError.
    """
    beats = Beats(interface, on_pong)
    try:
        for host in hosts:
            made = datagram_listener(host, port, interface)
            level, option = (
                (socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER)
                if made.family == socket.AF_INET6
                else (socket.IPPROTO_IP, IP_MTU_DISCOVER)
            )
            # A padded ping in fragments would prove nothing about large packets.
            made.setsockopt(level, option, PMTUDISC_DO)
            await beats.hear(made)
    except ListenError:
        beats.close()
        raise
    return beats


class Beats:
    """The heartbeats of one interface, as `listen` makes them. Pings leave from the first address of their
    family."""

    def __init__(self, interface: str, on_pong: OnPong | None) -> None:
        self.port = 0
        self._interface = interface
        self._on_pong = on_pong
        self._sockets: list[_Socket] = []
        self._bytes: dict[str, tuple[int, int]] = {}
        self._ports: dict[str, int] = {}

    async def hear(self, made: socket.socket) -> None:
        """Listen on one more socket."""
        self.port = made.getsockname()[1]
        one = _Socket(made, self._received)
        await asyncio.get_running_loop().create_datagram_endpoint(lambda: one, sock=made)
        self._sockets.append(one)

    def bytes_by_address(self) -> dict[str, tuple[int, int]]:
        """Bytes of heartbeats that came from an address and went there so far, as WireGuard counts them."""
        for one in self._sockets:
            one.drain()
        return dict(self._bytes)

    def _count(self, address: str, received: int = 0, sent: int = 0) -> None:
        before = self._bytes.get(address, (0, 0))
        _remember(self._bytes, address, (before[0] + received, before[1] + sent))

    def ping(self, address: str, number: int, size_bytes: int | None = None, port: int | None = None) -> None:
        """Ping `address` at `port` (None: at the number of our own); `size_bytes` is that of the UDP payload
        (None: as small as possible).
        """
        one = self._socket(address)
        if one is not None:
            self._send(one, pack(PING, number, size_bytes or LAYOUT.size), (address, port or self.port))

    def ping_back(self, address: str, number: int) -> None:
        """Ping `address` at the port that its own latest ping came from."""
        self.ping(address, number, port=self._ports.get(address))

    def mtu_bytes(self) -> int:
        """The interface's MTU as it is now, 0 if it cannot be read."""
        request = struct.pack("16si12x", self._interface.encode(), 0)
        try:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
                answer = fcntl.ioctl(any_socket, SIOCGIFMTU, request)
        except OSError as error:
            logger.debug("no MTU", extra={"fields": {"interface": self._interface, "error": str(error)}})
            return 0
        mtu_bytes: int = struct.unpack("16si12x", answer)[1]
        return mtu_bytes

    def largest_bytes(self, address: str) -> int:
        """The UDP payload of a packet to `address` that fills the interface's MTU."""
        return max(LAYOUT.size, self.mtu_bytes() - IP_HEADER_BYTES[_family(address)] - UDP_HEADER_BYTES)

    def close(self) -> None:
        """Stop listening."""
        for one in self._sockets:
            one.close()

    def _socket(self, address: str) -> _Socket | None:
        return next((one for one in self._sockets if one.family == _family(address)), None)

    def _send(self, one: _Socket, datagram: bytes, target: tuple[Any, ...]) -> None:
        if one.send(datagram, target):
            self._count(target[0], sent=_wireguard_bytes(one.family, datagram))

    def _received(self, one: _Socket, data: bytes, addr: tuple[Any, ...]) -> None:
        """Answer a ping, tell of a pong, and leave everything else."""
        heartbeat = parse(data)
        if heartbeat is None:
            return
        kind, number = heartbeat
        self._count(addr[0], received=_wireguard_bytes(one.family, data))
        if kind == PING:
            _remember(self._ports, addr[0], addr[1])
            self._send(one, pack(PONG, number), addr)
        elif self._on_pong is not None:
            self._on_pong(addr[0], number)


def _remember(by_address: dict[str, T], address: str, value: T) -> None:
    by_address.pop(address, None)
    by_address[address] = value
    if len(by_address) > MOST_ADDRESSES:
        del by_address[next(iter(by_address))]


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def _wireguard_bytes(family: socket.AddressFamily, datagram: bytes) -> int:
    """The size of the transport message with this datagram in it: padded to 16 bytes, 32 around it
    (whitepaper, section 5.4.6)."""
    packet_bytes = IP_HEADER_BYTES[family] + UDP_HEADER_BYTES + len(datagram)
    return TRANSPORT_BYTES + -(-packet_bytes // 16) * 16


class _Socket(asyncio.DatagramProtocol):
    """One address that is listened on."""

    def __init__(
        self, made: socket.socket, received: Callable[[_Socket, bytes, tuple[Any, ...]], None]
    ) -> None:
        self.family = made.family
        self._made = made
        self._on_datagram = received
        self._transport: asyncio.DatagramTransport | None = None

    def send(self, datagram: bytes, target: tuple[Any, ...]) -> bool:
        """Whether it is on its way; what cannot be sent is lost, as what is lost on the way."""
        if self._transport is None or self._transport.is_closing():
            return False
        try:
            self._made.sendto(datagram, target)  # asyncio's does not say that it failed
        except (OSError, ValueError, TypeError) as error:
            self.error_received(error)
            return False
        return True

    def drain(self) -> None:
        """Take in all that has arrived: asyncio takes one datagram a turn."""
        for _turn in range(MOST_AT_ONCE):
            try:
                data, addr = self._made.recvfrom(MOST_BYTES)
            except OSError:  # nothing more, or closed
                return
            self._on_datagram(self, data, addr)

    def close(self) -> None:
        """Stop listening."""
        if self._transport is not None:
            self._transport.abort()

    # --- asyncio.DatagramProtocol ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        # Before Python 3.12 asyncio's own datagram transport is no asyncio.DatagramTransport.
        self._transport = cast("asyncio.DatagramTransport", transport)

    def connection_lost(self, _exc: Exception | None) -> None:
        """End."""
        self._transport = None

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        """Something came in."""
        self._on_datagram(self, data, addr)

    def error_received(self, exc: Exception) -> None:
        """A datagram could not be sent (no route, larger than the path): nobody will answer it."""
        logger.debug("a heartbeat was not sent", extra={"fields": {"error": str(exc) or type(exc).__name__}})
