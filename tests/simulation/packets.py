# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""What the nodes of the simulation send one another inside the VPN."""

from __future__ import annotations

from typing import Any, NamedTuple


class Segment(NamedTuple):
    """One packet of a request: how many round trips are behind it, and whether it is the answer's way."""

    exchange: int
    round_trips: int
    answer: bool
    body: Any = None


class Data(NamedTuple):
    """The nth message of a connection."""

    connection: int
    number: int
    body: Any


class Ack(NamedTuple):
    """All messages of a connection before the nth have arrived."""

    connection: int
    number: int


class Reset(NamedTuple):
    """Nobody knows this connection."""

    connection: int


class Ping(NamedTuple):
    """A heartbeat."""

    number: int
    padded: bool


class Pong(NamedTuple):
    """Its answer."""

    number: int
