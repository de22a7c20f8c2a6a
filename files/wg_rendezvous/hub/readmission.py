# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""Letting a node in again whose clock was ahead and went back.

WireGuard takes a handshake only if its timestamp is newer than the newest that it has seen of that peer, and
forgets that one when the peer is removed and added again (DESIGN fact 5). Whom it refuses shows nowhere: not
even the counters move. So every peer that can have no session any more is added anew, once: there is nothing
that it could lose by that. A session ends 180 s after its handshake, whatever came meanwhile
(REJECT_AFTER_TIME); a handshake that is not completed within seconds is not going to be.

Once, since the new entry has received nothing: until something was taken of that peer, there is nothing to
forget.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass

from .._wireguard import dump
from ..wg import Device, DeviceError, DeviceGone, Entry

logger = logging.getLogger("wg_rendezvous.hub")

SESSION_S = 180.0
HANDSHAKE_S = 15.0
"""Three times REKEY_TIMEOUT, after which a handshake that was not answered is begun afresh."""
AT_ONCE = 20
"""In one turn: each takes a call of `wg`, and others wait for the next look at the device."""


@dataclass
class _Seen:
    """What the entry of a peer showed, and the first looks (`_at_s`) that showed it."""

    handshake_at: int
    shaken_at_s: float
    rx_bytes: int
    received_at_s: float


class Sessions:
    """Who has none. Pure: looks at the device in, peers out."""

    def __init__(self) -> None:
        self._seen: dict[str, _Seen] = {}

    def observe(self, device: dump.Device, at_s: float) -> list[dump.Peer]:
        """The peers that WireGuard knows newest timestamps of, and that have no session any more."""
        for key in self._seen.keys() - device.peers.keys():
            del self._seen[key]
        for key, peer in device.peers.items():
            seen = self._seen.get(key)
            if seen is None:
                self._seen[key] = _Seen(peer.latest_handshake_at, at_s, peer.rx_bytes, at_s)
                continue
            if peer.latest_handshake_at != seen.handshake_at:
                seen.handshake_at, seen.shaken_at_s = peer.latest_handshake_at, at_s
            if peer.rx_bytes != seen.rx_bytes:
                seen.rx_bytes, seen.received_at_s = peer.rx_bytes, at_s
        return [peer for key, peer in device.peers.items() if peer.rx_bytes and self._is_over(key, at_s)]

    def _is_over(self, key: str, at_s: float) -> bool:
        seen = self._seen[key]
        return at_s - seen.shaken_at_s >= SESSION_S and at_s - seen.received_at_s >= HANDSHAKE_S


class Readmission:
    """Adds peers without a session anew, and loses none by it."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._sessions = Sessions()
        self._due: list[dump.Peer] = []
        self._lost: dict[str, Entry] = {}
        """Which an attempt that failed may have removed."""

    def observe(self, device: dump.Device, at_s: float) -> None:
        """Take in a look at the device that was begun at `at_s`."""
        self._due = self._sessions.observe(device, at_s)
        for key in self._lost.keys() & device.peers.keys():
            del self._lost[key]

    async def act(self) -> None:
        """Add anew who is due, as the latest look showed it.

        Raises DeviceGone; other failures are logged, and tried again after the next look.
        """
        for entry in list(self._lost.values()):
            await self._add_anew(entry)
        due, self._due = self._due[:AT_ONCE], []
        if not due:
            return
        try:
            secrets = await self._device.preshared_keys()
        except DeviceGone:
            raise
        except DeviceError as error:
            self._say_failure(due, error)
            return
        for peer in due:
            await self._add_anew(Entry(peer, secrets.get(peer.public_key)))

    async def _add_anew(self, entry: Entry) -> None:
        key = entry.peer.public_key
        self._lost[key] = entry
        try:
            await self._device.add_anew(entry)
        except DeviceGone:
            raise
        except DeviceError as error:
            self._say_failure([entry.peer], error)
            return
        del self._lost[key]
        fields = {"peer": key, "why": "it has no session any more; if its clock went back, it is heard again"}
        logger.info("peer added anew", extra={"fields": fields})

    def _say_failure(self, peers: Iterable[dump.Peer], error: DeviceError) -> None:
        for peer in peers:
            fields = {"peer": peer.public_key, "reason": str(error)}
            logger.error("peer could not be added anew; it is tried again", extra={"fields": fields})
