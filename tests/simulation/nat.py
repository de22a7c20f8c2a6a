# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""A NAT as Linux conntrack and `masquerade` make it (RFC 4787 words; DESIGN §3, facts 1, 2 and 9).

Conntrack knows flows by tuples. A flow from inside to a remote takes the tuple *remote → outside port* for
its way back. A packet from a remote to the router itself that the INPUT chain accepts takes the very same
tuple. Whoever comes first has it: that is the whole of the inbound-first collision.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from tests.nat_profiles import ENDPOINT_INDEPENDENT, NatProfile
from tests.simulation.engine import Engine

UNKNOWN_PORT = 0
"""What `Nat.preview` answers where a real packet would be given a random port."""


class Endpoint(NamedTuple):
    """An outer address and UDP port."""

    address: str
    port: int

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


def parse_endpoint(text: str) -> Endpoint:
    """`"203.0.113.7:51820"` or `"[2001:db8::7]:51820"` as an Endpoint."""
    address, _, port = text.rpartition(":")
    return Endpoint(address.strip("[]"), int(port))


@dataclass
class Flow:
    """A conntrack entry. `inside` is None if it belongs to the router itself (accepted inbound)."""

    inside: Endpoint | None
    remote: Endpoint
    outside_port: int
    replied: bool = False
    expires_at: float = 0.0


@dataclass
class Window:
    """The learning window of one mapping, known by its inside endpoint, and the remotes that it learned."""

    opened_at: float
    used_at: float
    learned: set[Endpoint] = field(default_factory=set)


class Nat:
    """One NAT with its public address. `translate_out` and `translate_in` move packets and change its
    state; `preview` and `would_pass_in` answer the same questions and change nothing. `collisions` counts the
    flows that were given another port than the inside one because their tuple was taken (fact 1). Unless it
    `hairpins` (RFC 4787, section 6), what comes from inside for its own address is lost; if it `isolates`,
    its hosts do not reach one another on their LAN."""

    def __init__(self, engine: Engine, address: str, profile: NatProfile) -> None:
        self.engine = engine
        self.address = address
        self.profile = profile
        self.collisions = 0
        self.hairpins = True
        self.isolates = False
        self._moved_by = 0
        self._outbound: dict[tuple[Endpoint, Endpoint], Flow] = {}
        self._inbound: dict[tuple[Endpoint, int], Flow] = {}
        self._windows: dict[Endpoint, Window] = {}

    def translate_out(self, inside: Endpoint, remote: Endpoint) -> Endpoint:
        """A packet leaves from `inside` to `remote`: the source that the remote sees."""
        self._learn(inside, remote)
        flow = self._outbound.get((inside, remote))
        if flow is None:
            port = self.preview(inside, remote).port or self._random_port(remote)
            kept = port == inside.port + self._moved_by
            self.collisions += self.profile.mapping == ENDPOINT_INDEPENDENT and not kept
            flow = self._add(Flow(inside, remote, port))
            self._outbound[inside, remote] = flow
        self._refresh(flow)
        return Endpoint(self.address, flow.outside_port)

    def translate_in(self, remote: Endpoint, outside_port: int) -> Endpoint | None:
        """A packet of `remote` arrives at `outside_port`: where inside it goes, or None if nowhere."""
        flow = self._inbound.get((remote, outside_port))
        if flow is None:
            if self.profile.input_policy == "accept":
                self._refresh(self._add(Flow(None, remote, outside_port)))
            return None
        if flow.inside is not None:
            flow.replied = True
        self._refresh(flow)
        return self.would_pass_in(remote, outside_port)

    def preview(self, inside: Endpoint, remote: Endpoint) -> Endpoint:
        """The source that `remote` would see; its port is UNKNOWN_PORT if it would be a random one."""
        flow = self._outbound.get((inside, remote))
        if flow is not None:
            return Endpoint(self.address, flow.outside_port)
        port = inside.port + self._moved_by
        keeps = self.profile.mapping == ENDPOINT_INDEPENDENT and (remote, port) not in self._inbound
        return Endpoint(self.address, port if keeps else UNKNOWN_PORT)

    def would_pass_in(self, remote: Endpoint, outside_port: int) -> Endpoint | None:
        """Where inside a packet of `remote` to `outside_port` would go, or None if nowhere."""
        flow = self._inbound.get((remote, outside_port))
        if flow is None or flow.inside is None:
            return None
        return flow.inside if self._admits(flow.inside, remote) else None

    def lose_state(self) -> None:
        """Forget all flows, and all that was learned, as a reboot does (fact 12)."""
        self._outbound.clear()
        self._inbound.clear()
        self._windows.clear()
        self.engine.changed()

    def move_mappings(self) -> None:
        """Give every mapping another port, which is not the inside one any more, as carriers do."""
        self._moved_by += 101
        self.lose_state()

    def _learn(self, inside: Endpoint, remote: Endpoint) -> None:
        if self.profile.learning_window_s is None:
            return
        now = self.engine.now
        window = self._windows.get(inside)
        if window is None or now - window.used_at > self.profile.mapping_timeout_s:
            window = self._windows[inside] = Window(now, now)
        window.used_at = now
        if now - window.opened_at <= self.profile.learning_window_s and remote not in window.learned:
            window.learned.add(remote)
            self.engine.changed()

    def _admits(self, inside: Endpoint, remote: Endpoint) -> bool:
        if self.profile.learning_window_s is None:
            return True
        window = self._windows.get(inside)
        return window is not None and remote in window.learned

    def _random_port(self, remote: Endpoint) -> int:
        while True:
            port = self.engine.random.randint(1024, 65535)
            if (remote, port) not in self._inbound:
                return port

    def _add(self, flow: Flow) -> Flow:
        self._inbound[flow.remote, flow.outside_port] = flow
        self._expire_later(flow, self.profile.udp_timeout_s)
        self.engine.changed()
        return flow

    def _refresh(self, flow: Flow) -> None:
        timeout_s = self.profile.udp_timeout_stream_s if flow.replied else self.profile.udp_timeout_s
        flow.expires_at = self.engine.now + timeout_s

    def _expire_later(self, flow: Flow, delay_s: float) -> None:
        self.engine.post(delay_s, lambda: self._expire(flow))

    def _expire(self, flow: Flow) -> None:
        if self._inbound.get((flow.remote, flow.outside_port)) is not flow:
            return
        left_s = flow.expires_at - self.engine.now
        if left_s > 0:
            self._expire_later(flow, left_s)
            return
        del self._inbound[flow.remote, flow.outside_port]
        if flow.inside is not None:
            del self._outbound[flow.inside, flow.remote]
        self.engine.changed()
