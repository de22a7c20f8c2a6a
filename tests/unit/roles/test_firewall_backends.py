# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: the rendezvous.wireguard authors
"""What firewalld and ufw are told. The Molecule scenario `default` shows what they do with it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from ansible_collections.rendezvous.wireguard.plugins.module_utils import _firewall_backends as backends
from ansible_collections.rendezvous.wireguard.plugins.module_utils import _system
from ansible_collections.rendezvous.wireguard.plugins.module_utils._firewall import Openings, of_others

HUB = Openings("wg0", ("192.168.7.1/24",), 51820, (8080,), relay=True, udp_ports=(8080,))
PEER = Openings("wg0", ("192.168.7.5/24",), None, (8080,))

FRESH = """\
drop
  target: DROP
  interfaces:
  ports:
  forward: yes

external
  target: default
  interfaces: {external}
  services: ssh
  ports: {external_ports}
  forward: yes

public (default, active)
  target: default
  interfaces: {public}
  sources:
  services: dhcpv6-client ssh
  ports: {public_ports}
  protocols: gre
  forward: yes
  rich rules:
\trule family="ipv4" source address="192.0.2.7" drop
"""
OWN = """
wireguard-wg0 (active)
  target: default
  interfaces: wg0
  services: ssh
  ports: 8080/tcp 8080/udp
  forward: yes
"""


def listing(own: str = "", **values: str) -> dict[str, dict[str, list[str]]]:
    words = {"external": "wan0", "external_ports": "", "public": "lan0", "public_ports": "", **values}
    return backends.read_zones(FRESH.format(**words) + own)


def firewalld(
    permanent: dict[str, dict[str, list[str]]] | None = None,
    runtime: dict[str, dict[str, list[str]]] | None = None,
) -> backends.Firewalld:
    """With its uplink in another zone than the default one."""
    zones = listing()
    return backends.Firewalld(
        "wg0",
        zones if permanent is None else permanent,
        zones if runtime is None else runtime,
        "public",
        ("wan0",),
    )


def permanent(
    state: backends.Firewalld, openings: Openings | None, before: Openings | None = None
) -> list[str]:
    """The commands without what they all begin with."""
    start = "firewall-cmd --quiet --permanent "
    commands = [" ".join(command) for command in backends.permanent_commands(state, openings, before)]
    assert all(command.startswith(start) for command in commands)
    return [command[len(start) :] for command in commands]


def running(
    state: backends.Firewalld, openings: Openings | None, before: Openings | None = None
) -> list[str]:
    commands = [" ".join(command) for command in backends.runtime_commands(state, openings, before)]
    return [command.removeprefix("firewall-cmd --quiet ") for command in commands]


def test_firewalld_gives_the_tunnel_a_zone_and_opens_the_listen_port_where_packets_come_from() -> None:
    assert permanent(firewalld(), HUB) == [
        "--new-zone=wireguard-wg0",
        "--zone=wireguard-wg0 --add-port=8080/tcp",
        "--zone=wireguard-wg0 --add-port=8080/udp",
        "--zone=wireguard-wg0 --change-interface=wg0",
        "--zone=wireguard-wg0 --add-forward",
        "--zone=wireguard-wg0 --add-service=dhcpv6-client",
        "--zone=wireguard-wg0 --add-service=ssh",
        "--zone=wireguard-wg0 --add-protocol=gre",
        "--zone=public --add-port=51820/udp",
        "--zone=external --add-port=51820/udp",
    ]
    assert backends.needs_reload(firewalld(), HUB)


def test_firewalld_opens_nothing_outside_for_a_peer_and_does_not_forward() -> None:
    commands = permanent(firewalld(), PEER)

    assert not any(
        "public" in command or "external" in command or "forward" in command for command in commands
    )
    assert "--zone=wireguard-wg0 --add-port=8080/tcp" in commands


def test_firewalld_that_has_it_is_told_nothing() -> None:
    zones = listing(OWN, external_ports="51820/udp", public_ports="51000-52000/udp")
    state = firewalld(zones, zones)

    assert (permanent(state, HUB, HUB), running(state, HUB, HUB)) == ([], [])
    assert not backends.needs_reload(state, HUB)


def test_firewalld_is_told_what_only_its_running_state_lacks_without_a_reload() -> None:
    opened = {"external_ports": "51820/udp", "public_ports": "51820/udp"}
    without = OWN.replace("interfaces: wg0", "interfaces:").replace("8080/udp", "")
    state = firewalld(listing(OWN, **opened), listing(without, **opened, public="lan0 wg0"))

    assert (permanent(state, HUB), backends.needs_reload(state, HUB)) == ([], False)
    assert running(state, HUB) == [
        "--zone=wireguard-wg0 --add-port=8080/udp",
        "--zone=wireguard-wg0 --change-interface=wg0",
    ]


@pytest.mark.parametrize("permanently", [True, False])
def test_the_zone_that_a_user_has_chosen_is_used(permanently: bool) -> None:
    chosen = listing(external="wan0 wg0")
    state = firewalld(chosen if permanently else None, chosen)

    assert permanent(state, HUB) == [
        "--zone=external --add-port=8080/tcp",
        "--zone=external --add-port=8080/udp",
        "--zone=external --add-port=51820/udp",
        "--zone=public --add-port=51820/udp",
    ]
    assert not backends.needs_reload(state, HUB)


def test_our_zone_goes_when_a_user_chooses_another() -> None:
    opened = {"external_ports": "51820/udp", "public_ports": "51820/udp"}
    ours = listing(OWN.replace("interfaces: wg0", "interfaces:"), external="wan0 wg0", **opened)
    state = firewalld(ours, ours)

    assert "--delete-zone=wireguard-wg0" in permanent(state, HUB, HUB)
    assert backends.needs_reload(state, HUB)


def test_ports_of_an_earlier_run_are_closed() -> None:
    zones = listing(OWN, external_ports="51820/udp 7/udp", public_ports="51820/udp")
    state = firewalld(zones, zones)
    now = replace(HUB, listen_port=443, udp_ports=())

    for commands in (permanent(state, now, HUB), running(state, now, HUB)):
        assert [command for command in commands if "remove" in command] == [
            "--zone=wireguard-wg0 --remove-port=8080/udp",
            "--zone=public --remove-port=51820/udp",
            "--zone=external --remove-port=51820/udp",
        ]
        assert "--zone=external --add-port=443/udp" in commands


def test_ports_that_another_network_of_the_node_uses_in_the_same_zone_stay_open() -> None:
    zones = listing(public="lan0 wg0 wg1", public_ports="51820/udp 8080/tcp 8080/udp")
    state = firewalld(zones, zones)
    beside = replace(state, others=(replace(PEER, interface="wg1"),))

    for removal in (permanent, running):
        assert "--zone=public --remove-port=8080/tcp" in removal(state, None, HUB)
        assert removal(beside, None, HUB) == [
            "--zone=public --remove-port=8080/udp",
            "--zone=public --remove-port=51820/udp",
        ]


def test_firewalld_is_as_it_was_when_nothing_is_wanted_any_more() -> None:
    zones = listing(OWN, external_ports="51820/udp 7/udp", public_ports="51820/udp")

    assert permanent(firewalld(zones, zones), None, HUB) == [
        "--delete-zone=wireguard-wg0",
        "--zone=public --remove-port=51820/udp",
        "--zone=external --remove-port=51820/udp",
    ]
    assert backends.needs_reload(firewalld(zones, zones), None)
    assert permanent(firewalld(), None, HUB) == running(firewalld(), None, HUB) == []


@pytest.mark.parametrize(
    ("interface", "zone"),
    [
        ("wg0", "wireguard-wg0"),
        ("wg0.5", "wireguard-wg0_5"),
        ("home-77", "wireguard-home-77"),
        ("home-site-77", "home-site-77"),
    ],
)
def test_a_zone_has_a_name_that_firewalld_takes(interface: str, zone: str) -> None:
    assert backends.own_zone(interface) == zone


def told(openings: Openings | None, added: str) -> list[str]:
    return [" ".join(command) for command in backends.ufw_commands("wg0", openings, added)]


ADDED_BY_US = """\
Added user rules (see 'ufw status' for running firewall):
ufw allow in on wg0 to any port 8080 proto tcp comment 'rendezvous.wireguard wg0'
ufw allow in on wg0 to any port 8080 proto udp comment 'rendezvous.wireguard wg0'
ufw allow out on wg0 proto tcp comment 'rendezvous.wireguard wg0'
ufw allow out on wg0 proto udp comment 'rendezvous.wireguard wg0'
ufw allow 51820/udp comment 'rendezvous.wireguard wg0'
ufw allow out from any port 51820 proto udp comment 'rendezvous.wireguard wg0'
ufw route allow in on wg0 out on wg0 comment 'rendezvous.wireguard wg0'
ufw allow in on wg1 to any port 8080 proto tcp comment 'rendezvous.wireguard wg1'
ufw allow 22/tcp
"""


def test_ufw_is_told_what_it_does_not_know() -> None:
    added = "Added user rules:\nufw allow 51820/udp comment 'by hand'\nufw allow out on wg0 proto tcp\n"
    mark = "comment rendezvous.wireguard wg0"

    assert told(HUB, added) == [
        f"ufw allow in on wg0 to any port 8080 proto tcp {mark}",
        f"ufw allow in on wg0 to any port 8080 proto udp {mark}",
        f"ufw allow out on wg0 proto udp {mark}",
        f"ufw allow out from any port 51820 proto udp {mark}",
        f"ufw route allow in on wg0 out on wg0 {mark}",
    ]


def test_ufw_that_knows_is_told_nothing() -> None:
    assert told(HUB, ADDED_BY_US) == []


def test_ufw_closes_what_was_opened_for_this_interface_and_nothing_else() -> None:
    assert told(replace(HUB, udp_ports=(), relay=False), ADDED_BY_US) == [
        "ufw delete allow in on wg0 to any port 8080 proto udp",
        "ufw delete allow out on wg0 proto udp",
        "ufw route delete allow in on wg0 out on wg0",
    ]
    assert len(told(None, ADDED_BY_US)) == 7
    assert not any("wg1" in command or "22" in command for command in told(None, ADDED_BY_US))


def test_uplinks_are_the_interfaces_with_a_default_route(monkeypatch: pytest.MonkeyPatch) -> None:
    routes = {
        "-4": '[{"dst":"default","dev":"wan0"},{"dst":"default","nexthops":[{"dev":"lan0"},{"dev":"wan0"}]}]',
        "-6": '[{"dst":"default","gateway":"fe80::1","dev":"wan6"}]',
    }
    monkeypatch.setattr(_system, "run", lambda *command: routes[command[1]])
    assert _system.uplinks() == ["wan0", "lan0", "wan6"]
    monkeypatch.setattr(_system, "run", lambda *_command: None)
    assert _system.uplinks() == []


def test_a_record_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    record = tmp_path / "wg0.firewall.json"
    assert Openings.recorded(str(record)) is None
    for text in ("", "[]", "{}", '{"interface": "wg0"}'):
        record.write_text(text)
        assert Openings.recorded(str(record)) is None
    record.write_text(HUB.to_json())
    assert Openings.recorded(str(record)) == HUB


def test_what_was_opened_for_other_interfaces_is_found_in_their_records(tmp_path: Path) -> None:
    second = replace(PEER, interface="wg1")
    for name, text in (("wg0", HUB.to_json()), ("wg1", second.to_json()), ("wg2", "{}")):
        (tmp_path / f"{name}.firewall.json").write_text(text)
    pattern = str(tmp_path / "{interface}.firewall.json")
    assert of_others("wg0", pattern) == [second]
    assert of_others("wg1", pattern) == [HUB]
