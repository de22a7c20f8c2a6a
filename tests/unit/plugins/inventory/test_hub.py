# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: the rendezvous.wireguard authors
"""The inventory plugin, asking a hub on loopback."""

from __future__ import annotations

import importlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible import constants
from ansible.errors import AnsibleParserError
from ansible.inventory.data import InventoryData
from ansible.parsing.dataloader import DataLoader
from ansible_collections.rendezvous.wireguard.plugins.inventory import hub as plugin
from ansible_collections.rendezvous.wireguard.plugins.plugin_utils import _hub
from tests.unit.plugins.inventory.fake_hub import (
    ALICE,
    BOB,
    CAROL,
    PHONE,
    FakeHub,
    record,
    report,
    serving,
)

CHECKOUT = Path(__file__).resolve().parents[4]
Parse = Callable[..., InventoryData]
MESH = {ALICE: record(5), BOB: record(6), CAROL: record(7, online=False, signals=False), PHONE: record(9)}
LINKS = {
    ALICE: {
        BOB: report("direct", strategy="reflexive", endpoint="198.51.100.6:51820", rtt_s=0.01),
        CAROL: report("relayed"),
        PHONE: report("relayed"),
    },
    BOB: {ALICE: report("doubtful"), PHONE: report("relayed")},
}


@pytest.fixture(scope="module", autouse=True)
def _defined() -> None:
    """Let Ansible know the plugin's options, as its loader would."""
    documentation = yaml.safe_load(plugin.DOCUMENTATION)
    options = dict(documentation["options"])
    for fragment in documentation["extends_documentation_fragment"]:
        name = fragment.removeprefix("ansible.builtin.")
        module = importlib.import_module(f"ansible.plugins.doc_fragments.{name}")
        options.update(yaml.safe_load(module.ModuleDocFragment.DOCUMENTATION)["options"])
    constants.config.initialize_plugin_configuration_definitions(
        "inventory", plugin.InventoryModule.NAME, options
    )


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with serving() as fake:
        yield fake


@pytest.fixture
def parse(hub: FakeHub, tmp_path: Path) -> Parse:
    """Parse a file with these options into this inventory."""

    def parsed(inventory: InventoryData | None = None, /, **options: Any) -> InventoryData:
        inventory = InventoryData() if inventory is None else inventory
        path = tmp_path / "mesh.wireguard.yml"
        path.write_text(json.dumps({"plugin": "rendezvous.wireguard.hub", "url": hub.url, **options}))
        module = plugin.InventoryModule()
        module._load_name = module.ansible_name = module.NAME
        module._redirected_names = [module.NAME]
        assert module.verify_file(str(path))
        module.parse(inventory, DataLoader(), str(path), cache=True)
        with suppress(AttributeError):  # as Ansible does
            module.update_cache_if_changed()
        return inventory

    return parsed


def hosts(inventory: InventoryData, group: str) -> list[str]:
    return sorted(host.name for host in inventory.groups[group].hosts)


def variables(inventory: InventoryData, name: str) -> dict[str, Any]:
    found: dict[str, Any] = inventory.hosts[name].vars
    return found


# --- hosts, groups, variables ---


def test_the_hubs_view_is_hosts_and_groups(hub: FakeHub, parse: Parse) -> None:
    hub.speak_v1(MESH, LINKS)
    inventory = parse(
        names={"alice": "192.168.7.5", "bob": BOB, "carol": "192.168.7.7", "phone": "192.168.7.9"}
    )

    assert sorted(inventory.hosts) == ["alice", "bob", "carol", "phone"]
    assert hosts(inventory, "online") == ["alice", "bob", "phone"]
    assert hosts(inventory, "offline") == ["carol"]
    assert hosts(inventory, "direct") == ["alice", "bob"]
    assert hosts(inventory, "relayed") == ["alice", "bob", "phone"]
    assert hosts(inventory, "signalling") == ["alice", "bob", "phone"]


def test_a_host_has_what_the_hub_says_of_it(hub: FakeHub, parse: Parse) -> None:
    hub.speak_v1(MESH, LINKS)
    alice = variables(parse(names={"bob": BOB}), "192.168.7.5")

    assert {name: alice[name] for name in alice if name.startswith(("wg_", "ansible_host"))} == {
        "ansible_host": "192.168.7.5",
        "wg_address": "192.168.7.5",
        "wg_public_key": ALICE,
        "wg_endpoint": "198.51.100.5:51820",
        "wg_online": True,
        "wg_signals": True,
        "wg_latest_handshake_at": 1000,
        "wg_version": "0.1.0",
        "wg_candidates": [],
        "wg_polls": False,
        "wg_direct": ["bob"],
        "wg_relayed": ["192.168.7.9"],
        "wg_links": [
            {"peer": "192.168.7.7", **LINKS[ALICE][CAROL]},
            {"peer": "192.168.7.9", **LINKS[ALICE][PHONE]},
            {"peer": "bob", **LINKS[ALICE][BOB]},
        ],
    }


def test_a_link_that_only_one_end_calls_direct_is_not(hub: FakeHub, parse: Parse) -> None:
    hub.speak_v1(MESH, {ALICE: {BOB: report("direct")}, BOB: {ALICE: report("relayed")}})
    assert hosts(parse(), "direct") == []


def test_a_mesh_in_which_all_is_well_has_nobody_relayed(hub: FakeHub, parse: Parse) -> None:
    direct = {ALICE: {BOB: report("direct")}, BOB: {ALICE: report("direct")}}
    hub.speak_v1({ALICE: record(5), BOB: record(6)}, direct)
    assert hosts(parse(), "relayed") == []


def test_groups_exist_and_are_empty_without_members(hub: FakeHub, parse: Parse) -> None:
    hub.speak_v1({ALICE: record(5)})
    inventory = parse(group_prefix="mesh_")
    assert hosts(inventory, "mesh_online") == ["192.168.7.5"]
    assert [hosts(inventory, f"mesh_{name}") for name in ("offline", "direct", "relayed")] == [[], [], []]


def test_a_peer_without_an_address_has_its_key_for_a_name(hub: FakeHub, parse: Parse) -> None:
    hub.speak_v1({PHONE: record(9, address=None)})
    name = PHONE.rstrip("=").replace("/", "_").replace("+", "-")
    assert "ansible_host" not in variables(parse(), name)


def test_keys_are_names_on_demand(hub: FakeHub, parse: Parse) -> None:
    hub.speak_v1({PHONE: record(9)})
    assert list(parse(hostnames=["public_key"]).hosts) == [PHONE.rstrip("=")]


def test_the_one_who_asks_is_among_the_hosts(hub: FakeHub, parse: Parse) -> None:
    """The hub lists all peers but the caller; the links of the others name it."""
    hub.speak_origin([ALICE])
    own = hub.answers
    hub.speak_v1({BOB: record(6)}, LINKS)
    hub.answers = {**own, **hub.answers}

    inventory = parse()
    assert hosts(inventory, "online") == ["192.168.7.5", "192.168.7.6"]
    assert hosts(inventory, "direct") == ["192.168.7.5", "192.168.7.6"]
    assert "/online-peers" not in hub.asked, "whoever asks for it is taken for an agent of the origin"


def test_constructed_variables_and_groups(hub: FakeHub, parse: Parse) -> None:
    hub.speak_v1(MESH, LINKS)
    inventory = parse(
        compose={"last_byte": "wg_address.split('.')[-1]"},
        groups={"lonely": "wg_online and wg_direct == []"},
        keyed_groups=[{"key": "wg_version", "prefix": "agent"}],
    )
    assert variables(inventory, "192.168.7.5")["last_byte"] == "5"
    assert hosts(inventory, "lonely") == ["192.168.7.9"]
    assert len(hosts(inventory, "agent_0_1_0")) == 4


def test_a_strict_expression_that_fails_is_an_error(hub: FakeHub, parse: Parse) -> None:
    hub.speak_v1(MESH)
    assert "nope" not in variables(parse(compose={"nope": "no_such + 1"}), "192.168.7.5")
    with pytest.raises(Exception, match="no_such"):
        parse(compose={"nope": "no_such + 1"}, strict=True)


# --- names ---


def test_names_come_from_the_static_inventory(hub: FakeHub, parse: Parse, tmp_path: Path) -> None:
    static = InventoryData()
    for name in ("alice", "bob", "other"):
        static.add_host(name)
    static.set_variable("alice", "wg_interface_address", "192.168.7.5/24")
    static.set_variable("alice", "ansible_host", "alice.example.net")
    static.set_variable("other", "wg_interface_address", "{{ a_template }}")
    static.processed_sources.append(str(tmp_path / "inventory.ini"))
    (tmp_path / "host_vars").mkdir()
    (tmp_path / "host_vars/bob.yml").write_text("wg_interface_address: [fd00:7::6/64, 192.168.7.6/24]\n")
    hub.speak_v1(MESH, LINKS)

    inventory = parse(static)
    assert hosts(inventory, "online") == ["192.168.7.9", "alice", "bob"]
    assert variables(inventory, "alice")["ansible_host"] == "alice.example.net"
    assert variables(inventory, "alice")["wg_direct"] == ["bob"]


def test_two_peers_of_one_name_are_an_error(hub: FakeHub, parse: Parse) -> None:
    static = InventoryData()
    static.add_host("alice")
    static.set_variable("alice", "wg_interface_address", ["192.168.7.5/24", "192.168.7.6/24"])
    hub.speak_v1(MESH)
    with pytest.raises(
        AnsibleParserError, match=r"two peers would be the host 'alice'.*wg_interface_address"
    ):
        parse(static)


@pytest.mark.parametrize("value", ["phone.example.net", "192.168.7.256", "", None, ALICE[:-1]])
def test_a_name_for_what_is_neither_address_nor_key_is_refused(parse: Parse, value: object) -> None:
    with pytest.raises(
        AnsibleParserError, match=r"names: phone: .* neither an address in the VPN nor a public"
    ):
        parse(names={"phone": value})


def test_two_names_for_one_peer_are_refused(parse: Parse) -> None:
    with pytest.raises(
        AnsibleParserError, match=r"phone and tablet are both 192\.168\.7\.9|tablet and phone"
    ):
        parse(names={"phone": "192.168.7.9", "tablet": "192.168.7.9/32"})


# --- a hub of the original protocol ---


def test_a_hub_without_v1_is_asked_by_the_origins_calls(hub: FakeHub, parse: Parse) -> None:
    hub.speak_origin([ALICE, BOB], offline=(CAROL,))
    inventory = parse(names={"carol": CAROL, "gone": PHONE})

    assert hosts(inventory, "online") == ["192.168.7.5", "192.168.7.6"]
    assert hosts(inventory, "offline") == ["carol"]
    alice = variables(inventory, "192.168.7.5")
    assert (alice["wg_endpoint"], alice["wg_latest_handshake_at"]) == ("198.51.100.5:51820", 1000)
    assert (alice["wg_links"], alice["wg_direct"], alice["wg_relayed"]) == (None, None, None)


def test_a_peer_that_went_between_two_calls_is_left_out(hub: FakeHub, parse: Parse) -> None:
    hub.speak_origin([ALICE, BOB])
    del hub.answers[f"/peer/{BOB}"]
    assert list(parse().hosts) == ["192.168.7.5"]


# --- what is no view of a mesh ---


def assert_refused(parse: Parse, *words: str, **options: Any) -> None:
    inventory = InventoryData()
    with pytest.raises(AnsibleParserError) as error:
        parse(inventory, **options)
    for word in words:
        assert word in str(error.value)
    assert list(inventory.hosts) == []


def test_a_hub_that_is_not_there(parse: Parse) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    assert_refused(parse, url, "Connection refused", "in the VPN", "wg-rendezvous-hub@*", url=url)


def test_a_hub_that_does_not_answer(hub: FakeHub, parse: Parse) -> None:
    hub.mute = {"/v1/peers"}
    assert_refused(parse, hub.url, "did not answer within 0.2 s", "larger timeout_s", timeout_s=0.2)


def test_a_hub_that_refuses(hub: FakeHub, parse: Parse) -> None:
    hub.answers["/v1/peers"] = 403, {"error": "192.0.2.1 is the address of no peer of this hub"}
    assert_refused(parse, f"{hub.url}/v1/peers", "403", "the address of no peer", "ask from a peer")


def test_a_hub_that_cannot_read_its_device(hub: FakeHub, parse: Parse) -> None:
    hub.answers["/v1/peers"] = 503, b"<html>"
    assert_refused(parse, f"{hub.url}/v1/peers", "503", "journalctl -u 'wg-rendezvous-hub@*'")


def test_a_server_that_is_no_hub(hub: FakeHub, parse: Parse) -> None:
    assert_refused(parse, hub.url, "not as a hub does", "8080")


@pytest.mark.parametrize(
    ("path", "answer", "words"),
    [
        ("/v1/peers", b"<html>hello</html>", "no JSON"),
        ("/v1/peers", [], "without peers"),
        ("/v1/peers", {"peers": []}, "without peers"),
        ("/v1/peers", {"peers": {"A=": record(5)}}, "where a public key should be"),
        ("/v1/peers", {"peers": {ALICE: 7}}, "no object"),
        ("/v1/peers", {"peers": {ALICE: {**record(5), "online": "yes"}}}, "online is 'yes'"),
        ("/v1/links", {"links": 5}, "without links"),
        ("/v1/links", {"links": {ALICE: {BOB: "direct"}}}, "no objects"),
    ],
)
def test_nonsense_is_refused(hub: FakeHub, parse: Parse, path: str, answer: Any, words: str) -> None:
    hub.speak_v1(MESH)
    hub.answers[path] = answer
    assert_refused(parse, f"{hub.url}{path}", words, "is that the port of wg-rendezvous-hub")


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/online-peers", {"peers": []}),
        ("/online-peers", [7]),
        (f"/peer/{ALICE}", []),
        (f"/peer/{ALICE}", {"endpoint": "198.51.100.5:51820"}),
        (f"/peer/{ALICE}", {"endpoint": 7, "allowed_ips": "192.168.7.5/32", "hands_shaken_at": "1"}),
    ],
)
def test_nonsense_of_the_original_protocol_is_refused(
    hub: FakeHub, parse: Parse, path: str, answer: Any
) -> None:
    hub.speak_origin([ALICE])
    hub.answers[path] = answer
    assert_refused(parse, hub.url, "is that the port of wg-rendezvous-hub")


@pytest.mark.parametrize(
    "url", ["192.168.7.1:8080", "ftp://192.168.7.1", "http://", "http://a:99999", "http://u:p@a"]
)
def test_a_url_that_is_none_is_refused(parse: Parse, url: str) -> None:
    assert_refused(parse, repr(url), "such as http://192.168.7.1:8080", url=url)


def test_without_requests_it_is_said(parse: Parse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_hub, "HAS_REQUESTS", False)
    assert_refused(parse, "pip install requests")


def test_proxies_are_not_used(hub: FakeHub, parse: Parse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    hub.speak_v1(MESH)
    assert len(parse().hosts) == 4


# --- cache ---


def test_the_cache_answers_in_place_of_the_hub(hub: FakeHub, parse: Parse, tmp_path: Path) -> None:
    kept = {"cache": True, "cache_plugin": "jsonfile", "cache_connection": str(tmp_path / "cache")}
    hub.speak_v1(MESH, LINKS)
    first = parse(**kept)
    hub.asked.clear()
    again = parse(**kept)

    assert hub.asked == []
    assert variables(again, "192.168.7.5") == variables(first, "192.168.7.5")


def test_what_is_kept_is_of_one_hub(hub: FakeHub, parse: Parse, tmp_path: Path) -> None:
    kept = {"cache": True, "cache_plugin": "jsonfile", "cache_connection": str(tmp_path / "cache")}
    hub.speak_v1(MESH)
    parse(**kept)
    with serving() as other:
        other.speak_v1({BOB: record(6)})
        assert list(parse(**kept, url=other.url).hosts) == ["192.168.7.6"]


# --- as a user has it ---


def ansible(directory: Path, command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [Path(sys.executable).with_name(command), *arguments],
        check=False,
        capture_output=True,
        text=True,
        cwd=directory,
        env={
            **os.environ,
            "ANSIBLE_COLLECTIONS_PATH": str(CHECKOUT / "build/collections"),
            "ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": "true",
            "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
            "ANSIBLE_NOCOLOR": "1",
        },
    )


def test_ansible_inventory_lists_it_beside_the_static_one(hub: FakeHub, tmp_path: Path) -> None:
    hub.speak_v1(MESH, LINKS)
    (tmp_path / "inventory.ini").write_text("[wireguard_peers]\nalice wg_interface_address=192.168.7.5/24\n")
    (tmp_path / "mesh.wireguard.yml").write_text(f"plugin: rendezvous.wireguard.hub\nurl: {hub.url}\n")
    run = ansible(tmp_path, "ansible-inventory", "-i", "inventory.ini", "-i", "mesh.wireguard.yml", "--list")

    assert run.returncode == 0, run.stderr
    listed = json.loads(run.stdout)
    assert set(listed["direct"]["hosts"]) == {"alice", "192.168.7.6"}
    # Marked as no template, in Ansible's way.
    assert listed["_meta"]["hostvars"]["alice"]["wg_direct"] == [{"__ansible_unsafe": "192.168.7.6"}]


def test_ansible_says_which_hub_does_not_answer_and_stops(hub: FakeHub, tmp_path: Path) -> None:
    hub.answers["/v1/peers"] = 403, {"error": "no peer"}
    (tmp_path / "mesh.wireguard.yml").write_text(f"plugin: rendezvous.wireguard.hub\nurl: {hub.url}\n")
    run = ansible(tmp_path, "ansible-inventory", "-i", "mesh.wireguard.yml", "--list")

    assert run.returncode != 0
    assert f"{hub.url}/v1/peers" in "".join(run.stderr.split())
    assert "hosts" not in run.stdout


def test_what_an_agent_reports_is_no_template(hub: FakeHub, tmp_path: Path) -> None:
    """A peer chooses the sentence; it must not run on the controller."""
    trap = "{{ lookup('ansible.builtin.pipe', 'touch trapped') }}"
    hub.speak_v1(
        {ALICE: record(5, version=trap), BOB: record(6)}, {ALICE: {BOB: report("relayed", why=trap)}}
    )
    (tmp_path / "mesh.wireguard.yml").write_text(
        f"plugin: rendezvous.wireguard.hub\nurl: {hub.url}\ncompose: {{seen: wg_version}}\n"
    )
    play = {
        "hosts": "192.168.7.5",
        "gather_facts": False,
        "tasks": [{"ansible.builtin.debug": {"msg": "{{ wg_version }} {{ wg_links[0].why }} {{ seen }}"}}],
    }
    (tmp_path / "play.json").write_text(json.dumps([play]))
    run = ansible(tmp_path, "ansible-playbook", "-i", "mesh.wireguard.yml", "play.json")

    assert run.returncode == 0, run.stdout + run.stderr
    assert "lookup(" in run.stdout
    assert not (tmp_path / "trapped").exists()
