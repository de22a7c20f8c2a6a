# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""A peer (bob) changes its key at a hub (alice), on real WireGuard, with pings under way."""

from __future__ import annotations

import itertools
import re
import signal
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from ansible_collections.rendezvous.wireguard.plugins.module_utils._wireguard import conf, keys, mesh_secret
from tests.integration.modules.conftest import Node, Result

pytestmark = pytest.mark.lab
Pair = tuple[Node, Node]
PINGS_PER_S = 20


class Pings:
    """From one node to an address while the context lasts; then the longest time without an answer."""

    gap_s = float("inf")

    def __init__(self, node: Node, address: str) -> None:
        self._command = ("ping", "-n", "-D", "-i", str(1 / PINGS_PER_S), address)
        self._node = node

    def __enter__(self) -> Pings:
        enter = ("ip", "netns", "exec", self._node.namespace)
        self._process = subprocess.Popen([*enter, *self._command], stdout=subprocess.PIPE, text=True)
        time.sleep(0.5)
        return self

    def __exit__(self, *_: object) -> None:
        time.sleep(0.5)
        self._process.send_signal(signal.SIGINT)
        output, _err = self._process.communicate(timeout=10)
        at = [float(text) for text in re.findall(r"^\[([\d.]+)\] .*icmp_seq=\d+ ttl", output, re.MULTILINE)]
        self.gap_s = max((b - a for a, b in itertools.pairwise(at)), default=float("inf"))


def prepare(node: Node, **options: object) -> Result:
    return node.module("rotate_key", {**own(node), "state": "prepared", **options})


def rotate(node: Node, **options: object) -> Result:
    return node.module("rotate_key", {**own(node), "hub_address": "192.168.7.1", **options})


def handover(node: Node, **options: object) -> Result:
    return node.module("handover", {**own(node), **options})


def own(node: Node) -> Result:
    return {"interface": node.interface, "directory": str(node.directory)}


def public_key(node: Node) -> str:
    return node.run("wg", "show", node.interface, "public-key").strip()


def private_keys(node: Node) -> set[str]:
    return {path.read_text().strip() for path in node.directory.glob("*.key*")}


def wait_until(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def announced(hub: Node, peer: Node) -> Result:
    """Make the next key and announce it."""
    plan = prepare(peer)
    assert plan["changed"]
    assert handover(hub, announced=[{"public_key": plan["next_public_key"], "replaces": plan["public_key"]}])[
        "changed"
    ]
    return plan


def test_the_gap_of_a_rotation_is_that_of_a_handshake(pair: Pair, capsys: pytest.CaptureFixture[str]) -> None:
    alice, bob = pair
    secrets = private_keys(bob)
    output = ""
    with (
        ThreadPoolExecutor() as pool,
        Pings(bob, "192.168.7.1") as there,
        Pings(alice, "192.168.7.2") as back,
    ):
        plan = announced(alice, bob)
        secrets |= private_keys(bob)
        watcher = pool.submit(handover, alice, watch_s=60)
        handover(alice, await_watch_s=20)
        rotated = rotate(bob)
        confirmed = handover(alice, confirmed=[rotated["public_key"]])
        output = "".join(r["output"] for r in (plan, rotated, confirmed, watcher.result()))
    with capsys.disabled():
        print(f"\nrotation: gap {there.gap_s:.2f} s there, {back.gap_s:.2f} s back")

    assert max(there.gap_s, back.gap_s) < 1
    assert rotated["public_key"] == plan["next_public_key"] == public_key(bob) == bob.info()["public_key"]
    assert alice.info()["peers"][0]["public_key"] == rotated["public_key"]
    assert len(alice.info()["peers"]) == 1
    assert plan["public_key"] not in alice.conf.read_text()
    assert not (bob.directory / f"{bob.interface}.key.next").exists()
    assert secrets
    assert not any(secret in output for secret in secrets)
    assert not prepare(bob, min_age_s=3600)["changed"]
    assert not rotate(bob)["changed"]
    assert not handover(alice, confirmed=[rotated["public_key"]])["changed"]
    # A reload of what is in the files changes nothing either.
    for node in pair:
        node.run("sh", "-c", f"wg-quick strip {node.conf} | wg syncconf {node.interface} /dev/stdin")
    assert not bob.loses_a_ping_to("192.168.7.1")


def preshared_keys(node: Node) -> set[str]:
    """Of the file and the running interface together."""
    running = node.run("wg", "show", node.interface, "preshared-keys").split()[1::2]
    return {*running, *conf.parse(node.conf.read_text()).preshared_keys()}


def test_a_mesh_secret_comes_into_use_and_is_rotated_without_an_outage(
    pair: Pair, capsys: pytest.CaptureFixture[str]
) -> None:
    alice, bob = pair
    first, second = keys.generate_private_key(), keys.generate_private_key()
    output = ""
    with Pings(bob, "192.168.7.1") as there, Pings(alice, "192.168.7.2") as back:
        for secrets in ([first], [second, first]):
            for number, node in enumerate(pair, start=1):
                options = {"address": f"192.168.7.{number}/24", "listen_port": 51820}
                output += node.configure(**options, mesh_secrets=secrets)["output"]
            before = preshared_keys(bob)
            # However young the key is.
            from_secret = {"from_mesh_secret": True, "hub_address": "192.168.7.1"}
            plan = prepare(bob, min_age_s=3600, **from_secret)
            announcement = {"public_key": plan["next_public_key"], "replaces": plan["public_key"]}
            told = handover(alice, announced=[announcement], from_mesh_secret=True)
            with ThreadPoolExecutor() as pool:
                watcher = pool.submit(handover, alice, watch_s=60)
                handover(alice, await_watch_s=20)
                key_id = told["announced"][0]["preshared_key_id"]
                rotated = rotate(bob, **from_secret, preshared_key_id=key_id)
                confirmed = handover(alice, confirmed=[rotated["public_key"]])
                output += "".join(r["output"] for r in (plan, told, rotated, confirmed, watcher.result()))
            derived = mesh_secret.preshared_key(secrets[0], public_key(alice), public_key(bob))
            assert preshared_keys(alice) == preshared_keys(bob) == {derived}
            assert derived not in before | {"(none)"}
            assert not any(secret in output for secret in (*secrets, derived))
            assert not prepare(bob, min_age_s=3600, **from_secret)["changed"]
    with capsys.disabled():
        print(f"\nmesh secret: gap {there.gap_s:.2f} s there, {back.gap_s:.2f} s back")
    assert max(there.gap_s, back.gap_s) < 1


def test_a_peer_that_the_hub_does_not_answer_goes_back(pair: Pair) -> None:
    alice, bob = pair
    plan = prepare(bob)
    failed = rotate(bob)  # the hub was told nothing
    assert failed["failed"]
    assert f"goes on with its old key {plan['public_key']}" in failed["msg"]
    assert public_key(bob) == plan["public_key"]
    assert not bob.loses_a_ping_to("192.168.7.1")
    assert prepare(bob)["next_public_key"] == plan["next_public_key"]
    assert plan["public_key"] in alice.conf.read_text()


def test_a_peer_that_went_over_and_back_is_followed_by_the_hub(pair: Pair) -> None:
    """The way of the connection is cut after the handshake, so that no answer comes."""
    alice, bob = pair
    plan = announced(alice, bob)
    alice.run("nft", "add table ip t; add chain ip t o { type filter hook output priority 0; }")
    alice.run("nft", "add rule ip t o tcp sport 8080 drop")
    with ThreadPoolExecutor() as pool:
        watcher = pool.submit(handover, alice, watch_s=30)
        time.sleep(3)
        failed = rotate(bob)
        assert failed["failed"], failed
        alice.run("nft", "delete table ip t")
        wait_until(lambda: not bob.is_cut_off_from("192.168.7.1"))
        assert public_key(bob) == plan["public_key"]
        alice.peers({"public_key": plan["next_public_key"], "state": "absent"})
        assert not watcher.result()["failed"]


@pytest.mark.parametrize("after", ["the rename", "the file", "the switch"])
def test_what_a_kill_has_left_is_brought_to_its_end(pair: Pair, after: str) -> None:
    alice, bob = pair
    plan = announced(alice, bob)
    old, new = bob.key.read_text().strip(), Path(f"{bob.key}.next").read_text().strip()
    Path(f"{bob.key}.next").rename(bob.key)
    if after != "the rename":
        bob.conf.write_text(bob.conf.read_text().replace(old, new))
    if after == "the switch":
        bob.run("sh", "-c", f"wg set {bob.interface} private-key {bob.key}")
        bob.run("ping", "-c1", "-W1", "192.168.7.1", check=False)
    # The next run begins with what the hub knows by handshakes.
    handover(alice)
    assert not bob.loses_a_ping_to("192.168.7.1")
    again = prepare(bob, min_age_s=3600)
    with ThreadPoolExecutor() as pool:
        watcher = pool.submit(handover, alice, watch_s=30)
        time.sleep(3)
        rotated = rotate(bob)
        assert rotated["public_key"] == plan["next_public_key"], (again, rotated)
        handover(alice, confirmed=[rotated["public_key"]])
        watcher.result()
    assert public_key(bob) == plan["next_public_key"]
    assert not bob.loses_a_ping_to("192.168.7.1")
    assert len(alice.info()["peers"]) == 1


def test_a_removed_key_gets_no_handshake_and_is_not_let_in_again(pair: Pair) -> None:
    alice, bob = pair
    key = public_key(bob)
    removed = alice.module("remove_peer", {**own(alice), "peers": [key]})
    assert removed["changed"]
    assert not alice.module("remove_peer", {**own(alice), "peers": [key]})["changed"]
    assert bob.is_cut_off_from("192.168.7.1")
    refused = alice.peers({"public_key": key, "allowed_ips": ["192.168.7.2/32"]})
    assert refused["failed"]
    assert "was removed" in refused["msg"]
    assert alice.module("admission", {**own(alice), "public_key": key})["failed"]
