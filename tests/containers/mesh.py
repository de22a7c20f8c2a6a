# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: the rendezvous.wireguard authors
"""The running containers of a network as tests see them: machines, their traffic, and the way it takes."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import testinfra
from tests.containers import network

PINGS_PER_SECOND = 18
PAYLOAD_BYTES = 400
"""Enough to be counted among the large packets at the core."""
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
STREAM = Path(__file__).resolve().parent.parent / "lab/stream.py"


class Machine:
    """One Debian machine, with its `interface` in a mesh; `host` is testinfra's view of it."""

    def __init__(self, name: str, container: str, outer_address: str, interface: str = "wg0") -> None:
        self.name = name
        self.container = container
        self.outer_address = outer_address
        self.interface = interface
        self.host: Any = testinfra.get_host(f"podman://{container}")

    @cached_property
    def _pid(self) -> str:
        return network.pid_file(self.container).read_text().strip()

    @cached_property
    def vpn_address(self) -> str:
        """Its IPv4 address in the VPN, without prefix."""
        entries = json.loads(self.run(f"ip -json -4 address show dev {self.interface}"))
        return str(entries[0]["addr_info"][0]["local"])

    def address_changed(self) -> None:
        """Look again for its address in the VPN."""
        self.__dict__.pop("vpn_address", None)

    @cached_property
    def public_key(self) -> str:
        """Its WireGuard public key."""
        return self.run(f"wg show {self.interface} public-key").strip()

    def run(self, command: str, check: bool = True) -> str:
        """Standard output of a shell command inside; AssertionError with everything it said if it fails."""
        # Much cheaper than testinfra's `podman exec`, and tests look again and again.
        enter = ["nsenter", f"--target={self._pid}", "--mount", "--uts", "--ipc", "--net", "--pid"]
        done = subprocess.run(
            [*enter, "sh", "-c", command],
            env={"PATH": PATH},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if check and done.returncode != 0:
            what = f"{self.name}: {command}: exit code {done.returncode}"
            raise AssertionError(f"{what}: {done.stdout}{done.stderr}")
        return done.stdout

    def start(self, *argv: str, stdout: int | IO[str] = subprocess.PIPE) -> subprocess.Popen[str]:
        """Start one of the controller's programs in the machine's network namespace; the pid is its own."""
        enter = ["nsenter", f"--target={self._pid}", "--net"]
        return subprocess.Popen([*enter, *argv], stdin=subprocess.DEVNULL, stdout=stdout, text=True)

    def pings(self, other: Machine, count: int) -> int:
        """How many of so many quick pings to the other's VPN address were answered."""
        options = f"-n -q -i 0.03 -W 1 -c {count} -s {PAYLOAD_BYTES}"
        output = self.run(f"ping {options} {other.vpn_address}", check=False)
        return int(output.partition(" received")[0].rpartition(" ")[2] or 0)

    def says_of(self, other: Machine) -> str:
        """The line of its agent about the link to another machine, or the last that it says."""
        table = self.run(f"wg-rendezvous status --interface {self.interface} 2>&1", check=False)
        lines = [" ".join(line.split()) for line in table.splitlines()]
        about = [line for line in lines if f" {other.vpn_address}/" in line]
        return f"{self.name}: {(about or lines[-1:] or ['its agent says nothing'])[0]}"

    def journal(self, unit: str, since: str = "") -> list[str]:
        """The messages of a unit since boot, or since a cursor that `journal_cursor` gave."""
        after = f"--after-cursor='{since}'" if since else ""
        return self.run(f"journalctl --no-pager --boot --output=cat --unit={unit} {after}").splitlines()

    def journal_cursor(self) -> str:
        """The place where the journal ends now."""
        return self.run("journalctl --no-pager -n 0 --show-cursor").strip().rpartition("-- cursor: ")[2]


@dataclass(frozen=True)
class Look:
    """How `count` pings fared: those answered, and what the core forwarded meanwhile, there and back."""

    count: int
    answered: int
    direct: tuple[int, int]
    relayed: tuple[int, int]

    @property
    def path(self) -> str:
        """The way they took: "direct", "relay", "none", or what it is, in words."""
        if self.answered < self.count:
            return "none" if self.answered == 0 else f"{self.answered} of {self.count} pings answered"
        direct, relayed = min(self.direct), min(self.relayed)
        if direct >= self.count:
            return "direct"
        return "relay" if relayed >= self.count else f"both ways: {direct} direct, {relayed} over the hub"


class Mesh:
    """All machines of a network by name, and what its core counts; the mesh is that on `interface`."""

    def __init__(self, file: Path, interface: str = "wg0", hub: str = "hub") -> None:
        self.network = network.load(file)
        addresses = {"hub": network.HUB_ADDRESS}
        addresses |= {name: site.nat_address for name, site in self.network.sites.items()}
        self.machines = {
            name: Machine(name, self.network.container(name), address, interface)
            for name, address in addresses.items()
        }
        self.hub = self[hub]

    def __getitem__(self, name: str) -> Machine:
        return self.machines[name]

    def router(self, role: str, *command: str) -> str:
        """Standard output of a command in a NAT ("nat-a") or router ("core")."""
        return network.podman("exec", self.network.container(role), *command)

    def counted(self) -> dict[tuple[str, str], int]:
        """Large UDP packets that the core has forwarded so far, by outer (source, destination) address."""
        listing = json.loads(self.router("core", "nft", "--json", "list", "set", "ip", "core", "large"))
        elements = next(entry["set"] for entry in listing["nftables"] if "set" in entry).get("elem", [])
        return {
            tuple(element["elem"]["val"]["concat"]): element["elem"]["counter"]["packets"]
            for element in elements
        }

    def look(self, a: Machine, b: Machine, count: int = 8) -> Look:
        """Send so many quick pings, and see how they fare."""
        before = self.counted()
        answered = a.pings(b, count)
        after = self.counted()

        def passed(source: str, destination: str) -> int:
            pair = (source, destination)
            return after.get(pair, 0) - before.get(pair, 0)

        there, back = a.outer_address, b.outer_address
        return Look(
            count,
            answered,
            direct=(passed(there, back), passed(back, there)),
            relayed=(passed(there, self.hub.outer_address), passed(back, self.hub.outer_address)),
        )

    def path(self, a: Machine, b: Machine, count: int = 8) -> str:
        """The way pings take: "direct", "relay", "none", or what it is, in words."""
        return self.look(a, b, count).path

    def wait_for_path(self, a: Machine, b: Machine, path: str, timeout_s: float) -> float:
        """Seconds until pings take this path. AssertionError with the path they do take."""
        seen = ""

        def taken() -> bool:
            nonlocal seen
            seen = self.path(a, b)
            return seen == path

        what = f"the path between {a.name} and {b.name} is {path}"
        return wait_until(taken, timeout_s, lambda: f"{what}; it is {seen}\n{a.says_of(b)}\n{b.says_of(a)}")


def wait_until(condition: Callable[[], bool], timeout_s: float, what: Callable[[], str]) -> float:
    """Seconds until the condition held. AssertionError that says what was waited for."""
    start = time.monotonic()
    for _ in network.attempts(timeout_s):
        if condition():
            return time.monotonic() - start
    raise AssertionError(f"not within {timeout_s:.0f} s: {what()}")


class Pinger:
    """18 pings a second from one machine to another while the context lasts; afterwards `sent` and `lost`,
    and in `gap_s` the longest time without an answer, which is 1/18 s if nothing was lost.

    The last ping may still have been under way and is not counted.
    """

    sent = lost = 0
    gap_s = 0.0
    answered_at: Sequence[float] = ()
    """The Unix times of the answers."""

    def __init__(self, source: Machine, destination: Machine, address: str | None = None) -> None:
        self._source, self._address = source, address or destination.vpn_address

    def __enter__(self) -> Pinger:
        self._answers = tempfile.TemporaryFile("w+")
        options = ("-n", "-D", "-i", f"{1 / PINGS_PER_SECOND:.3f}", "-s", str(PAYLOAD_BYTES))
        self._process = self._source.start("ping", *options, self._address, stdout=self._answers)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.send_signal(signal.SIGINT)
        self._process.wait(timeout=10)
        with self._answers:
            self._answers.seek(0)
            output = self._answers.read()
        answered = {int(sequence) for sequence in re.findall(r"icmp_seq=(\d+) ttl", output)}
        self.sent = int(output.rpartition(" packets transmitted")[0].rpartition("\n")[2]) - 1
        self.lost = len(set(range(1, self.sent + 1)) - answered)
        self.answered_at = [
            float(at) for at in re.findall(r"^\[([\d.]+)\] .*icmp_seq=\d+ ttl", output, re.MULTILINE)
        ]
        self.gap_s = longest_gap_s(self.answered_at)


def longest_gap_s(times: Iterable[float]) -> float:
    """The longest time between two of these; very long if there are none."""
    return max((b - a for a, b in itertools.pairwise(sorted(times))), default=1e9)


class Transfer:
    """A slow TCP stream from one machine to another while the context lasts, checked byte for byte."""

    def __init__(self, sender: Machine, receiver: Machine, directory: Path, port: int = 5001) -> None:
        self._sender, self._receiver = sender, receiver
        self._at = [receiver.vpn_address, str(port)]
        self._progress = directory / "received"
        self._progress.write_text("0")

    def __enter__(self) -> Transfer:
        self._receiving = self._receiver.start(
            sys.executable, str(STREAM), "receive", *self._at, str(self._progress)
        )
        assert self._receiving.stdout is not None
        assert self._receiving.stdout.readline() == "listening\n"
        self._sending = self._sender.start(sys.executable, str(STREAM), "send", *self._at)
        return self

    def flows(self, more_bytes: int = 50_000, timeout_s: float = 20) -> float:
        """Seconds until so many more bytes have arrived. AssertionError when the stream stands still, with
        what both ends know of it."""
        wanted = self._received() + more_bytes
        return wait_until(
            lambda: self._received() >= wanted,
            timeout_s,
            lambda: f"{more_bytes} more bytes by TCP, after {self._received()}\n{self._state()}",
        )

    def _state(self) -> str:
        """How the connection and pings fare, and what the agents say of the link."""
        sender, receiver = self._sender, self._receiver
        connection = sender.run(
            f"ss --tcp --info --numeric --no-header 'dport = :{self._at[1]}'", check=False
        )
        timers = re.findall(r"(?:rto|backoff|unacked|retrans|lastsnd|lastrcv|lastack):\S+", connection)
        pings = f"{sender.pings(receiver, 8)} of 8 pings answered"
        return "\n".join(
            (
                f"{sender.name}: {' '.join(timers) or 'no connection'}; {pings}",
                sender.says_of(receiver),
                receiver.says_of(sender),
            )
        )

    def _received(self) -> int:
        return int(self._progress.read_text() or 0)

    def finish(self) -> float:
        """Close the stream; the longest time in seconds without a byte. AssertionError if it was damaged."""
        self._sending.send_signal(signal.SIGTERM)
        sent = json.loads(self._sending.communicate(timeout=30)[0])
        received = json.loads(self._receiving.communicate(timeout=30)[0])
        assert sent["sha256"] == received["sha256"], f"the stream was damaged: {sent}, {received}"
        return float(received["longest_pause_s"])

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for process in (self._sending, self._receiving):
            process.kill()
            process.communicate()


def remains(machine: Machine) -> str:
    """What an uninstalled machine has left of the mesh beside /etc/wireguard."""
    files = machine.run("find / -xdev -name '*wg-rendezvous*' -not -path '/proc/*'")
    units = machine.run("systemctl list-units --all --no-legend 'wg-*'").strip()
    running = machine.run("ls -d /run/wg-rendezvous /sys/class/net/wg0", check=False)
    rules = [rule for rule in machine.run("nft list ruleset").splitlines() if "rendezvous" in rule]
    return "\n".join(filter(None, (files, units, running, *rules)))


@contextlib.contextmanager
def watched(pairs: Sequence[tuple[Machine, Machine]], directory: Path) -> Iterator[list[Pinger]]:
    """Pings and a TCP stream between each of these pairs while the context lasts.

    AssertionError if one of the streams then does not flow, or brought other bytes than were sent.
    """
    with contextlib.ExitStack() as stack:
        streams = []
        for number, (a, b) in enumerate(pairs):
            (directory / f"stream{number}").mkdir(parents=True, exist_ok=True)
            stream = Transfer(a, b, directory / f"stream{number}", port=5001 + number)
            streams.append(stack.enter_context(stream))
        yield [stack.enter_context(Pinger(a, b)) for a, b in pairs]
        for stream in streams:
            stream.flows(more_bytes=10_000)
        for stream in streams:
            stream.finish()


@dataclass(frozen=True)
class Recap:
    """What one host's line in Ansible's PLAY RECAP says."""

    ok: int
    changed: int
    unreachable: int
    failed: int


@dataclass(frozen=True)
class PlaybookRun:
    """A finished run of ansible-playbook: exit code, everything it printed, the recap by host."""

    exit_code: int
    output: str
    recap: dict[str, Recap]

    @property
    def tasks(self) -> dict[str, list[str]]:
        """The names of the tasks that ran something on a host, by that host: delegated ones count there.

        Argument specs are checked, and files included, on the controller.
        """
        found: dict[str, list[str]] = {}
        for block in re.split(r"^(?:TASK|RUNNING HANDLER) ", self.output, flags=re.MULTILINE)[1:]:
            name = block[1 : block.index("]")]
            if "Validating arguments against arg spec" in name:
                continue
            ran = re.findall(
                r"^(?:ok|changed|failed|fatal): \[(\S+?)(?: -> ([^\](]+))?[\](]", block, re.MULTILINE
            )
            for host in dict.fromkeys(delegate or host for host, delegate in ran):
                found.setdefault(host, []).append(name)
        return found

    @property
    def changed_hosts(self) -> dict[str, int]:
        """Number of changes of every host that has any."""
        return {host: recap.changed for host, recap in self.recap.items() if recap.changed}


def ansible_playbook(
    playbook: str, inventories: list[Path], *arguments: str, collections: Path | None = None
) -> PlaybookRun:
    """Run a playbook with these inventory files and further arguments; `collections` go before all others."""
    environment = {key: value for key, value in os.environ.items() if key != "ANSIBLE_FORCE_COLOR"}
    environment |= {"ANSIBLE_NOCOLOR": "1"}
    if collections is not None:
        environment["ANSIBLE_COLLECTIONS_PATH"] = f"{collections}:{environment['ANSIBLE_COLLECTIONS_PATH']}"
    command = ["ansible-playbook", playbook, *(f"--inventory={file}" for file in inventories), *arguments]
    done = subprocess.run(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return read_run(done)


def read_run(done: subprocess.CompletedProcess[str]) -> PlaybookRun:
    """What a finished ansible-playbook says, its standard error among its output."""
    counts = re.findall(
        r"^(\S+) +: ok=(\d+) +changed=(\d+) +unreachable=(\d+) +failed=(\d+)", done.stdout, re.MULTILINE
    )
    recap = {host: Recap(*(int(number) for number in numbers)) for host, *numbers in counts}
    return PlaybookRun(done.returncode, done.stdout, recap)
