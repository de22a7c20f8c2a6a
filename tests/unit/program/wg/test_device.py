# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""How `wg` and `ip` are run; here they are scripts that write down what they were asked."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import itertools
import os
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from wg_rendezvous._wireguard.dump import Peer
from wg_rendezvous.wg import Device, DeviceError, DeviceGone, Entry, PeerCommand
from wg_rendezvous.wg import device as device_module
from wg_rendezvous.wg.device import parse_addresses

KEY = "A" * 42 + "E="
OTHER = "B" * 42 + "E="
DUMP = f"PRIVATE\t{KEY}\t51820\toff\n{OTHER}\tPRESHARED\t192.0.2.7:5\t192.168.7.5/32\t1000\t1\t2\toff\n"


class Tools:
    """`wg` and `ip` in a directory in front of PATH."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def put(self, name: str, script: str) -> None:
        """Let the program `name` be this shell script."""
        path = self.directory / name
        path.write_text(
            f'#!/bin/sh\nprintf "%s|" "$(basename $0)" "$@" >> {self.directory}/asked\n{script}\n'
        )
        path.chmod(0o755)

    @property
    def asked(self) -> list[str]:
        """The words of all calls so far."""
        return (self.directory / "asked").read_text().split("|")[:-1]

    def put_one_that_hangs(self) -> None:
        """Let `wg` write down its number and go on for a minute."""
        self.put("wg", f"echo $$ > {self.directory}/pid; exec sleep 60")

    async def started(self) -> None:
        """Return when that `wg` runs."""
        while not self.runs():  # noqa: ASYNC110 - a process has no Event
            await asyncio.sleep(0.01)

    def runs(self) -> bool:
        """Whether a process whose script has written its number to `pid` is still there."""
        pid = self.directory / "pid"
        return pid.exists() and pid.read_text() != "" and Path("/proc", pid.read_text().strip()).exists()

    def wait_for_end(self) -> None:
        """Let nothing else run until that process has ended, as on a node with too much to do."""
        stat = Path("/proc", (self.directory / "pid").read_text().strip(), "stat")
        while stat.read_text().split()[2] != "Z":
            pass


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tools:
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    made = Tools(tmp_path)
    made.put("wg", "exit 0")
    return made


async def test_a_device_is_read_without_its_secrets(tools: Tools) -> None:
    (tools.directory / "dump").write_text(DUMP)
    tools.put("wg", f"cat {tools.directory}/dump")
    read = await Device("lo").read()

    assert tools.asked == ["wg", "show", "lo", "dump"]
    assert read.peers[OTHER].endpoint == "192.0.2.7:5"
    assert "PRIVATE" not in repr(read)
    assert "PRESHARED" not in repr(read)


async def test_a_program_that_cannot_be_started_for_now_is_a_failure_like_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(*_argv: object, **_options: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(subprocess, "Popen", fails)
    with pytest.raises(DeviceError, match=r"^'wg' cannot be started: Too many open files$"):
        await Device("lo").read()


async def test_nothing_stays_open_after_an_end_a_failure_and_a_cancellation(tools: Tools) -> None:
    before = len(os.listdir("/proc/self/fd"))
    await Device("lo").set_listen_port(1)
    tools.put("wg", "exit 1")
    with pytest.raises(DeviceError):
        await Device("lo").set(PeerCommand(KEY, preshared_key=OTHER))
    tools.put_one_that_hangs()
    reading = asyncio.ensure_future(Device("lo").read())
    await tools.started()
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    assert not tools.runs()
    assert len(os.listdir("/proc/self/fd")) == before


async def test_a_program_that_closes_its_outputs_and_goes_on_keeps_nothing_else_waiting(
    tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device_module, "TIMEOUT_S", 0.3)
    tools.put("wg", "exec >&- 2>&-; exec sleep 60")
    turns: list[float] = []

    async def turn() -> None:
        while True:
            turns.append(asyncio.get_running_loop().time())
            await asyncio.sleep(0.01)

    turning = asyncio.ensure_future(turn())
    with pytest.raises(DeviceError, match=r"did not end within 0\.3 s"):
        await Device("lo").set_listen_port(1)
    turning.cancel()
    assert max(after - before for before, after in itertools.pairwise(turns)) < 0.25


async def test_one_that_ends_while_it_is_given_up_is_no_error_of_the_loop(tools: Tools) -> None:
    problems: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: problems.append(context))
    tools.put("wg", f"echo $$ > {tools.directory}/pid; read line < {tools.directory}/go")
    os.mkfifo(tools.directory / "go")
    setting = asyncio.ensure_future(Device("lo").set_listen_port(1))
    for _turn in range(5):  # until its outputs are listened to
        await asyncio.sleep(0)
    (tools.directory / "go").write_text("on\n")  # waits for the program to read, and so does the loop
    tools.wait_for_end()
    setting.cancel()
    await asyncio.gather(setting, return_exceptions=True)
    assert problems == []


async def test_more_than_a_pipe_holds_is_read_from_both_outputs(tools: Tools) -> None:
    tools.put("wg", "head -c 300000 /dev/zero >&2; head -c 3000000 /dev/zero")
    assert len(await device_module.run("wg", "show")) == 3_000_000


async def test_all_commands_go_into_one_call_in_their_order(tools: Tools) -> None:
    await Device("lo").set(
        PeerCommand(KEY, remove=True),
        PeerCommand(KEY, endpoint="192.0.2.7:5", persistent_keepalive_s=13, allowed_ips=()),
        PeerCommand(OTHER, persistent_keepalive_s=0, allowed_ips=("192.168.7.5/32", "fd07::5/128")),
    )
    assert tools.asked == [
        *("wg", "set", "lo", "peer", KEY, "remove"),
        *("peer", KEY, "endpoint", "192.0.2.7:5", "persistent-keepalive", "13", "allowed-ips", ""),
        *("peer", OTHER, "persistent-keepalive", "0", "allowed-ips", "192.168.7.5/32,fd07::5/128"),
    ]


async def test_preshared_keys_are_read_one_by_one_from_standard_input(tools: Tools) -> None:
    tools.put("wg", f"cat >> {tools.directory}/read")
    commands = [
        PeerCommand(KEY, remove=True),
        PeerCommand(KEY, endpoint="192.0.2.7:5", preshared_key="FIRST"),
        PeerCommand(OTHER, remove=True),
        PeerCommand(OTHER, allowed_ips=(), preshared_key="SECOND"),
        PeerCommand(OTHER, persistent_keepalive_s=13),
    ]
    await Device("lo").set(*commands)
    assert tools.asked == [
        *("wg", "set", "lo", "peer", KEY, "remove"),
        *("peer", KEY, "preshared-key", "/dev/stdin", "endpoint", "192.0.2.7:5", "peer", OTHER, "remove"),
        *("wg", "set", "lo", "peer", OTHER, "preshared-key", "/dev/stdin", "allowed-ips", ""),
        *("peer", OTHER, "persistent-keepalive", "13"),
    ]
    assert (tools.directory / "read").read_text() == "FIRST\nSECOND\n"
    assert not any("FIRST" in repr(command) or "SECOND" in repr(command) for command in commands)


async def test_a_message_of_wg_does_not_have_the_preshared_key(tools: Tools) -> None:
    tools.put("wg", "echo 'Key is not the correct length or format' >&2; exit 1")
    with pytest.raises(DeviceError) as caught:
        await Device("lo").set(PeerCommand(KEY, preshared_key="FIRST"))
    assert "FIRST" not in str(caught.value)


async def test_peers_without_a_preshared_key_have_none(tools: Tools) -> None:
    tools.put("wg", f"printf '{KEY}\tSECRET\n{OTHER}\t(none)\n'")
    assert await Device("lo").preshared_keys() == {KEY: "SECRET"}


async def test_nothing_to_set_runs_nothing(tools: Tools) -> None:
    await Device("lo").set()
    assert not (tools.directory / "asked").exists()


async def test_the_listen_port_is_set(tools: Tools) -> None:
    await Device("lo").set_listen_port(40000)
    assert tools.asked == ["wg", "set", "lo", "listen-port", "40000"]


PEER = Peer(OTHER, "[2001:db8::7]:5", ("192.168.7.5/32", "fd07::5/128"), 1000, 1, 2, 25)


async def test_a_peer_is_added_anew_as_it_was_and_its_preshared_key_is_no_argument(tools: Tools) -> None:
    tools.put("wg", f"printf '{KEY}\\t(none)\\n{OTHER}\\tPRESHARED\\n'")
    device = Device("lo")
    entry = Entry(PEER, (await device.preshared_keys()).get(OTHER))
    tools.put("wg", f"cat > {tools.directory}/given")
    await device.add_anew(entry)

    assert tools.asked == [
        *("wg", "show", "lo", "preshared-keys", "wg", "set", "lo", "peer", OTHER, "remove"),
        *("peer", OTHER, "preshared-key", "/dev/stdin", "endpoint", "[2001:db8::7]:5"),
        *("persistent-keepalive", "25", "allowed-ips", "192.168.7.5/32,fd07::5/128"),
    ]
    assert (tools.directory / "given").read_text() == "PRESHARED\n"
    assert "PRESHARED" not in repr(entry)


async def test_a_peer_without_a_preshared_key_gets_none(tools: Tools) -> None:
    tools.put("wg", f"printf '{OTHER}\\t(none)\\n'")
    device = Device("lo")
    await device.add_anew(Entry(PEER, (await device.preshared_keys()).get(OTHER)))
    assert "preshared-key" not in tools.asked


async def test_a_refusal_does_not_say_the_preshared_key(tools: Tools) -> None:
    tools.put("wg", "read key; echo \"Key is not the correct length or format: '$key'\" >&2; exit 1")
    with pytest.raises(DeviceError, match="hidden") as refusal:
        await Device("lo").add_anew(Entry(PEER, "PRESHARED"))
    assert "PRESHARED" not in str(refusal.value)


async def test_an_interface_that_does_not_exist_is_gone() -> None:
    with pytest.raises(DeviceGone, match="rwh-nothere"):
        await Device("rwh-nothere").read()


async def test_a_refusal_says_what_wg_said(tools: Tools) -> None:
    tools.put("wg", "echo 'Unable to modify interface: Operation not permitted' >&2; exit 1")
    with pytest.raises(
        DeviceError, match="'wg set lo' failed: Unable to modify interface: Operation not permitted"
    ):
        await Device("lo").set(PeerCommand(KEY))


async def test_another_kind_of_interface_is_named(tools: Tools) -> None:
    tools.put("wg", "echo Unable to access interface: Protocol not supported >&2; exit 1")
    with pytest.raises(DeviceError, match=r"lo is no WireGuard interface.*Protocol not supported"):
        await Device("lo").read()


async def test_an_interface_that_was_replaced_is_gone(tools: Tools, monkeypatch: pytest.MonkeyPatch) -> None:
    tools.put("wg", f"printf 'PRIVATE\\t{KEY}\\t51820\\toff\\n'")
    device = Device("lo")
    await device.read()
    monkeypatch.setattr(socket, "if_nametoindex", lambda _name: 4711)
    with pytest.raises(DeviceGone, match="replaced"):
        await device.read()


async def test_a_tool_that_hangs_is_ended(tools: Tools, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_module, "TIMEOUT_S", 0.2)
    tools.put_one_that_hangs()
    with pytest.raises(DeviceError, match="did not end within"):
        await Device("lo").set_listen_port(1)
    assert not tools.runs()


async def test_a_tool_does_not_outlive_who_waits_for_it(tools: Tools) -> None:
    tools.put_one_that_hangs()
    task = asyncio.ensure_future(Device("lo").set_listen_port(1))
    await tools.started()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not tools.runs()


async def test_a_missing_tool_is_named_with_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DeviceError, match="'wg' is not installed: install wireguard-tools"):
        await Device("lo").set_listen_port(1)


async def test_the_addresses_come_with_their_networks() -> None:
    assert ipaddress.ip_interface("127.0.0.1/8") in await Device("lo").addresses()


def test_no_address_is_an_empty_list() -> None:
    assert parse_addresses("[]") == parse_addresses("") == parse_addresses('[{"ifname": "wg0"}]') == []
