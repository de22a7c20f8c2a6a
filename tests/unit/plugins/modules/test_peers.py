# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
from __future__ import annotations

from typing import Any

import pytest
import yaml
from ansible_collections.rendezvous.wireguard.plugins.module_utils._wireguard import keys, mesh_secret
from tests.unit.plugins.conftest import Host
from tests.unit.plugins.fake_node import FakePeer

ALICE, BOB, CAROL = (keys.public_key(keys.generate_private_key()) for _ in range(3))
PSK, OTHER_PSK = keys.generate_private_key(), keys.generate_private_key()


def peer(key: str, *allowed_ips: str, **options: Any) -> dict[str, Any]:
    return {"public_key": key, "allowed_ips": list(allowed_ips), **options}


def absent(key: str) -> dict[str, Any]:
    return {"public_key": key, "state": "absent"}


HUB = peer(ALICE, "192.168.7.0/24", name="hub", endpoint="hub.example.net:51820", persistent_keepalive_s=13)


def test_file_and_running_interface_get_the_peer(ready: Host) -> None:
    result = ready.peers({**HUB, "preshared_key": PSK})
    assert result["changed"]
    assert ready.conf.read_text().endswith(
        f"\n\n[Peer]\n# Name = hub\nPublicKey = {ALICE}\nPresharedKey = {PSK}\nAllowedIPs = 192.168.7.0/24\n"
        "Endpoint = hub.example.net:51820\nPersistentKeepalive = 13\n"
    )
    assert ready.node.peers == {ALICE: FakePeer(PSK, "hub.example.net:51820", ["192.168.7.0/24"], 13)}
    assert result["peers"] == [
        {
            "public_key": ALICE,
            "name": "hub",
            "allowed_ips": ["192.168.7.0/24"],
            "endpoint": "hub.example.net:51820",
            "persistent_keepalive_s": 13,
            "has_preshared_key": True,
            "preshared_key_id": mesh_secret.preshared_key_id(PSK),
            "replaces": None,
        }
    ]


def test_a_second_run_changes_nothing(ready: Host) -> None:
    ready.peers(HUB, peer(BOB, "10.9.0.0/16", "fd00:7::6", preshared_key=PSK))
    ready.node.commands.clear()
    result = ready.peers(HUB, peer(BOB, "10.9.0.0/16", "fd00:7::6", preshared_key=PSK))
    assert not result["changed"]
    assert result["diff"] == []
    assert ready.node.changes() == []


def test_check_mode_says_the_same_and_does_nothing(ready: Host) -> None:
    text = ready.conf.read_text()
    predicted = ready.peers(HUB, check=True)
    assert ready.conf.read_text() == text
    assert ready.node.peers == {}
    assert predicted == ready.peers(HUB)


def test_check_mode_runs_on_a_fresh_host(host: Host) -> None:
    host.node.installed = False
    assert host.peers(HUB, check=True)["changed"]
    assert not host.directory.exists()


def test_without_a_file_the_remedy_is_named(host: Host) -> None:
    assert "run the module interface first" in host.peers(HUB)["msg"]


def test_of_an_interface_that_is_down_only_the_file_is_written(ready: Host) -> None:
    ready.node.up = False
    assert ready.peers(HUB)["changed"]
    assert ALICE in ready.conf.read_text()
    assert ready.node.changes() == []


def test_others_stay_and_absent_removes(ready: Host) -> None:
    ready.peers(HUB, peer(BOB, "10.9.0.0/16"))
    text = ready.conf.read_text()
    ready.peers(peer(CAROL, "10.8.0.0/16"))
    assert set(ready.node.peers) == {ALICE, BOB, CAROL}
    assert ready.node.routes == {"10.8.0.0/16", "10.9.0.0/16"}
    result = ready.peers(absent(CAROL))
    assert result["changed"]
    assert set(ready.node.peers) == {ALICE, BOB}
    assert ready.node.routes == {"10.9.0.0/16"}
    assert ready.conf.read_text() == text
    assert not ready.peers(absent(CAROL))["changed"]


def test_a_peer_that_only_runs_is_removed_by_absent(ready: Host) -> None:
    ready.node.peers[BOB] = FakePeer()
    assert ready.peers(absent(BOB))["changed"]
    assert ready.node.peers == {}


def test_exclusive_removes_all_others_from_file_and_interface(ready: Host) -> None:
    ready.peers(HUB)
    ready.node.peers[CAROL] = FakePeer()
    result = ready.peers(peer(BOB, "10.9.0.0/16"), exclusive=True)
    assert [found["public_key"] for found in result["peers"]] == [BOB]
    assert list(ready.node.peers) == [BOB]
    assert ALICE not in ready.conf.read_text()


def test_the_agents_peers_are_never_touched(ready: Host) -> None:
    ready.own({BOB: {"address": "192.168.7.6/32"}})
    agents = FakePeer(None, "203.0.113.6:4", ["192.168.7.6/32"], 13)
    ready.node.peers[BOB] = agents
    ready.peers(HUB, exclusive=True)
    assert set(ready.node.peers) == {ALICE, BOB}
    ready.peers(absent(BOB))
    ready.peers(peer(BOB, "192.168.7.6/32", persistent_keepalive_s=25))
    assert ready.node.peers[BOB] == FakePeer(None, "203.0.113.6:4", ["192.168.7.6/32"], 13)
    assert not ready.peers(peer(BOB, "192.168.7.6/32", persistent_keepalive_s=25))["changed"]
    assert not any(f"peer {BOB}" in command for command in ready.node.changes())


def test_an_address_on_the_agents_direct_path_is_refused_with_an_explanation(ready: Host) -> None:
    ready.own({BOB: {"address": "192.168.7.6/32"}})
    ready.node.peers[BOB] = FakePeer(allowed_ips=["192.168.7.6/32"])
    message = ready.peers(peer(CAROL, "192.168.7.6/32", name="carol"))["msg"]
    assert f"peer carol ({CAROL}) claims 192.168.7.6/32, which the running peer {BOB} has" in message
    assert "the agent of this node added it" in message
    assert "systemctl stop wg-rendezvous-agent@wg0" in message
    assert ready.node.changes() == []


def test_a_damaged_record_of_the_agent_is_named(ready: Host) -> None:
    ready.own({})
    (ready.owned_directory / "wg0.json").write_text("{")
    assert "wg0.json is damaged" in ready.peers(HUB)["msg"]


def test_two_peers_that_claim_one_address_are_refused_by_name(ready: Host) -> None:
    ready.peers(peer(ALICE, "192.168.7.5/32", name="alice"))
    text = ready.conf.read_text()
    message = ready.peers(peer(BOB, "192.168.7.5", name="bob"))["msg"]
    assert f"peers alice ({ALICE}) and bob ({BOB}) both claim 192.168.7.5/32" in message
    message = ready.peers(peer(BOB, "10.0.0.0/8"), peer(CAROL, "10.0.0.0/8"))["msg"]
    assert message.endswith("give one of them another")
    assert BOB in message
    assert CAROL in message
    assert ready.conf.read_text() == text
    assert list(ready.node.peers) == [ALICE]


def test_the_task_that_the_refusal_of_a_reinstalled_host_names_lets_it_in(ready: Host) -> None:
    ready.peers(peer(ALICE, "192.168.7.5/32", name="alice"))
    reinstalled = peer(BOB, "192.168.7.5/32", name="alice")
    message = ready.peers(reinstalled)["msg"]
    assert "a new installation" in message

    task = yaml.safe_load(message.split("`")[1])["rendezvous.wireguard.peers"]
    assert task.pop("interface") == "wg0"
    ready.peers(*task.pop("peers"))
    assert task == {}
    assert "failed" not in ready.peers(reinstalled)
    assert list(ready.node.peers) == [BOB]


def test_an_address_of_a_peer_that_nobody_listed_is_refused(ready: Host) -> None:
    ready.node.peers[CAROL] = FakePeer(allowed_ips=["10.9.0.0/16"])
    assert f"wg set wg0 peer {CAROL} remove" in ready.peers(peer(BOB, "10.9.0.0/16"))["msg"]


def test_a_narrower_network_of_another_peer_is_fine(ready: Host) -> None:
    assert ready.peers(HUB, peer(BOB, "192.168.7.6/32"))["changed"]


def test_an_address_moves_to_a_new_key_when_the_old_one_goes(ready: Host) -> None:
    ready.peers(peer(ALICE, "192.168.7.5/32"))
    ready.peers(peer(BOB, "192.168.7.5/32"), absent(ALICE))
    assert ready.node.peers == {BOB: FakePeer(allowed_ips=["192.168.7.5/32"])}


def test_two_peers_swap_their_addresses(ready: Host) -> None:
    ready.peers(peer(ALICE, "10.1.0.0/16"), peer(BOB, "10.2.0.0/16"))
    ready.peers(peer(ALICE, "10.2.0.0/16"), peer(BOB, "10.1.0.0/16"))
    assert ready.node.peers[ALICE].allowed_ips == ["10.2.0.0/16"]
    assert ready.node.peers[BOB].allowed_ips == ["10.1.0.0/16"]
    assert ready.node.routes == {"10.1.0.0/16", "10.2.0.0/16"}


def test_a_roamed_endpoint_is_left_alone_until_the_file_changes(ready: Host) -> None:
    ready.peers(peer(BOB, endpoint="203.0.113.1:1"))
    ready.node.peers[BOB].endpoint = "198.51.100.9:9"
    assert not ready.peers(peer(BOB, endpoint="203.0.113.1:1"))["changed"]
    assert ready.peers(peer(BOB, endpoint="203.0.113.2:2"))["changed"]
    assert ready.node.peers[BOB].endpoint == "203.0.113.2:2"
    ready.peers(peer(BOB))
    assert "Endpoint" not in ready.conf.read_text()
    assert ready.node.peers[BOB].endpoint == "203.0.113.2:2"


def test_a_keepalive_is_compared_only_if_the_file_names_it(ready: Host) -> None:
    ready.peers(peer(BOB))
    ready.node.peers[BOB].persistent_keepalive_s = 25
    assert not ready.peers(peer(BOB))["changed"]
    assert ready.peers(peer(BOB, persistent_keepalive_s=13))["changed"]
    ready.node.peers[BOB].persistent_keepalive_s = 5
    assert ready.peers(peer(BOB, persistent_keepalive_s=13))["changed"]
    assert ready.node.peers[BOB].persistent_keepalive_s == 13
    ready.peers(peer(BOB))
    assert ready.node.peers[BOB].persistent_keepalive_s == 0


def test_what_was_changed_by_hand_is_repaired_for_the_listed_peers_only(ready: Host) -> None:
    ready.peers(peer(BOB, "10.9.0.0/16"), peer(CAROL, "10.8.0.0/16"))
    ready.node.peers[BOB].allowed_ips = []
    ready.node.peers[CAROL].allowed_ips = []
    ready.node.routes.clear()
    assert ready.peers(peer(BOB, "10.9.0.0/16"))["changed"]
    assert ready.node.peers[BOB].allowed_ips == ["10.9.0.0/16"]
    assert ready.node.peers[CAROL].allowed_ips == []
    assert ready.node.routes == {"10.9.0.0/16"}


def test_preshared_keys_are_set_changed_and_removed_without_being_seen(ready: Host) -> None:
    ready.peers(peer(BOB, preshared_key=PSK))
    changed = ready.peers(peer(BOB, preshared_key=OTHER_PSK))
    assert "PresharedKey = <new preshared key>" in changed["diff"][0]["after"]
    assert ready.node.peers[BOB].preshared_key == OTHER_PSK
    ready.peers(peer(BOB))
    assert ready.node.peers[BOB].preshared_key is None
    for secret in (PSK, OTHER_PSK, ready.key.read_text().strip()):
        assert secret not in ready.output
        assert not any(secret in command for command in ready.node.commands)


def test_swapped_preshared_keys_are_a_change_that_the_diff_shows(ready: Host) -> None:
    ready.peers(peer(ALICE, preshared_key=PSK), peer(BOB, preshared_key=OTHER_PSK))
    ready.node.up = False
    result = ready.peers(peer(ALICE, preshared_key=OTHER_PSK), peer(BOB, preshared_key=PSK))
    assert result["changed"]


def test_a_default_route_waits_for_wg_quick(ready: Host) -> None:
    result = ready.peers(peer(BOB, "0.0.0.0/0"))
    assert "default route over wg0 changes when wg-quick@wg0 is restarted" in str(result["warnings"])
    assert ready.node.routes == set()


def test_with_table_off_there_are_no_routes(ready: Host) -> None:
    ready.interface(table="off")
    ready.peers(peer(BOB, "10.9.0.0/16"))
    assert ready.node.routes == set()


def test_a_name_changes_in_place_and_stays_when_it_is_left_out(ready: Host) -> None:
    ready.peers(peer(BOB, name="bob"))
    ready.peers(peer(BOB))
    assert ready.conf.read_text().count("# Name = bob\n") == 1
    ready.peers(peer(BOB, name="robert"))
    assert "[Peer]\n# Name = robert\nPublicKey" in ready.conf.read_text()
    assert "= bob" not in ready.conf.read_text()


def test_if_a_command_fails_everything_is_put_back(ready: Host) -> None:
    ready.peers(peer(BOB, "10.9.0.0/16", endpoint="203.0.113.1:1", preshared_key=PSK))
    ready.node.peers[BOB].endpoint = "198.51.100.9:9"
    text = ready.conf.read_text()
    ready.node.broken = ("route add 10.7",)
    result = ready.peers(absent(BOB), peer(CAROL, "10.7.0.0/16"))
    assert "route add 10.7.0.0/16 dev wg0` failed" in result["msg"]
    assert "as they were" in result["msg"]
    assert ready.conf.read_text() == text
    assert ready.node.peers == {BOB: FakePeer(PSK, "198.51.100.9:9", ["10.9.0.0/16"], 0)}
    assert ready.node.routes == {"10.9.0.0/16"}


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (peer("abc"), "public_key 'abc': a key is 32 bytes in base64"),
        (peer("abc", name="bob"), "public_key of peer bob 'abc'"),
        (peer(BOB.replace("=", "")), "write what `wg pubkey` prints"),
        (
            peer(BOB, "192.168.7.6/24"),
            "has host bits set: write 192.168.7.6/32 for the host or 192.168.7.0/24",
        ),
        (peer(BOB, "nowhere", name="bob"), "allowed_ips of peer bob 'nowhere'"),
        (peer(BOB, endpoint="hub.example.net"), "'hub.example.net': write host:port"),
        (peer(BOB, endpoint="fd00::1:51820:x"), "write host:port"),
        (peer(BOB, endpoint="host:70000"), "write host:port"),
        (peer(BOB, persistent_keepalive_s=-1), "persistent_keepalive_s of peer"),
        (peer(BOB, preshared_key="SECRET"), "write what `wg genpsk` prints"),
        (peer(BOB, name="two\nlines"), "peer name"),
        ({"public_key": BOB}, "allowed_ips of peer"),
    ],
)
def test_bad_input_is_named_with_its_remedy_and_changes_nothing(
    ready: Host, bad: dict[str, Any], message: str
) -> None:
    text = ready.conf.read_text()
    result = ready.peers(HUB, bad)
    assert result["failed"]
    assert message in result["msg"]
    assert "SECRET" not in result["msg"]
    assert ready.conf.read_text() == text
    assert ready.node.changes() == []


def test_a_key_listed_twice_or_the_own_key_is_refused(ready: Host) -> None:
    assert f"peer {BOB} is listed twice" in ready.peers(peer(BOB), absent(BOB))["msg"]
    own = keys.public_key(ready.key.read_text().strip())
    assert "has the key of wg0 itself" in ready.peers(peer(own))["msg"]


def test_a_file_with_one_peer_twice_is_refused(ready: Host) -> None:
    ready.conf.write_text(ready.conf.read_text() + f"[Peer]\nPublicKey = {BOB}\n" * 2)
    assert f"peer {BOB} has two [Peer] sections" in ready.peers(HUB)["msg"]
