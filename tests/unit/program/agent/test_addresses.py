# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""The node's own addresses, from what ip(8) says, and word of their changes."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from wg_rendezvous.agent import addresses
from wg_rendezvous.agent.addresses import Outside, Watch, parse_addresses, parse_route
from wg_rendezvous.wg import DeviceError

UP = ["BROADCAST", "MULTICAST", "UP", "LOWER_UP"]


def link(name: str, *locals_: str, kind: str | None = None, **fields: Any) -> dict[str, Any]:
    """One interface as `ip -j -d addr` shows it."""
    info = [
        {"local": local, "family": "inet6" if ":" in local else "inet", "scope": "global"}
        for local in locals_
    ]
    linkinfo = {"linkinfo": {"info_kind": kind}} if kind else {}
    return {"ifname": name, "flags": UP, "addr_info": info, **linkinfo, **fields}


def found(*links: dict[str, Any]) -> list[str]:
    return parse_addresses(json.dumps(links), "wg0")


def test_the_addresses_of_real_interfaces_count() -> None:
    assert found(link("eth0", "10.0.1.2", "2001:db8::2"), link("wlan0", "192.168.1.9")) == [
        "10.0.1.2",
        "2001:db8::2",
        "192.168.1.9",
    ]


@pytest.mark.parametrize("kind", ["vlan", "bond", "macvlan", "ipvlan", "ppp", "veth", "virtio"])
def test_so_do_those_of_virtual_interfaces_that_lead_outside(kind: str) -> None:
    assert found(link("x", "10.0.1.2", kind=kind)) == ["10.0.1.2"]


@pytest.mark.parametrize(
    "left_out",
    [
        link("lo", "127.0.0.1", flags=["LOOPBACK", "UP", "LOWER_UP"]),
        link("wg0", "192.168.7.5"),
        link("wg1", "10.8.0.1", kind="wireguard"),
        link("docker0", "172.17.0.1", kind="bridge"),
        link("tun0", "10.9.0.1", kind="tun"),
        link("gre1", "10.9.0.1", kind="gre"),
        link("veth1", "10.9.0.1", kind="veth", master="docker0"),
        link("eth1", "10.9.0.1", flags=["BROADCAST", "MULTICAST"]),
        link("eth1", "10.9.0.1", flags=["NO-CARRIER", *UP[:-1]]),
        link("eth1"),
        {"ifname": "eth1", "flags": UP},
        {},
    ],
    ids=lambda entry: str(entry.get("linkinfo", entry.get("flags", entry))),
)
def test_those_that_nobody_reaches_or_only_by_detours_do_not(left_out: dict[str, Any]) -> None:
    assert found(left_out, link("eth0", "10.0.1.2")) == ["10.0.1.2"]


@pytest.mark.parametrize(
    "fields",
    [{"scope": "link"}, {"scope": "host"}, {"deprecated": True}, {"tentative": True}, {"dadfailed": True}],
)
def test_an_address_that_cannot_be_used_now_does_not_count(fields: dict[str, Any]) -> None:
    entry = link("eth0", "2001:db8::2")
    entry["addr_info"][0].update(fields)
    assert found(entry) == []


def test_the_way_to_the_hub_is_its_device_gateway_and_source() -> None:
    route = {"dst": "203.0.113.1", "gateway": "10.0.1.1", "dev": "eth0", "prefsrc": "10.0.1.2", "uid": 0}
    assert parse_route(json.dumps([route])) == (("eth0", "10.0.1.1", "10.0.1.2"), "10.0.1.2")
    assert parse_route("") == ((), "")


class Node:
    """A node whose `ip` says what the test wants."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        script = (
            f'#!/bin/sh\necho "$@" >> {directory}/asked\n'
            f'case "$*" in *route*) cat {directory}/route;; *) cat {directory}/addr;; esac\n'
        )
        (directory / "ip").write_text(script)
        (directory / "ip").chmod(0o755)
        self.addr(link("eth0", "10.0.1.2"), link("wlan0", "192.168.1.9"))

    def addr(self, *links: dict[str, Any]) -> None:
        (self.directory / "addr").write_text(json.dumps(links))

    def route(self, device: str, gateway: str, source: str) -> None:
        route = {"dev": device, "gateway": gateway, "prefsrc": source}
        (self.directory / "route").write_text(json.dumps([route]))

    def asked(self) -> list[str]:
        return (self.directory / "asked").read_text().splitlines()


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    """A node with two uplinks."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return Node(tmp_path)


async def test_the_address_that_packets_to_the_hub_leave_from_comes_first(node: Node) -> None:
    node.route("wlan0", "192.168.1.1", "192.168.1.9")
    outside = await addresses.read("wg0", "203.0.113.1:51820", 51820)
    assert outside == Outside(("192.168.1.9", "10.0.1.2"), ("wlan0", "192.168.1.1", "192.168.1.9"))
    assert "-j route get 203.0.113.1 mark 51820" in node.asked()


async def test_without_a_way_to_the_hub_the_addresses_are_still_known(node: Node) -> None:
    assert (await addresses.read("wg0", "[2001:db8::1]:51820", 0)).addresses == ("10.0.1.2", "192.168.1.9")
    assert "-j route get 2001:db8::1" in node.asked()
    assert (await addresses.read("wg0", None, 0)).addresses == ("10.0.1.2", "192.168.1.9")


async def test_an_ip_that_says_nonsense_is_an_error(node: Node) -> None:
    for nonsense in ("{", '{"a": 1}', "[3]", '[{"addr_info": [1], "flags": ["UP"]}]'):
        (node.directory / "addr").write_text(nonsense)
        with pytest.raises(DeviceError, match="not understood"):
            await addresses.read("wg0", None, 0)


class Roaming:
    """A watch, what it said, and a kernel that speaks when the test wants."""

    def __init__(self) -> None:
        self.said: asyncio.Queue[tuple[str, ...]] = asyncio.Queue()
        self.watch = Watch("wg0", lambda: ("203.0.113.1:51820", 0), self.said.put_nowait)

    def kernel_speaks(self) -> None:
        self.watch._on_change()

    async def next(self) -> tuple[str, ...]:
        return await asyncio.wait_for(self.said.get(), 5)


@pytest.fixture
async def roaming(node: Node, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Roaming]:
    """A watch that has begun."""
    monkeypatch.setattr(addresses, "AGAIN_S", 0.1)
    node.route("eth0", "10.0.1.1", "10.0.1.2")
    made = Roaming()
    assert await made.watch.start() == ("10.0.1.2", "192.168.1.9")
    yield made
    await made.watch.stop()


async def test_another_address_is_said_once_however_often_the_kernel_speaks(
    node: Node, roaming: Roaming
) -> None:
    before = len(node.asked())
    node.addr(link("eth0", "10.0.2.2"))
    for _ in range(100):
        roaming.kernel_speaks()
    assert await roaming.next() == ("10.0.2.2",)
    await asyncio.sleep(0.3)
    assert roaming.said.empty()
    assert len(node.asked()) - before <= 4


async def test_nothing_is_said_when_nothing_is_different(node: Node, roaming: Roaming) -> None:
    roaming.kernel_speaks()
    await asyncio.sleep(0.3)
    assert roaming.said.empty()
    assert len(node.asked()) >= 4, "it has looked"


@pytest.mark.parametrize(
    ("way", "first"),
    [
        (("wlan0", "192.168.1.1", "192.168.1.9"), "192.168.1.9"),
        (("eth0", "10.0.1.254", "10.0.1.2"), "10.0.1.2"),
    ],
    ids=["another uplink", "another router of the same network"],
)
async def test_another_way_to_the_hub_is_said_though_the_addresses_are_the_same(
    node: Node, roaming: Roaming, way: tuple[str, str, str], first: str
) -> None:
    node.route(*way)
    roaming.kernel_speaks()
    said = await roaming.next()
    assert said[0] == first
    assert set(said) == {"10.0.1.2", "192.168.1.9"}


async def test_an_ip_that_fails_is_no_change_and_the_watch_goes_on(
    node: Node, roaming: Roaming, caplog: pytest.LogCaptureFixture
) -> None:
    node.directory.joinpath("addr").write_text("{")
    roaming.kernel_speaks()
    await asyncio.sleep(0.3)
    assert roaming.said.empty()
    assert "could not be read" in caplog.text
    node.addr(link("eth0", "10.0.2.2"))
    roaming.kernel_speaks()
    assert await roaming.next() == ("10.0.2.2",)


IN_A_NAMESPACE = """
import asyncio, subprocess, sys
from wg_rendezvous.agent.netlink import Changes

async def main():
    spoken = asyncio.Event()
    changes = Changes(spoken.set)
    changes.open()
    for command in (
        "link add probe0 type veth peer name probe1", "link set probe1 up",
        "link set probe0 up", "addr add 10.9.9.9/24 dev probe0",
        "addr add fd09::9/64 dev probe0", "route add 10.99.0.0/16 dev probe0", "link del probe0",
    ):
        await asyncio.sleep(0.1)
        spoken.clear()
        subprocess.run(["ip", *command.split()], check=True)
        await asyncio.wait_for(spoken.wait(), 5)
    await asyncio.sleep(0.1)
    spoken.clear()
    await asyncio.sleep(0.2)
    assert not spoken.is_set()
    changes.close()

asyncio.run(main())
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="a network namespace needs root")
def test_the_kernel_speaks_of_links_addresses_and_routes() -> None:
    files = Path(addresses.__file__).parents[2]
    subprocess.run(
        ["unshare", "--net", sys.executable, "-c", IN_A_NAMESPACE],
        check=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(files)},
    )
