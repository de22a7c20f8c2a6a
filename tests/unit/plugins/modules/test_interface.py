# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.rendezvous.wireguard.plugins.module_utils._wireguard import keys
from tests.unit.plugins.conftest import Host
from tests.unit.plugins.fake_node import FakePeer

BOB = keys.public_key(keys.generate_private_key())
PEER = f"\n[Peer]\n# Bob, since spring\nPublicKey = {BOB}\nAllowedIPs = 10.9.0.0/16, 192.168.7.6/32\n"


def test_file_and_running_interface_become_the_same(host: Host) -> None:
    public_key = host.keypair()["public_key"]
    result = host.interface(listen_port=51820, mtu=1400, fwmark=7)
    private_key = host.key.read_text().strip()
    assert result["changed"]
    assert result["public_key"] == public_key
    assert result["listen_port"] == 51820
    assert result["restart_required"] == []
    assert host.conf.read_text() == (
        "[Interface]\nAddress = 192.168.7.1/24\nListenPort = 51820\n"
        f"PrivateKey = {private_key}\nMTU = 1400\nFwMark = 7\n"
    )
    assert host.conf.stat().st_mode & 0o777 == 0o600
    assert host.node.private_key == private_key
    assert (host.node.listen_port, host.node.mtu, host.node.fwmark) == (51820, 1400, 7)
    assert host.node.addresses == ["192.168.7.1/24"]


def test_a_second_run_changes_nothing(ready: Host) -> None:
    result = ready.interface()
    assert not result["changed"]
    assert result["diff"] == []
    assert ready.node.changes() == []


def test_check_mode_says_the_same_and_does_nothing(host: Host) -> None:
    host.keypair()
    predicted = host.interface(check=True, listen_port=51820)
    assert not host.conf.exists()
    assert host.node.changes() == []
    assert predicted == host.interface(listen_port=51820)


HUB = {"name": "hub", "public_key": BOB, "allowed_ips": ["192.168.7.0/24"]}


def test_an_interface_is_told_of_its_peers_in_the_same_run(host: Host) -> None:
    host.keypair()
    result = host.interface(peers=[HUB])
    assert {"interface", "public_key", "listen_port", "restart_required"} < result.keys()
    assert f"# Name = hub\nPublicKey = {BOB}\nAllowedIPs = 192.168.7.0/24\n" in host.conf.read_text()
    assert host.node.peers == {BOB: FakePeer(allowed_ips=["192.168.7.0/24"])}
    assert not host.interface(peers=[HUB])["changed"]
    assert not host.interface()["changed"], "a peer that is not mentioned is nobody's business"
    carol = keys.public_key(keys.generate_private_key())
    assert host.interface(peers=[{**HUB, "public_key": carol}], one_key_a_name=True)["changed"]
    assert host.node.peers.keys() == {carol}


def test_check_mode_shows_the_peers_as_well(host: Host) -> None:
    host.keypair()
    predicted = host.interface(check=True, peers=[HUB])
    assert any(BOB in change["after"] for change in predicted["diff"])
    assert not host.conf.exists()
    assert host.node.changes() == []


def test_peers_that_cannot_be_are_said_and_the_interface_is_as_it_is_to_be(ready: Host) -> None:
    result = ready.interface(mtu=1400, peers=[{**HUB, "allowed_ips": ["192.168.7"]}])
    assert result["failed"]
    for words in ("wg0 itself is as it is to be, its peers are not", "allowed_ips of peer hub", "192.168.7"):
        assert words in result["msg"]
    assert ready.node.mtu == 1400
    assert ready.node.peers == {}


def test_check_mode_runs_on_a_fresh_host_without_key_and_wireguard(host: Host) -> None:
    host.node.installed = False
    result = host.interface(check=True)
    assert result["changed"]
    assert not host.directory.exists()


def test_without_a_key_the_remedy_is_named_and_nothing_written(host: Host) -> None:
    result = host.interface()
    assert "run the module keypair first" in result["msg"]
    assert not host.conf.exists()


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize("in_file", [True, False])
def test_the_key_of_an_interface_that_was_made_by_hand_stays(host: Host, in_file: bool, check: bool) -> None:
    private_key = keys.generate_private_key()
    host.directory.mkdir(mode=0o700, exist_ok=True)
    line = f"PrivateKey = {private_key}\n" if in_file else ""
    host.conf.write_text(f"[Interface]\nAddress = 192.168.7.1/24\n{line}{PEER}")
    host.node.private_key, host.node.addresses = private_key, ["192.168.7.1/24"]
    host.node.peers[BOB] = FakePeer()
    result = host.interface(check, make_key=True)
    assert result["changed"]
    assert result["public_key"] == keys.public_key(private_key)
    assert host.node.private_key == private_key
    assert not any("private-key" in command for command in host.node.changes())
    assert private_key not in host.output
    assert "warnings" not in result
    if check:
        assert not host.key.exists()
    else:
        assert host.key.read_text().strip() == private_key
        assert PEER.strip() in host.conf.read_text()
        assert not host.interface(make_key=True)["changed"]


def test_a_key_made_by_hand_that_is_none_is_refused_and_not_repeated(host: Host) -> None:
    host.directory.mkdir(mode=0o700, exist_ok=True)
    host.conf.write_text("[Interface]\nPrivateKey = hunter2\n")
    result = host.interface(make_key=True)
    assert "PrivateKey in" in result["msg"]
    assert "hunter2" not in host.output
    assert not host.key.exists()


def test_a_key_file_that_others_can_read_is_refused(ready: Host) -> None:
    ready.key.chmod(0o644)
    assert "chmod 600" in ready.interface()["msg"]


def test_of_an_interface_that_is_down_only_the_file_is_written(host: Host) -> None:
    host.keypair()
    host.node.up = False
    result = host.interface(table="off")
    assert result["changed"]
    assert result["listen_port"] is None
    assert result["restart_required"] == []
    assert host.node.changes() == []


def test_no_secret_is_printed_or_an_argument(ready: Host) -> None:
    old = ready.key.read_text().strip()
    preshared_key = keys.generate_private_key()
    by_hand = f"# PrivateKey = {old}\nPostUp = wg set %i private-key {old}\n{PEER}"
    ready.conf.write_text(f"{ready.conf.read_text()}{by_hand}PresharedKey = {preshared_key}\n")
    ready.keypair(regenerate="always")
    result = ready.interface(listen_port=1000)
    new = ready.key.read_text().strip()
    assert result["changed"]
    assert f"<key of public key {result['public_key']}>" in result["diff"][0]["after"]
    for secret in (old, new, preshared_key):
        assert secret not in ready.output
        assert not any(secret in command for command in ready.node.commands)


def test_what_was_changed_by_hand_on_the_running_interface_is_repaired(ready: Host) -> None:
    ready.interface(listen_port=51820, mtu=1400, fwmark=7)
    ready.node.listen_port, ready.node.mtu, ready.node.fwmark = 1, 1300, 0
    ready.node.addresses.clear()
    ready.node.private_key = keys.generate_private_key()
    assert ready.interface(listen_port=51820, mtu=1400, fwmark=7)["changed"]
    assert (ready.node.listen_port, ready.node.mtu, ready.node.fwmark) == (51820, 1400, 7)
    assert ready.node.addresses == ["192.168.7.1/24"]
    assert ready.node.private_key == ready.key.read_text().strip()


def test_a_fresh_port_of_the_agent_is_left_alone(ready: Host) -> None:
    ready.node.listen_port = 45678
    result = ready.interface()
    assert not result["changed"]
    assert result["listen_port"] == 45678


def test_a_port_that_is_no_longer_pinned_stays_until_somebody_else_moves_it(ready: Host) -> None:
    ready.interface(listen_port=51820)
    ready.node.commands.clear()
    assert ready.interface()["changed"]
    assert "ListenPort" not in ready.conf.read_text()
    assert ready.node.changes() == []


def test_a_new_address_comes_before_the_old_one_goes(ready: Host) -> None:
    ready.interface(address=["10.1.0.1/24"])
    assert ready.node.addresses == ["10.1.0.1/24"]
    assert ready.node.changes() == [
        "ip -4 address add 10.1.0.1/24 dev wg0",
        "ip -4 address del 192.168.7.1/24 dev wg0",
    ]


def test_a_new_address_of_the_same_network_survives_the_removal_of_the_first(ready: Host) -> None:
    assert ready.interface(address=["192.168.7.9/24"])["changed"]
    assert ready.node.addresses == ["192.168.7.9/24"]


def test_all_addresses_of_a_network_can_go(ready: Host) -> None:
    ready.interface(address=["192.168.7.1/24", "192.168.7.2/24", "192.168.7.3/24"])
    assert ready.interface(address=["10.0.0.1/24"])["changed"]
    assert ready.node.addresses == ["10.0.0.1/24"]


def test_addresses_that_no_file_named_are_left_alone(ready: Host) -> None:
    ready.node.addresses.append("10.5.5.5/32")
    assert not ready.interface()["changed"]
    assert "10.5.5.5/32" in ready.node.addresses


def test_routes_follow_the_network_of_the_interface(ready: Host) -> None:
    ready.conf.write_text(ready.conf.read_text() + PEER)
    ready.node.peers[BOB] = FakePeer(allowed_ips=["10.9.0.0/16", "192.168.7.6/32"])
    ready.interface(address=["192.168.7.1/32"])
    assert ready.node.routes == {"10.9.0.0/16", "192.168.7.6/32"}
    ready.interface(address=["192.168.7.1/24"])
    assert ready.node.routes == {"10.9.0.0/16"}


def test_comments_unknown_settings_and_peers_are_kept(ready: Host) -> None:
    text = f"# written by hand\n{ready.conf.read_text()}DNS = 192.168.7.1\n# the end\n{PEER}"
    ready.conf.write_text(text)
    ready.interface(listen_port=51820)
    assert ready.conf.read_text() == text.replace("# the end", "ListenPort = 51820\n# the end")
    assert ready.node.peers == {}


def test_a_file_that_others_can_read_becomes_private(ready: Host) -> None:
    ready.conf.chmod(0o644)
    result = ready.interface()
    assert result["changed"]
    assert result["diff"][0]["before"] == "0644\n"
    assert ready.conf.stat().st_mode & 0o777 == 0o600
    assert not ready.interface()["changed"]


@pytest.mark.parametrize(
    "options",
    [{"table": "off"}, {"pre_up": ["true"]}, {"post_up": ["true", "echo %i"]}],
)
def test_what_only_wg_quick_applies_is_reported_once(ready: Host, options: dict[str, Any]) -> None:
    checked, first = ready.interface(check=True, **options), ready.interface(**options)
    for result in (checked, first):
        assert result["restart_required"] == list(options)
        (warning,) = map(str, result["warnings"])
        assert next(iter(options)) in warning
        assert "systemctl restart wg-quick@wg0" in warning
    second = ready.interface(**options)
    assert second["restart_required"] == []
    assert "warnings" not in second
    assert ready.node.changes() == []


def test_hooks_for_the_way_down_need_no_restart(ready: Host) -> None:
    result = ready.interface(pre_down=["true"], post_down=["false"])
    assert result["changed"]
    assert result["restart_required"] == []


def test_a_mark_that_default_routes_depend_on_waits_for_a_restart(ready: Host) -> None:
    ready.conf.write_text(ready.conf.read_text() + PEER.replace("10.9.0.0/16", "0.0.0.0/0"))
    assert ready.interface(fwmark=9)["restart_required"] == ["fwmark"]
    assert ready.node.fwmark == 0


def test_save_config_is_refused_with_the_reason(ready: Host) -> None:
    text = ready.conf.read_text() + "SaveConfig = TRUE\n"
    ready.conf.write_text(text)
    message = ready.interface()["msg"]
    assert str(ready.conf) in message
    assert "SaveConfig = true makes wg-quick overwrite" in message
    assert ready.conf.read_text() == text


def test_another_key_in_the_file_is_replaced_with_a_warning_that_names_both(ready: Host) -> None:
    before = ready.interface()["public_key"]
    after = ready.keypair(regenerate="always")["public_key"]
    warnings = str(ready.interface()["warnings"])
    assert before in warnings
    assert after in warnings


def test_if_the_running_key_is_wrong_afterwards_everything_is_put_back(ready: Host) -> None:
    text, key = ready.conf.read_text(), ready.node.private_key
    ready.keypair(regenerate="always")
    ready.node.deaf = ("set wg0 private-key",)
    result = ready.interface(address=["10.1.0.1/24"], listen_port=51820, mtu=1300)
    assert result["failed"]
    assert "public key is" in result["msg"]
    assert "as they were" in result["msg"]
    assert ready.conf.read_text() == text
    assert ready.node.private_key == key
    assert ready.node.addresses == ["192.168.7.1/24"]
    assert (ready.node.listen_port, ready.node.mtu) == (40000, 1420)


def test_if_a_command_fails_everything_is_put_back(ready: Host) -> None:
    text, key = ready.conf.read_text(), ready.node.private_key
    ready.keypair(regenerate="always")
    ready.node.broken = ("address add",)
    result = ready.interface(address=["10.1.0.1/24"], listen_port=51820)
    assert "`ip -4 address add 10.1.0.1/24 dev wg0` failed: it does not work" in result["msg"]
    assert ready.conf.read_text() == text
    assert ready.node.private_key == key
    assert ready.node.listen_port == 40000


def test_if_a_fresh_file_cannot_be_applied_there_is_none(host: Host) -> None:
    host.keypair()
    host.node.broken = ("listen-port",)
    assert host.interface(listen_port=51820)["failed"]
    assert not host.conf.exists()


def test_the_key_is_made_with_the_interface_once(host: Host) -> None:
    checked = host.interface(check=True, make_key=True)
    assert f"{host.key} would be made; the public key shown for it" in str(checked["warnings"])
    assert not host.directory.exists()
    first = host.interface(make_key=True)
    private_key = host.key.read_text().strip()
    again = host.interface(make_key=True)
    for result in (checked, first):
        assert result["diff"][0]["after"] == f"public key: {result['public_key']}\n"
        assert result["diff"][1]["after_header"].startswith(str(host.conf))
    assert first["public_key"] == again["public_key"] == keys.public_key(private_key)
    assert (again["changed"], again["diff"]) == (False, [])
    assert host.key.stat().st_mode & 0o777 == 0o600
    assert private_key not in host.output


def test_a_damaged_key_is_not_replaced(host: Host) -> None:
    host.keypair()
    host.key.write_text("damaged")
    assert "is damaged" in host.interface(make_key=True)["msg"]
    assert host.key.read_text() == "damaged"


def test_an_interface_that_is_not_wireguard_is_named(ready: Host) -> None:
    ready.node.broken = ("wg show",)
    assert "wg0 exists but `wg` cannot read it" in ready.interface()["msg"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "a-name-of-16-char"}, "interface name 'a-name-of-16-char': write 1 to 15"),
        ({"name": "wg/0"}, "interface name 'wg/0'"),
        ({"address": ["192.168.7.5"]}, "'192.168.7.5' has no prefix: write that of the network"),
        (
            {"address": ["192.168.7.0/24"]},
            "is the network itself: write an address in it, such as 192.168.7.1/24",
        ),
        ({"address": ["192.168.7.256/24"]}, "'192.168.7.256/24'"),
        ({"address": ["10.0.0.1/24", "10.0.0.1/32"]}, "address 10.0.0.1 is given twice"),
        ({"listen_port": 0}, "listen_port 0: write a number from 1 to 65535"),
        ({"listen_port": 65536}, "listen_port 65536"),
        ({"mtu": 100}, "mtu 100: write a number from 576"),
        ({"fwmark": -1}, "fwmark -1"),
        ({"post_up": ["echo # no"]}, "post_up 'echo # no': write one line without #"),
        ({"table": "a\nb"}, "table 'a\\nb'"),
    ],
)
def test_bad_input_is_named_with_its_remedy_and_changes_nothing(
    ready: Host, options: dict[str, Any], message: str
) -> None:
    text = ready.conf.read_text()
    result = ready.interface(**options)
    assert result["failed"]
    assert message in result["msg"]
    assert ready.conf.read_text() == text
    assert ready.node.changes() == []


AGENT = "wg-rendezvous-agent@wg0.service"


def test_an_agent_gives_its_links_back_before_an_address_goes(ready: Host) -> None:
    ready.interface(address=["192.168.7.9/24"], agent=AGENT)
    commands = ready.node.commands
    stop = commands.index(f"/usr/bin/systemctl stop {AGENT}")
    assert stop < commands.index("ip -4 address add 192.168.7.9/24 dev wg0")
    assert not ready.node.agent_runs


def test_an_agent_goes_on_when_no_address_goes(ready: Host) -> None:
    ready.interface(address=["192.168.7.1/24", "fd00:7::1/64"], agent=AGENT, mtu=1400)
    assert ready.node.agent_runs


def test_check_mode_of_a_change_of_address_stops_no_agent(ready: Host) -> None:
    assert ready.interface(True, address=["192.168.7.9/24"], agent=AGENT)["changed"]
    assert ready.node.agent_runs


def test_a_former_port_is_passed_on_in_the_moment_of_the_change(ready: Host) -> None:
    ready.interface(listen_port=51820)
    ready.node.commands.clear()
    result = ready.interface(listen_port=51821, former_ports=[51820])
    assert ready.node.changes() == ["nft -f -", "wg set wg0 listen-port 51821"]
    assert any("port 51820: passed on to 51821" in change["after"] for change in result["diff"])
    assert not ready.interface(listen_port=51821, former_ports=[51820])["changed"]


def test_a_port_that_is_no_former_one_is_left_without_a_word(ready: Host) -> None:
    ready.interface(listen_port=51820)
    ready.node.commands.clear()
    ready.interface(listen_port=51821)
    assert ready.node.changes() == ["wg set wg0 listen-port 51821"]
