# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""Fixtures of the lab. `pytest -n 2 tests/lab` runs two networks at once."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from tests.lab import namespaces
from tests.lab.network import Network
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
    """make_network("cone drop", "symmetric reject", ...): a network with a site behind each of these NATs."""
    networks: list[Network] = []

    def make(*profiles: str | NatProfile, keys: Sequence[str] | None = None, notrack: bool = True) -> Network:
        nats = [PROFILES[profile] if isinstance(profile, str) else profile for profile in profiles]
        networks.append(Network(nats, tmp_path / f"network-{len(networks)}", keys=keys, notrack=notrack))
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
