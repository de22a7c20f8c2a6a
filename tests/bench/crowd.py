# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""Many other ends of links in one process: they take offers, answer heartbeats, and are otherwise idle.

Each has a WireGuard interface, a key and an address of its own, and speaks the protocol (docs/protocol.md) as
the controlled end does. They share no code with the program under test.

usage: crowd.py HUB KEY_OF_THE_OTHER ADDRESS_OF_THE_OTHER INTERFACE=ADDRESS...
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import sys
import urllib.parse
from typing import Any

PORT = 8080
BEAT = struct.Struct("!4sBBHQ")
PING, PONG = 1, 2


class Beats(asyncio.DatagramProtocol):
    """Answers pings."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.DatagramTransport)
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        magic, version, kind, _, number = BEAT.unpack_from(data)
        if kind == PING:
            self.transport.sendto(BEAT.pack(magic, version, PONG, 0, number), addr)


class End:
    """One of them."""

    def __init__(self, hub: str, other: str, other_address: str, interface: str, address: str) -> None:
        self.hub, self.other, self.other_address = hub, other, other_address
        self.interface, self.address = interface, address

    async def run(self) -> None:
        listening = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        listening.bind((self.address, PORT))
        await asyncio.get_running_loop().create_datagram_endpoint(Beats, sock=listening)
        await self.request("PUT", "/v1/self", {"instance": f"{int(self.interface[2:]):016x}", "version": "0"})
        reader, _writer = await self.send("GET", "/v1/stream", None)
        event = ""
        while line := (await reader.readline()).decode():
            if line.startswith("event: "):
                event = line[len("event: ") :].strip()
            elif line.startswith("data: ") and event == "signal":
                await self.take(json.loads(line[len("data: ") :]))

    async def take(self, signal: dict[str, Any]) -> None:
        if signal["from"] != self.other:
            return
        session = signal.get("session")
        if signal["type"] == "offer":
            await self.wg("remove", "peer", self.other, "endpoint", signal["endpoint"],
                          "persistent-keepalive", "13", "allowed-ips", "")  # fmt: skip
            await self.signal("opened", session)
            await self.shaken_hands()
            await self.signal("verified", session)
        elif signal["type"] == "promote":
            await self.wg("allowed-ips", f"{self.other_address}/32")
        elif signal["type"] == "withdraw":
            await self.wg("allowed-ips", "")
            await self.signal("withdrawn", session)

    async def shaken_hands(self) -> None:
        for _ in range(20):
            shown = await run("wg", "show", self.interface, "latest-handshakes")
            if any(line.split() != [self.other, "0"] and self.other in line for line in shown.splitlines()):
                return
            await asyncio.sleep(0.05)

    async def wg(self, *settings: str) -> None:
        await run("wg", "set", self.interface, "peer", self.other, *settings)

    async def signal(self, kind: str, session: str | None) -> None:
        path = f"/v1/signal/{urllib.parse.quote(self.other, safe='')}"
        await self.request("POST", path, {"type": kind, "session": session})

    async def request(self, method: str, path: str, body: dict[str, Any]) -> None:
        reader, writer = await self.send(method, path, body)
        await reader.read()
        writer.close()

    async def send(
        self, method: str, path: str, body: dict[str, Any] | None
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(self.hub, PORT, local_addr=(self.address, 0))
        content = b"" if body is None else json.dumps(body).encode()
        keep = "keep-alive" if body is None else "close"
        writer.write(
            f"{method} {path} HTTP/1.1\r\nHost: hub\r\nConnection: {keep}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n".encode()
            + content
        )
        return reader, writer


async def run(*argv: str) -> str:
    process = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    return output.decode()


async def main(hub: str, other: str, other_address: str, *ends: str) -> None:
    pairs = [end.partition("=") for end in ends]
    await asyncio.gather(
        *(End(hub, other, other_address, interface, address).run() for interface, _, address in pairs)
    )


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
