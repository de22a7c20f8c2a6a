# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""Rotation and removal, step by step on a fake node: `handover`, `rotate_key`, `remove_peer`, `admission`."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.rendezvous.wireguard.plugins.module_utils import _handover, _rotation
from ansible_collections.rendezvous.wireguard.plugins.module_utils._wireguard import conf, keys, mesh_secret
from tests.unit.plugins.conftest import Host
from tests.unit.plugins.fake_node import FakePeer

OLD, NEW, CAROL = (keys.public_key(keys.generate_private_key()) for _ in range(3))
PSK = keys.generate_private_key()
NETWORKS = ["192.168.7.6/32", "10.6.0.0/16"]
ANNOUNCED = {"announced": [{"public_key": NEW, "replaces": OLD}]}


def handover(host: Host, check: bool = False, /, **options: Any) -> dict[str, Any]:
    return host.module("handover", check, directory=str(host.directory), **options)


def shake(host: Host, key: str, at: int) -> None:
    host.node.peers[key].handshake_at = at


@pytest.fixture
def hub(ready: Host) -> Host:
    """A hub that knows bob by his old key, with a preshared key and a routed network, and carol."""
    bob = {"name": "bob", "public_key": OLD, "allowed_ips": NETWORKS, "preshared_key": PSK}
    ready.peers(
        {**bob, "persistent_keepalive_s": 20},
        {"name": "carol", "public_key": CAROL, "allowed_ips": ["192.168.7.7/32"]},
    )
    shake(ready, OLD, 100)
    ready.node.commands.clear()
    return ready


def owner(host: Host) -> str:
    """Who has bob's address, in the file and running alike."""
    (running,) = [key for key, peer in host.node.peers.items() if NETWORKS[0] in peer.allowed_ips]
    listed = {peer["public_key"]: peer["allowed_ips"] for peer in host.peers(check=True)["peers"]}
    (in_file,) = [key for key, networks in listed.items() if NETWORKS[0] in networks]
    assert in_file == running
    assert listed[running] == host.node.peers[running].allowed_ips == NETWORKS
    return running


# ---- the hub's half ----


def test_an_announced_key_can_shake_hands_and_has_no_networks(hub: Host) -> None:
    result = handover(hub, **ANNOUNCED)
    assert result["changed"]
    assert result["pending"] == [{"name": "bob", "public_key": NEW}]
    assert hub.node.peers[NEW] == FakePeer(PSK)
    assert (
        f"# Name = bob\n# Replaces = {OLD}\nPublicKey = {NEW}\nPresharedKey = {PSK}\n" in hub.conf.read_text()
    )
    assert owner(hub) == OLD
    assert not handover(hub, **ANNOUNCED)["changed"]
    assert PSK not in hub.output


def test_who_shook_hands_last_has_the_networks(hub: Host) -> None:
    handover(hub, **ANNOUNCED)
    for new_at, old_at, has in ((0, 110, OLD), (120, 110, NEW), (120, 130, OLD), (140, 130, NEW)):
        shake(hub, NEW, new_at)
        shake(hub, OLD, old_at)
        handover(hub)
        assert owner(hub) == has
        assert not handover(hub)["changed"]
    assert hub.node.peers[NEW].persistent_keepalive_s == 20
    assert hub.node.peers[CAROL] == FakePeer(None, None, ["192.168.7.7/32"])


def test_the_networks_are_taken_by_one_command(hub: Host) -> None:
    handover(hub, **ANNOUNCED)
    shake(hub, NEW, 120)
    hub.node.commands.clear()
    handover(hub)
    first = hub.node.changes()[0]
    assert first.startswith(f"wg set wg0 peer {NEW}")
    assert "allowed-ips 192.168.7.6/32,10.6.0.0/16" in first


def test_the_old_key_goes_when_the_new_one_is_confirmed_and_only_then(hub: Host) -> None:
    handover(hub, **ANNOUNCED)
    shake(hub, NEW, 120)
    handover(hub)
    assert OLD in hub.node.peers
    result = handover(hub, confirmed=[NEW])
    assert result["pending"] == []
    assert hub.node.peers.keys() == {CAROL, NEW}
    assert OLD not in hub.conf.read_text()
    assert owner(hub) == NEW
    assert not handover(hub, confirmed=[NEW])["changed"]
    assert not handover(hub, confirmed=[CAROL])["changed"]
    assert not handover(hub, **ANNOUNCED)["changed"], "the old one is gone: there is nothing to announce"


def test_keys_that_several_killed_runs_have_left_go_together(hub: Host) -> None:
    handover(hub, **ANNOUNCED)
    shake(hub, NEW, 120)
    later = keys.public_key(keys.generate_private_key())
    handover(hub, announced=[{"public_key": later, "replaces": NEW}])
    shake(hub, later, 130)
    handover(hub)
    assert owner(hub) == later
    handover(hub, confirmed=[later])
    assert hub.node.peers.keys() == {CAROL, later}
    assert hub.conf.read_text().count("[Peer]") == 2
    assert owner(hub) == later


def test_a_rotation_begins_with_what_the_last_one_has_not_confirmed(hub: Host) -> None:
    handover(hub, **ANNOUNCED)
    later = keys.public_key(keys.generate_private_key())
    handover(hub, confirmed=[NEW], announced=[{"public_key": later, "replaces": NEW}])
    assert hub.node.peers.keys() == {CAROL, NEW, later}
    assert owner(hub) == NEW


def test_a_key_of_nobody_cannot_be_replaced(hub: Host) -> None:
    stranger = keys.public_key(keys.generate_private_key())
    result = handover(hub, announced=[{"public_key": NEW, "replaces": stranger}])
    assert result["failed"]
    for word in (stranger, "not in the mesh", "rendezvous.wireguard.site"):
        assert word in result["msg"]
    assert handover(hub, announced=[{"public_key": OLD, "replaces": OLD}])["failed"]
    assert hub.node.changes() == []


def test_check_mode_changes_nothing_and_does_not_wait(hub: Host) -> None:
    text = hub.conf.read_text()
    began = time.monotonic()
    result = handover(hub, True, **ANNOUNCED, watch_s=60)
    assert result["changed"]
    assert time.monotonic() - began < 10
    assert hub.conf.read_text() == text
    assert hub.node.changes() == []


def test_site_yml_ends_a_rotation_that_was_aborted(hub: Host) -> None:
    """It tells the hub the key that the host has: that is the one."""
    handover(hub, **ANNOUNCED)
    result = hub.peers({"name": "bob", "public_key": NEW, "allowed_ips": NETWORKS, "preshared_key": PSK})
    assert not result.get("failed"), result
    assert hub.node.peers.keys() == {CAROL, NEW}
    assert owner(hub) == NEW
    assert "Replaces" not in hub.conf.read_text()


def test_site_yml_leaves_one_alone_that_has_only_been_announced(hub: Host) -> None:
    handover(hub, **ANNOUNCED)
    old = {"name": "bob", "public_key": OLD, "allowed_ips": NETWORKS, "preshared_key": PSK}
    assert not hub.peers({**old, "persistent_keepalive_s": 20})["changed"]


def test_a_command_that_fails_leaves_file_and_interface_as_they_were(hub: Host) -> None:
    handover(hub, **ANNOUNCED)
    shake(hub, NEW, 120)
    text = hub.conf.read_text()
    hub.node.broken = (f"peer {NEW}",)
    assert handover(hub)["failed"]
    hub.node.broken = ()
    assert hub.conf.read_text() == text
    assert owner(hub) == OLD


class AtOnce(Executor):
    """Instead of the thread in which the watch settles what it has done; `before` happens first."""

    def __init__(self, before: Callable[[], object] = lambda: None) -> None:
        self._before = before

    def submit(self, work: Callable[..., Any], /, *arguments: Any, **_: Any) -> Future[Any]:
        self._before()
        done: Future[Any] = Future()
        done.set_result(work(*arguments))
        return done


def at_look(
    monkeypatch: pytest.MonkeyPatch, *what: Callable[[], object], thread: Executor | None = None
) -> None:
    """Let these things happen at the first, second, ... look of the watch, which settles at once."""
    monkeypatch.setattr(_handover, "ThreadPoolExecutor", lambda **_: thread or AtOnce())
    pending = list(what)

    def sleep(_seconds: float) -> None:
        if pending:
            pending.pop(0)()

    monkeypatch.setattr("time.sleep", sleep)


def test_the_watch_follows_every_handshake_and_ends_when_all_is_confirmed(
    hub: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    handover(hub, **ANNOUNCED)
    seen: list[str] = []

    def confirm() -> None:
        text = hub.conf.read_text()
        parsed = _handover.confirm(conf.parse(text), NEW)
        hub.conf.write_text(parsed.render())

    at_look(
        monkeypatch,
        lambda: shake(hub, NEW, 200),
        lambda: seen.append(owner(hub)),
        lambda: shake(hub, OLD, 200),  # in the same second: it went back
        lambda: seen.append(owner(hub)),
        lambda: shake(hub, NEW, 201),
        confirm,
    )
    result = handover(hub, watch_s=20)
    assert result["changed"]
    assert seen == [NEW, OLD]
    assert result["pending"] == []


def test_a_slow_disk_keeps_nobody_else_waiting(hub: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host was cut off for 1.0 s, since one before it was still being written to the disk."""
    later = keys.public_key(keys.generate_private_key())
    handover(hub, announced=[*ANNOUNCED["announced"], {"public_key": later, "replaces": CAROL}])
    is_written = threading.Event()
    monkeypatch.setattr("os.fsync", lambda _file: is_written.wait(10))
    seen = []

    def look() -> None:
        seen.append((is_written.is_set(), hub.node.peers[later].allowed_ips))
        is_written.set()

    with ThreadPoolExecutor(max_workers=1) as thread:
        steps = (lambda: shake(hub, NEW, 200), lambda: shake(hub, later, 200), look)
        at_look(monkeypatch, *steps, thread=thread)
        assert handover(hub, watch_s=0.5)["changed"]
    assert seen == [(False, ["192.168.7.7/32"])]
    assert owner(hub) == NEW
    assert not handover(hub)["changed"], "the file has followed"


def test_a_peer_that_is_removed_while_it_is_handed_over_does_not_come_back(
    hub: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    handover(hub, **ANNOUNCED)
    at_look(monkeypatch, lambda: shake(hub, NEW, 200), thread=AtOnce(before=lambda: remove_both(hub)))
    assert handover(hub, watch_s=0.3)["pending"] == []
    assert hub.node.peers.keys() == {CAROL}


def test_the_old_key_that_goes_while_the_watch_looks_has_not_shaken_hands(
    hub: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another run removes it from the interface first, then from the file; the host was cut off."""
    handover(hub, **ANNOUNCED)
    at_look(
        monkeypatch,
        lambda: shake(hub, NEW, 200),
        lambda: hub.node.peers.pop(OLD),
        lambda: hub.conf.write_text(_handover.confirm(conf.parse(hub.conf.read_text()), NEW).render()),
    )
    assert handover(hub, watch_s=20)["pending"] == []
    assert hub.node.peers.keys() == {CAROL, NEW}
    assert owner(hub) == NEW


def remove_both(hub: Host) -> None:
    """What another run does that removes bob, seen from the file and the interface."""
    parsed = conf.parse(hub.conf.read_text())
    for key in (OLD, NEW):
        parsed = parsed.without_peer(key)
    hub.conf.write_text(parsed.render())
    hub.node.peers.pop(OLD)


def test_what_cannot_be_handed_over_is_said_when_the_watch_ends(
    hub: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    handover(hub, **ANNOUNCED)
    steps = (lambda: shake(hub, NEW, 200), lambda: setattr(hub.node, "broken", (f"peer {NEW}",)))
    with ThreadPoolExecutor(max_workers=1) as thread:
        at_look(monkeypatch, *reversed(steps), thread=thread)
        result = handover(hub, watch_s=0.3)
    assert result["failed"]
    assert f"peer {NEW}" in result["msg"]
    hub.node.broken = ()
    assert owner(hub) == OLD


def test_a_full_disk_takes_the_networks_from_nobody(hub: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    handover(hub, **ANNOUNCED)

    def write(path: str, _content: str) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

    with ThreadPoolExecutor(max_workers=1) as thread, monkeypatch.context() as patch:
        at_look(patch, lambda: shake(hub, NEW, 200), thread=thread)
        patch.setattr(_handover, "write_private", write)
        assert "No space left" in handover(hub, watch_s=0.3)["msg"]
    assert hub.node.peers[NEW].allowed_ips == NETWORKS
    assert handover(hub)["changed"]
    assert owner(hub) == NEW


def test_the_endpoint_that_a_handshake_came_from_is_not_looked_up_again(hub: Host) -> None:
    """On a peer, the hub's: its name may not resolve, as when the name server is behind the hub."""
    hub.peers(
        {"name": "bob", "public_key": OLD, "allowed_ips": NETWORKS, "endpoint": "bob.example.net:51820"}
    )
    handover(hub, **ANNOUNCED)
    hub.node.peers[NEW].endpoint = "198.51.100.7:51820"
    shake(hub, NEW, 120)
    hub.node.commands.clear()
    assert handover(hub)["changed"]
    assert owner(hub) == NEW
    assert "bob.example.net" not in " ".join(hub.node.changes())
    assert hub.conf.read_text().count("Endpoint = bob.example.net:51820") == 1


def test_the_watch_ends_at_its_time(hub: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    handover(hub, **ANNOUNCED)
    at_look(monkeypatch)
    result = handover(hub, watch_s=0.3)
    assert (result["changed"], len(result["pending"])) == (False, 1)


def test_the_watch_of_nobody_ends_at_once(hub: Host) -> None:
    began = time.monotonic()
    assert not handover(hub, watch_s=60)["changed"]
    assert time.monotonic() - began < 10


def test_a_watch_that_is_awaited_is_seen_by_other_runs(hub: Host) -> None:
    handover(hub, **ANNOUNCED)
    watching = _handover._flag("wg0")
    assert watching is not None
    with watching:
        assert not handover(hub, await_watch_s=60).get("warnings")
    (warning,) = handover(hub, await_watch_s=0.2)["warnings"]
    assert "nobody watches wg0 after 0 s" in str(warning)


def test_a_watch_shows_that_it_has_begun(hub: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    handover(hub, **ANNOUNCED)
    seen: list[Any] = []
    at_look(monkeypatch, lambda: seen.append(_handover._flag("wg0")))
    handover(hub, watch_s=0.3)
    assert seen == [None]
    after = _handover._flag("wg0")
    assert after is not None
    after.close()


@pytest.mark.parametrize("check", [False, True])
def test_no_watch_is_awaited_for_nobody(hub: Host, check: bool) -> None:
    if check:
        handover(hub, **ANNOUNCED)
    assert not handover(hub, check, await_watch_s=60).get("warnings")


# ---- the node's half ----


@pytest.fixture
def peer(ready: Host, monkeypatch: pytest.MonkeyPatch) -> Host:
    """A peer whose hub answers."""
    ready.peers({"name": "hub", "public_key": CAROL, "allowed_ips": ["192.168.7.0/24"]})
    monkeypatch.setattr(_rotation, "_answers", lambda *_: True)
    ready.node.commands.clear()
    return ready


def rotate(host: Host, check: bool = False, /, **options: Any) -> dict[str, Any]:
    more = {"directory": str(host.directory), "unit": "agent@wg0.service"}
    return host.module("rotate_key", check, hub_address="192.168.7.1", **more, **options)


def next_key(host: Host) -> Path:
    return Path(f"{host.key}.next")


def in_use(host: Host) -> set[str]:
    """The keys of key file, configuration and running interface."""
    in_file = conf.parse(host.conf.read_text()).interface().private_key
    return {host.key.read_text().strip(), str(in_file), str(host.node.private_key)}


def test_a_next_key_is_made_once_and_is_used_by_nobody_yet(peer: Host) -> None:
    before = in_use(peer)
    plan = rotate(peer, state="prepared")
    assert plan["changed"]
    assert next_key(peer).stat().st_mode & 0o777 == 0o600
    assert keys.public_key(next_key(peer).read_text().strip()) == plan["next_public_key"]
    assert in_use(peer) == before
    again = rotate(peer, state="prepared", min_age_s=3600)
    assert (again["changed"], again["next_public_key"]) == (False, plan["next_public_key"])


def test_file_configuration_and_interface_get_the_next_key(peer: Host) -> None:
    plan = rotate(peer, state="prepared")
    secrets = {next_key(peer).read_text().strip(), *in_use(peer)}
    result = rotate(peer)
    assert (result["changed"], result["public_key"]) == (True, plan["next_public_key"])
    assert {keys.public_key(key) for key in in_use(peer)} == {plan["next_public_key"]}
    assert not next_key(peer).exists()
    assert len(secrets) == 2
    assert not any(secret in peer.output for secret in secrets)
    assert not any(secret in command for secret in secrets for command in peer.node.commands)
    assert peer.node.agent_runs
    assert not rotate(peer)["changed"]
    assert not rotate(peer, state="prepared", min_age_s=3600)["changed"]


def test_the_agent_is_stopped_before_and_started_after_and_also_if_this_is_killed(peer: Host) -> None:
    rotate(peer, state="prepared")
    peer.node.commands.clear()
    rotate(peer)
    words = ("systemd-run", "stop agent", "private-key /dev", "stop resume-agent-wg0.timer", "restart agent")
    found = [next(w for w in words if w in c) for c in peer.node.commands if any(w in c for w in words)]
    assert found == list(words)


def test_an_agent_that_does_not_run_is_not_started(peer: Host) -> None:
    peer.node.agent_runs = False
    rotate(peer, state="prepared")
    assert rotate(peer)["changed"]
    assert not peer.node.agent_runs


@pytest.mark.parametrize(("age_s", "made"), [(30, False), (90, True)])
def test_a_young_key_is_kept(peer: Host, age_s: float, made: bool) -> None:
    then = time.time() - age_s
    os.utime(peer.key, (then, then))
    plan = rotate(peer, state="prepared", min_age_s=60)
    assert plan["changed"] is made
    assert (plan["next_public_key"] is not None) is made
    assert abs(plan["age_s"] - age_s) < 20


def test_without_an_answer_everything_is_as_it_was_and_the_next_key_waits(
    peer: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_rotation, "_answers", lambda *_: False)
    plan = rotate(peer, state="prepared")
    before, text = in_use(peer), peer.conf.read_text()
    failed = rotate(peer)
    assert failed["failed"]
    for word in ("192.168.7.1 port 8080", "goes on with its old key", plan["public_key"]):
        assert word in failed["msg"]
    assert (in_use(peer), peer.conf.read_text()) == (before, text)
    assert keys.public_key(next_key(peer).read_text().strip()) == plan["next_public_key"]
    assert peer.node.agent_runs


def test_a_device_that_refuses_the_key_goes_on_with_the_old_one(peer: Host) -> None:
    rotate(peer, state="prepared")
    before = in_use(peer)
    peer.node.broken = ("private-key /dev/stdin",)
    assert rotate(peer)["failed"]
    assert in_use(peer) == before


@pytest.mark.parametrize("killed_after", ["rename", "conf", "switch"])
def test_a_rotation_that_was_killed_is_brought_to_its_end(peer: Host, killed_after: str) -> None:
    plan = rotate(peer, state="prepared")
    old, new = peer.key.read_text().strip(), next_key(peer).read_text().strip()
    next_key(peer).rename(peer.key)
    if killed_after != "rename":
        peer.conf.write_text(peer.conf.read_text().replace(old, new))
    if killed_after == "switch":
        peer.node.private_key = new
    rotate(peer, state="prepared", min_age_s=3600)
    result = rotate(peer)
    assert result["public_key"] == plan["next_public_key"]
    assert in_use(peer) == {new}


def test_site_yml_as_well_ends_it(peer: Host) -> None:
    rotate(peer, state="prepared")
    new = next_key(peer).read_text().strip()
    next_key(peer).rename(peer.key)
    peer.interface()
    assert in_use(peer) == {new}


def test_check_mode_of_a_rotation_says_what_changes_and_writes_nothing(peer: Host) -> None:
    before = in_use(peer)
    assert rotate(peer, True, state="prepared")["changed"]
    result = rotate(peer, True)
    assert result["changed"]
    assert any("<key of public key" in change["after"] for change in result["diff"])
    assert in_use(peer) == before
    assert not next_key(peer).exists()
    assert peer.node.changes() == []
    assert not rotate(peer, True, min_age_s=3600)["changed"]


def test_a_host_without_a_key_and_one_that_is_down_are_refused(peer: Host) -> None:
    peer.node.up = False
    assert "systemctl start wg-quick@wg0" in rotate(peer, state="prepared")["msg"]
    peer.key.unlink()
    assert "not in the mesh" in rotate(peer, state="prepared")["msg"]


# ---- removal ----


def remove(host: Host, *names: str, check: bool = False, **options: Any) -> dict[str, Any]:
    return host.module("remove_peer", check, directory=str(host.directory), peers=list(names), **options)


def admit(host: Host, *keys: str) -> dict[str, Any]:
    return host.module("admission", directory=str(host.directory), public_keys=list(keys))


@pytest.mark.parametrize("called", ["bob", OLD], ids=["by-name", "by-key"])
def test_a_removed_peer_is_nowhere_and_its_key_stays_out(hub: Host, called: str) -> None:
    result = remove(hub, called)
    assert result["removed"] == [{"name": "bob", "public_key": OLD}]
    assert hub.node.peers.keys() == {CAROL}
    assert OLD not in hub.conf.read_text()
    assert not remove(hub, "bob")["changed"]
    assert not remove(hub, OLD)["changed"]
    text = (hub.directory / "wg0.removed").read_text()
    assert f"\n{OLD} {time.strftime('%Y-')}" in text
    refused = hub.peers({"public_key": OLD, "allowed_ips": NETWORKS})
    assert refused["failed"]
    for message in (refused["msg"], admit(hub, OLD, NEW)["refused"][OLD]):
        assert f"bob ({OLD}) was removed from wg0" in message
        assert "wg0.removed" in message
    assert hub.node.peers.keys() == {CAROL}
    assert admit(hub, NEW)["refused"] == {}
    assert admit(hub)["refused"] == {}
    assert PSK not in hub.output


def test_a_hub_says_its_key_and_what_it_has_with_whom(hub: Host) -> None:
    answer = admit(hub)
    own_key = keys.public_key(hub.key.read_text().strip())
    assert (answer["deployed"], answer["public_key"]) == (True, own_key)
    assert answer["preshared_key_ids"] == {OLD: mesh_secret.preshared_key_id(PSK), CAROL: ""}
    assert PSK not in hub.output
    hub.key.write_text(keys.generate_private_key() + "\n")
    assert admit(hub)["public_key"] == own_key, "as after a rotation that was killed: that is what peers know"
    hub.node.up = False
    assert admit(hub)["public_key"] == own_key
    hub.conf.unlink()
    assert admit(hub)["public_key"] not in (own_key, None)
    hub.key.unlink()
    assert (admit(hub)["deployed"], admit(hub)["public_key"]) == (False, None)


def test_a_deleted_line_takes_a_key_back(hub: Host) -> None:
    remove(hub, "bob")
    (hub.directory / "wg0.removed").write_text("# nobody\n")
    assert hub.peers({"public_key": OLD, "allowed_ips": NETWORKS})["changed"]


def test_both_keys_of_a_host_that_changes_its_key_go(hub: Host) -> None:
    handover(hub, **ANNOUNCED)
    assert len(remove(hub, "bob")["removed"]) == 2
    assert hub.node.peers.keys() == {CAROL}
    assert NEW in admit(hub, NEW)["refused"]


def test_check_mode_of_a_removal_says_the_same_and_does_nothing(hub: Host) -> None:
    result = remove(hub, "bob", check=True)
    assert result["changed"]
    assert any(f"{OLD} " in change["after"] for change in result["diff"])
    assert hub.node.changes() == []
    assert not (hub.directory / "wg0.removed").exists()


def test_who_cannot_be_removed_is_named_and_then_nobody_is(hub: Host) -> None:
    result = remove(hub, "bob", "bbo", "carol", kept={"carol": "[wireguard_peers]"})
    assert result["failed"]
    assert "'bbo' is no peer of wg0" in result["msg"]
    assert "there is bob, carol" in result["msg"]
    assert "'carol' is still in [wireguard_peers]" in result["msg"]
    assert OLD in hub.node.peers


def test_a_damaged_list_of_removed_keys_is_an_error_and_not_an_open_door(hub: Host) -> None:
    (hub.directory / "wg0.removed").write_text("# x\nnonsense 2025-11-25 bob\n")
    result = hub.peers({"public_key": NEW, "allowed_ips": []})
    assert result["failed"]
    assert "wg0.removed, line 2" in result["msg"]


# ---- the hub's own key ----


@pytest.fixture
def called(hub: Host, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Peers that answer a call; all calls are kept."""
    hub.keypair()
    hub.interface()
    calls: list[str] = []
    set_peer = hub.node._set_peer

    def answer(key: str, options: list[str], stdin: str | None) -> None:
        set_peer(key, options, stdin)
        if options == ["persistent-keepalive", "1"]:
            calls.append(key)
            if key != CAROL:
                hub.node.peers[key].handshake_at = int(time.time()) + 1

    monkeypatch.setattr(hub.node, "_set_peer", answer)
    monkeypatch.setattr(_rotation, "ANSWER_WITHIN_S", 0.5)
    return calls


def rotate_hub(hub: Host, check: bool = False) -> dict[str, Any]:
    return hub.module("rotate_key", check, directory=str(hub.directory))


def test_a_hub_calls_its_peers_with_its_new_key(hub: Host, called: list[str]) -> None:
    shake(hub, OLD, int(time.time()) - 10)
    plan = hub.module("rotate_key", directory=str(hub.directory), state="prepared")
    hub.node.commands.clear()
    result = rotate_hub(hub)
    assert result["public_key"] == plan["next_public_key"]
    assert {keys.public_key(key) for key in in_use(hub)} == {plan["next_public_key"]}
    (switch,) = hub.node.changes()
    assert switch.startswith("wg set wg0 private-key /dev/stdin"), "a command each took half a second"
    assert set(called) == {OLD, CAROL}
    assert [hub.node.peers[key].persistent_keepalive_s for key in (OLD, CAROL)] == [20, 0]
    assert not rotate_hub(hub)["changed"]


@pytest.mark.usefixtures("called")
def test_a_hub_that_nobody_answers_goes_back(hub: Host) -> None:
    shake(hub, CAROL, int(time.time()) - 10)
    hub.module("rotate_key", directory=str(hub.directory), state="prepared")
    before = in_use(hub)
    failed = rotate_hub(hub)
    assert "none of 1 peers has answered" in failed["msg"]
    assert "goes on with its old key" in failed["msg"]
    assert in_use(hub) == before


def test_what_still_comes_by_a_session_of_the_old_key_is_no_answer(
    hub: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.module("rotate_key", directory=str(hub.directory), state="prepared")
    shake(hub, OLD, int(time.time()) - 10)
    monkeypatch.setattr(_rotation, "ANSWER_WITHIN_S", 0.3)
    before = in_use(hub)

    def sleep(_seconds: float) -> None:
        hub.node.peers[OLD].rx_bytes += 1000

    monkeypatch.setattr("time.sleep", sleep)
    assert "none of 1 peers has answered" in rotate_hub(hub)["msg"]
    assert in_use(hub) == before


def test_a_hub_does_not_change_in_the_second_of_a_handshake_since_the_next_could_not_be_told(
    hub: Host, called: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.module("rotate_key", directory=str(hub.directory), state="prepared")
    now = [1_800_000_000.25]
    monkeypatch.setattr("time.time", lambda: now[0])
    shake(hub, OLD, int(now[0]))
    waits = []

    def sleep(seconds: float) -> None:
        waits.append((round(seconds, 2), list(called)))
        now[0] += seconds

    monkeypatch.setattr("time.sleep", sleep)
    assert rotate_hub(hub)["changed"]
    assert waits[0] == (0.75, [])
    assert OLD in called


@pytest.mark.usefixtures("called")
def test_a_hub_whose_peers_are_all_away_has_its_new_key(hub: Host) -> None:
    hub.module("rotate_key", directory=str(hub.directory), state="prepared")
    assert rotate_hub(hub)["changed"]


def test_a_hub_with_a_mesh_secret_keeps_its_key(hub: Host, called: list[str]) -> None:
    """All preshared keys would change with it."""
    hub.interface(mesh_secrets=[keys.generate_private_key()])
    before = in_use(hub)
    refused = hub.module("rotate_key", directory=str(hub.directory), state="prepared")
    assert "take wg_interface_mesh_secret out" in refused["msg"]
    assert not next_key(hub).exists()
    assert not rotate_hub(hub)["changed"]
    assert (in_use(hub), called) == (before, [])


def test_a_peer_of_that_name_with_another_key_is_replaced_where_a_name_has_one_key(hub: Host) -> None:
    new = {"name": "bob", "public_key": NEW, "allowed_ips": NETWORKS}
    assert "both claim" in hub.peers(new)["msg"]
    assert hub.peers(new, one_key_a_name=True)["changed"]
    assert NEW in hub.node.peers
    assert OLD not in hub.node.peers
    assert not hub.peers(new, one_key_a_name=True)["changed"]
