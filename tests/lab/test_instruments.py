# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""The lab's own instruments: what they would have to notice, they notice, and they leave nothing behind."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.lab.conftest import MakeNetwork
from tests.lab.namespaces import NETNS, PREFIX, Namespace, start_time, sweep, unique_prefix
from tests.lab.traffic import Pinger, parse_pings, path_of_pings
from tests.lab.wireguard import wait_until

pytestmark = pytest.mark.lab

ANSWER = "[1700000000.{seq:06}] 408 bytes from 192.168.7.6: icmp_seq={seq} ttl=63 time=0.5 ms\n"


def pings(answered: list[int], transmitted: int) -> str:
    return "".join(ANSWER.format(seq=seq) for seq in answered) + f"\n{transmitted} packets transmitted, ...\n"


@pytest.mark.parametrize(
    ("answered", "transmitted", "sent", "lost", "gaps"),
    [
        ([1, 2, 3], 3, 3, 0, []),
        ([1, 2, 3], 4, 3, 0, []),
        ([1, 4], 4, 4, 2, [2]),
        ([3, 4], 4, 4, 2, [2]),
        ([1], 4, 3, 2, [2]),
        ([], 4, 3, 3, [3]),
    ],
)
def test_lost_pings_are_counted_but_for_one_still_under_way(
    answered: list[int], transmitted: int, sent: int, lost: int, gaps: list[int]
) -> None:
    result = parse_pings(pings(answered, transmitted))
    assert (result.sent, result.lost, [count for _, count in result.gaps]) == (sent, lost, gaps)


def test_an_interruption_is_seen_by_the_pinger_and_by_the_counters(make_network: MakeNetwork) -> None:
    network = make_network("cone drop", "cone drop")
    a, b = network.nodes
    with Pinger(a, b.address) as pinger:
        time.sleep(0.5)
        network.hub.nft(
            "table ip cut { chain forward { type filter hook forward priority 0; policy drop; }\n}\n"
        )
        assert path_of_pings(network, *network.sites) == "none"
        network.hub.nft("delete table ip cut\n")
        time.sleep(0.5)
    assert 5 <= pinger.result.lost < pinger.result.sent
    assert len(pinger.result.gaps) == 1
    assert path_of_pings(network, *network.sites) == "relay"


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_run_that_is_ended_leaves_no_namespace_and_no_process(how: int) -> None:
    script = (
        "import sys, time\n"
        "from tests.lab.namespaces import Namespace, swept_when_this_process_ends, unique_prefix\n"
        "with swept_when_this_process_ends():\n"
        "    namespace = Namespace(unique_prefix() + 'x', private_files=True)\n"
        "    process = namespace.start('sleep', '300')\n"
        "    print(process.pid, flush=True)\n"
        "    time.sleep(60)\n"
    )
    run = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert run.stdout is not None
    sleeping = int(run.stdout.readline())
    mine = f"{PREFIX}-{run.pid}-*"
    assert list(NETNS.glob(mine))
    run.send_signal(how)
    run.wait(timeout=10)
    run.stdout.close()
    wait_until(lambda: not list(NETNS.glob(mine)), 10, "the namespaces of the dead run are gone")
    wait_until(lambda: start_time(sleeping) is None, 10, "so are its processes")


def test_a_namespace_that_was_just_made_when_ctrl_c_came_is_not_left_by_a_run_that_ends_well() -> None:
    script = (
        "import subprocess\n"
        "from tests.lab.namespaces import swept_when_this_process_ends, unique_prefix\n"
        "with swept_when_this_process_ends():\n"
        "    name = unique_prefix() + 'x'\n"
        "    subprocess.run(['ip', 'netns', 'add', name], check=True)\n"
        "print(name)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", script],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    wait_until(lambda: not (NETNS / run.stdout.strip()).exists(), 10, "the namespace is gone")


def test_a_sweep_spares_the_namespaces_of_the_living() -> None:
    namespace = Namespace(unique_prefix() + "x")
    try:
        assert namespace.name not in sweep()
        assert (NETNS / namespace.name).exists()
    finally:
        namespace.remove()
