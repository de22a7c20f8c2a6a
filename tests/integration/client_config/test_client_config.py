# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""Devices that Ansible does not manage, by ansible-playbook, with a real hub and a real device."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.containers.mesh import PlaybookRun
from tests.integration.modules.conftest import CHECKOUT, Node, run
from tests.unit.plugins.plugin_utils.test_handed_out import photograph, read_back

from .conftest import PHONE, Site

pytestmark = pytest.mark.lab

KEY = "zcUx7+vGCSLBVH8K1UPjOVAb+KvyzgGFzLFsDLBqVCM="
GONE = {"name": "phone", "state": "absent"}
REGENERATE = ("-e", "wg_client_config_regenerate=phone")
REISSUE = ("-e", "wg_client_config_reissue=phone")
LOUD = ("-vvv", "--diff")


def registered(site: Site) -> dict[str, list[str]]:
    """Names and routes of the hub's running peers, whose names are in its file."""
    peers = site.hub.info()["peers"]
    return {peer["name"]: peer["allowed_ips"] for peer in peers}


def succeeded(run: PlaybookRun, changed: int | None = None) -> PlaybookRun:
    assert run.exit_code == 0, run.output
    assert changed is None or sum(run.changed_hosts.values()) == changed, run.output
    return run


def test_the_life_of_a_phone(site: Site) -> None:
    hub_conf = site.hub.conf.read_text()
    succeeded(site.run(PHONE, arguments=("--check", *LOUD)), changed=2)
    assert not site.files.exists()
    assert site.hub.conf.read_text() == hub_conf

    succeeded(site.run(PHONE, arguments=LOUD), changed=2)
    first = site.private_key("phone")
    assert registered(site) == {"phone": ["192.168.7.50/32"]}
    site.connect("phone")
    assert not site.device.loses_a_ping_to("192.168.7.1")
    assert not site.hub.loses_a_ping_to("192.168.7.50")
    succeeded(site.run(PHONE, arguments=LOUD), changed=0)
    succeeded(site.run(PHONE, arguments=("--check", "--limit", "hub", *LOUD)), changed=0)

    (site.files / "phone.conf").unlink()
    (site.files / "phone.png").unlink()
    succeeded(site.run(PHONE, arguments=LOUD), changed=0)
    assert not site.device.loses_a_ping_to("192.168.7.1")

    succeeded(site.run(PHONE, arguments=(*REGENERATE, *LOUD)), changed=2)
    second = site.private_key("phone")
    assert second != first
    assert site.device.is_cut_off_from("192.168.7.1")
    site.connect("phone")
    assert not site.device.loses_a_ping_to("192.168.7.1")
    assert len(site.hub.info()["peers"]) == 1

    succeeded(site.run(GONE, arguments=LOUD), changed=2)
    assert registered(site) == {}
    assert sorted(path.name for path in site.files.iterdir()) == [".gitignore"]
    assert site.device.is_cut_off_from("192.168.7.1")
    assert site.hub.conf.read_text().strip() == hub_conf.strip()
    succeeded(site.run(GONE, arguments=LOUD), changed=0)
    assert first not in site.printed
    assert second not in site.printed


def test_an_owners_key_is_registered_and_the_private_one_is_nowhere(site: Site) -> None:
    private_key = run("wg", "genkey").strip()
    public_key = run("sh", "-c", f"echo {private_key} | wg pubkey").strip()
    laptop = {"name": "laptop", "kind": "linux", "address": "192.168.7.51/24", "public_key": public_key}
    succeeded(site.run(laptop), changed=2)
    succeeded(site.run(laptop), changed=0)
    path = site.files / "laptop.conf"
    path.write_text(re.sub(r"# PrivateKey = .*", f"PrivateKey = {private_key}", path.read_text()))
    site.connect("laptop")
    assert not site.device.loses_a_ping_to("192.168.7.1")
    assert not (site.files / "laptop.png").exists()
    succeeded(site.run(laptop, arguments=LOUD), changed=0)
    assert private_key in site.text("laptop")
    assert private_key not in site.printed


def check_by_wireguard(node: Node, path: Path, directory: Path) -> None:
    """wg-quick reads the file, and WireGuard takes it."""
    conf = directory / f"{node.interface}.conf"
    conf.touch(mode=0o600)
    # There is no name server here.
    conf.write_text(path.read_text().replace("hub.example.net", "203.0.113.1"))
    stripped = node.run("wg-quick", "strip", str(conf))
    bare = directory / f"bare{node.interface}"[:15]
    bare.with_suffix(".conf").write_text("[Interface]\n")
    node.run("wg-quick", "up", str(bare.with_suffix(".conf")))
    try:
        (directory / "stripped").write_text(stripped)
        node.run("wg", "setconf", bare.name, str(directory / "stripped"))
        shown = node.run("wg", "showconf", bare.name)
    finally:
        node.run("ip", "link", "delete", bare.name)
    expected = {
        line for line in stripped.splitlines() if line.partition(" ")[0] in ("PublicKey", "AllowedIPs")
    }
    assert expected <= set(shown.splitlines())
    assert re.findall(r"^PrivateKey = .*", stripped, re.MULTILINE) == re.findall(
        r"^PrivateKey = .*", shown, re.MULTILINE
    )


DEVICES = [
    {**PHONE, "dns": ["192.168.7.1", "example.net"], "mtu": 1380},
    {"name": "pc", "kind": "windows", "address": "192.168.7.51/24"},
    {"name": "laptop", "kind": "windows", "address": "192.168.7.52/24", "public_key": KEY},
    {"name": "pi", "kind": "linux", "address": "192.168.7.53/24", "agent": True, "listen_port": 51820},
    {"name": "all", "kind": "linux", "address": "192.168.7.54/32", "networks": ["0.0.0.0/0", "::/0"]},
]


@pytest.mark.parametrize("central", [False, True], ids=["hub-host", "hub-device"])
def test_every_file_is_one_that_wireguard_takes_and_every_code_is_its_file(
    site: Site, tmp_path: Path, central: bool
) -> None:
    center = {
        "name": "center",
        "kind": "hub",
        "address": "192.168.7.1/24",
        "endpoint": "hub.example.net:51820",
    }
    if central:
        site.hub.key.unlink()  # nobody is asked
        local = {"ansible_connection": "local"}
        inventory = {
            "all": {"hosts": {"localhost": local}, "vars": {"wg_client_config_devices": [center, *DEVICES]}}
        }
        (site.directory / "central.json").write_text(json.dumps(inventory))
        for changed in (1, 0):
            succeeded(site.playbook("rendezvous.wireguard.client_config", "-icentral.json"), changed=changed)
    else:
        succeeded(site.run(*DEVICES), changed=2)
        assert registered(site) == {
            device["name"]: [f"{device['address'].split('/')[0]}/32"] for device in DEVICES
        }
    files = sorted(site.files.glob("*.conf"))
    assert len(files) == len(DEVICES) + central
    for path in files:
        assert path.stat().st_mode & 0o777 == 0o600
        check_by_wireguard(site.device, path, tmp_path)
    assert "PostUp = schtasks /Run /TN wg-rendezvous-agent" in site.text("pc")
    assert "PostDown = schtasks /End /TN wg-rendezvous-agent" in site.text("pc")
    assert "agent --interface %i --hub http://192.168.7.1:8080" in site.text("pi")
    code = read_back(site.files / "phone.png")
    assert code.splitlines() == [line for line in site.text("phone").splitlines() if line and line[0] != "#"]


def test_a_code_is_shown_once_and_only_on_a_terminal(site: Site, tmp_path: Path) -> None:
    def codes(run: PlaybookRun) -> list[str]:
        lines = [line for line in run.output.splitlines() if line.startswith("\x1b[97;40m")]
        if not lines:
            return []
        picture = tmp_path / "terminal.pgm"
        picture.write_text(photograph("\n".join(lines)))
        return [read_back(picture)]

    assert codes(succeeded(site.run(PHONE))) == []
    assert codes(succeeded(site.run(PHONE, terminal=True))) == []
    expected = [read_back(site.files / "phone.png")]
    assert codes(succeeded(site.run(PHONE, arguments=("--check", *REISSUE), terminal=True), 0)) == []
    assert codes(succeeded(site.run(PHONE, arguments=REISSUE, terminal=True), 0)) == expected
    assert codes(succeeded(site.run(PHONE, arguments=REISSUE), 0)) == []
    assert (
        codes(succeeded(site.run(PHONE, arguments=REISSUE, wg_client_config_qr_terminal="always")))
        == expected
    )
    assert "█" not in (site.directory / "ansible.log").read_text()


def test_a_directory_that_was_there_is_closed_if_it_is_for_devices_and_else_warned_of(site: Site) -> None:
    site.files.mkdir(mode=0o755)
    succeeded(site.run(PHONE, arguments=("--check", *LOUD)), changed=2)
    assert site.files.stat().st_mode & 0o777 == 0o755
    output = succeeded(site.run(PHONE, arguments=LOUD), changed=2).output
    assert "-mode 0755" in output
    assert site.files.stat().st_mode & 0o777 == 0o700
    assert (site.files / ".gitignore").exists()

    (site.files / "package.json").write_text("{}")
    site.files.chmod(0o755)
    output = re.sub(r"\s+", " ", succeeded(site.run(PHONE), changed=0).output)
    assert f"directory, or, if nobody else needs it, `chmod 700 {site.files}`" in output
    assert site.files.stat().st_mode & 0o777 == 0o755


def test_a_device_whose_address_changes_is_let_in_there_and_the_user_is_told_to_reissue(site: Site) -> None:
    succeeded(site.run(PHONE))
    moved = {**PHONE, "address": "192.168.7.60/24"}
    output = re.sub(r"\s+", " ", succeeded(site.run(moved), changed=1).output)
    assert "-e wg_client_config_reissue=phone" in output
    assert registered(site) == {"phone": ["192.168.7.60/32"]}
    succeeded(site.run(moved, arguments=REISSUE), changed=1)
    site.connect("phone")
    assert not site.device.loses_a_ping_to("192.168.7.1")
    assert "reissue" not in succeeded(site.run(moved), changed=0).output


def test_a_device_without_ipv6_comes_up_in_a_network_that_has_it(site: Site) -> None:
    two = {"wg_interface_address": ["192.168.7.1/24", "fd77::1/64"]}
    pi = {**PHONE, "name": "pi", "kind": "linux"}
    succeeded(site.run(pi, arguments=("--extra-vars", json.dumps(two))))
    site.device.run(
        "sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1"
    )
    site.connect("pi")
    assert not site.device.loses_a_ping_to("192.168.7.1")


def test_a_renamed_hub_knows_its_devices(site: Site) -> None:
    succeeded(site.run(PHONE))
    text = site.text("phone")
    site.name = "center"
    succeeded(site.run(PHONE), changed=1)  # the record
    succeeded(site.run(PHONE), changed=0)
    assert site.text("phone") == text
    assert registered(site) == {"phone": ["192.168.7.50/32"]}


def assert_refused(run: PlaybookRun, *words: str) -> None:
    assert run.exit_code == 2, run.output
    lines = run.output.replace("\\n", "\n").splitlines()
    assert any(all(word in line for word in ("hub: ", *words)) for line in lines), run.output
    assert run.changed_hosts == {}
    assert "Traceback" not in run.output


BAD: list[tuple[dict[str, Any], tuple[str, ...]]] = [
    (
        {**PHONE, "name": "Phone", "address": "192.168.7.51/24"},
        ("device Phone", "'phone'", "twice", "another"),
    ),
    ({**PHONE, "name": "tablet"}, ("device tablet", "192.168.7.50/24", "phone", "write e.g.")),
    ({**PHONE, "name": "a", "address": "192.168.7.5/24"}, ("device a:", "7.5/24", "alice", "write e.g.")),
    ({**PHONE, "name": "b", "address": "192.168.9.5/24"}, ("device b:", "9.5/24", "outside", "write e.g.")),
    ({**PHONE, "name": "c", "public_key": "abc"}, ("device c:", "public_key 'abc'", "wg pubkey")),
    ({**PHONE, "name": "d", "kind": "fridge"}, ("device d:", "kind 'fridge'", "write one of phone")),
    ({**PHONE, "name": "../phone"}, ("device name '../phone'", "write 1 to 15 letters")),
    ({**PHONE, "name": "alice"}, ("device alice", "host of the network", "write another")),
]


def test_all_bad_input_is_said_at_once_before_anything_is_changed(site: Site) -> None:
    site.hub.key.unlink()  # the hub is not asked
    refused = site.run(PHONE, *(device for device, _words in BAD))
    for _device, words in BAD:
        assert_refused(refused, "wg_client_config_devices: ", *words)
    assert not site.files.exists()


def test_other_things_that_cannot_be(site: Site) -> None:
    assert_refused(
        site.run(PHONE, wg_client_config_reissue=["fone"]), "wg_client_config_reissue 'fone'", "phone"
    )
    assert_refused(
        site.run(PHONE, wg_client_config_hub_endpoint=""), "no public endpoint", "wg_hub_endpoint="
    )
    assert_refused(
        site.run(PHONE, wg_client_config_hub="hbu"), "wg_client_config_hub 'hbu'", "host of the inv"
    )
    two = ["192.168.7.1/24", "FD77:0::1/64"]  # the second is the device's as well, written otherwise
    hub = ("--extra-vars", json.dumps({"wg_interface_address": two}))
    assert_refused(
        site.run({**PHONE, "address": "fd77::1/64"}, arguments=hub), "device phone", "fd77::1/64 is that of"
    )
    listed = [{"name": "phone", "public_key": KEY, "allowed_ips": ["192.168.7.50/32"]}]
    assert_refused(
        site.run(PHONE, wg_interface_peers=listed), "device phone", "wg_interface_peers", "another"
    )
    assert not site.files.exists()


def test_without_segno_the_remedy_is_named_and_codes_can_be_left_out(site: Site) -> None:
    (site.directory / "sitecustomize.py").write_text("import sys\nsys.modules['segno'] = None\n")
    site.environment["PYTHONPATH"] = str(site.directory)
    assert_refused(
        site.run(PHONE), "QR code for phone", "-m pip install segno", "wg_client_config_qr to false"
    )
    succeeded(site.run(PHONE, wg_client_config_qr=False), changed=2)
    assert not (site.files / "phone.png").exists()
    succeeded(site.run(PHONE), changed=0)


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def test_the_readmes_example_does_what_it_says(site: Site) -> None:
    readme = (CHECKOUT / "roles/wg_client_config/README.md").read_text()
    (site.directory / "play.yml").write_text(blocks(readme, "yaml")[0])
    (site.directory / "inventory.ini").write_text(blocks(readme, "ini")[0])
    (site.directory / "local.ini").write_text(
        f"[wireguard_hub]\nhub.example.net wg_interface_name={site.hub.interface}\n"
        f"[all:vars]\nansible_connection=local\nansible_python_interpreter={sys.executable}\n"
    )
    run = site.playbook("play.yml", "-iinventory.ini", "-ilocal.ini", "--diff")
    succeeded(run, changed=2)
    assert registered(site) == {"phone": ["192.168.7.50/32"], "laptop": ["192.168.7.51/32"]}
    succeeded(site.playbook("play.yml", "-iinventory.ini", "-ilocal.ini", "--diff"), changed=0)
