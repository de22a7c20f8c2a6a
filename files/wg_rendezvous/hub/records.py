# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""What the hub says of each peer, and what of it changed: the observation of the device and the registrations
of the agents in one record (docs/protocol.md). Pure: no I/O, no clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .registrations import Registrations
from .registry import Registry


@dataclass(frozen=True)
class Record:
    """One peer, as the others are told."""

    address: str | None
    endpoint: str | None
    online: bool
    signals: bool
    instance: str | None
    candidates: tuple[str, ...]
    version: str | None
    polls: bool
    secrets: tuple[str, ...]

    def as_json(self, hands_shaken_at: int) -> dict[str, Any]:
        """The record with the time of the latest handshake, which by itself is no change of it."""
        return {
            "address": self.address,
            "endpoint": self.endpoint,
            "online": self.online,
            "hands_shaken_at": hands_shaken_at,
            "signals": self.signals,
            "instance": self.instance,
            "candidates": list(self.candidates),
            "version": self.version,
            "polls": self.polls,
            "secrets": list(self.secrets),
        }


@dataclass(frozen=True)
class Changes:
    """Keys of the peers whose record is new or another than before, and of those that are gone."""

    changed: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.changed or self.gone)


class Records:
    """The records of all peers.

    `revision` grows with every change. It starts above any that a former run of the hub may have told: an
    agent that still has one of those would be told that nothing has changed.
    """

    def __init__(self, registry: Registry, registrations: Registrations, revision: int) -> None:
        self.revision = revision
        self._registry = registry
        self._registrations = registrations
        self._records: dict[str, Record] = {}

    def refresh(self, at_s: float) -> Changes:
        """Bring all records up to date. Returns what changed since the last time."""
        known = self._registry.known_keys()
        self._registrations.forget(set(known), at_s)
        records = {key: self._make(key, at_s) for key in known}
        changes = Changes(
            tuple(key for key, record in records.items() if record != self._records.get(key)),
            tuple(key for key in self._records if key not in records),
        )
        self._records = records
        self.revision += bool(changes)
        return changes

    def refresh_one(self, key: str, at_s: float) -> Changes:
        """The same for one peer, if it has a record at all."""
        if key not in self._records:
            return Changes()
        record = self._make(key, at_s)
        changes = Changes((key,) if record != self._records[key] else ())
        self._records[key] = record
        self.revision += bool(changes)
        return changes

    def online(self, at_s: float) -> list[str]:
        """The peers that are online and that others can be told of, in order of their keys."""
        return sorted(
            key
            for key in self._registry.known_keys()
            if self.is_online(key, at_s) and self._registry.answer(key) is not None
        )

    def tell(self, key: str, to: str | None = None) -> dict[str, Any] | None:
        """The record of `key` as JSON, with `linked` if it is told `to` somebody; None if there is none."""
        record = self._records.get(key)
        if record is None:
            return None
        told = record.as_json(self._registry.hands_shaken_at(key))
        if to is not None:
            told["linked"] = self.is_linked(key, to)
        return told

    def is_linked(self, key: str, to: str) -> bool:
        """Whether `key`, in its present run, reported its link to `to` as direct."""
        return self._registrations.says_direct(key, to)

    def all_but(self, own: str | None, linked: bool = False) -> dict[str, Any]:
        """All records but the `own`, by key; each with `linked` to it if wanted."""
        to = own if linked else None
        return {key: self.tell(key, to) for key in self._records if key != own}

    def is_online(self, key: str, at_s: float) -> bool:
        """Whether bytes came from the peer lately, or its stream is open."""
        return self._registry.is_online(key, at_s) or self._registrations.has_stream(key)

    def _make(self, key: str, at_s: float) -> Record:
        run = self._registrations.get(key)
        signals = run is not None and run.has_stream
        return Record(
            address=self._registry.route(key),
            endpoint=self._registry.believed(key),
            online=self.is_online(key, at_s),
            signals=signals,
            instance=run.instance if run is not None and run.is_announced else None,
            candidates=run.candidates if run is not None else (),
            version=run.version if run is not None else None,
            polls=self._registrations.polls(key, at_s),
            secrets=run.secrets if run is not None else (),
        )
