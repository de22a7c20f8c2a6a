# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""`wg show IF dump`, without the private and preshared keys that it prints (wg(8), "dump")."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .keys import check_key


@dataclass(frozen=True)
class Peer:
    """A peer as the device has it now."""

    public_key: str
    endpoint: str | None
    """"ip:port" or "[v6]:port", None if it has none."""
    allowed_ips: tuple[str, ...]
    """"address/bits" each, as the device prints them."""
    latest_handshake_at: int
    """Unix time in seconds, 0 = never."""
    rx_bytes: int
    tx_bytes: int
    persistent_keepalive_s: int
    """0 = off."""


@dataclass(frozen=True)
class Device:
    """An interface as it is now; its public key is None as long as it has no private key."""

    public_key: str | None
    listen_port: int
    fwmark: int
    """0 = off."""
    peers: Mapping[str, Peer]
    """By public key, in the order of the dump."""


def parse_dump(text: str) -> Device:
    """Read the output of `wg show IF dump`. ValueError names the line and the field, never their content."""
    lines = text.splitlines()
    if not lines:
        raise ValueError("the output of `wg show dump` is empty")
    device = _fields(lines[0], 1, 4)
    peers = [_parse_peer(line, number) for number, line in enumerate(lines[1:], start=2)]
    return Device(
        public_key=None if device[1] == "(none)" else _key(device[1], 1),
        listen_port=_integer(device[2], 1, "listen port"),
        fwmark=_integer(device[3], 1, "fwmark"),
        peers={peer.public_key: peer for peer in peers},
    )


def _parse_peer(line: str, number: int) -> Peer:
    key, _preshared, endpoint, allowed_ips, handshake, rx, tx, keepalive = _fields(line, number, 8)
    return Peer(
        public_key=_key(key, number),
        endpoint=None if endpoint == "(none)" else endpoint,
        allowed_ips=() if allowed_ips == "(none)" else tuple(allowed_ips.split(",")),
        latest_handshake_at=_integer(handshake, number, "latest handshake"),
        rx_bytes=_integer(rx, number, "received bytes"),
        tx_bytes=_integer(tx, number, "sent bytes"),
        persistent_keepalive_s=_integer(keepalive, number, "persistent keepalive"),
    )


def _fields(line: str, number: int, count: int) -> list[str]:
    fields = line.split("\t")
    if len(fields) != count:
        raise ValueError(f"line {number} of `wg show dump` has {len(fields)} fields instead of {count}")
    return fields


def _key(text: str, number: int) -> str:
    try:
        return check_key(text)
    except ValueError as error:
        raise ValueError(f"line {number} of `wg show dump`, public key: {error}") from None


def _integer(text: str, number: int, name: str) -> int:
    """A number, in decimal or after 0x; "off" is 0."""
    try:
        value = 0 if text == "off" else int(text, 0)
    except ValueError:
        value = -1
    if value < 0:
        raise ValueError(f"line {number} of `wg show dump`, {name}: not a number")
    return value
