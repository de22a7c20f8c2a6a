# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""A probe: is there an answer from the peer through the link?

Any answer of its TCP will do: it has the peer's address, so it came through the link (cryptokey routing).
A refused connection is one as well, only nobody listens there now; and so is one that was accepted and then
not answered: an agent that has just started, on a small node, needs longer for that than a probe waits.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import time

ATTEMPT_EVERY_S = 0.2


class UnansweredError(Exception):
    """Nothing came back in time; the text says how the last attempt ended."""


async def probe(interface: str, address: str, port: int, timeout_s: float) -> float:
    """Ask `http://address:port/statusz` through `interface`; return the round trip in seconds.

    A new attempt starts every 0.2 s beside the earlier ones, since TCP itself would wait a second before
    it sends again.  Raises UnansweredError after `timeout_s`.
    """
    deadline = time.monotonic() + timeout_s
    attempts: set[asyncio.Task[float]] = set()
    pending: set[asyncio.Task[float]] = set()
    accepted: list[float] = []
    reason = "no answer"
    try:
        while time.monotonic() < deadline:
            attempt = asyncio.ensure_future(_ask(interface, address, port, accepted))
            attempts.add(attempt)
            pending.add(attempt)
            wait_s = min(ATTEMPT_EVERY_S, max(0.0, deadline - time.monotonic()))
            done, pending = await asyncio.wait(pending, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
            for attempt in done:
                error = attempt.exception()
                if error is None:
                    return attempt.result()
                reason = str(error) or type(error).__name__
            if done and time.monotonic() < deadline:
                await asyncio.sleep(min(ATTEMPT_EVERY_S, deadline - time.monotonic()))
    finally:
        for attempt in attempts:
            attempt.cancel()
        # Also those that are done: asyncio logs what nobody looked at.
        await asyncio.gather(*attempts, return_exceptions=True)
    if accepted:
        return accepted[0]
    raise UnansweredError(f"GET /statusz on {address}: {reason} within {timeout_s:g} s")


async def _ask(interface: str, address: str, port: int, accepted: list[float]) -> float:
    """One attempt; its round trip is that of TCP's handshake, noted when that is done.  Raises OSError."""
    version6 = ipaddress.ip_address(address).version == 6
    with socket.socket(socket.AF_INET6 if version6 else socket.AF_INET, socket.SOCK_STREAM) as connection:
        connection.setblocking(False)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
        loop = asyncio.get_running_loop()
        started = time.monotonic()
        try:
            await loop.sock_connect(connection, (address, port))
        except ConnectionRefusedError:
            return time.monotonic() - started
        rtt_s = time.monotonic() - started
        accepted.append(rtt_s)
        host = f"[{address}]" if version6 else address
        request = f"GET /statusz HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n"
        await loop.sock_sendall(connection, request.encode())
        if not await loop.sock_recv(connection, 64):
            raise ConnectionError("it closed the connection without an answer")
        return rtt_s
