# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""Fixtures of the lab. `pytest -n 4 tests/lab` runs four networks at once."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.lab import namespaces
from tests.lab.network import Network
from tests.lab.pairs import INTERVAL_S, Pair
from tests.lab.programs import start_hub, start_origin_hub
from tests.nat_profiles import PROFILES, NatProfile

TOOLS = ("ip", "ss", "nft", "conntrack", "wg", "wireguard-go", "nsenter", "setpriv", "ping", "sysctl", "curl")


@pytest.fixture(scope="session", autouse=True)
def clean_machine() -> Iterator[None]:
    """What the lab needs is there; what dead runs left is gone, before the first test and after the last."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if os.geteuid() != 0 or missing or not Path("/dev/net/tun").exists():
        raise RuntimeError(
            "the lab makes network namespaces: run it as root, with /dev/net/tun, and with "
            f"{', '.join(TOOLS)} (missing: {', '.join(missing) or 'none of them'})"
        )
    with namespaces.swept_when_this_process_ends():
        yield


MakeNetwork = Callable[..., Network]


@pytest.fixture
def make_network(tmp_path: Path) -> Iterator[MakeNetwork]:
    """make_network("cone drop", "cone reject", ipv6="drop"): a network, a site behind each NAT."""
    networks: list[Network] = []

    def make(*profiles: str | NatProfile, **options: Any) -> Network:
        nats = [PROFILES[profile] if isinstance(profile, str) else profile for profile in profiles]
        networks.append(Network(nats, tmp_path / f"network-{len(networks)}", **options))
        return networks[-1]

    yield make
    for network in networks:
        network.remove()


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program as it is shipped, packed as `make program` does."""
    path = tmp_path_factory.mktemp("program") / "wg-rendezvous.pyz"
    packer = Path(__file__).parents[2] / "plugins/plugin_utils/_program.py"
    subprocess.run([sys.executable, str(packer), str(path)], check=True)
    return path


MakePair = Callable[..., Pair]


@pytest.fixture
def make_pair(make_network: MakeNetwork, program: Path) -> MakePair:
    """make_pair("cone drop", "cone drop"): hub and agents under test behind these NATs, just started;
    hub="origin" for the origin's hub, agents=False for agents that are started later."""

    def make(
        *profiles: str | NatProfile,
        interval_s: float = INTERVAL_S,
        hub: str = "ours",
        agents: bool = True,
        **options: Any,
    ) -> Pair:
        network = make_network(*profiles, **options)
        started = start_hub(program, network) if hub == "ours" else start_origin_hub(network)
        pair = Pair(network, program, started, [], interval_s)
        if agents:
            pair.start_agents()
        return pair

    return make
