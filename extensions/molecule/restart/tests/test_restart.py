# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: the rendezvous.wireguard authors
"""The restart condition is detected by the peer whose firewall has to learn again, and cures it.

The order of the keys is alice, bob, carol: of those who need a fresh port, alice is the
patient one of the tie-break, and carol the impatient one. alice takes it by restarting her tunnel, as the
origin does, carol by rebinding.

alice needs it whether the agents signal or not: her firewall learns nobody on an old mapping. carol needs it
with a hub of the origin only: where both ends open before either one knocks, nothing collides at her router.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.containers.fixtures import Report
from tests.containers.mesh import Look, Machine, Mesh, wait_until

AGENT = "wg-rendezvous-agent@wg0"
HUB = "wg-rendezvous-hub@wg0"
TUNNEL = "wg-quick@wg0"
ORIGIN = Path(__file__).resolve().parents[4] / "tests/lab/origin.py"
FRESH_PORT = "restart condition: taking a fresh port"
PASS_S = 2.0
"""wg_peer_interval_s of the inventory."""
TO_DIRECT_S = 45.0
"""3 probes of one and 5 of the other, a pass to notice, and what looking costs; no second try fits in."""


@pytest.fixture
def origin_hub(mesh: Mesh) -> Iterator[None]:
    """The hub's program is the origin's, which knows no signals."""
    hub = mesh["hub"]
    program = base64.b64encode(ORIGIN.read_bytes()).decode()
    hub.run(f"systemctl restart wg-quick@wg0; systemctl stop {HUB}")
    hub.run(f"echo {program} | base64 -d > /run/origin.py")
    hub.run(f"systemd-run --quiet --unit=origin python3 /run/origin.py hub wg0 {hub.vpn_address}:8080")
    yield
    # An agent that still polls would be remembered as one of the origin, and be knocked at unasked.
    for name in ("alice", "bob", "carol"):
        forget_everything(mesh[name])
    hub.run(f"systemctl stop origin; systemctl start {HUB}")


def online_without_agent(mesh: Mesh, name: str) -> Machine:
    """The peer and bob as they are after a while online, their agents not started yet."""
    for other in ("alice", "bob", "carol"):
        forget_everything(mesh[other])
    for machine in (mesh[name], mesh["bob"]):
        machine.run("systemctl start wg-quick@wg0")
        wait_for_tunnel(machine, mesh["hub"])
    return mesh[name]


def wait_for_tunnel(machine: Machine, hub: Machine) -> None:
    """Wait until the hub answers through the tunnel."""
    wait_until(lambda: machine.pings(hub, 1) == 1, 20, lambda: f"the tunnel of {machine.name}")


def forget_everything(peer: Machine) -> None:
    """Take the peer off the network, with all that its agent knew; the agent will wait to be started."""
    peer.run(f"systemctl disable --quiet {AGENT}")
    peer.run("systemctl stop wg-quick@wg0")
    peer.run("rm -f /var/lib/wg-rendezvous/wg0.json")


def knocked(peer: Machine, other: Machine) -> bool:
    """Whether a peer has sent something to the other's WireGuard, not over the hub."""
    lines = (line.split() for line in peer.run("wg show wg0 transfer").splitlines())
    return any(key == other.public_key and int(sent_bytes) > 0 for key, _, sent_bytes in lines)


def tunnel_stops(peer: Machine, since: str) -> int:
    """How often the interface was taken down since a place in the journal."""
    return sum(line.startswith(f"Stopped {TUNNEL}") for line in peer.journal(TUNNEL, since=since))


def learning_window_is_open(mesh: Mesh) -> bool:
    """Whether alice's firewall would still learn a remote of one of her mappings."""
    listing = json.loads(mesh.router("nat-a", "nft", "--json", "list", "set", "ip", "nat_profile", "windows"))
    return any(entry["set"].get("elem") for entry in listing["nftables"] if "set" in entry)


@pytest.mark.usefixtures("origin_hub")
@pytest.mark.parametrize("name", ["alice", "carol"])
def test_without_signals_no_direct_path_until_the_restart_condition_fires_and_direct_after_it(
    mesh: Mesh, name: str, report: Report
) -> None:
    check_direct_after_the_restart_condition(mesh, name, report)


def test_with_signals_no_direct_path_until_the_restart_condition_fires_and_direct_after_it(
    mesh: Mesh, report: Report
) -> None:
    check_direct_after_the_restart_condition(mesh, "alice", report)


def test_with_signals_a_router_that_accepts_needs_no_fresh_port(mesh: Mesh, report: Report) -> None:
    bob, carol = mesh["bob"], online_without_agent(mesh, "carol")
    begin = {peer: peer.journal_cursor() for peer in (bob, carol)}
    for peer in (bob, carol):
        peer.run(f"systemctl start {AGENT}")
    to_direct_s = mesh.wait_for_path(carol, bob, "direct", 10)
    for peer in (bob, carol):
        assert not any(FRESH_PORT in line for line in peer.journal(AGENT, since=begin[peer]))
    report(f"restart: carol, with signals, was direct {to_direct_s:.1f} s after both agents' start")


def check_direct_after_the_restart_condition(mesh: Mesh, name: str, report: Report) -> None:
    """`name` needs a fresh port to reach bob; bob knocks before it does, if he knocks at all."""
    bob, in_need = mesh["bob"], online_without_agent(mesh, name)
    begin = {peer: peer.journal_cursor() for peer in (in_need, bob)}

    def fresh_ports(peer: Machine) -> int:
        return sum(FRESH_PORT in line for line in peer.journal(AGENT, since=begin[peer]))

    if in_need.name == "alice":
        wait_until(lambda: not learning_window_is_open(mesh), 10, lambda: "the learning window has passed")
    bob.run(f"systemctl start {AGENT}")
    if "origin" in mesh["hub"].run("systemctl list-units --plain --no-legend 'origin.service'"):
        wait_until(lambda: knocked(bob, in_need), 5 * PASS_S, lambda: f"bob knocks at {in_need.name}")
    in_need.run(f"systemctl start {AGENT}")

    looks: list[Look] = []

    def fired() -> bool:
        look = mesh.look(in_need, bob)
        if fresh_ports(in_need) > 0:
            return True  # this look may have been after it already
        looks.append(look)
        return False

    to_fresh_port_s = wait_until(fired, TO_DIRECT_S, lambda: f"{in_need.name} takes a fresh port")
    assert all(look.direct == (0, 0) for look in looks), looks
    # If bob takes a fresh port as well, what is under way to his old one is lost; nothing else is.
    not_relayed = [look for look in looks if look.path != "relay"]
    assert len(not_relayed) <= fresh_ports(bob) < len(looks), looks
    to_direct_s = mesh.wait_for_path(in_need, bob, "direct", 4 * PASS_S)

    assert mesh.path(in_need, bob, count=200) == "direct"
    assert fresh_ports(in_need) == 1
    assert fresh_ports(bob) <= 1
    # alice restarts the whole tunnel, and the agent after it knows that it has.
    assert tunnel_stops(in_need, begin[in_need]) == (1 if name == "alice" else 0)
    assert tunnel_stops(bob, begin[bob]) == 0
    assert in_need.host.service(AGENT).is_running
    saved = json.loads(in_need.run("cat /var/lib/wg-rendezvous/wg0.json"))
    assert len(saved["state"]["refresh"]["taken_ages_s"]) == 1, saved
    report(
        f"restart: {in_need.name} took a fresh port after {to_fresh_port_s:.1f} s (bob: {fresh_ports(bob)}), "
        f"direct {to_direct_s:.1f} s later"
    )
