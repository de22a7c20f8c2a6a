# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: the rendezvous.wireguard authors
"""The node program by hand on Debian 11, whose Python 3.9 and aiohttp 3.7 are the oldest that it runs with.

No role deploys there. WireGuard is the controller's wireguard-go with the controller's C library.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.containers.fixtures import Report
from tests.containers.mesh import Machine, Mesh, wait_until
from tests.containers.network import podman

PROGRAM = "/usr/local/lib/wg-rendezvous/wg-rendezvous.pyz"
GET = "import urllib.request as r, sys; print(r.urlopen(sys.argv[1], timeout=5).read().decode())"


@pytest.fixture(scope="module")
def dora(mesh: Mesh, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A Debian 11 machine, joined to the hub by hand, with the node program in /opt."""
    machine, hub = mesh["dora"], mesh["hub"]
    program = tmp_path_factory.mktemp("program") / "wg-rendezvous.pyz"
    podman("cp", f"{mesh['alice'].container}:{PROGRAM}", str(program))
    copy_in(machine, program)
    command = f"--setenv=WG_PROCESS_FOREGROUND=1 {wireguard_go(machine)} wg0"
    machine.run(f"systemd-run --collect --unit=wireguard-go {command}")
    wait_until(lambda: machine.run("wg show wg0", check=False) != "", 10, lambda: "wireguard-go serves wg0")
    to_hub = f"peer {hub.public_key} endpoint hub.example.net:51820 allowed-ips 192.168.7.0/24"
    machine.run(
        "umask 077 && wg genkey >/opt/wg0.key && "
        f"wg set wg0 private-key /opt/wg0.key {to_hub} persistent-keepalive 13 && "
        "ip address add 192.168.7.8/24 dev wg0 && ip link set wg0 mtu 1420 up"
    )
    hub.run(f"wg set wg0 peer {machine.public_key} allowed-ips {machine.vpn_address}/32")
    wait_until(lambda: machine.pings(hub, 1) == 1, 20, lambda: "the tunnel of dora")
    yield machine
    hub.run(f"wg set wg0 peer {machine.public_key} remove")
    machine.run("systemctl stop wireguard-go")


def copy_in(machine: Machine, file: Path) -> None:
    """Copy a file of the controller to /opt."""
    podman("cp", str(file.resolve()), f"{machine.container}:/opt/{file.name}")


def wireguard_go(machine: Machine) -> str:
    """Copy wireguard-go with the libraries that it is linked to; the command that runs it."""
    binary = Path("/usr/bin/wireguard-go")
    listed = subprocess.run(["ldd", str(binary)], check=True, capture_output=True, text=True).stdout
    libraries = [Path(word) for word in listed.split() if word.startswith("/")]
    for file in (binary, *libraries):
        copy_in(machine, file)
    loader = next(library.name for library in libraries if library.name.startswith("ld-"))
    return f"/opt/{loader} --library-path /opt /opt/{binary.name}"


def test_agent_on_debian_11_gets_a_direct_path(mesh: Mesh, dora: Machine, report: Report) -> None:
    dora.run(
        "systemd-run --collect --unit=agent python3 /opt/wg-rendezvous.pyz agent "
        "--interface wg0 --hub http://192.168.7.1:8080 --interval-s 3"
    )
    to_direct_s = mesh.wait_for_path(dora, mesh["alice"], "direct", 30)
    report(f"Debian 11: direct {to_direct_s:.1f} s after the agent's start")
    dora.run("systemctl stop agent")
    mesh.wait_for_path(dora, mesh["alice"], "relay", 11)


def test_hub_on_debian_11_answers(mesh: Mesh, dora: Machine) -> None:
    # To dora as a hub, a peer is one that has one address.
    dora.run(f"wg set wg0 peer {mesh['hub'].public_key} allowed-ips {mesh['hub'].vpn_address}/32")
    dora.run("systemd-run --collect --unit=hub python3 /opt/wg-rendezvous.pyz hub --interface wg0")

    def get(path: str) -> str:
        return dora.run(f'python3 -c "{GET}" http://{dora.vpn_address}:8080{path}', check=False)

    wait_until(lambda: get("/healthz") != "", 10, lambda: "the hub on Debian 11 answers")
    assert dora.pings(mesh["hub"], 2) == 2  # it is online when something came from it
    wait_until(
        lambda: mesh["hub"].public_key in json.loads(get("/online-peers")),
        5,
        lambda: "the hub on Debian 11 says that its only peer is online",
    )
    assert get("/statusz").splitlines()
    assert get("/metrics").splitlines()
