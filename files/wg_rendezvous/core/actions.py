# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""What an agent can do.  `mesh.Mesh.handle` returns these; they are to be carried out in order.

`SetPeers`, `ReadDevice`, `SendOpeners`, `RecordOwned`, `SaveState`, `TakeFreshPort` and
`RestartClient` are finished before the next action starts; `SendBeat` is sent at once.  All others run
beside everything else, and their outcome comes back as an event.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Union


@dataclass(frozen=True)
class AskHub:
    """Ask the hub for all online peers; answer with `HubAnswered` or `HubSilent`."""


@dataclass(frozen=True)
class GreetHub:
    """Send the hub any request, so that it sees this node's endpoint.  No event follows."""


@dataclass(frozen=True)
class ResolveHub:
    """Look the name of the hub's public endpoint up again, and send there.  No event follows."""


@dataclass(frozen=True)
class ReadDevice:
    """Read the WireGuard device; answer with `DeviceSeen`."""


@dataclass(frozen=True)
class SendOpeners:
    """Send low-TTL packets from WireGuard's own port to these endpoints (DESIGN fact 2), one of each TTL; to
    those in `single` one alone, of the middle TTL."""

    endpoints: tuple[str, ...]
    single: frozenset[str] = frozenset()


@dataclass(frozen=True)
class PeerChange:
    """One change of one peer of the device; None leaves a setting as it is.

    `fresh` removes the peer first, so that its handshake starts now (DESIGN fact 5), and gives it the
    preshared key that comes from the mesh secret with the id `secret`; "" for none.
    """

    peer: str
    remove: bool = False
    fresh: bool = False
    endpoint: str | None = None
    persistent_keepalive_s: int | None = None
    allowed_ips: tuple[str, ...] | None = None
    secret: str = ""


@dataclass(frozen=True)
class SetPeers:
    """Change peers of the device, all in one call."""

    changes: tuple[PeerChange, ...]


@dataclass(frozen=True)
class RecordOwned:
    """Write down which peers are the agent's: public key to VPN address.  Comes before a
    peer is added and after it is removed, so that a crash leaves no peer without an owner."""

    owned: Mapping[str, str]


@dataclass(frozen=True)
class Probe:
    """Ask the peer for `/statusz` at its VPN address, for `timeout_s` at most."""

    peer: str
    address: str
    attempt: int
    timeout_s: float


@dataclass(frozen=True)
class TakeFreshPort:
    """Move WireGuard to a port it has not used; answer with `PortTaken`."""


@dataclass(frozen=True)
class RestartClient:
    """Restart the VPN client (the unit of the interface, and with it this agent)."""


@dataclass(frozen=True)
class SaveState:
    """Persist this across restarts (JSON types only)."""

    state: Mapping[str, Any]


@dataclass(frozen=True)
class Say:
    """A line for the log: `level` is one of `logging`'s names, `fields` are JSON types."""

    level: str
    message: str
    fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Registration:
    """What an agent says of itself (`PUT /v1/self`).  `links` maps peers to reports; None takes one out.
    `secrets` are the ids of its mesh secrets.  A later one of this `instance` has a larger `number`."""

    instance: str
    number: int
    candidates: tuple[str, ...]
    links: Mapping[str, Mapping[str, Any] | None] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()


@dataclass(frozen=True)
class OpenStream:
    """Close the stream if one is open, register, and open a new one; answer with `Snapshot` and what
    follows it, or with `StreamClosed`.  Nothing of an older stream is delivered any more.  The connection and
    each answer of the hub may take `patience_s`."""

    registration: Registration
    patience_s: float


@dataclass(frozen=True)
class Register:
    """Register beside the open stream, in place of an earlier registration that is not answered yet; answer
    with `Registered` or `RegistrationFailed` of its `number`, at the latest after `patience_s`."""

    registration: Registration
    patience_s: float


@dataclass(frozen=True)
class SendSignal:
    """Send a signal to a peer through the hub; answer with `SignalFailed` if it did not get there.  Signals
    to one peer stay in their order."""

    peer: str
    signal: Mapping[str, Any]


@dataclass(frozen=True)
class SendBeat:
    """Send a heartbeat to a VPN address; an answer comes back as `BeatAnswered`.  `peer` None: to the hub.
    `padded`: as large as the interface's MTU permits, else as small as possible."""

    peer: str | None
    address: str
    number: int
    padded: bool = False


Action = Union[
    AskHub,
    GreetHub,
    ResolveHub,
    ReadDevice,
    SendOpeners,
    SetPeers,
    RecordOwned,
    Probe,
    TakeFreshPort,
    RestartClient,
    SaveState,
    Say,
    OpenStream,
    Register,
    SendSignal,
    SendBeat,
]
