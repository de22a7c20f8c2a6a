# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""The agent's real core (`wg_rendezvous.core.mesh.Mesh`) in simulated nodes, and a model of the hub's API."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from tests.simulation.engine import Alarm
from tests.simulation.nat import Endpoint, Nat, parse_endpoint
from tests.simulation.signals import SignalClient, SignalHub, answer_pings
from tests.simulation.stack import Stack
from tests.simulation.wireguard import Device
from tests.simulation.world import HUB_ADDRESS, HUB_ENDPOINT, KEEPALIVE_S, UNIX_TIME_AT_START, VPN, World

from wg_rendezvous._wireguard import dump
from wg_rendezvous.core import actions, events
from wg_rendezvous.core.candidates import Place
from wg_rendezvous.core.mesh import Mesh, Settings
from wg_rendezvous.core.refresh import Policy

ONLINE_S = 2.5 * 13
HUB_TIMEOUT_S, HUB_TRY_EVERY_S = 5.0, 1.0
PROBE_TRY_EVERY_S = 0.2
RESTART_S = 1.0
"""How long the unit of the interface takes to restart."""
WITHDRAW_S = 3.0
AGENT_STARTS_S = 0.5
SPINS = 100
MTU_BYTES = 1420


def dump_of(device: Device) -> dump.Device:
    """What `wg show dump` would say."""
    return dump.Device(
        public_key=device.public_key,
        listen_port=device.listen_port,
        fwmark=0,
        peers={
            key: dump.Peer(
                public_key=key,
                endpoint=str(peer.endpoint) if peer.endpoint else None,
                allowed_ips=device.allowed_ips(peer),
                latest_handshake_at=(
                    0
                    if peer.latest_handshake_at is None
                    else int(UNIX_TIME_AT_START + peer.latest_handshake_at)
                ),
                rx_bytes=peer.rx_bytes,
                tx_bytes=peer.tx_bytes,
                persistent_keepalive_s=peer.keepalive_s,
            )
            for key, peer in device.peers.items()
        },
    )


class HubModel:
    """The hub's records, from nothing but its own device (DESIGN §5, "What is believed").

    An endpoint is passed on once it is proven: the peer's handshake or request completed since it changed.
    """

    def __init__(self, device: Device, signals: bool = False) -> None:
        self.device = device
        self.stack = Stack(device)
        self.stack.serve = self._serve
        self._proven: dict[str, Endpoint] = {}
        self.signals: SignalHub | None = None
        if signals:
            self.signals = SignalHub(self.stack, self.proven)
            answer_pings(self.stack, self.signals)

    def proven(self) -> dict[str, Endpoint]:
        """The endpoint of each peer that is believed."""
        for key, peer in self.device.peers.items():
            if self._proven.get(key) == peer.endpoint:
                continue
            shaken = peer.latest_handshake_at is not None and peer.latest_handshake_at >= peer.endpoint_since
            if shaken or any(
                connection.heard_at >= peer.endpoint_since and self.device.owner(connection.address) is peer
                for connection in self.stack.connections.values()
            ):
                self._prove(key)
        return self._proven

    def records(self) -> dict[str, events.PeerRecord]:
        """Every online peer."""
        now = self.device.engine.now
        records = {}
        for key, peer in self.device.peers.items():
            if peer.latest_handshake_at is not None and peer.latest_handshake_at >= peer.endpoint_since:
                self._prove(key)
            proven = self._proven.get(key)
            if proven is not None and now - peer.received_at <= ONLINE_S:
                records[key] = events.PeerRecord(str(proven), self.device.allowed_ips(peer)[0])
        return records

    def _prove(self, key: str) -> None:
        endpoint = self.device.peers[key].endpoint
        if endpoint is not None:
            self._proven[key] = endpoint

    def _serve(self, caller: str) -> dict[str, events.PeerRecord] | None:
        if self.signals is not None and not self.signals.running:
            return None  # the kernel refuses the connection
        peer = self.device.owner(caller)
        if peer is not None:
            self._prove(peer.key)
            if self.signals is not None:
                self.signals.polled_at[peer.key] = self.device.engine.now
        return self.records()


@dataclass
class Journal:
    """What happened, for a replay: (simulated time, who, what)."""

    lines: list[tuple[float, str, str]] = field(default_factory=list)

    def write(self, at: float, who: str, what: str) -> None:
        """Add a line."""
        self.lines.append((at, who, what))

    def __str__(self) -> str:
        return "\n".join(f"{at:9.3f}  {who:5} {what}" for at, who, what in self.lines)


class Agent:
    """`wg_rendezvous.agent.runner.Agent` with everything around the core simulated.

    `fresh_ports_at` are the simulated times of its fresh ports, `truths` maps every public key to its
    true VPN address, against which every promotion is checked.
    """

    def __init__(
        self,
        world: World,
        device: Device,
        settings: Settings,
        truths: Mapping[str, str],
        journal: Journal,
        signals: bool = False,
    ) -> None:
        self.world = world
        self.signals = signals
        self.device = device
        self.settings = settings
        self.truths = truths
        self.journal = journal
        self.engine = world.engine
        self.stack = Stack(device)
        self.running = False
        self.secrets: tuple[str, ...] = ()
        self.fresh_ports_at: list[float] = []
        self.opened_at: list[float] = []
        self._boot_s = world.engine.random.uniform(0, 1e6)
        self._saved: tuple[Mapping[str, Any], float] | None = None
        self._owned: Mapping[str, str] = {}
        self._tick = Alarm(self.engine, lambda: self._later(events.Tick(), self._life))
        self._seen: tuple[int, dump.Device] | None = None
        self._life = 0
        self._at_once = 0
        self._off: frozenset[str] = frozenset()
        self._asleep: list[tuple[events.Event, int]] | None = None
        self._doers: dict[type, Callable[[Any], events.Event | None]] = {
            actions.ReadDevice: self._read_device,
            actions.SetPeers: self._set_peers,
            actions.SendOpeners: self._send_openers,
            actions.RecordOwned: self._record_owned,
            actions.SaveState: self._save_state,
            actions.TakeFreshPort: self._take_fresh_port,
            actions.RestartClient: self._restart_client,
            actions.Say: self._say,
            actions.AskHub: self._ask_hub,
            actions.GreetHub: self._greet_hub,
            actions.ResolveHub: lambda _action: None,
            actions.Probe: self._probe,
            actions.OpenStream: self._open_stream,
            actions.Register: self._register,
            actions.SendSignal: self._send_signal,
            actions.SendBeat: self._send_beat,
        }
        self._client = SignalClient(self.stack, partial(self._later, life=0))
        self.mesh = self._new_mesh()

    @property
    def name(self) -> str:
        """The name of its node."""
        return self.device.host.name

    @property
    def now_s(self) -> float:
        """The agent's own clock: every machine was booted at another time."""
        return self.engine.now + self._boot_s

    def start(self) -> None:
        """Run, with what an earlier run left behind."""
        self._client = SignalClient(self.stack, partial(self._later, life=self._life + 1))
        self.mesh = self._new_mesh()
        self.running = True
        self._life += 1
        if self._saved is not None:
            state, saved_at_s = self._saved
            self.mesh.restore(state, saved_at_s)
        self._handle(events.AddressesSeen((self.device.host.address,)))
        self._handle(events.SecretsSeen(self.secrets))
        used = {key: peer.preshared_key for key, peer in self.device.peers.items() if peer.preshared_key}
        self._handle(events.Started(self._read(), dict(self._owned), used))

    def has_secrets(self, *ids: str) -> None:
        """The node gets these mesh secrets, the newest first; here an id is as good as the secret."""
        self.secrets = ids
        if self.running:
            self._later(events.SecretsSeen(ids), self._life)

    def kill(self) -> None:
        """SIGKILL: the device and the files stay as they are."""
        self.running = False
        self._client.close()

    def stop(self) -> None:
        """SIGTERM."""
        self._handle(events.Stopping(hub_answers=self.mesh.hub_silent is None))
        self._wait_for_quiet(self.engine.now + WITHDRAW_S, self._life)

    def _wait_for_quiet(self, until: float, life: int) -> None:
        if not self.running or life != self._life:
            return
        if not self.mesh.quiet and self.engine.now < until and self.now_s < self.mesh.give_up_at:
            self.engine.call_in(0.02, lambda: self._wait_for_quiet(until, life))
            return
        self._handle(events.Stopped())
        self.kill()

    def suspend(self) -> None:
        """The node sleeps: nothing is sent or received, and nothing runs."""
        if self._asleep is None:
            self._asleep = []
        self.plug(False, "asleep")

    def resume(self) -> None:
        """The node wakes up, and what was due meanwhile happens now."""
        asleep, self._asleep = self._asleep or [], None
        self.plug(True, "asleep")
        for event, life in asleep:
            self._later(event, life)

    def plug(self, up: bool, reason: str) -> None:
        """One reason why the node is not on the network begins, or ends."""
        self._off = self._off - {reason} if up else self._off | {reason}
        self.device.host.up = not self._off
        self.engine.changed()

    def lose_power(self) -> None:
        """The node is off: sessions, the agent's peers and `/run` are gone, its files stay."""
        self.kill()
        self._asleep = None
        self.plug(True, "asleep")
        self.plug(False, "without power")
        for key in list(self.device.peers):
            self.device.remove_peer(key)
        self._owned = {}

    def boot(self) -> None:
        """The node is back: its tunnel comes up, on another port unless that is pinned, and its agent runs a
        moment later."""
        if self.settings.refresh is not Policy.OFF:
            self.device.set_listen_port(self.engine.random.randint(32768, 60999))
        self.plug(True, "without power")
        self.device.set_peer(self.world.hub.public_key, HUB_ENDPOINT, KEEPALIVE_S, (VPN,))
        self.engine.call_in(AGENT_STARTS_S, lambda: None if self.running else self.start())

    def reload(self) -> None:
        """`systemctl reload wg-quick@IF`: every peer that is not in the configuration is removed."""
        for key in list(self.device.peers):
            if key != self.world.hub.public_key:
                self.device.remove_peer(key)

    def roam(self, nat: Nat) -> None:
        """The node is in another network."""
        address = f"10.{self.engine.random.randint(100, 250)}.0.2"
        self.world.network.roam(self.device.host, nat, address)
        if self.running:
            self._later(events.AddressesSeen((address,)), self._life)

    def _new_mesh(self) -> Mesh:
        place = Place(
            (ipaddress.ip_interface(f"{self.device.address}/24"),),
            ipaddress.ip_address(HUB_ADDRESS),
            (ipaddress.ip_network(VPN),),
        )
        instance = f"{self.engine.random.getrandbits(64):016x}"
        return Mesh(self.device.public_key, place, self.settings, instance)

    def _handle(self, event: events.Event) -> None:
        pending = [event]
        while pending and self.running:
            for action in self.mesh.handle(pending.pop(0), self.now_s):
                outcome = self._doers[type(action)](action)
                if outcome is not None:
                    pending.append(outcome)
        self._wait()

    def _wait(self) -> None:
        """Until the core wants a tick."""
        wait_s = self.mesh.wakeup_at - self.now_s
        self._at_once = self._at_once + 1 if wait_s <= 0 else 0
        assert self._at_once < SPINS, f"{self.name} spins: it is woken up at once, again and again"
        # A timer of an event loop is never early.
        self._tick.set(wait_s + 1e-6)

    def _later(self, event: events.Event, life: int) -> None:
        """An event for the run of the agent that asked for it."""
        if self.running and life == self._life:
            if self._asleep is not None:
                self._asleep.append((event, life))
            else:
                self._handle(event)

    def _read(self) -> dump.Device:
        if self._seen is None or self._seen[0] != self.device.version:
            self._seen = self.device.version, dump_of(self.device)
        return self._seen[1]

    # Actions, in the order of `core.actions`

    def _ask_hub(self, _action: actions.AskHub) -> None:
        life = self._life

        def answered(records: Any, _seconds: float) -> None:
            if records is None:
                self._later(events.HubSilent("connection refused"), life)
                return
            others = {key: record for key, record in records.items() if key != self.device.public_key}
            self._later(events.HubAnswered(others), life)

        self.stack.ask(
            HUB_ADDRESS,
            HUB_TIMEOUT_S,
            HUB_TRY_EVERY_S,
            answered,
            lambda: self._later(events.HubSilent("timeout"), life),
        )

    def _greet_hub(self, _action: actions.GreetHub) -> None:
        self.stack.ask(HUB_ADDRESS, HUB_TIMEOUT_S, HUB_TRY_EVERY_S, lambda _b, _s: None, lambda: None)

    def _open_stream(self, action: actions.OpenStream) -> None:
        if self.signals:
            self._client.open(action)
        else:
            closed, life = events.StreamClosed("404", unsupported=True), self._life
            self.engine.call_in(0.001, lambda: self._later(closed, life))

    def _register(self, action: actions.Register) -> None:
        self._client.register(action)

    def _send_signal(self, action: actions.SendSignal) -> None:
        self._client.send(action.peer, action.signal)

    def _send_beat(self, action: actions.SendBeat) -> None:
        self._client.beat(action.peer, action.address, action.number, action.padded)

    def _read_device(self, _action: actions.ReadDevice) -> events.Event:
        return events.DeviceSeen(self._read(), beat_bytes=self._client.beat_bytes(), mtu_bytes=MTU_BYTES)

    def _send_openers(self, action: actions.SendOpeners) -> None:
        for endpoint in action.endpoints:
            self.opened_at.append(self.engine.now)
            for ttl in (3,) if endpoint in action.single else (2, 3, 4):
                self.device.send_opener(parse_endpoint(endpoint), ttl)

    def _set_peers(self, action: actions.SetPeers) -> None:
        for change in action.changes:
            self._check(change)
            if change.remove or change.fresh:
                self.device.remove_peer(change.peer)
            if not change.remove:
                endpoint = parse_endpoint(change.endpoint) if change.endpoint else None
                keepalive_s, key = change.persistent_keepalive_s, change.secret if change.fresh else None
                self.device.set_peer(change.peer, endpoint, keepalive_s, change.allowed_ips, key)

    def _check(self, change: actions.PeerChange) -> None:
        """Invariants of every change: only own peers, nobody gets an address but its own, and who has a mesh
        secret opens no link without a preshared key."""
        assert change.peer in self._owned or change.remove, "a peer is touched that is not recorded as owned"
        assert change.peer != self.world.hub.public_key, "the hub peer is touched"
        assert change.secret or not (change.fresh and self.secrets), "a link goes without a preshared key"
        for address in change.allowed_ips or ():
            assert address == f"{self.truths[change.peer]}/32", f"{address} is given to another's key"

    def _record_owned(self, action: actions.RecordOwned) -> None:
        self._owned = dict(action.owned)

    def _probe(self, action: actions.Probe) -> None:
        life = self._life
        self.stack.ask(
            action.address,
            action.timeout_s,
            PROBE_TRY_EVERY_S,
            lambda _body, rtt_s: self._later(events.ProbeAnswered(action.peer, action.attempt, rtt_s), life),
            lambda: self._later(events.ProbeMissed(action.peer, action.attempt, "timeout"), life),
        )

    def _take_fresh_port(self, _action: actions.TakeFreshPort) -> events.Event:
        self.fresh_ports_at.append(self.engine.now)
        self.device.set_listen_port(self.engine.random.randint(32768, 60999))
        return events.PortTaken(self.device.listen_port)

    def _restart_client(self, _action: actions.RestartClient) -> None:
        self.fresh_ports_at.append(self.engine.now)
        self.kill()
        self.device.host.up = False
        for key in list(self.device.peers):
            if key != self.world.hub.public_key:
                self.device.remove_peer(key)
        self.device.set_listen_port(self.engine.random.randint(32768, 60999))
        self._owned = {}

        def up() -> None:
            self.device.host.up = True
            self.engine.changed()
            self.start()

        self.engine.call_in(RESTART_S, up)

    def _save_state(self, action: actions.SaveState) -> None:
        self._saved = action.state, self.now_s

    def _say(self, action: actions.Say) -> None:
        fields = " ".join(f"{name}={value}" for name, value in action.fields.items())
        self.journal.write(self.engine.now, self.name, f"{action.message} {fields}")
