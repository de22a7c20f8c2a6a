# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""The hub as it is shipped, with real WireGuard: who is heard, what is believed, how it ends."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .network import PORT, Hub, Network, Node, run, wait_until

pytestmark = pytest.mark.lab

CHECKOUT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("program") / "wg-rendezvous.pyz"
    run(sys.executable, str(CHECKOUT / "plugins/plugin_utils/_program.py"), str(path))
    return path


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    made = Network()
    try:
        made.build()
        yield made
    finally:
        made.remove()


@pytest.fixture
def hub(network: Network, program: Path, tmp_path: Path) -> Iterator[Hub]:
    made = Hub(network.hub, program, tmp_path / "hub.log")
    try:
        made.start()
        yield made
    finally:
        made.stop()


def endpoint_of(node: Node, asked_by: Node, network: Network) -> str:
    """The endpoint that the hub tells."""
    code, body = asked_by.get("/peer/" + node.key, network.hub.vpn)
    assert code == 200, body
    endpoint: str = json.loads(body)["endpoint"]
    return endpoint


@pytest.mark.usefixtures("hub")
def test_peers_learn_one_another_through_the_tunnel(network: Network) -> None:
    alice, bob, address = network.alice, network.bob, network.hub.vpn
    assert json.loads(alice.get("/online-peers", address)[1]) == [alice.key]
    assert json.loads(bob.get("/online-peers", address)[1]) == sorted([alice.key, bob.key])

    code, body = alice.get("/peer/" + bob.key, address)
    answer = json.loads(body)
    assert code == 200
    assert (answer["endpoint"], answer["allowed_ips"]) == (f"{bob.lan}:{PORT}", f"{bob.vpn}/32")
    assert abs(int(answer["hands_shaken_at"]) - time.time()) < 180
    assert alice.get("/healthz", address)[0] == 200
    assert "peers_online: 2\n" in alice.get("/statusz", address)[1] + "\n"


@pytest.mark.usefixtures("hub")
def test_the_node_itself_may_ask(network: Network) -> None:
    assert network.hub.get("/online-peers", network.hub.vpn)[0] == 200


@pytest.mark.usefixtures("hub")
def test_a_neighbour_on_the_lan_who_routes_to_the_vpn_address_is_not_heard(network: Network) -> None:
    hub, bob = network.hub, network.bob
    bob.run("ip", "route", "add", f"{hub.vpn}/32", "via", hub.lan)
    control = subprocess.Popen(
        hub.inside(
            sys.executable, "-m", "http.server", "--bind", hub.vpn, "--directory", "/proc/self", "8081"
        ),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        # A service that is bound to the address only does answer him: so he would be heard.
        wait_until(lambda: bob.get("/", hub.vpn, 8081)[0] == 200, "the neighbour reaches the VPN address")
        code, reason = bob.get("/online-peers", hub.vpn)
        assert (code, "refused" in reason) == (0, True)
        assert bob.get("/online-peers", hub.lan)[0] == 0
    finally:
        control.terminate()
        control.wait(10)
        bob.run("ip", "route", "del", f"{hub.vpn}/32", "via", hub.lan)


@pytest.mark.usefixtures("hub")
def test_a_peer_is_known_by_any_address_of_his_own_and_who_is_behind_him_is_not_he(network: Network) -> None:
    bob, hub = network.bob, network.hub
    hub.wg_set("peer", bob.key, "allowed-ips", f"{bob.vpn}/32,10.98.0.9/32,10.98.0.0/24")
    hub.run("ip", "route", "add", "10.98.0.0/24", "dev", hub.interface)
    addresses = ("10.98.0.9", "10.98.0.10")
    for address in addresses:
        bob.run("ip", "addr", "add", f"{address}/32", "dev", bob.interface)
    try:
        assert [bob.get("/online-peers", hub.vpn, source=address)[0] for address in addresses] == [200, 403]
    finally:
        for address in addresses:
            bob.run("ip", "addr", "del", f"{address}/32", "dev", bob.interface)
        hub.run("ip", "route", "del", "10.98.0.0/24")
        hub.wg_set("peer", bob.key, "allowed-ips", f"{bob.vpn}/32")


@pytest.mark.usefixtures("hub")
def test_a_fresh_port_is_told_at_once_after_the_peers_next_request(network: Network) -> None:
    alice, bob, hub = network.alice, network.bob, network.hub
    bob.get("/healthz", hub.vpn)
    try:
        bob.wg_set("listen-port", "40404")
        assert bob.get("/online-peers", hub.vpn)[0] == 200
        wait_until(
            lambda: endpoint_of(bob, alice, network) == f"{bob.lan}:40404", "the fresh port is told", 1
        )
    finally:
        bob.wg_set("listen-port", str(PORT))
        bob.get("/healthz", hub.vpn)


@contextlib.contextmanager
def joined(node: Node, hub: Node) -> Iterator[Callable[[str], Any]]:
    """The node has a stream; what is yielded waits for the next event of a name, and returns its data."""
    process = node.join(hub.vpn, "0123456789abcdef")
    assert process.stdout is not None
    lines = process.stdout

    def next_of(name: str) -> Any:
        while (line := lines.readline()) and line.split()[0] != name:
            pass
        return json.loads(line.partition(" ")[2]) if line else None

    try:
        yield next_of
    finally:
        process.kill()
        process.wait(10)
        lines.close()


def test_agents_meet_at_the_hub(network: Network, hub: Hub) -> None:
    alice, bob, node = network.alice, network.bob, network.hub
    with joined(alice, node) as next_of:
        assert next_of("self")["endpoint"] == f"{alice.lan}:{PORT}"
        assert next_of("pong") == "57475256010200000000000000000007"
        assert set(next_of("snapshot")["peers"]) == {bob.key}
        assert bob.post(f"/v1/signal/{alice.key}", node.vpn, '{"type": "offer"}') == 204
        assert next_of("signal") == {"type": "offer", "from": bob.key}
        bob.wg_set("listen-port", "40405")
        try:
            assert bob.get("/healthz", node.vpn)[0] == 200
            while next_of("peer")["endpoint"] != f"{bob.lan}:40405":
                pass
        finally:
            bob.wg_set("listen-port", str(PORT))
            bob.get("/healthz", node.vpn)
        assert json.loads(bob.get("/v1/openapi.json", node.vpn)[1])["openapi"] == "3.1.0"

        stopped_at_s = time.monotonic()
        hub.stop()
        assert time.monotonic() - stopped_at_s < 1
        assert next_of("nothing") is None
    assert hub.process is not None
    assert hub.process.returncode == 0, hub.log


@contextlib.contextmanager
def unheard(node: Node, hub: Node) -> Iterator[None]:
    """The hub does not get what `node` sends from its own LAN address."""
    drop = f"ip saddr {node.lan} udp dport {PORT} drop"
    rules = f"table inet rwh {{ chain input {{ type filter hook input priority 0; {drop}; }}; }}"
    hub.run("nft", "-f", "-", stdin=rules)
    try:
        yield
    finally:
        hub.run("nft", "delete", "table", "inet", "rwh")


def device_reads(hub: Node) -> int:
    """How often the hub has read its device."""
    lines = hub.get("/statusz", hub.vpn)[1].splitlines()
    return int(dict(line.split(": ") for line in lines)["device_reads"])


CATCH_ONE = f"""
import socket, sys
sniffer = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))
sniffer.bind(("lan0", 0))
sniffer.settimeout(10)
print("ready", flush=True)
while True:
    packet = sniffer.recv(2048)
    payload = packet[28:]
    if packet[9:10] == b"\\x11" and int.from_bytes(packet[22:24], "big") == {PORT} and payload[0] == 4:
        print(payload.hex(), flush=True)
        break
"""
SEND = f"""
import socket, sys
socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(bytes.fromhex(sys.argv[1]), (sys.argv[2], {PORT}))
"""


def test_a_genuine_packet_with_a_spoofed_source_does_not_change_what_is_told(
    network: Network, hub: Hub
) -> None:
    alice, bob, node = network.alice, network.bob, network.hub
    real = f"{bob.lan}:{PORT}"
    bob.get("/healthz", node.vpn)
    # A request proves what the hub sees when it looks next: let it look before anything else happens.
    looks = device_reads(node)
    wait_until(lambda: device_reads(node) >= looks + 2, "the hub has looked again")
    assert endpoint_of(bob, alice, network) == real
    with unheard(bob, node):
        sniffer = subprocess.Popen(
            bob.inside(sys.executable, "-c", CATCH_ONE),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        with sniffer:
            assert sniffer.stdout is not None
            assert sniffer.stdout.readline() == "ready\n"
            bob.wg_set("peer", node.key, "persistent-keepalive", "25")  # sends at once
            packet = sniffer.stdout.readline().strip()
        bob.wg_set("peer", node.key, "persistent-keepalive", "0")
        alice.run(sys.executable, "-c", SEND, packet, node.lan)
        moved = wait_until(
            lambda: (e := str(node.device().peers[bob.key].endpoint)).startswith(alice.lan) and e,
            "WireGuard believes it",
        )
        # Long enough for the hub to have looked several times.
        for _ in range(3):
            time.sleep(0.4)
            assert endpoint_of(bob, alice, network) == real, hub.log + str(node.device())
        assert str(node.device().peers[bob.key].endpoint) == moved
    bob.get("/healthz", node.vpn)
    assert endpoint_of(bob, alice, network) == real
    assert moved not in hub.log


def test_status_shows_the_peers_and_sigterm_ends_it_cleanly(network: Network, hub: Hub) -> None:
    network.alice.get("/healthz", network.hub.vpn)
    shown = hub.run("status", "--interface", network.hub.interface)
    assert shown.returncode == 0, shown.stderr
    assert f"{network.alice.key}  {network.alice.vpn}/32  {network.alice.lan}:{PORT}  yes" in shown.stdout
    data = json.loads(hub.run("status", "--interface", network.hub.interface, "--json").stdout)
    assert data["node"]["public_key"] == network.hub.key

    assert hub.process is not None
    hub.stop()
    assert hub.process.returncode == 0, hub.log
    assert not hub.socket.exists()


def test_a_second_hub_on_the_interface_says_so(network: Network, hub: Hub) -> None:
    second = hub.run("hub", "--interface", network.hub.interface, "--listen", ":8090")
    assert second.returncode == 2
    assert "another wg-rendezvous" in second.stderr
    assert hub.socket.exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--interface", "rwh-nothere"], "interface rwh-nothere does not exist"),
        (["--interface", "lo"], "'wg show lo' failed"),
    ],
)
def test_an_interface_that_it_cannot_serve_is_one_line_and_exit_code_2(
    network: Network, program: Path, tmp_path: Path, words: list[str], says: str
) -> None:
    done = Hub(network.hub, program, tmp_path / "log").run("hub", *words)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert says in done.stderr


def test_an_address_that_the_interface_does_not_have_is_refused(
    network: Network, program: Path, tmp_path: Path
) -> None:
    hub = Hub(network.hub, program, tmp_path / "log")
    done = hub.run("hub", "--interface", network.hub.interface, "--listen", network.hub.lan)
    assert done.returncode == 2
    assert f"use {network.hub.vpn}" in done.stderr


def test_an_interface_that_vanishes_ends_the_hub_with_the_reason(network: Network, hub: Hub) -> None:
    assert hub.process is not None
    network.hub.stop_tunnel()
    assert hub.process.wait(5) == 1
    assert f"interface {network.hub.interface} does not exist" in hub.log
    assert not hub.socket.exists()
