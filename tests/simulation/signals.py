# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""The signalled protocol (docs/protocol.md) between simulated nodes: what TCP, the hub's `/v1` and the
agent's I/O do with it, as far as the core can tell.

A connection delivers in order and repeats what is lost, ever more seldom, as TCP does; a hub that was started
anew answers for a connection it does not know with a reset.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tests.simulation.engine import Timer
from tests.simulation.nat import Endpoint
from tests.simulation.packets import Ack, Data, Ping, Pong, Reset
from tests.simulation.stack import Stack
from tests.simulation.wireguard import DATA_BYTES, Inner
from tests.simulation.world import HUB_ADDRESS

from wg_rendezvous.core import actions, events
from wg_rendezvous.core.actions import Registration
from wg_rendezvous.core.events import PeerView
from wg_rendezvous.core.pacing import TokenBucket, signal_limits

RETRANSMIT_S, RETRANSMIT_MAX_S = 0.2, 60.0
COMMENT_EVERY_S = 10.0
DEAD_AFTER_S = 25.0
UNACKNOWLEDGED_S = 10.0
OBSERVE_EVERY_S = 0.25
FORGET_S = 60.0
POLLS_S = 120.0
ONLINE_S = 2.5 * 13
PADDED_BYTES = 1452
PROMOTED = ("provisional", "direct", "doubtful")


class Connection:
    """One end of a connection to `address`."""

    def __init__(
        self,
        stack: Stack,
        address: str,
        number: int,
        received: Callable[[Any], None],
        ended: Callable[[], None],
    ) -> None:
        self.stack = stack
        self.address = address
        self.number = number
        self.open = True
        self.heard_at = stack.device.engine.now
        self._received = received
        self._ended = ended
        self._sent = 0
        self._unacknowledged: list[tuple[float, Data]] = []
        self._expected = 0
        self._early: dict[int, Any] = {}
        self._timer: Timer | None = None
        self._rto_s = RETRANSMIT_S
        stack.connections[number] = self

    def send(self, body: Any) -> None:
        """Send a message."""
        data = Data(self.number, self._sent, body)
        self._sent += 1
        self._unacknowledged.append((self.stack.device.engine.now, data))
        self.stack.send_packet(self.address, data)
        if self._timer is None or not self._timer.pending:
            self._arm()

    def receive(self, packet: Data | Ack | Reset) -> None:
        """A packet of this connection came."""
        self.heard_at = self.stack.device.engine.now
        if isinstance(packet, Reset):
            self.end()
        elif isinstance(packet, Ack):
            self._unacknowledged = [one for one in self._unacknowledged if one[1].number >= packet.number]
            self._rto_s = RETRANSMIT_S
            if not self._unacknowledged and self._timer is not None:
                self._timer.cancel()
        else:
            self._take(packet)

    def _take(self, data: Data) -> None:
        if data.number >= self._expected:
            self._early[data.number] = data.body
        while self.open and self._expected in self._early:
            body = self._early.pop(self._expected)
            self._expected += 1
            self._received(body)
        self.stack.send_packet(self.address, Ack(self.number, self._expected))

    def _arm(self) -> None:
        self._timer = self.stack.device.engine.call_in(self._rto_s, self._retransmit)

    def _retransmit(self) -> None:
        if not self.open or not self._unacknowledged:
            return
        self.stack.send_packet(self.address, self._unacknowledged[0][1])
        self._rto_s = min(RETRANSMIT_MAX_S, self._rto_s * 2)
        self._arm()

    @property
    def stuck_s(self) -> float:
        """How long the oldest message has not been acknowledged."""
        return self.stack.device.engine.now - self._unacknowledged[0][0] if self._unacknowledged else 0.0

    def end(self) -> None:
        """It is over, at this end."""
        if self.open:
            self.open = False
            self.stack.connections.pop(self.number, None)
            self._ended()


class Record(NamedTuple):
    """A `PeerView`, as cheap to make and to compare as it has to be four times a second."""

    address: str | None
    endpoint: Endpoint | None
    online: bool
    signals: bool
    instance: str | None
    candidates: tuple[str, ...]
    linked: bool
    polls: bool
    secrets: tuple[str, ...]

    def view(self) -> PeerView:
        """What the core gets."""
        endpoint = str(self.endpoint) if self.endpoint else None
        return PeerView(**{**self._asdict(), "endpoint": endpoint})


@dataclass
class Run:
    """What one run of an agent has registered."""

    registration: Registration
    connection: Connection | None = None
    announced: bool = False
    links: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    closed_at: float = 0.0
    told_at: float = 0.0

    def tell(self, now: float, *event: Any) -> None:
        """An event of the stream, if it is open."""
        if self.connection is not None and self.connection.open:
            self.told_at = now
            self.connection.send(event)


class SignalHub:
    """The hub's program: its records come from the device and from what agents register.  `proven` are the
    endpoints that it believes in.  Without `supported` it is a program of the origin, which knows no
    `/v1`."""

    def __init__(self, stack: Stack, proven: Callable[[], Mapping[str, Endpoint]]) -> None:
        self.stack = stack
        self.device = stack.device
        self.running = True
        self._proven = proven
        self._runs: dict[str, Run] = {}
        self._told: dict[str, Record] = {}
        self._accepted: set[int] = set()
        self._signals: dict[str, TokenBucket] = {}
        self.refused = 0
        """Signals that were too many."""
        self.is_told: Callable[[str, str], bool] = lambda _about, _to: True
        """Who is told of whom."""
        self.supported = True
        self.disturb: Callable[[Callable[[], None]], None] = lambda deliver: deliver()
        """What happens to a signal on its way; one that is delivered is delivered by `deliver`."""
        self.polled_at: dict[str, float] = {}
        """When a peer asked as an agent of the origin does."""
        self.registering_s = 0.0
        """What a registration costs it, of which it does one at a time."""
        self.free_at = 0.0
        """When it has done all that it was asked for."""
        self.most_behind_s = 0.0
        """How long that took at most."""
        self._looked_at = -1
        self._ages_at = 0.0
        stack.accept = self._accept
        self._tick()

    def stop(self) -> None:
        """End the program: its connections are closed, and what it was told is forgotten."""
        self.running = False
        for connection in list(self.stack.connections.values()):
            self.stack.send_packet(connection.address, Reset(connection.number))
        self.stack.connections.clear()
        self._runs.clear()
        self._told.clear()

    def start(self, supported: bool = True) -> None:
        """Run again; without `supported` as a program of the origin."""
        self.running, self.supported = True, supported
        self._tick()

    def _tick(self) -> None:
        if not self.running or not self.supported:
            return
        now = self.device.engine.now
        for key, run in list(self._runs.items()):
            if run.connection is not None and run.connection.stuck_s > UNACKNOWLEDGED_S:
                run.connection.end()
            elif run.connection is not None and now - run.told_at > COMMENT_EVERY_S:
                run.tell(now, "comment")
            elif run.connection is None and now - run.closed_at > FORGET_S:
                del self._runs[key]
        if self.device.version != self._looked_at or now >= self._ages_at:
            self.tell()
        self.device.engine.post(OBSERVE_EVERY_S, self._tick)

    def _accept(self, data: Data, caller: str) -> Connection | None:
        peer = self.device.owner(caller)
        if not self.running or peer is None or data.connection in self._accepted:
            return None
        self._accepted.add(data.connection)
        key = peer.key
        connection = Connection(
            self.stack,
            caller,
            data.connection,
            lambda body: self._take(key, connection, body),
            lambda: self._closed(key, connection),
        )
        return connection

    def _closed(self, key: str, connection: Connection) -> None:
        run = self._runs.get(key)
        if run is not None and run.connection is connection:
            run.connection, run.closed_at = None, self.device.engine.now
            self.tell()

    def _take(self, key: str, connection: Connection, body: Any) -> None:
        """Deal with a message, after those that came before where that costs time."""
        costs_s = self.registering_s if body[0] in ("open", "register") else 0.0
        if not costs_s:
            self._message(key, connection, body)
            return
        engine = self.device.engine
        self.free_at = max(self.free_at, engine.now) + costs_s
        self.most_behind_s = max(self.most_behind_s, self.free_at - engine.now)
        engine.call_in(self.free_at - engine.now, lambda: self._message(key, connection, body))

    def _message(self, key: str, connection: Connection, body: Any) -> None:
        kind, *rest = body
        if not self.supported:
            connection.send(("unsupported",))
        elif key not in self.device.peers:
            connection.end()
        elif kind == "open":
            self._register(key, rest[0])
            run = self._runs[key]
            if run.connection is not None:
                old, run.connection = run.connection, None
                self.stack.send_packet(old.address, Reset(old.number))
                old.end()
            run.connection, run.announced = connection, True
            peers = {other: self.view(other, key) for other in self._others(key)}
            run.tell(self.device.engine.now, "snapshot", self.view(key, key), peers)
            self.tell()
        elif kind == "register":
            (registration,) = rest
            self._register(key, registration)
            connection.send(("registered", self.view(key, key), registration.number))
            self.tell()
        elif kind == "signal":
            self._forward(key, connection, *rest)

    def _others(self, key: str) -> list[str]:
        return [other for other in self.device.peers if other != key and self.is_told(other, key)]

    def _register(self, key: str, registration: Registration) -> None:
        self.polled_at.pop(key, None)
        run = self._runs.get(key)
        if run is None or run.registration.instance != registration.instance:
            run = self._runs[key] = Run(registration)
        if registration.number < run.registration.number:
            return  # it came late
        run.registration = registration
        for other, report in registration.links.items():
            if report is None:
                run.links.pop(other, None)
            else:
                run.links[other] = report

    def _forward(self, key: str, connection: Connection, to: str, signal: Mapping[str, Any]) -> None:
        run, now = self._runs.get(to), self.device.engine.now
        rate_per_s, burst = signal_limits(len(self.device.peers))
        if not self._signals.setdefault(key, TokenBucket(rate_per_s, burst, now)).take(1, now):
            self.refused += 1
            connection.send(("too often", to, signal))
        elif run is None or run.connection is None:
            connection.send(("undeliverable", to, signal))
        else:
            receiver = run
            self.disturb(lambda: receiver.tell(self.device.engine.now, "signal", key, signal))

    def view(self, key: str, to: str) -> PeerView:
        """What `to` is told of `key`."""
        run = self._runs.get(key)
        reported = run.links.get(to, {}).get("state") if run else None
        return self._record(key, self._proven())._replace(linked=reported in PROMOTED).view()

    def _record(self, key: str, proven: Mapping[str, Endpoint]) -> Record:
        """What everybody is told of `key`."""
        peer, run, now = self.device.peers[key], self._runs.get(key), self.device.engine.now
        streams = run is not None and run.connection is not None
        allowed = self.device.allowed_ips(peer)
        return Record(
            allowed[0] if allowed else None,
            proven.get(key),
            streams or now - peer.received_at <= ONLINE_S,
            streams,
            run.registration.instance if run and run.announced else None,
            run.registration.candidates if run else (),
            False,
            now - self.polled_at.get(key, float("-inf")) <= POLLS_S,
            run.registration.secrets if run else (),
        )

    def _ages_at_of(self, key: str) -> float:
        """When what is told of `key` changes by time alone."""
        now = self.device.engine.now
        ends = (self.device.peers[key].received_at + ONLINE_S, self.polled_at.get(key, -POLLS_S) + POLLS_S)
        return min((at for at in ends if at >= now), default=float("inf"))

    def tell(self) -> None:
        """Tell everybody of what has changed."""
        for key in [key for key in self._told if key not in self.device.peers]:
            del self._told[key]
            forgotten = self._runs.pop(key, None)
            if forgotten is not None and forgotten.connection is not None:
                forgotten.connection.end()
            for run in self._runs.values():
                run.tell(self.device.engine.now, "gone", key)
        proven = self._proven()
        self._looked_at = self.device.version
        self._ages_at = min((self._ages_at_of(key) for key in self.device.peers), default=0.0)
        for key in self.device.peers:
            record = self._record(key, proven)
            if self._told.get(key) == record:
                continue
            self._told[key] = record
            for to, run in self._runs.items():
                if to == key and run.connection is not None:
                    run.connection.send(("registered", record.view()))
                elif self.is_told(key, to):
                    run.tell(self.device.engine.now, "peer", key, self.view(key, to))


class SignalClient:
    """The agent's side: `deliver` gets the core's events."""

    def __init__(self, stack: Stack, deliver: Callable[[events.Event], None]) -> None:
        self.stack = stack
        self.engine = stack.device.engine
        self._deliver = deliver
        self._connection: Connection | None = None
        self._waiting: Timer | None = None
        self._unanswered: int | None = None
        self._beats: dict[int, tuple[str | None, str, float]] = {}
        self._beat_bytes: dict[str, tuple[int, int]] = {}
        self._closed = False
        stack.on_ping = self._on_ping
        stack.on_pong = self._on_pong

    def close(self) -> None:
        """The agent is gone: the kernel closes its connection, and nobody answers pings."""
        self._closed = True
        if self._connection is not None:
            connection, self._connection = self._connection, None
            connection.end()
            reset = Reset(connection.number)
            for delay_s in (0.0, 0.2, 0.6):  # the kernel repeats it
                self.engine.call_in(delay_s, lambda: self.stack.send_packet(HUB_ADDRESS, reset))

    def open(self, action: actions.OpenStream) -> None:
        """`OpenStream`."""
        old, self._connection = self._connection, None
        if old is not None:
            self.stack.send_packet(HUB_ADDRESS, Reset(old.number))
            old.end()
        number = self.engine.number()
        connection = Connection(
            self.stack, HUB_ADDRESS, number, self._message, lambda: self._ended(connection, "it was closed")
        )
        self._connection = connection
        self._opened_at = self.engine.now
        self._snapshot_seen = False
        connection.send(("open", action.registration))
        self.engine.call_in(action.patience_s, lambda: self._check_opened(connection))
        self._watch(connection)

    def _check_opened(self, connection: Connection) -> None:
        if self._connection is connection and not self._snapshot_seen:
            self._ended(connection, "no answer in time")

    def _watch(self, connection: Connection) -> None:
        if self._connection is not connection:
            return
        if self.engine.now - connection.heard_at > DEAD_AFTER_S:
            self._ended(connection, "nothing came for 25 s")
        else:
            self.engine.call_in(1.0, lambda: self._watch(connection))

    def _ended(self, connection: Connection | None, reason: str, unsupported: bool = False) -> None:
        if connection is not None and self._connection is connection:
            self._connection = None
            connection.end()
            self._deliver(events.StreamClosed(reason, unsupported))

    def _message(self, body: Any) -> None:
        kind, *rest = body
        if kind == "snapshot":
            self._snapshot_seen = True
            own, peers = rest
            self._deliver(events.Snapshot(own, peers, self.engine.now - self._opened_at))
        elif kind == "peer":
            self._deliver(events.PeerChanged(*rest))
        elif kind == "gone":
            self._deliver(events.PeerGone(*rest))
        elif kind == "unsupported":
            self._ended(self._connection, "404", unsupported=True)
        elif kind == "signal":
            self._deliver(events.SignalReceived(*rest))
        elif kind == "registered":
            self._registered(*rest)
        elif kind == "comment":
            self._deliver(events.StreamHeard())
        elif kind == "undeliverable":
            self._deliver(events.SignalFailed(rest[0], rest[1], undeliverable=True, reason="no stream"))
        elif kind == "too often":
            self._deliver(events.SignalFailed(rest[0], rest[1], False, reason="429", retry_in_s=1.0))

    def _registered(self, own: PeerView, number: int | None = None) -> None:
        if number is not None and number == self._unanswered:
            self._unanswered = None
        self._deliver(events.Registered(own, number))

    def register(self, action: actions.Register) -> None:
        """`Register`."""
        if self._connection is not None:
            self._connection.send(("register", action.registration))
        self._unanswered = action.registration.number
        self.engine.call_in(action.patience_s, lambda: self._check_registered(action.registration.number))

    def _check_registered(self, number: int) -> None:
        if number == self._unanswered and not self._closed:
            self._unanswered = None
            self._deliver(events.RegistrationFailed(number, "no answer in time"))

    def send(self, peer: str, signal: Mapping[str, Any]) -> None:
        """`SendSignal`."""
        if self._connection is not None:
            self._connection.send(("signal", peer, dict(signal)))
        else:
            failed = events.SignalFailed(peer, signal, undeliverable=False, reason="no connection")
            self.engine.call_in(0.0, lambda: self._deliver(failed))

    def beat(self, peer: str | None, address: str, number: int, padded: bool) -> None:
        """`SendBeat`."""
        self._beats[number] = peer, address, self.engine.now
        size = PADDED_BYTES if padded else DATA_BYTES
        self._count(address, sent=size)
        self.stack.send_packet(address, Ping(number, padded), size)

    def beat_bytes(self) -> dict[str, tuple[int, int]]:
        """What the heartbeats cost so far."""
        return dict(self._beat_bytes)

    def _count(self, address: str, received: int = 0, sent: int = 0) -> None:
        before = self._beat_bytes.get(address, (0, 0))
        self._beat_bytes[address] = before[0] + received, before[1] + sent

    def _on_ping(self, address: str, ping: Ping) -> None:
        if not self._closed:
            self._count(address, received=PADDED_BYTES if ping.padded else DATA_BYTES, sent=DATA_BYTES)
            self.stack.send_packet(address, Pong(ping.number))

    def _on_pong(self, address: str, pong: Pong) -> None:
        sent = self._beats.pop(pong.number, None)
        if sent is not None and sent[1] == address:
            self._count(address, received=DATA_BYTES)
            self._deliver(events.BeatAnswered(sent[0], pong.number, self.engine.now - sent[2]))


def answer_pings(stack: Stack, hub: SignalHub) -> None:
    """The hub answers heartbeats while its program runs."""

    def on_ping(address: str, ping: Ping) -> None:
        if hub.running:
            stack.send_packet(address, Pong(ping.number))

    stack.on_ping = on_ping


def is_signalling(inner: Inner) -> bool:
    """Whether a packet is one of this protocol."""
    return isinstance(inner.payload, (Data, Ack, Reset, Ping, Pong))
