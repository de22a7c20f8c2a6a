# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""The passes of an agent: what it does to the device, and when."""

from __future__ import annotations

import collections
import dataclasses
import itertools
import json
from collections.abc import Mapping
from typing import Any

import pytest

from wg_rendezvous._wireguard.dump import Peer
from wg_rendezvous.core import actions, events
from wg_rendezvous.core.link import State
from wg_rendezvous.core.mesh import Settings
from wg_rendezvous.core.refresh import Policy

from .driven import ADDRESS, ENDPOINT, HUB, HUB_PEER, INSTANCE, OTHER, OWN, PEER, Driven, key
from .told import told


def direct(**settings: object) -> Driven:
    driven = Driven(Settings(**settings))  # type: ignore[arg-type]  # the tests name fields of Settings
    driven.shaking, driven.answering = {PEER}, {PEER}
    driven.start().run(2)
    assert driven.state() is State.DIRECT
    return driven


def test_the_first_pass_is_at_start_and_knocks_without_allowed_ips() -> None:
    driven = Driven().start().run(0.5)
    assert [a.endpoints for a in driven.all_done(actions.SendOpeners)] == [(ENDPOINT,)]
    [knock] = driven.changes()
    assert (knock.fresh, knock.endpoint, knock.persistent_keepalive_s, knock.allowed_ips) == (
        True,
        ENDPOINT,
        13,
        (),
    )


def test_openers_go_out_before_the_knock_and_the_owner_is_recorded_before_the_peer_is_added() -> None:
    kinds = [type(action) for _, action in Driven().start().run(0.5).done]
    first = [kinds.index(kind) for kind in (actions.RecordOwned, actions.SendOpeners, actions.SetPeers)]
    assert first == sorted(first)


def test_it_knocks_once_a_pass() -> None:
    assert len(Driven().start().run(13 * 2 + 1).changes()) == 3


def test_after_a_knock_the_device_is_read_every_50_ms() -> None:
    driven = Driven().start().run(5)
    assert 80 <= len(driven.all_done(actions.ReadDevice)) <= 110


def test_a_device_that_takes_long_to_read_is_not_read_most_of_the_time() -> None:
    """Forty agents that shared two processors had no time for anything else."""
    driven = Driven()
    driven.read_takes_s = 0.2
    driven.start().run(4.9)
    looking_s = 0.2 * len(driven.all_done(actions.ReadDevice))
    assert 1.0 <= looking_s <= 4.9 * 0.4


def test_one_look_that_took_long_is_no_reason_to_look_seldom() -> None:
    """A handshake is awaited for 0.8 s."""
    driven = Driven().start().run(0.5)
    driven.read_takes_s = 1.0
    driven.run(0.06)
    driven.read_takes_s = 0.0
    looks = len(driven.all_done(actions.ReadDevice))
    driven.run(0.2)
    assert len(driven.all_done(actions.ReadDevice)) > looks
    driven.run(1.0)
    assert len(driven.all_done(actions.ReadDevice)) >= looks + 10


def test_however_long_looks_take_they_are_not_further_apart_than_handshakes_wait() -> None:
    driven = Driven()
    driven.read_takes_s = 2.0
    driven.start().run(14.0)
    ats = [at for at, action in driven.done if isinstance(action, actions.ReadDevice)]
    assert max(later - at for at, later in itertools.pairwise(ats)) < 2.0 + 0.8


def test_a_handshake_promotes_and_an_answer_makes_it_direct() -> None:
    driven = direct()
    assert driven.peers[PEER].allowed_ips == (ADDRESS,)
    assert driven.mesh.status(driven.now_s)[0]["state"] == "direct"


def test_a_promotion_without_an_answer_is_taken_back_after_a_second_and_tried_ever_more_seldom() -> None:
    driven = Driven()
    driven.shaking = {PEER}
    driven.start().run(0.5)
    assert driven.state() is State.PROVISIONAL
    driven.run(1)
    assert driven.state() is State.RELAYED
    assert PEER not in driven.peers
    driven.run(600)
    assert len([change for change in driven.changes() if change.allowed_ips == (ADDRESS,)]) <= 7


def test_a_late_answer_of_an_earlier_promotion_proves_nothing() -> None:
    driven = Driven()
    driven.shaking = {PEER}
    driven.start().run(0.5)
    old = driven.all_done(actions.Probe)[-1].attempt
    driven.run(13)
    assert driven.state() is State.PROVISIONAL
    driven.give(events.ProbeAnswered(PEER, old, 0.01))
    assert driven.state() is State.PROVISIONAL


def test_a_direct_link_is_probed_once_a_pass_and_never_knocked_at() -> None:
    driven = direct().run(3)
    knocks, probes = len(driven.changes()), len(driven.all_done(actions.Probe))
    driven.run(13 * 4)
    assert len(driven.changes()) == knocks
    assert len(driven.all_done(actions.Probe)) == probes + 4


def test_a_link_that_became_direct_is_probed_once_more_when_the_other_end_has_decided() -> None:
    driven = direct()
    driven.answering, driven.shaking = set(), set()
    driven.run(4.5)
    assert not driven.mesh.links[PEER].promoted


def test_a_missed_probe_asks_the_hub_and_follows_the_peer_to_its_new_endpoint() -> None:
    driven = direct().run(3)
    driven.records = {PEER: events.PeerRecord("203.0.113.7:40000", ADDRESS)}
    driven.answering = set()
    driven.run(9.5)
    driven.answering = {PEER}
    driven.run(2)
    assert driven.state() is State.DIRECT
    assert driven.peers[PEER].endpoint == "203.0.113.7:40000"
    assert driven.all_done(actions.SendOpeners)[-1].endpoints == ("203.0.113.7:40000",)


def test_an_entry_that_shows_another_endpoint_than_the_hub_is_left_alone() -> None:
    """A NAT that maps dependently has one port towards the hub and another one towards us."""
    driven = direct().run(3)
    driven.peers[PEER] = dataclasses.replace(driven.peers[PEER], endpoint="203.0.113.7:55555")
    driven.answering = set()
    driven.run(9.5)
    driven.answering = {PEER}
    driven.run(2)
    assert driven.state() is State.DIRECT
    assert driven.peers[PEER].endpoint == "203.0.113.7:55555"


def test_a_peer_that_the_admin_has_put_into_the_configuration_is_given_up_as_it_stands() -> None:
    driven = direct()
    changes = len(driven.changes())
    driven.configured = frozenset({PEER})
    driven.run(30)
    driven.give(events.Stopping(hub_answers=True))
    assert len(driven.changes()) == changes
    assert PEER in driven.peers
    assert driven.all_done(actions.RecordOwned)[-1].owned == {}


def test_a_peer_that_the_hub_has_not_named_for_a_day_is_forgotten() -> None:
    driven = Driven(Settings(interval_s=600.0)).start().run(700)
    driven.records = {}
    driven.run(23 * 3600)
    assert PEER in driven.mesh.links
    driven.run(2 * 3600)
    assert PEER not in driven.mesh.links
    assert PEER not in driven.all_done(actions.SaveState)[-1].state["links"]


def test_a_promotion_may_fail_for_months() -> None:
    driven = Driven(Settings(interval_s=600.0))
    driven.shaking = {PEER}
    driven.start().run(1)
    driven.mesh.links[PEER].unproven = 5000
    driven.run(3 * 3600)
    assert driven.state() is State.RELAYED


def test_the_hub_is_looked_up_again_when_it_was_silent_for_30_s() -> None:
    driven = Driven()
    driven.records = None
    driven.start().run(29)
    assert driven.all_done(actions.ResolveHub) == []
    driven.run(20)
    assert len(driven.all_done(actions.ResolveHub)) == 1


def test_handshakes_of_two_loops_in_phase_do_not_cross_twice() -> None:
    """The smaller key knocks later in every second try."""
    knocks = {}
    for own, peer in ((OWN, PEER), (PEER, OWN)):
        driven = Driven(own=own)
        driven.records = {peer: events.PeerRecord(ENDPOINT, ADDRESS)}
        driven.start().run(15)
        knocks[own] = [at for at, action in driven.done if isinstance(action, actions.SetPeers)]
    assert abs(knocks[OWN][0] - knocks[PEER][0]) < 0.1
    assert abs(knocks[OWN][1] - knocks[PEER][1]) > 0.4


def test_two_misses_a_second_apart_demote_within_a_pass() -> None:
    driven = direct()
    driven.answering, driven.shaking = set(), set()
    driven.run(13 + 3.5)
    assert not driven.mesh.links[PEER].promoted
    assert driven.peers[PEER].allowed_ips == ()


def test_a_demoted_link_is_knocked_at_in_the_same_moment() -> None:
    driven = direct()
    driven.answering, driven.shaking = set(), set()
    driven.run(13 + 3.5)
    assert driven.state() is State.KNOCKING
    assert driven.changes()[-1].fresh


def test_a_link_that_traffic_is_sent_on_and_that_is_silent_is_asked_at_once() -> None:
    driven = direct().run(3)
    probes = len(driven.all_done(actions.Probe))
    for second in range(1, 5):
        driven.peers[PEER] = dataclasses.replace(driven.peers[PEER], tx_bytes=1000 * second)
        driven.run(1)
    assert len(driven.all_done(actions.Probe)) > probes


def test_keepalives_alone_are_no_reason_to_ask() -> None:
    driven = direct().run(3)
    probes = len(driven.all_done(actions.Probe))
    driven.peers[PEER] = dataclasses.replace(driven.peers[PEER], tx_bytes=driven.peers[PEER].tx_bytes + 32)
    driven.run(5)
    assert len(driven.all_done(actions.Probe)) == probes


def test_openers_are_never_staggered_and_nothing_is_after_a_fresh_port() -> None:
    driven = Driven(own=PEER)
    driven.records = {OWN: events.PeerRecord(ENDPOINT, ADDRESS)}
    driven.start().run(13 * 5 + 1)
    openers = [at for at, action in driven.done if isinstance(action, actions.SendOpeners)]
    knocks = [at for at, action in driven.done if isinstance(action, actions.SetPeers)]
    [fresh_at] = [at for at, action in driven.done if isinstance(action, actions.TakeFreshPort)]
    assert [round(at - 1000) for at in openers] == [0, 13, 26, 39, 52, 65]
    assert fresh_at in knocks


def test_misses_do_not_demote_when_the_interval_is_as_short_as_a_probe() -> None:
    driven = direct(interval_s=1.0)
    driven.answering, driven.shaking = set(), set()
    driven.run(1 + 3.5)
    assert not driven.mesh.links[PEER].promoted


def test_a_link_is_not_demoted_while_the_hub_is_silent_as_well() -> None:
    driven = direct()
    driven.answering, driven.records = set(), None
    driven.run(120)
    assert driven.mesh.links[PEER].promoted


def test_a_silent_hub_is_asked_again_soon_and_then_ever_more_seldom() -> None:
    driven = Driven()
    driven.records = None
    driven.start().run(130)
    assert 10 <= len(driven.all_done(actions.OpenStream)) <= 17


def test_a_hub_that_closes_connections_for_what_it_does_not_know_is_one_of_the_origin() -> None:
    driven = Driven()
    driven.told, driven.answering, driven.shaking = False, {PEER}, {PEER}
    driven.start().run(3)
    assert driven.state() is State.DIRECT
    assert driven.mesh.hub_silent is None


def test_what_an_agent_takes_over_is_the_loops_with_such_a_hub() -> None:
    driven = Driven()
    driven.told, driven.answering = False, {PEER}
    driven.peers[PEER] = Peer(PEER, ENDPOINT, (ADDRESS,), 1, 0, 0, 13)
    driven.start({PEER: ADDRESS}).run(3)
    assert driven.mesh.loop.links[PEER].state is State.DIRECT
    assert driven.changes() == []


def test_an_answer_that_was_asked_for_before_the_hub_took_signals_starts_no_links() -> None:
    driven = Driven()
    driven.start().run(0.005)
    signalling = events.PeerView(ADDRESS, signals=True, instance=INSTANCE)
    driven.give(events.Snapshot(events.PeerView(None), {PEER: signalling}))
    driven.run(1)
    assert driven.changes() == []
    assert driven.mesh.loop.links == {}


def test_a_removed_peer_is_noticed_within_a_second_and_knocked_at_again() -> None:
    driven = direct()
    del driven.peers[PEER]
    driven.run(2)
    assert driven.state() is State.DIRECT
    assert driven.peers[PEER].allowed_ips == (ADDRESS,)
    assert driven.said("taken away")


def test_a_peer_of_the_configuration_is_never_touched() -> None:
    driven = Driven()
    driven.peers[PEER] = dataclasses.replace(HUB_PEER, public_key=PEER, allowed_ips=(ADDRESS,))
    driven.start().run(60)
    assert driven.changes() == []
    assert "configuration" in driven.mesh.status(driven.now_s)[0]["why"]


def test_the_restart_condition_takes_a_fresh_port_and_knocks_at_once() -> None:
    driven = Driven(own=key(0x80)).start().run(13 * 3 + 0.5)  # the larger key: 3 failures
    [taken_at] = [at for at, action in driven.done if isinstance(action, actions.TakeFreshPort)]
    assert 39 <= taken_at - 1000 <= 39.5
    knocks = [at for at, action in driven.done if isinstance(action, actions.SetPeers)]
    assert knocks[-1] == taken_at
    assert driven.said("restart condition")[0].fields["reason"].endswith("3 probes in a row failed")


def test_the_hub_is_shown_the_fresh_port() -> None:
    driven = Driven().start().run(13 * 3 + 0.5)
    assert len(driven.all_done(actions.GreetHub)) == 1


def test_a_peer_that_took_a_fresh_port_at_the_same_moment_is_opened_to_before_it_is_knocked_at() -> None:
    moved_to = "203.0.113.7:40000"
    driven = Driven().start().run(13 * 3 + 0.5)
    [fresh_at] = [at for at, action in driven.done if isinstance(action, actions.TakeFreshPort)]
    driven.records = {PEER: events.PeerRecord(moved_to, ADDRESS)}
    driven.run(12)

    def after(kind: type[Any]) -> list[tuple[float, Any]]:
        return [(at, action) for at, action in driven.done if at > fresh_at and isinstance(action, kind)]

    [(opened_at, opener)] = after(actions.SendOpeners)
    [(knocked_at, knock)] = after(actions.SetPeers)
    assert opener.endpoints == (moved_to,)
    assert [change.endpoint for change in knock.changes] == [moved_to]
    assert 1.0 <= opened_at - fresh_at < 1.1
    assert 1.0 <= knocked_at - opened_at < 1.1


def test_peers_that_stayed_are_left_alone_until_the_pass_after_a_fresh_port() -> None:
    driven = Driven().start().run(13 * 3 + 0.5)
    knocks = len(driven.changes())
    driven.run(12)
    assert len(driven.changes()) == knocks
    driven.run(2)
    assert len(driven.changes()) == knocks + 1


def test_a_new_endpoint_of_the_peer_puts_the_restart_off() -> None:
    driven = Driven().start().run(30)
    driven.records = {PEER: events.PeerRecord("203.0.113.7:40000", ADDRESS)}
    driven.run(13 * 2 + 5)
    assert driven.all_done(actions.TakeFreshPort) == []


def test_an_offline_peer_causes_no_restart_and_leaves_no_entry() -> None:
    driven = Driven().start().run(30)
    driven.records = {}
    driven.run(200)
    assert driven.all_done(actions.TakeFreshPort) == []
    assert PEER not in driven.peers


def test_refresh_off_never_takes_a_fresh_port_and_says_so() -> None:
    driven = Driven(Settings(refresh=Policy.OFF)).start().run(300)
    assert driven.all_done(actions.TakeFreshPort) == []
    assert "refresh: off" in driven.mesh.status(driven.now_s)[0]["why"]


def test_refresh_restart_restarts_the_client_after_its_count_is_saved() -> None:
    driven = Driven(Settings(refresh=Policy.RESTART)).start().run(13 * 3 + 0.5)
    kinds = [type(action) for _, action in driven.done]
    assert kinds.index(actions.RestartClient) > kinds.index(actions.SaveState)
    assert driven.all_done(actions.SaveState)[-1].state["refresh"]["counts"][PEER]["factor"] == 4


def test_a_hopeless_peer_gets_fresh_ports_ever_more_seldom() -> None:
    driven = Driven().start().run(5000)
    assert len(driven.all_done(actions.TakeFreshPort)) == 6


def test_an_agent_that_died_takes_its_links_over_without_touching_them() -> None:
    driven = Driven()
    driven.peers[PEER] = dataclasses.replace(
        HUB_PEER, public_key=PEER, allowed_ips=(ADDRESS,), endpoint=ENDPOINT
    )
    driven.answering = {PEER}
    driven.start({PEER: ADDRESS}).run(5)
    assert driven.state() is State.DIRECT
    assert driven.changes() == []


def test_what_it_takes_over_but_does_not_answer_goes_back_to_the_relay() -> None:
    driven = Driven()
    driven.peers[PEER] = dataclasses.replace(
        HUB_PEER, public_key=PEER, allowed_ips=(ADDRESS,), endpoint=ENDPOINT
    )
    driven.start({PEER: ADDRESS}).run(4)
    assert driven.peers[PEER].allowed_ips == ()


def test_stopping_removes_its_own_peers_and_only_these() -> None:
    driven = direct()
    driven.give(events.Stopping(hub_answers=True))
    assert set(driven.peers) == {HUB}
    assert driven.all_done(actions.RecordOwned)[-1].owned == {}


def test_stopping_while_the_hub_is_silent_leaves_the_links() -> None:
    driven = direct()
    driven.give(events.Stopping(hub_answers=False))
    assert driven.peers[PEER].allowed_ips == (ADDRESS,)


def test_an_address_of_an_online_peer_cannot_be_taken_by_another() -> None:
    driven = direct()
    driven.records = {**(driven.records or {}), OTHER: events.PeerRecord("203.0.113.9:1", ADDRESS)}
    driven.run(30)
    assert driven.changes(OTHER) == []
    assert f"belongs to {PEER}" in {e["peer"]: e for e in driven.mesh.status(driven.now_s)}[OTHER]["why"]


def test_a_changed_address_moves_the_link() -> None:
    driven = direct()
    driven.records = {PEER: events.PeerRecord(ENDPOINT, "192.168.7.66/32")}
    driven.run(16)
    assert driven.peers[PEER].allowed_ips == ("192.168.7.66/32",)


def test_garbage_from_the_hub_moves_nothing() -> None:
    driven = direct()
    driven.records = {
        **(driven.records or {}),
        "not a key": events.PeerRecord(ENDPOINT, ADDRESS),
        OWN: events.PeerRecord(ENDPOINT, "192.168.7.5/32"),
        OTHER: events.PeerRecord("127.0.0.1:51820", "0.0.0.0/0"),
    }
    driven.run(30)
    assert set(driven.peers) == {HUB, PEER}
    assert driven.state() is State.DIRECT


def test_unproven_addresses_get_at_most_30_packets_a_second() -> None:
    driven = Driven()
    driven.records = {
        key(number): events.PeerRecord(f"203.0.113.{number}:51820", f"192.168.7.{number}/32")
        for number in range(10, 60)
    }
    driven.start().run(13)
    sent: list[float] = []
    for at, action in driven.done:
        if isinstance(action, actions.SendOpeners):
            sent += [at] * (4 * len(action.endpoints))
    assert len(sent) == 200
    assert all(sum(at <= other < at + 1 for other in sent) <= 60 for at in sent)
    assert sent[-1] - sent[0] >= (len(sent) - 30) / 30 - 0.5


def test_the_state_is_saved_when_it_changes_and_is_taken_over() -> None:
    driven = Driven().start().run(30)
    saved = json.loads(json.dumps(driven.all_done(actions.SaveState)[-1].state))
    again = Driven()
    again.records = None
    again.mesh.restore(saved, again.now_s)
    again.shaking = again.answering = {PEER}
    again.start()
    assert again.mesh.status(again.now_s)[0]["since_s"] == 0
    again.run(2)
    assert again.state() is State.DIRECT  # known endpoints are tried even though the hub is silent
    count = len(driven.all_done(actions.SaveState))
    assert count <= 4


def test_a_peer_that_the_hub_does_not_know_any_more_is_forgotten_also_by_what_is_on_disk() -> None:
    """Its key was removed while this agent did not run."""
    before = direct()
    before.give(events.Stopping(hub_answers=False))
    saved = before.all_done(actions.SaveState)[-1].state
    again = Driven()
    again.mesh.restore(saved, again.now_s)
    again.peers = dict(before.peers)
    again.start(owned={PEER: ADDRESS})
    assert PEER in again.mesh.links
    again.give(events.Snapshot(events.PeerView("192.168.7.5/32"), {}))
    assert PEER not in again.mesh.links
    assert PEER not in again.peers
    assert PEER not in json.dumps(again.all_done(actions.SaveState)[-1].state)


def test_a_peer_that_goes_while_the_agent_runs_is_forgotten_at_once() -> None:
    driven = Driven()
    driven.peers[PEER] = dataclasses.replace(HUB_PEER, public_key=PEER, allowed_ips=(ADDRESS,))
    driven.start(owned={PEER: ADDRESS})
    view = events.PeerView(ADDRESS, ENDPOINT, online=True, signals=True, instance="1" * 16, linked=True)
    driven.give(events.Snapshot(events.PeerView("192.168.7.5/32"), {PEER: view}))
    assert PEER in json.dumps(driven.all_done(actions.SaveState)[-1].state)
    driven.give(events.PeerGone(PEER))
    assert driven.mesh.links == {}
    assert driven.peers.keys() == {HUB}
    assert PEER not in json.dumps(driven.all_done(actions.SaveState)[-1].state)


def test_a_link_that_the_loop_made_direct_says_so_when_its_agent_begins_to_signal() -> None:
    driven = Driven()
    driven.peers[PEER] = Peer(PEER, ENDPOINT, (ADDRESS,), 1, 0, 0, 13)
    driven.start()
    driven.mesh.node.own(PEER, ADDRESS)
    driven.mesh.pairs.update(PEER, events.PeerView(ADDRESS, ENDPOINT, online=True, signals=True), 1000.0)
    [entry] = [entry for entry in driven.mesh.status(1000.0) if entry["peer"] == PEER]
    assert (entry["state"], entry["why"]) == ("direct", "it was direct when the agent began to signal")


def test_a_peer_that_is_online_without_its_agent_is_not_called_offline() -> None:
    driven = Driven().start()
    driven.later.clear()  # the stream is open
    there = events.PeerView(ADDRESS, ENDPOINT, online=True, signals=True, instance="fedcba9876543210")
    driven.give(events.Snapshot(events.PeerView("192.168.7.5/32", ENDPOINT), {PEER: there}))
    driven.run(1)
    gone = dataclasses.replace(there, signals=False)
    driven.give(events.PeerChanged(PEER, gone))
    died_at = driven.now_s
    hear_the_hub_for(40, driven)
    assert why(driven) == "its agent does not answer (last heard 40 s ago), relayed"

    driven.give(events.PeerChanged(PEER, dataclasses.replace(gone, instance=None)))  # the hub forgets its run
    hear_the_hub_for(30, driven)
    assert PEER in driven.mesh.loop.links
    assert (
        why(driven) == f"its agent does not answer (last heard {driven.now_s - died_at:.0f} s ago), relayed"
    )
    assert driven.said("the peer's agent does not answer")

    driven.give(events.PeerChanged(PEER, dataclasses.replace(gone, instance=None, online=False)))
    hear_the_hub_for(30, driven)
    assert why(driven) == "the hub says that it is offline"


def hear_the_hub_for(seconds: int, driven: Driven) -> None:
    """Let the time pass while the stream is heard."""
    for _ in range(seconds // 10):
        driven.run(10)
        driven.give(events.StreamHeard())


def why(driven: Driven) -> str:
    """What is said of the link to PEER."""
    [entry] = [entry for entry in driven.mesh.status(driven.now_s) if entry["peer"] == PEER]
    text: str = entry["why"]
    return text


def signalling(address: str = ADDRESS, endpoint: str = ENDPOINT) -> events.PeerView:
    return events.PeerView(address, endpoint, online=True, signals=True, instance="1" * 16)


@pytest.mark.parametrize("own_key", [key(0x02), OWN])
def test_a_peer_without_a_common_ip_family_gets_no_packet_and_both_ends_say_why(own_key: str) -> None:
    """Not that the other end offers the next try: it offers none."""
    driven = Driven(own=own_key).start()
    driven.later.clear()
    own = events.PeerView("192.168.7.5/32", "203.0.113.5:51820")
    driven.give(events.Snapshot(own, {PEER: signalling(endpoint="[2001:db8::7]:51820")}))
    hear_the_hub_for(60, driven)
    assert driven.all_done(actions.SendOpeners) == []
    assert driven.all_done(actions.SendSignal) == []
    assert driven.changes() == []
    [entry] = driven.mesh.status(driven.now_s)
    assert entry["why"].startswith("no common IP family")
    assert "offers" not in entry["why"]


def test_what_was_counted_of_a_peer_goes_with_its_link() -> None:
    driven = Driven().start()
    driven.give(events.Snapshot(events.PeerView("192.168.7.5/32"), {PEER: signalling()}))
    assert PEER in driven.mesh.node.refresh.counts
    driven.give(events.PeerChanged(PEER, signalling(address="10.9.9.9/32")))
    assert PEER not in driven.mesh.node.refresh.counts


def test_what_was_counted_of_a_peer_that_the_hub_does_not_know_any_more_is_forgotten() -> None:
    driven = Driven()
    count = {"endpoint": ENDPOINT, "failures": 1, "row": 1, "factor": 4}
    refresh = {"taken_ages_s": [], "counts": {PEER: count}}
    driven.mesh.restore({"links": {}, "refresh": refresh}, driven.now_s)
    driven.start()
    driven.give(events.Snapshot(events.PeerView("192.168.7.5/32"), {}))
    assert PEER not in driven.mesh.node.refresh.counts


def places_of(key: str, thing: object, name: str, seen: set[int]) -> list[str]:
    """Where in `thing`, called `name`, and in whatever it refers to, this key is."""
    if isinstance(thing, str):
        return [name] if thing == key else []
    if id(thing) in seen or isinstance(thing, type):
        return []
    seen.add(id(thing))
    parts = list(vars(thing).items()) if hasattr(thing, "__dict__") else []
    if isinstance(thing, Mapping):
        parts += [(f"[{at!r}]", part) for pair in thing.items() for at, part in zip(pair, pair, strict=True)]
    elif isinstance(thing, (list, tuple, set, frozenset, collections.deque)):
        parts += [("[]", part) for part in thing]
    return [place for at, part in parts for place in places_of(key, part, f"{name}.{at}", seen)]


def test_nothing_is_kept_of_a_peer_that_the_hub_does_not_know_any_more() -> None:
    """Whoever gives a node a new key again and again must not make all others grow."""
    mesh = told(PEER, OTHER)
    mesh.make_direct()
    mesh.hear("refused")
    mesh.give(events.DeviceSeen(mesh.device(), beat_bytes={"192.168.7.6": (100, 100)}))
    assert len(places_of(PEER, mesh.mesh, "mesh", set())) > 1
    del mesh.views[PEER]
    mesh.give(events.PeerGone(PEER))
    mesh.run(60.0)
    assert places_of(PEER, mesh.mesh, "mesh", set()) == []


# --- subnets behind a peer ---

SUBNET, HALVES = "10.1.0.0/24", ("10.1.0.0/25", "10.1.0.128/25")


def with_subnet(*relayed: str) -> Driven:
    """The peer has a subnet, and our hub peer has these networks."""
    driven = Driven()
    driven.peers[HUB] = dataclasses.replace(HUB_PEER, allowed_ips=relayed)
    driven.records = {PEER: events.PeerRecord(ENDPOINT, f"{ADDRESS},{SUBNET}")}
    driven.shaking, driven.answering = {PEER}, {PEER}
    return driven.start().run(30)


def test_a_subnet_moves_with_the_address_and_the_hub_peer_keeps_it() -> None:
    driven = with_subnet("192.168.7.0/24", SUBNET)
    assert driven.state() is State.DIRECT
    assert driven.peers[PEER].allowed_ips == (ADDRESS, *HALVES)
    assert not driven.changes(HUB)
    assert driven.all_done(actions.Probe)[-1].address == "192.168.7.6"


def test_a_subnet_that_is_not_routed_here_is_left_out_until_it_is() -> None:
    driven = with_subnet("192.168.7.0/24")
    assert driven.peers[PEER].allowed_ips == (ADDRESS,)
    driven.peers[HUB] = dataclasses.replace(HUB_PEER, allowed_ips=("192.168.7.0/24", SUBNET))
    driven.run(30)
    assert driven.peers[PEER].allowed_ips == (ADDRESS, *HALVES)
    assert driven.state() is State.DIRECT


def test_a_link_of_which_something_else_took_a_half_is_made_anew() -> None:
    driven = with_subnet("192.168.7.0/24", SUBNET)
    driven.peers[PEER] = dataclasses.replace(driven.peers[PEER], allowed_ips=(ADDRESS, HALVES[0]))
    driven.run(30)
    assert driven.peers[PEER].allowed_ips == (ADDRESS, *HALVES)


def test_two_peers_with_one_subnet_do_not_take_it_from_one_another() -> None:
    driven = with_subnet("192.168.7.0/24", SUBNET)
    other = events.PeerRecord("203.0.113.9:51820", f"192.168.7.9/32,{SUBNET}")
    driven.records = {**(driven.records or {}), OTHER: other}
    driven.shaking.add(OTHER)
    driven.run(30)
    assert driven.peers[PEER].allowed_ips == (ADDRESS, *HALVES)
    assert OTHER not in driven.peers
    [refused] = [entry for entry in driven.mesh.status(driven.now_s) if entry["peer"] == OTHER]
    assert refused["why"] == f"{SUBNET} belongs to {PEER}, which is online"
