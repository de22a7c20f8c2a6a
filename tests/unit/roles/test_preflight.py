# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: the rendezvous.wireguard authors
"""What on a node would stop a deployment is said with the remedy."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ansible_collections.rendezvous.wireguard.plugins.module_utils import _system
from ansible_collections.rendezvous.wireguard.plugins.module_utils._firewall import Openings
from ansible_collections.rendezvous.wireguard.plugins.module_utils._wireguard import keys
from ansible_collections.rendezvous.wireguard.plugins.modules import preflight

LINKS = json.dumps(
    [
        {"ifname": "lo", "addr_info": [{"local": "127.0.0.1", "prefixlen": 8}]},
        {"ifname": "eth0", "addr_info": [{"local": "192.168.9.3", "prefixlen": 24}]},
        {
            "ifname": "wg0",
            "linkinfo": {"info_kind": "wireguard"},
            "addr_info": [{"local": "192.168.7.1", "prefixlen": 24}],
        },
        {
            "ifname": "wg1",
            "linkinfo": {"info_kind": "tun"},
            "addr_info": [{"local": "fd77::1", "prefixlen": 64}],
        },
    ]
)


@pytest.mark.parametrize(
    ("interface", "address", "listen_port", "words"),
    [
        ("eth0", "192.168.8.1/24", None, ("wg_interface_name eth0", "no WireGuard", "another name")),
        ("wg0", "192.168.9.5/24", None, ("wg_interface_address 192.168.9.5/24", "eth0", "another network")),
        ("wg2", ["192.168.8.1/24", "fd77::5/64"], None, ("fd77::5/64", "wg1", "another network")),
        ("wg1", "192.168.8.1/24", 51820, ("UDP port 51820", "of wg0", "wg0.conf", "another one")),
    ],
)
def test_what_another_interface_has_already(
    interface: str, address: object, listen_port: object, words: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / "wg0.conf").write_text("[Interface]\nListenPort = 51820\n")
    (tmp_path / "lo.conf").write_text("[Interface]\nListenPort = many\n")
    (tmp_path / "off.conf").write_text("[Interface]\nListenPort = 51820\n")
    given = {"interface": interface, "address": address, "listen_port": listen_port, "hub_networks": []}
    (problem,) = preflight.neighbour_problems(given, LINKS, str(tmp_path))
    for word in words:
        assert word in problem


@pytest.mark.parametrize("interface", ["wg0", "wg9"])
def test_what_is_ones_own_or_new_is_fine(interface: str, tmp_path: Path) -> None:
    (tmp_path / f"{interface}.conf").write_text("[Interface]\nListenPort = 51820\n")
    address = "192.168.7.1/24" if interface == "wg0" else "192.168.8.1/25"
    networks = ["192.168.0.0/16", "192.168.10.0/24"]
    given = {"interface": interface, "address": address, "listen_port": 51820, "hub_networks": networks}
    assert preflight.neighbour_problems(given, LINKS, str(tmp_path)) == []
    assert preflight.neighbour_problems(given, "", str(tmp_path / "none")) == []


def test_a_network_behind_another_peer_that_is_the_nodes_own() -> None:
    networks = ["192.168.7.0/24", "192.168.9.0/24"]
    given = {"interface": "wg0", "address": "192.168.7.5/24", "listen_port": None, "hub_networks": networks}
    (problem,) = preflight.neighbour_problems(given, LINKS)
    for words in ("wg_peer_hub_networks 192.168.9.0/24", "interface eth0", "one site another network"):
        assert words in problem


def test_a_port_at_which_another_interface_is_still_reached_is_not_taken_from_it() -> None:
    moved = Openings("wg0", ("192.168.7.1/24",), 51820, former_ports=(51821,))
    (problem,) = preflight.former_port_problems(51821, [moved])
    assert problem.startswith("UDP port 51821 was that of wg0")
    assert "wg_hub_former_ports: []" in problem
    for port in (51822, None):
        assert preflight.former_port_problems(port, [moved]) == []


@pytest.mark.parametrize("line", ["SaveConfig = true", "  saveconfig=TRUE  # why not"])
def test_save_config_is_refused(line: str, tmp_path: Path) -> None:
    (tmp_path / "wg0.conf").write_text(f"[Interface]\n{line}\nAddress = 192.168.7.5/24\n")

    (problem,) = preflight.conf_problems("wg0", {}, str(tmp_path))
    assert f"{tmp_path}/wg0.conf" in problem
    assert "remove that line" in problem


@pytest.mark.parametrize("line", ["SaveConfig = false", "# SaveConfig = true", ""])
def test_a_conf_that_is_not_overwritten_is_fine(line: str, tmp_path: Path) -> None:
    (tmp_path / "wg0.conf").write_text(f"[Interface]\n{line}\n")

    assert preflight.conf_problems("wg0", {}, str(tmp_path)) == []


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"[Interface]\n# caf\xe9\n", ("not UTF-8 text", "correct or move it")),
        (b"[Interface]\nListenPort = many\n", ("ListenPort = many", "not a number")),
        (b"[Interface]\n[Interface]\n", ("two [Interface] sections", "join them")),
        (b"[Interface]\n[Peer]\nAllowedIPs = 192.168.7.9/32\n", ("no PublicKey",)),
    ],
)
def test_a_conf_that_the_modules_could_not_read(
    content: bytes, words: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / "wg0.conf").write_bytes(content)

    (problem,) = preflight.conf_problems("wg0", {}, str(tmp_path))
    for word in (f"{tmp_path}/wg0.conf", *words):
        assert word in problem


def test_a_conf_that_is_not_there_is_fine(tmp_path: Path) -> None:
    assert preflight.conf_problems("wg0", {}, str(tmp_path)) == []


def test_a_key_that_could_not_stay_is_refused_and_not_repeated(tmp_path: Path) -> None:
    key = tmp_path / "wg0.key"
    key.write_text("hunter2\n")
    for mode, words in ((0o644, "chmod 600"), (0o600, "is damaged")):
        key.chmod(mode)
        (problem,) = preflight.key_problems("wg0", {}, str(tmp_path))
        assert words in problem
        assert "hunter2" not in problem


def test_the_public_key_of_a_node_is_known_if_it_has_one(tmp_path: Path) -> None:
    result: dict[str, str | None] = {}
    assert preflight.key_problems("wg0", result, str(tmp_path)) == []
    assert result == {"public_key": None}
    private_key = keys.generate_private_key()
    (tmp_path / "wg0.key").write_text(private_key)
    (tmp_path / "wg0.key").chmod(0o600)
    assert preflight.key_problems("wg0", result, str(tmp_path)) == []
    assert result == {"public_key": keys.public_key(private_key)}


def test_the_public_key_of_an_interface_that_was_made_by_hand_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_system, "run", lambda *_: "running\n")
    result: dict[str, str | None] = {}
    assert preflight.key_problems("wg0", result, str(tmp_path)) == []
    assert result == {"public_key": "running"}
    private_key = keys.generate_private_key()
    (tmp_path / "wg0.conf").write_text(f"[Interface]\nPrivateKey = {private_key}\n")
    assert preflight.key_problems("wg0", result, str(tmp_path)) == []
    assert result == {"public_key": keys.public_key(private_key)}
    (tmp_path / "wg0.conf").write_text("[Interface]\nPrivateKey = hunter2\n")
    (problem,) = preflight.key_problems("wg0", result, str(tmp_path))
    assert "PrivateKey in" in problem
    assert "wg genkey" in problem
    assert "hunter2" not in problem


@pytest.mark.parametrize(("kernel", "tun"), [(True, True), (True, False), (False, True)])
def test_kernel_or_tun_is_enough(kernel: bool, tun: bool) -> None:
    assert preflight.wireguard_problems(kernel, tun) == []


def test_neither_kernel_nor_tun_is_refused() -> None:
    (problem,) = preflight.wireguard_problems(False, False)
    assert "/dev/net/tun" in problem
    assert "--device /dev/net/tun" in problem


@pytest.mark.parametrize("running", [None, "(none)\n", "in the file\n"])
def test_a_hub_that_is_down_or_runs_with_its_key_is_fine(
    monkeypatch: pytest.MonkeyPatch, running: str | None
) -> None:
    monkeypatch.setattr(_system, "run", lambda *_: running)
    assert preflight.half_rotated_problems("wg0", "in the file") == []


def test_a_hub_whose_key_is_half_changed_keeps_what_its_peers_know(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_system, "run", lambda *_: "known\n")
    (problem,) = preflight.half_rotated_problems("wg0", "next")
    for words in ("wg0 runs with the key known", "/etc/wireguard/wg0.key", "rotate_hub_key"):
        assert words in problem
