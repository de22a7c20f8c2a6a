# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""From the core's words to those of `wg`, what an agent needs before it can start, and its loop."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import pytest

from wg_rendezvous._wireguard.dump import Device, Peer
from wg_rendezvous.agent import runner
from wg_rendezvous.agent.configuration import Configuration
from wg_rendezvous.agent.signalling import Signalling as RealSignalling
from wg_rendezvous.agent.storage import Storage
from wg_rendezvous.clock import boottime_s
from wg_rendezvous.config import AgentOptions
from wg_rendezvous.core import actions, events
from wg_rendezvous.core.actions import PeerChange
from wg_rendezvous.core.mesh import Mesh
from wg_rendezvous.heartbeat import Beats as RealBeats
from wg_rendezvous.wg.device import PeerCommand

KEY = "//////////////////////////////////////////8="
HUB = Peer(KEY, "198.51.100.1:51820", ("192.168.7.0/24", "fd07::/64"), 0, 0, 0, 13)
ADDRESSES: list[ipaddress.IPv4Interface | ipaddress.IPv6Interface] = [
    ipaddress.ip_interface("192.168.7.5/24")
]


def test_a_fresh_peer_is_removed_and_added_in_one_call() -> None:
    change = PeerChange(KEY, fresh=True, endpoint="203.0.113.7:1", persistent_keepalive_s=13, allowed_ips=())
    assert runner.commands(change, None) == [
        PeerCommand(KEY, remove=True),
        PeerCommand(KEY, endpoint="203.0.113.7:1", persistent_keepalive_s=13, allowed_ips=()),
    ]


def test_a_fresh_peer_is_added_with_its_preshared_key() -> None:
    change = PeerChange(KEY, fresh=True, allowed_ips=(), secret="0123456789abcdef")
    assert runner.commands(change, "KEY") == [
        PeerCommand(KEY, remove=True),
        PeerCommand(KEY, allowed_ips=(), preshared_key="KEY"),
    ]


def test_a_removal_sets_nothing() -> None:
    assert runner.commands(PeerChange(KEY, remove=True), None) == [PeerCommand(KEY, remove=True)]


def test_the_hub_peer_is_the_one_whose_allowed_ips_cover_the_hub() -> None:
    key, place = runner.find_place("http://192.168.7.1:8080", Device(KEY, 1, 0, {KEY: HUB}), ADDRESSES)
    assert key == KEY
    assert place.hub == ipaddress.ip_address("192.168.7.1")
    assert ipaddress.ip_network("192.168.7.0/24") in place.relayed


@pytest.mark.parametrize(
    ("url", "addresses", "remedy"),
    [
        ("http://10.0.0.1:8080", ADDRESSES, "AllowedIPs"),
        ("http://hub.example.net:8080", ADDRESSES, "not a name"),
        ("http://192.168.7.5:8080", ADDRESSES, "this node itself"),
        ("http://192.168.7.1:8080", [], "no address"),
    ],
)
def test_a_node_where_the_agent_cannot_work_is_told_why(
    url: str, addresses: list[ipaddress.IPv4Interface | ipaddress.IPv6Interface], remedy: str
) -> None:
    with pytest.raises(runner.StartError, match=remedy):
        runner.find_place(url, Device(KEY, 1, 0, {KEY: HUB}), addresses)


@pytest.mark.parametrize(
    ("event", "asks"),
    [
        (events.StreamClosed("404", unsupported=True), True),
        (events.StreamClosed("silent"), False),
        (events.Snapshot(events.PeerView(None), {KEY: events.PeerView(None, polls=True)}), True),
        (events.Snapshot(events.PeerView(None), {KEY: events.PeerView(None, instance="0" * 16)}), False),
        (events.PeerChanged(KEY, events.PeerView(None, polls=True)), True),
        (events.PeerChanged(KEY, events.PeerView(None, instance="0" * 16)), False),
        (events.Tick(), False),
    ],
)
def test_whoever_probes_by_statusz_is_answered_at_once(event: events.Event, asks: bool) -> None:
    assert runner.asks_for_statusz(event) == asks


# --- the loop ---


class Core:
    """Stands in for the mesh: notes what it is given, answers as the test says, wants ticks at once."""

    def __init__(self) -> None:
        self.batches: list[list[events.Event]] = []
        self.answers: dict[type, list[actions.Action]] = {}
        self.quiet = False
        self.give_up_at = float("inf")
        self.wakeup_at = 0.0
        self.own_key = KEY

    @property
    def given(self) -> list[events.Event]:
        return [event for batch in self.batches for event in batch]

    def handle_all(self, batch: Iterable[events.Event], _now_s: float) -> list[actions.Action]:
        self.batches.append(list(batch))
        return [action for event in self.batches[-1] for action in self.answers.pop(type(event), [])]


class Signalling:
    """Stands in for the hub's `/v1`."""

    def __init__(self) -> None:
        self.opened: list[actions.OpenStream] = []

    def open_stream(self, action: actions.OpenStream) -> None:
        self.opened.append(action)

    async def finish(self, _timeout_s: float) -> None:
        pass


class Beats:
    """Stands in for the heartbeats."""

    def __init__(self) -> None:
        self.sent: list[tuple[Any, ...]] = []

    def ping(self, *ping: Any) -> None:
        self.sent.append(ping)

    def largest_bytes(self, _address: str) -> int:
        return 1392

    def mtu_bytes(self) -> int:
        return 1420


@pytest.fixture
async def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> runner.Agent:
    """An agent with stand-ins for all that it talks to."""
    monkeypatch.setattr(runner, "Storage", lambda name: Storage(name, tmp_path / "run", tmp_path / "lib"))
    made = runner.Agent(AgentOptions("wg0", "http://127.0.0.1:9", listen_port=8081))
    made._events = asyncio.Queue()
    made._stop = asyncio.Event()
    made.mesh = cast("Mesh", Core())
    made.signalling = cast("RealSignalling", Signalling())
    made._beats = cast("RealBeats", Beats())
    return made


def core(agent: runner.Agent) -> Core:
    return cast("Core", agent.mesh)


async def test_any_number_of_events_does_not_keep_the_time_from_passing(agent: runner.Agent) -> None:
    for _ in range(10):
        agent._deliver(events.HubSilent("no"))
        agent._deliver(events.HubSilent("no"))
        await agent._step(None)
    assert core(agent).given.count(events.Tick()) == 10
    assert core(agent).given.count(events.HubSilent("no")) == 20


async def test_events_that_wait_are_handled_together_in_their_order(agent: runner.Agent) -> None:
    waiting: list[events.Event] = [events.HubSilent("no"), events.PeerGone("bob"), events.StreamHeard()]
    for event in waiting:
        agent._deliver(event)
    core(agent).wakeup_at = boottime_s() + 100
    await agent._step(None)
    assert core(agent).batches == [waiting]


async def test_what_follows_from_events_is_handled_before_those_that_came_meanwhile(
    agent: runner.Agent,
) -> None:
    seen = events.DeviceSeen(Device(KEY, 51820, 0, {}))

    async def read_device(_action: actions.ReadDevice) -> events.Event:
        agent._deliver(events.PeerGone("bob"))
        return seen

    agent._doers[actions.ReadDevice] = read_device
    core(agent).answers[events.HubSilent] = [actions.ReadDevice()]
    core(agent).wakeup_at = boottime_s() + 100
    agent._deliver(events.HubSilent("no"))
    await agent._step(None)
    await agent._step(None)
    assert core(agent).batches == [[events.HubSilent("no")], [seen], [events.PeerGone("bob")]]


async def test_the_watchdog_sees_every_action_of_a_batch(
    agent: runner.Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of them may take a while on a node that has no processor."""
    now_s, healthy = 0.0, []

    async def set_peers(_action: actions.SetPeers) -> None:
        nonlocal now_s
        now_s += 0.7 * runner.STALL_S
        healthy.append(agent._healthy())

    monkeypatch.setattr(runner, "boottime_s", lambda: now_s)
    agent._doers[actions.SetPeers] = set_peers
    core(agent).answers[events.HubSilent] = [actions.SetPeers(())] * 3
    await agent._handle(events.HubSilent("no"))
    assert healthy == [True] * 3


async def test_what_an_older_stream_left_is_not_delivered_after_a_newer_was_opened(
    agent: runner.Agent,
) -> None:
    opening = actions.OpenStream(actions.Registration("00" * 16, 1, ()), 1.0)
    of_others: list[events.Event] = [events.ProbeMissed("bob", 1, "no"), events.AddressesSeen(("10.0.0.2",))]

    async def set_peers(_action: actions.SetPeers) -> None:  # which takes a while
        agent._deliver(events.StreamClosed("broken"))
        agent._deliver(of_others[0])
        agent._deliver(events.PeerGone("bob"))
        agent._deliver(of_others[1])

    agent._doers[actions.SetPeers] = set_peers
    core(agent).answers[events.HubSilent] = [actions.SetPeers(()), opening]
    agent._deliver(events.HubSilent("no"))
    for _ in range(3):
        await agent._step(None)
    assert cast("Signalling", agent.signalling).opened == [opening]
    assert [event for event in core(agent).given if event != events.Tick()] == [
        events.HubSilent("no"),
        *of_others,
    ]


async def test_a_heartbeat_goes_to_the_peers_port_or_to_the_hubs_and_its_answer_comes_back(
    agent: runner.Agent,
) -> None:
    core(agent).answers[events.Tick] = [
        actions.SendBeat("bob", "192.168.7.6", 7),
        actions.SendBeat(None, "192.168.7.1", 8, padded=True),
    ]
    await agent._handle(events.Tick())
    (to_peer, nonce, *small), (to_hub, _, *padded) = cast("Beats", agent._beats).sent
    assert (to_peer, *small) == ("192.168.7.6", None, None)
    assert (to_hub, *padded) == ("192.168.7.1", 1392, 9)
    agent._on_pong("192.168.7.5", nonce)
    agent._on_pong("192.168.7.6", nonce)
    agent._on_pong("192.168.7.6", nonce)
    answer = agent._events.get_nowait()
    assert isinstance(answer, events.BeatAnswered)
    assert (answer.peer, answer.number) == ("bob", 7)
    assert agent._events.empty()


async def test_where_one_opener_is_enough_it_is_the_one_of_the_middle_ttl(
    agent: runner.Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: dict[str, list[int]] = {}

    def send(_port: int, _fwmark: int, endpoints: Iterable[str], ttls: Iterable[int]) -> None:
        sent.update({endpoint: list(ttls) for endpoint in endpoints})

    monkeypatch.setattr(runner, "send_openers", send)
    one, other = "203.0.113.6:51820", "203.0.113.7:51820"
    await agent._send_openers(actions.SendOpeners((one, other), frozenset({other})))
    assert sent == {one: [2, 3, 4], other: [3]}


@pytest.mark.parametrize(
    ("key_now", "ends"),
    [(KEY, False), (None, False), (KEY.replace("8", "w"), True)],
    ids=["same", "none", "new"],
)
async def test_an_agent_whose_interface_has_another_key_ends_to_be_started_anew(
    agent: runner.Agent, monkeypatch: pytest.MonkeyPatch, key_now: str | None, ends: bool
) -> None:
    async def read() -> Device:
        return Device(key_now, 1, 0, {KEY: HUB})

    monkeypatch.setattr(agent.device, "read", read)
    agent.configuration = cast("Configuration", type("None", (), {"peers": lambda _: ()})())
    monkeypatch.setattr(Beats, "bytes_by_address", lambda _: {}, raising=False)
    core(agent).answers[events.Tick] = [actions.ReadDevice()]
    await agent._handle(events.Tick())
    assert agent._stop.is_set() is ends
    assert isinstance(core(agent).given[-1], events.DeviceSeen)


async def test_an_agent_that_is_ended_waits_until_its_links_are_withdrawn(agent: runner.Agent) -> None:
    async def other_end() -> None:
        await asyncio.sleep(0.1)
        agent._deliver(events.SignalReceived("bob", {"type": "withdrawn"}))
        await asyncio.sleep(0)
        core(agent).quiet = True

    core(agent).wakeup_at = boottime_s() + 100
    confirming = asyncio.ensure_future(other_end())
    await asyncio.wait_for(agent._withdraw(), 0.9)
    await confirming
    assert core(agent).given == [
        events.Stopping(hub_answers=False),
        events.SignalReceived("bob", {"type": "withdrawn"}),
        events.Stopped(),
    ]


async def test_an_agent_that_is_ended_does_not_wait_for_ever(
    agent: runner.Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "WITHDRAW_S", 0.2)
    await asyncio.wait_for(agent._withdraw(), 5)
    assert core(agent).given[0] == events.Stopping(hub_answers=False)
    assert core(agent).given[-1] == events.Stopped()


async def test_an_agent_that_is_ended_waits_no_longer_than_the_core_wants_it_to(agent: runner.Agent) -> None:
    core(agent).give_up_at = boottime_s() + 0.2
    await asyncio.wait_for(agent._withdraw(), 1)
    assert core(agent).given[-1] == events.Stopped()


def test_nothing_that_takes_long_to_import_is_needed_to_open_a_stream() -> None:
    """DESIGN fact 19: an agent's start is what a join takes longest for."""
    script = "import sys, wg_rendezvous.agent; print(*sys.modules)"
    files = Path(runner.__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(files)},
    )
    assert not {"aiohttp", "prometheus_client", "yarl", "multidict", "http.client"} & set(done.stdout.split())
