# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""Requests and answers inside the VPN: as much of TCP and HTTP as an agent can tell apart.

A try takes two round trips (TCP's handshake, then the request), each packet of which has to pass and is
never sent again; tries start beside one another until one is answered or the time is up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.simulation.packets import Ack, Data, Ping, Pong, Reset, Segment
from tests.simulation.wireguard import DATA_BYTES, Device, Inner

ROUND_TRIPS = 2


@dataclass
class _Exchange:
    address: str
    answered: Callable[[Any, float], None]
    missed: Callable[[], None]
    deadline_at: float
    try_every_s: float
    started_at: float


class Stack:
    """The stack of one node. `serve(caller's VPN address)` makes the body of an answer; the kernel answers
    also where no agent runs (a refusal is an answer)."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self.serve: Callable[[str], Any] = lambda _caller: None
        self._exchanges: dict[int, _Exchange] = {}
        self.connections: dict[int, Any] = {}
        self.accept: Callable[[Any, str], Any] = lambda _data, _caller: None
        self.on_ping: Callable[[str, Any], None] = lambda _address, _ping: None
        self.on_pong: Callable[[str, Any], None] = lambda _address, _pong: None
        self._receivers: dict[type, Callable[[str, Any], None]] = {
            Ping: self._receive_ping,
            Pong: self._receive_pong,
            Segment: self._receive_segment,
            **dict.fromkeys((Data, Ack, Reset), self._receive_of_connection),
        }
        device.on_packet = self._receive

    def ask(
        self,
        address: str,
        timeout_s: float,
        try_every_s: float,
        answered: Callable[[Any, float], None],
        missed: Callable[[], None],
    ) -> None:
        """Ask the node at `address`; `answered(body, seconds since the start)` or `missed()` follows."""
        engine = self.device.engine
        number = engine.number()
        deadline_at = engine.now + timeout_s
        self._exchanges[number] = _Exchange(address, answered, missed, deadline_at, try_every_s, engine.now)
        self._try(number)

    def _try(self, number: int) -> None:
        exchange = self._exchanges.get(number)
        if exchange is None:
            return
        engine = self.device.engine
        left_s = exchange.deadline_at - engine.now
        if left_s <= 1e-9:
            del self._exchanges[number]
            exchange.missed()
            return
        self._send(exchange.address, Segment(number, 0, answer=False))
        engine.call_in(min(exchange.try_every_s, left_s), lambda: self._try(number))

    def send_packet(self, address: str, packet: Any, size: int = DATA_BYTES) -> None:
        """Send a packet of the signalled protocol (py)."""
        self.device.send(Inner(self.device.address, address, packet, size))

    def _receive(self, inner: Inner) -> None:
        receiver = self._receivers.get(type(inner.payload))
        if receiver is not None:
            receiver(inner.source, inner.payload)

    def _receive_ping(self, source: str, ping: Ping) -> None:
        self.on_ping(source, ping)

    def _receive_pong(self, source: str, pong: Pong) -> None:
        self.on_pong(source, pong)

    def _receive_of_connection(self, caller: str, packet: Any) -> None:
        connection = self.connections.get(packet.connection)
        if connection is None and isinstance(packet, Data):
            connection = self.accept(packet, caller)
            if connection is None:
                self.send_packet(caller, Reset(packet.connection))
        if connection is not None:
            connection.receive(packet)

    def _receive_segment(self, source: str, segment: Segment) -> None:
        if not segment.answer:
            last = segment.round_trips + 1 == ROUND_TRIPS
            body = self.serve(source) if last else None
            self._send(source, Segment(segment.exchange, segment.round_trips + 1, True, body))
        elif segment.exchange in self._exchanges:
            self._answered(segment)

    def _answered(self, segment: Segment) -> None:
        exchange = self._exchanges[segment.exchange]
        if segment.round_trips < ROUND_TRIPS:
            self._send(exchange.address, Segment(segment.exchange, segment.round_trips, answer=False))
            return
        del self._exchanges[segment.exchange]
        exchange.answered(segment.body, self.device.engine.now - exchange.started_at)

    def _send(self, address: str, segment: Segment) -> None:
        self.device.send(Inner(self.device.address, address, segment))
