# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: the rendezvous.wireguard authors
"""A hub with firewalld, and then ufw, and a peer with ufw that lets nothing in or out, after `site.yml`.

The tests run in this order, after those of test_default.py on the same network. The hub's uplink is not in
the default zone. alice lets no ping out, so bob pings.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.containers.fixtures import Report, RunSite
from tests.containers.mesh import Machine, Mesh, Transfer, ansible_playbook

AGENTS = "wg-rendezvous-agent@wg0"
TO_RELAY_S = 11
TO_DIRECT_S = 30
ZONE = "wireguard-wg0"


@pytest.fixture(scope="module")
def hub(mesh: Mesh) -> Machine:
    """On Debian 13."""
    return mesh["hub"]


@pytest.fixture(scope="module")
def alice(mesh: Mesh) -> Machine:
    """On Debian 12."""
    return mesh["alice"]


@pytest.fixture(scope="module")
def bob(mesh: Mesh) -> Machine:
    """Without a firewall."""
    return mesh["bob"]


def install(machine: Machine, package: str) -> None:
    """As the machine's admin."""
    machine.run(f"DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends {package}")


def enable_ufw(machine: Machine) -> None:
    """Nothing comes in, nothing goes out, nothing goes through."""
    install(machine, "ufw")
    machine.run("ufw default deny incoming; ufw default deny outgoing; ufw --force enable")


def agents(action: str, *machines: Machine) -> None:
    """Start or stop them."""
    for machine in machines:
        machine.run(f"systemctl {action} {AGENTS}")


def test_a_peer_whose_ufw_lets_nothing_out_is_refused_with_the_rule_to_add(
    hub: Machine, alice: Machine, run_site: RunSite
) -> None:
    install(hub, "firewalld")
    hub.run("firewall-cmd --permanent --zone=external --add-interface=wan0 && firewall-cmd --reload")
    enable_ufw(alice)

    refused = run_site("--limit=alice")
    assert "alice: the OUTPUT chain of iptables drops what WireGuard sends" in refused.output
    assert "add `ufw allow out to any proto udp`" in refused.output
    assert refused.changed_hosts == {}
    alice.run("ufw allow out to any proto udp")


def test_firewalld_and_ufw_are_opened_for_the_tunnel_alone_and_a_second_run_changes_nothing(
    hub: Machine, run_site: RunSite
) -> None:
    first = run_site("--diff")
    assert first.exit_code == 0, first.output
    assert first.changed_hosts.keys() == {"hub", "alice"}, first.output
    assert f"--zone={ZONE} --add-port=8080/tcp" in first.output
    assert hub.run("firewall-cmd --get-zone-of-interface=wg0").strip() == ZONE
    for zone, ports in ((ZONE, "8080/tcp 8080/udp"), ("public", "51820/udp"), ("external", "51820/udp")):
        for permanent in ("", "--permanent"):
            assert hub.run(f"firewall-cmd {permanent} --zone={zone} --list-ports").strip() == ports
    assert "ssh" in hub.run(f"firewall-cmd --zone={ZONE} --list-services")
    second = run_site()
    assert (second.exit_code, second.changed_hosts) == (0, {}), second.output


def test_tcp_survives_relay_direct_relay_direct_while_firewalld_and_ufw_are_reloaded_and_restarted(
    mesh: Mesh, hub: Machine, alice: Machine, bob: Machine, tmp_path: Path, report: Report
) -> None:
    assert "ct state invalid drop" in hub.run("nft list chain inet firewalld filter_FORWARD")
    agents("stop", alice, bob)
    mesh.wait_for_path(bob, alice, "relay", TO_RELAY_S)
    with Transfer(alice, bob, tmp_path) as transfer:
        transfer.flows()
        agents("start", alice, bob)
        mesh.wait_for_path(bob, alice, "direct", TO_DIRECT_S)
        transfer.flows()
        hub.run("firewall-cmd --reload")
        alice.run("ufw reload")
        agents("stop", alice, bob)
        mesh.wait_for_path(bob, alice, "relay", TO_RELAY_S)
        transfer.flows()
        hub.run("systemctl restart firewalld")
        alice.run("systemctl restart ufw")
        transfer.flows()
        agents("start", alice, bob)
        mesh.wait_for_path(bob, alice, "direct", TO_DIRECT_S)
        transfer.flows()
        longest_s = transfer.finish()
    report(f"default: TCP with firewalld on the hub and ufw on alice: longest pause {longest_s:.1f} s")


def test_what_was_opened_in_firewalld_is_closed_again(hub: Machine, scenario: Path) -> None:
    playbook, inventories = str(scenario / "no_firewall.yml"), [scenario / "inventory.yml"]
    assert ansible_playbook(playbook, inventories).changed_hosts.keys() == {"hub"}
    for permanent in ("", "--permanent"):
        assert ZONE not in hub.run(f"firewall-cmd {permanent} --get-zones")
        for zone in ("public", "external"):
            assert hub.run(f"firewall-cmd {permanent} --zone={zone} --list-ports").strip() == ""
    assert "rendezvous_wg0" not in hub.run("nft list tables")


def test_a_hub_relays_and_is_found_by_peers_when_ufw_lets_nothing_in_or_out(
    mesh: Mesh, hub: Machine, alice: Machine, bob: Machine, run_site: RunSite
) -> None:
    agents("stop", alice, bob)
    mesh.wait_for_path(bob, alice, "relay", TO_RELAY_S)
    hub.run("systemctl disable --quiet --now firewalld")
    enable_ufw(hub)
    run = run_site("--limit=hub")
    assert run.exit_code == 0, run.output
    bob.run("wg set wg0 listen-port 0")  # nothing that the hub's conntrack has seen before
    mesh.wait_for_path(bob, alice, "relay", TO_RELAY_S)
    agents("start", alice, bob)
    mesh.wait_for_path(bob, alice, "direct", TO_DIRECT_S)
    again = run_site("--limit=hub")
    assert (again.exit_code, again.changed_hosts) == (0, {}), again.output
