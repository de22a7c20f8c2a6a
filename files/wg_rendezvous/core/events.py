# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""What an agent can notice.  `mesh.Mesh.handle` takes these, one at a time, in order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Union

from .._wireguard.dump import Device


@dataclass(frozen=True)
class PeerRecord:
    """What the hub says of one online peer (`GET /peer/{key}`), as text, not yet believed."""

    endpoint: str
    allowed_ips: str


@dataclass(frozen=True)
class Started:
    """The agent runs.  `owned` maps the public keys of the peers that an earlier run of
    it added to their VPN addresses (`"192.168.7.6/32"`)."""

    device: Device
    owned: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Tick:
    """The time that `Mesh.wakeup_at` named has come."""


@dataclass(frozen=True)
class HubAnswered:
    """The hub's view, complete: every online peer by its public key."""

    records: Mapping[str, PeerRecord]


@dataclass(frozen=True)
class HubSilent:
    """The hub could not be asked; `reason` is for people."""

    reason: str


@dataclass(frozen=True)
class DeviceSeen:
    """The WireGuard device as it is now; read after every earlier action was carried out.
    `configured` are the public keys of the peers in the interface's configuration."""

    device: Device
    configured: frozenset[str] = frozenset()


@dataclass(frozen=True)
class ProbeAnswered:
    """A probe was answered through the link.  `attempt` is the one of the `Probe` action."""

    peer: str
    attempt: int
    rtt_s: float


@dataclass(frozen=True)
class ProbeMissed:
    """A probe was not answered in its time; `reason` is for people."""

    peer: str
    attempt: int
    reason: str


@dataclass(frozen=True)
class PortTaken:
    """WireGuard listens on a fresh port (the answer to `actions.TakeFreshPort`)."""

    listen_port: int


@dataclass(frozen=True)
class Stopping:
    """The agent was asked to end; `hub_answers` tells whether the hub does at this moment."""

    hub_answers: bool


Event = Union[
    Started, Tick, HubAnswered, HubSilent, DeviceSeen, ProbeAnswered, ProbeMissed, PortTaken, Stopping
]
