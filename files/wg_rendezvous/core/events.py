# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""What an agent can notice.  `mesh.Mesh.handle` takes these, one at a time, in order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Union

from .._wireguard.dump import Device


@dataclass(frozen=True)
class PeerRecord:
    """What the hub says of one online peer (`GET /peer/{key}`), as text, not yet believed."""

    endpoint: str
    allowed_ips: str


@dataclass(frozen=True)
class Started:
    """The agent runs.  `owned` maps the public keys of the peers that an earlier run of
    it added to their VPN addresses (`"192.168.7.6/32"`), `used` those of them that have a preshared key to
    the id of the mesh secret that it comes from."""

    device: Device
    owned: Mapping[str, str] = field(default_factory=dict)
    used: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class SecretsSeen:
    """The ids of this node's mesh secrets, the newest first; before the start, and when they have changed."""

    ids: tuple[str, ...]


@dataclass(frozen=True)
class Tick:
    """The time that `Mesh.wakeup_at` named has come."""


@dataclass(frozen=True)
class HubAnswered:
    """The hub's view, complete: every online peer by its public key, but for those `without_agent`."""

    records: Mapping[str, PeerRecord]
    without_agent: frozenset[str] = frozenset()
    """Peers that are online, though no agent of theirs asks anything."""


@dataclass(frozen=True)
class HubSilent:
    """The hub could not be asked; `reason` is for people."""

    reason: str


@dataclass(frozen=True)
class DeviceSeen:
    """The WireGuard device as it is now; read after every earlier action was carried out.
    `configured` are the public keys of the peers in the interface's configuration; `beat_bytes` maps VPN
    addresses to the bytes of heartbeats that were received from there and sent there so far, as WireGuard
    counts them; `mtu_bytes` is the interface's MTU, 0 if it is not known; `took_s` is what looking took."""

    device: Device
    configured: frozenset[str] = frozenset()
    beat_bytes: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    mtu_bytes: int = 0
    took_s: float = 0.0


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


@dataclass(frozen=True)
class Stopped:
    """The agent ends now: `Mesh.quiet` holds, or there is no more time to wait for it."""


# -- signals through the hub (docs/protocol.md) ---------------------------------------------


@dataclass(frozen=True)
class PeerView:
    """What a hub with `/v1` says of one peer (a peer record), as text, not yet believed.  `linked` tells
    whether that peer's agent, in its present run, reported its link to us as direct; `polls` whether it asks
    as an agent of the origin does; `secrets` are the ids of its mesh secrets."""

    address: str | None
    endpoint: str | None = None
    online: bool = False
    signals: bool = False
    instance: str | None = None
    candidates: tuple[str, ...] = ()
    linked: bool = False
    polls: bool = False
    secrets: tuple[str, ...] = ()


@dataclass(frozen=True)
class Snapshot:
    """The stream is open: the hub's view of ourselves, and of every other peer.  `rtt_s` is the shortest
    of the exchanges that it took, None if it was not measured."""

    own: PeerView
    peers: Mapping[str, PeerView]
    rtt_s: float | None = field(default=None, compare=False)


@dataclass(frozen=True)
class PeerChanged:
    """The hub's view of one peer is another one now."""

    peer: str
    view: PeerView


@dataclass(frozen=True)
class PeerGone:
    """The peer was removed from the hub."""

    peer: str


@dataclass(frozen=True)
class SignalReceived:
    """A signal of `peer` came in through the hub; `signal` is its JSON object, not yet believed."""

    peer: str
    signal: Mapping[str, Any]


@dataclass(frozen=True)
class SignalFailed:
    """A signal did not get to `peer`.  `undeliverable` if the hub answered that it could not deliver it
    (the peer has no stream); `retry_in_s` if it has taken too many signals and wants to be asked again after
    that; else the hub did not answer.  `reason` is for people."""

    peer: str
    signal: Mapping[str, Any]
    undeliverable: bool
    reason: str
    retry_in_s: float | None = None


@dataclass(frozen=True)
class StreamHeard:
    """The stream said something that is no event: the hub lets no 10 s pass in silence."""


@dataclass(frozen=True)
class StreamClosed:
    """The stream ended or could not be opened; `reason` is for people.  `unsupported` if the hub
    answered that it knows no such call: it is a hub of the origin."""

    reason: str
    unsupported: bool = False


@dataclass(frozen=True)
class Registered:
    """The hub sees us so.  `number` is the one of the `Register` action that it took, None if the stream
    said it."""

    own: PeerView
    number: int | None = None


@dataclass(frozen=True)
class RegistrationFailed:
    """The hub did not take that registration, or did not say so in time; `again`: it may take it later."""

    number: int
    reason: str
    again: bool = True


@dataclass(frozen=True)
class BeatAnswered:
    """A heartbeat was answered.  `peer` None: by the hub.  `number` is the one of the `SendBeat` action."""

    peer: str | None
    number: int
    rtt_s: float


@dataclass(frozen=True)
class AddressesSeen:
    """The node's own addresses outside of the VPN (`"10.0.1.2"`), bridges and tunnels left out; at start,
    and again whenever they, or the way to the hub, have changed."""

    addresses: tuple[str, ...]


Event = Union[
    Started,
    SecretsSeen,
    Tick,
    HubAnswered,
    HubSilent,
    DeviceSeen,
    ProbeAnswered,
    ProbeMissed,
    PortTaken,
    Stopping,
    Stopped,
    Snapshot,
    PeerChanged,
    PeerGone,
    SignalReceived,
    SignalFailed,
    StreamHeard,
    StreamClosed,
    Registered,
    RegistrationFailed,
    BeatAnswered,
    AddressesSeen,
]
