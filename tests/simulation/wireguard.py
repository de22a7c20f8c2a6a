# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""A WireGuard device without the cryptography: handshakes, key pairs, timers and cryptokey routing.

It follows the whitepaper ("WireGuard: Next Generation Kernel Network Tunnel", sections 5.4 and 6) and the
timers that the Linux kernel and wireguard-go share, function by function, since the facts that the design
rests on are in their corners (DESIGN §3, facts 3 to 6 and 13):

- an answered initiation counts as a handshake sent, so the answerer is held back for REKEY_TIMEOUT, and a
  retransmission that falls into that time is not made up for;
- answering an initiation replaces one's own that is under way, so initiations that cross fail, both;
- the answerer may use the session only after the first packet that came through it;
- whatever is authenticated moves the endpoint and counts as received, also if cryptokey routing drops it.

A session is known by its indices, which are never used twice here, so there is nothing to decrypt wrongly.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

from tests.simulation.engine import Alarm, Engine
from tests.simulation.nat import Endpoint
from tests.simulation.network import Host, Network

REKEY_AFTER_TIME_S = 120.0
REJECT_AFTER_TIME_S = 180.0
REKEY_ATTEMPT_TIME_S = 90.0
REKEY_TIMEOUT_S = 5.0
REKEY_TIMEOUT_JITTER_S = 0.333
KEEPALIVE_TIMEOUT_S = 10.0
INITIATION_INTERVAL_S = 0.02
MAX_RETRANSMISSIONS = int(REKEY_ATTEMPT_TIME_S / REKEY_TIMEOUT_S)
MAX_STAGED = 128

INITIATION_BYTES, RESPONSE_BYTES, KEEPALIVE_BYTES, DATA_BYTES = 148, 92, 32, 128


class Initiation(NamedTuple):
    """Handshake initiation: who sends it, to whom, when, and the index to answer to."""

    sender: str
    receiver: str
    sender_index: int
    sent_at: float


class Response(NamedTuple):
    """Handshake response: answers the initiation of `receiver_index`.  The preshared key goes in here, and an
    initiator with another one cannot read it."""

    sender_index: int
    receiver_index: int
    preshared_key: str = ""


class Inner(NamedTuple):
    """A packet inside the VPN, by VPN addresses."""

    source: str
    destination: str
    payload: Any
    size: int = DATA_BYTES


class Transport(NamedTuple):
    """A data packet of the session that the receiver knows by `receiver_index`; empty: a keepalive."""

    receiver_index: int
    inner: Inner | None


@dataclass(frozen=True)
class Opener:
    """Anything that is not WireGuard's: opens the own NAT, ignored by a device."""


@dataclass
class Keypair:
    """One session, as one of its ends has it."""

    peer: Peer
    index: int
    remote_index: int
    initiator: bool
    created_at: float

    def valid(self, now: float) -> bool:
        """Younger than REJECT_AFTER_TIME."""
        return now - self.created_at < REJECT_AFTER_TIME_S


@dataclass(eq=False)
class Peer:
    """A peer entry of a device and the state behind it."""

    key: str
    preshared_key: str = ""
    endpoint: Endpoint | None = None
    endpoint_since: float = 0.0
    keepalive_s: int = 0
    latest_handshake_at: float | None = None
    rx_bytes: int = 0
    tx_bytes: int = 0
    received_at: float = float("-inf")

    initiation_index: int | None = None
    last_initiation_sent_at: float = float("-inf")
    last_handshake_sent_at: float = float("-inf")
    last_initiation_consumed_at: float = float("-inf")
    retransmissions: int = 0
    last_minute_handshake_sent: bool = False
    current: Keypair | None = None
    previous: Keypair | None = None
    next: Keypair | None = None
    staged: list[Inner | None] = field(default_factory=list)

    another_keepalive: bool = False
    retransmit: Alarm = field(init=False)
    passive_keepalive: Alarm = field(init=False)
    new_handshake: Alarm = field(init=False)
    persistent: Alarm = field(init=False)


@lru_cache(maxsize=4096)
def _prefix(text: str) -> tuple[int, int]:
    """The address bits of a prefix, and how far to shift an address to compare with them."""
    network = ipaddress.IPv4Network(text)
    shift = 32 - network.prefixlen
    return int(network.network_address) >> shift, shift


@lru_cache(maxsize=4096)
def _address(text: str) -> int:
    return int(ipaddress.IPv4Address(text))


class Device:
    """The WireGuard interface of `host`, with the VPN address `address`.

    A `forwarding` device passes packets for other VPN addresses on, as the hub does. `on_packet(inner)`
    gets those for this one. `version` grows whenever something changed that `wg show dump` prints.
    `clock_ahead_s` is how far the node's clock is wrong, which goes into its initiations: no peer takes one
    that is not newer than the newest it has seen.
    """

    def __init__(
        self,
        engine: Engine,
        network: Network,
        host: Host,
        public_key: str,
        address: str,
        listen_port: int,
        forwarding: bool = False,
    ) -> None:
        self.engine = engine
        self.network = network
        self.host = host
        self.public_key = public_key
        self.address = address
        self.listen_port = listen_port
        self.forwarding = forwarding
        self.peers: dict[str, Peer] = {}
        self.on_packet: Callable[[Inner], None] = lambda _inner: None
        self.clock_ahead_s = 0.0
        self.answered_at: dict[str, float] = {}
        """When a handshake was last completed with which address."""
        self.version = 0
        self._owners: dict[str, Peer] = {}
        self._allowed: dict[str, tuple[str, ...]] = {}
        self._routes: dict[str, Peer | None] = {}
        self._initiations: dict[int, Peer] = {}
        self._keypairs: dict[int, Keypair] = {}
        host.ports[listen_port] = self._receive

    # Configuration: wg(8) set

    def set_listen_port(self, port: int) -> None:
        """Move the socket. Nothing is sent."""
        del self.host.ports[self.listen_port]
        self.listen_port = port
        self.host.ports[port] = self._receive
        self._changed()

    def remove_peer(self, key: str) -> None:
        """Forget a peer, its sessions and its AllowedIPs."""
        peer = self.peers.pop(key, None)
        if peer is None:
            return
        for timer in (peer.retransmit, peer.passive_keepalive, peer.new_handshake, peer.persistent):
            timer.cancel()
        self._forget_initiation(peer)
        for keypair in (peer.current, peer.previous, peer.next):
            self._delete(keypair)
        self._owners = {prefix: owner for prefix, owner in self._owners.items() if owner is not peer}
        self._changed()

    def set_peer(
        self,
        key: str,
        endpoint: Endpoint | None = None,
        keepalive_s: int | None = None,
        allowed_ips: tuple[str, ...] | None = None,
        preshared_key: str | None = None,
    ) -> None:
        """Add or change a peer; None leaves a setting as it is."""
        peer = self.peers.get(key)
        if peer is None:
            peer = self.peers[key] = self._new_peer(key)
        if preshared_key is not None:
            peer.preshared_key = preshared_key
        if endpoint is not None and endpoint != peer.endpoint:
            peer.endpoint, peer.endpoint_since = endpoint, self.engine.now
        if allowed_ips is not None:
            self._owners = {prefix: owner for prefix, owner in self._owners.items() if owner is not peer}
            for prefix in allowed_ips:
                self._owners[prefix] = peer
        turned_on = keepalive_s is not None and keepalive_s > 0 and peer.keepalive_s == 0
        if keepalive_s is not None:
            peer.keepalive_s = keepalive_s
        self._changed()
        if turned_on:
            self._send_keepalive(peer)
        self._send_staged(peer)

    def _new_peer(self, key: str) -> Peer:
        peer = Peer(key)
        peer.retransmit = Alarm(self.engine, lambda: self._retransmit(peer))
        peer.passive_keepalive = Alarm(self.engine, lambda: self._passive_expired(peer))
        peer.new_handshake = Alarm(self.engine, lambda: self._initiate(peer))
        peer.persistent = Alarm(self.engine, lambda: self._persistent_expired(peer))
        return peer

    def allowed_ips(self, peer: Peer) -> tuple[str, ...]:
        """The prefixes that are `peer`'s now."""
        allowed = self._allowed.get(peer.key)
        if allowed is None:
            allowed = tuple(prefix for prefix, owner in self._owners.items() if owner is peer)
            self._allowed[peer.key] = allowed
        return allowed

    # Data

    def owner(self, address: str) -> Peer | None:
        """Cryptokey routing: the peer with the longest prefix that covers a VPN address."""
        if address in self._routes:
            return self._routes[address]
        best: Peer | None = None
        best_shift = 33
        number = _address(address)
        for text, peer in self._owners.items():
            bits, shift = _prefix(text)
            if shift < best_shift and number >> shift == bits:
                best, best_shift = peer, shift
        self._routes[address] = best
        return best

    def send(self, inner: Inner) -> None:
        """Send a packet of the VPN to whom cryptokey routing says; without a session it waits for one."""
        peer = self.owner(inner.destination)
        if peer is None or not self.host.up:
            return
        peer.staged.append(inner)
        if len(peer.staged) > MAX_STAGED:
            del peer.staged[:-MAX_STAGED]
        self._send_staged(peer)

    def send_opener(self, endpoint: Endpoint, ttl: int) -> None:
        """A raw socket sends from WireGuard's own port (fact 2)."""
        self.network.send(self.host, self.listen_port, endpoint, Opener(), ttl)

    # State that others look at

    def sending_keypair(self, peer: Peer) -> Keypair | None:
        """The session that a packet to `peer` would use now, or None if it had to wait."""
        keypair = peer.current
        return keypair if keypair is not None and keypair.valid(self.engine.now) else None

    def receiving_keypair(self, index: int) -> Keypair | None:
        """The session that a data packet with this index would be accepted in."""
        keypair = self._keypairs.get(index)
        return keypair if keypair is not None and keypair.valid(self.engine.now) else None

    # Sending

    def _send_staged(self, peer: Peer) -> None:
        if not peer.staged:
            return
        keypair = self.sending_keypair(peer)
        if keypair is None:
            self._initiate(peer)
            return
        staged, peer.staged = peer.staged, []
        for inner in staged:
            self._transmit(
                peer,
                Transport(keypair.remote_index, inner),
                KEEPALIVE_BYTES if inner is None else inner.size,
            )
            if inner is not None and not peer.new_handshake.pending:
                peer.new_handshake.set(KEEPALIVE_TIMEOUT_S + REKEY_TIMEOUT_S + self._jitter_s())
        if keypair.initiator and self.engine.now - keypair.created_at > REKEY_AFTER_TIME_S:
            self._initiate(peer)

    def _send_keepalive(self, peer: Peer) -> None:
        if not peer.staged:
            peer.staged.append(None)
        self._send_staged(peer)

    def _transmit(self, peer: Peer, message: Initiation | Response | Transport, size: int) -> None:
        self._arm_persistent(peer)
        peer.passive_keepalive.cancel()
        if peer.endpoint is None:
            return
        peer.tx_bytes += size
        self.version += 1
        self.network.send(self.host, self.listen_port, peer.endpoint, message, size=size)

    def _initiate(self, peer: Peer, retry: bool = False) -> None:
        if not retry:
            peer.retransmissions = 0
        if self.engine.now - peer.last_handshake_sent_at < REKEY_TIMEOUT_S:
            return
        peer.last_handshake_sent_at = self.engine.now
        self._forget_initiation(peer)
        peer.initiation_index = self.engine.number()
        self._initiations[peer.initiation_index] = peer
        sent_at = self.engine.now + self.clock_ahead_s
        message = Initiation(self.public_key, peer.key, peer.initiation_index, sent_at)
        self._transmit(peer, message, INITIATION_BYTES)
        peer.retransmit.cancel()
        peer.retransmit.set(REKEY_TIMEOUT_S + self._jitter_s())

    def _retransmit(self, peer: Peer) -> None:
        if peer.retransmissions > MAX_RETRANSMISSIONS:
            peer.passive_keepalive.cancel()
            peer.staged.clear()
            return
        peer.retransmissions += 1
        self._initiate(peer, retry=True)

    # Receiving

    def _receive(self, message: Any, source: Endpoint) -> None:
        if isinstance(message, Transport):
            self._receive_transport(message, source)
        elif isinstance(message, Initiation):
            self._receive_initiation(message, source)
        elif isinstance(message, Response):
            self._receive_response(message, source)

    def _receive_initiation(self, message: Initiation, source: Endpoint) -> None:
        peer = self.peers.get(message.sender)
        if peer is None or message.receiver != self.public_key:
            return
        now = self.engine.now
        replayed = message.sent_at <= peer.last_initiation_sent_at
        if replayed or now - peer.last_initiation_consumed_at <= INITIATION_INTERVAL_S:
            return
        peer.last_initiation_sent_at = message.sent_at
        peer.last_initiation_consumed_at = now
        self._received(peer, source, INITIATION_BYTES)
        peer.last_handshake_sent_at = now
        # One handshake a peer: our own initiation, should one be under way, is given up.
        self._forget_initiation(peer)
        keypair = Keypair(peer, self.engine.number(), message.sender_index, False, now)
        self._delete(peer.next)
        self._delete(peer.previous)
        peer.next, peer.previous = keypair, None
        self._add(keypair)
        response = Response(keypair.index, message.sender_index, peer.preshared_key)
        self._transmit(peer, response, RESPONSE_BYTES)

    def _receive_response(self, message: Response, source: Endpoint) -> None:
        peer = self._initiations.get(message.receiver_index)
        if peer is None or message.preshared_key != peer.preshared_key:
            return
        self._forget_initiation(peer)
        self._received(peer, source, RESPONSE_BYTES)
        keypair = Keypair(peer, message.receiver_index, message.sender_index, True, self.engine.now)
        self._delete(peer.previous)
        if peer.next is not None:
            self._delete(peer.current)
            peer.previous, peer.next = peer.next, None
        else:
            peer.previous = peer.current
        peer.current = keypair
        self._add(keypair)
        self._handshake_complete(peer, source)
        self._send_keepalive(peer)

    def _receive_transport(self, message: Transport, source: Endpoint) -> None:
        keypair = self.receiving_keypair(message.receiver_index)
        if keypair is None:
            return
        peer = keypair.peer
        confirmed = peer.next is keypair
        if confirmed:
            self._delete(peer.previous)
            peer.previous, peer.current, peer.next = peer.current, keypair, None
        self._received(peer, source, KEEPALIVE_BYTES if message.inner is None else message.inner.size)
        if confirmed:
            self._handshake_complete(peer, source)
            self._send_staged(peer)
        self._keep_key_fresh(peer)
        if message.inner is not None:
            self._arm_passive(peer)
            self._deliver(peer, message.inner)

    def _deliver(self, peer: Peer, inner: Inner) -> None:
        if self.owner(inner.source) is not peer:
            return
        if inner.destination == self.address:
            self.on_packet(inner)
        elif self.forwarding:
            self.send(inner)

    def _received(self, peer: Peer, source: Endpoint, size: int) -> None:
        peer.new_handshake.cancel()
        self._arm_persistent(peer)
        peer.rx_bytes += size
        peer.received_at = self.engine.now
        self.version += 1
        if peer.endpoint != source:
            peer.endpoint, peer.endpoint_since = source, self.engine.now
            self.engine.changed()

    def _handshake_complete(self, peer: Peer, source: Endpoint) -> None:
        self.answered_at[source.address] = self.engine.now
        peer.retransmit.cancel()
        peer.retransmissions = 0
        peer.last_minute_handshake_sent = False
        peer.latest_handshake_at = self.engine.now
        self._changed()

    def _keep_key_fresh(self, peer: Peer) -> None:
        keypair = peer.current
        oldest_s = REJECT_AFTER_TIME_S - KEEPALIVE_TIMEOUT_S - REKEY_TIMEOUT_S
        if peer.last_minute_handshake_sent or keypair is None or not keypair.initiator:
            return
        if self.engine.now - keypair.created_at > oldest_s:
            peer.last_minute_handshake_sent = True
            self._initiate(peer)

    # Timers and tables

    def _arm_persistent(self, peer: Peer) -> None:
        if peer.keepalive_s > 0:
            peer.persistent.set(peer.keepalive_s)

    def _persistent_expired(self, peer: Peer) -> None:
        if peer.keepalive_s > 0:
            self._send_keepalive(peer)

    def _arm_passive(self, peer: Peer) -> None:
        if peer.passive_keepalive.pending:
            peer.another_keepalive = True
        else:
            peer.passive_keepalive.set(KEEPALIVE_TIMEOUT_S)

    def _passive_expired(self, peer: Peer) -> None:
        self._send_keepalive(peer)
        if peer.another_keepalive:
            peer.another_keepalive = False
            self._arm_passive(peer)

    def _jitter_s(self) -> float:
        return self.engine.random.uniform(0, REKEY_TIMEOUT_JITTER_S)

    def _forget_initiation(self, peer: Peer) -> None:
        if peer.initiation_index is not None:
            del self._initiations[peer.initiation_index]
            peer.initiation_index = None

    def _add(self, keypair: Keypair) -> None:
        self._keypairs[keypair.index] = keypair
        # A session ends by age: whoever watches paths has to look again then.
        self.engine.call_in(REJECT_AFTER_TIME_S, self.engine.changed)
        self._changed()

    def _delete(self, keypair: Keypair | None) -> None:
        if keypair is not None:
            self._keypairs.pop(keypair.index, None)
            self.engine.changed()

    def _changed(self) -> None:
        self._routes.clear()
        self._allowed.clear()
        self.version += 1
        self.engine.changed()
