# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""Traffic of the users of the VPN, and which way it takes."""

from __future__ import annotations

import dataclasses
import json
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType

from tests.lab.network import Network, Site
from tests.lab.wireguard import Node, wait_until

PING_INTERVAL_S = 0.055
PAYLOAD_BYTES = 400
"""Enough to be counted among the large packets at the core."""


DIRECT_TTL = 64
"""What the kernel sends echo replies with; the hub takes one off."""


@dataclasses.dataclass(frozen=True)
class PingResult:
    """What became of the pings. A gap is (Unix time of the last answer before it, pings lost in a row);
    `answers` are (Unix time, whether it came directly).
    """

    sent: int
    lost: int
    gaps: tuple[tuple[float, int], ...]
    interval_s: float = PING_INTERVAL_S
    answers: tuple[tuple[float, bool], ...] = ()

    @property
    def outage_s(self) -> float:
        """The longest time without an answer, to the nearest ping."""
        return max((lost for _, lost in self.gaps), default=0) * self.interval_s

    def direct_since(self) -> float | None:
        """Since when every answer came directly; None if the last one did not."""
        since = None
        for at, direct in reversed(self.answers):
            if not direct:
                break
            since = at
        return since

    def first_direct_after(self, at: float) -> float | None:
        """When the first direct answer came after that."""
        return next((answered for answered, direct in self.answers if direct and answered >= at), None)

    def first_answer_after(self, at: float) -> float | None:
        """When the first answer came after that."""
        return next((answered for answered, _ in self.answers if answered >= at), None)

    def __str__(self) -> str:
        return f"{self.lost} of {self.sent} pings lost, {self.gaps}"


class Pinger:
    """18 pings a second from one node to another while the context lasts; `result` afterwards."""

    result: PingResult

    def __init__(self, node: Node, address: str, interval_s: float = PING_INTERVAL_S) -> None:
        self._node = node
        self._address = address
        self._interval_s = interval_s

    def __enter__(self) -> Pinger:
        self._process = self._node.start(
            "ping",
            "-D",
            "-n",
            "-i",
            str(self._interval_s),
            "-s",
            str(PAYLOAD_BYTES),
            self._address,
            stdout=subprocess.PIPE,
        )
        # Read as it comes: a pipe holds the lines of some seconds only.
        self._output: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def _read(self) -> None:
        assert self._process.stdout is not None
        self._output.append(self._process.stdout.read())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # nsenter and setpriv exec, so this pid is ping's.
        self._process.send_signal(signal.SIGINT)
        self._process.wait(timeout=10)
        self._reader.join(timeout=10)
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._node.forget(self._process)
        self.result = parse_pings("".join(self._output), self._interval_s)


def parse_pings(output: str, interval_s: float = PING_INTERVAL_S) -> PingResult:
    """The result of ping(8) -D. The very last ping does not count when unanswered: it was still under way."""
    answered = [
        (float(at), int(seq), int(ttl) >= DIRECT_TTL)
        for at, seq, ttl in re.findall(r"^\[([\d.]+)\] .*icmp_seq=(\d+) ttl=(\d+) ", output, re.MULTILINE)
    ]
    transmitted = re.search(r"^(\d+) packets transmitted", output, re.MULTILINE)
    if transmitted is None:
        raise AssertionError(f"ping said no summary: {output[-300:]!r}")
    sent = int(transmitted[1])
    if not answered or answered[-1][1] < sent:
        sent -= 1
    gaps = []
    last_at, last = 0.0, 0
    # An answer may overtake another one: the relay is slower.
    in_order = sorted(answered, key=lambda one: one[1])
    for at, sequence, _ in [*in_order, (0.0, sent + 1, False)]:
        if sequence > last + 1:
            gaps.append((last_at, sequence - last - 1))
        last_at, last = at, max(last, sequence)
    return PingResult(
        sent,
        sum(lost for _, lost in gaps),
        tuple(gaps),
        interval_s,
        tuple((at, direct) for at, _, direct in answered),
    )


class Transfer:
    """A TCP stream from one node to another while the context lasts: slow, and checked byte for byte.

    `received_bytes()` grows as long as it flows; `finish()` closes it, compares both checksums, and
    returns what arrived.
    """

    def __init__(self, sender: Node, receiver: Node, directory: Path, port: int = 5001) -> None:
        self._sender, self._receiver, self._port = sender, receiver, port
        directory.mkdir(parents=True, exist_ok=True)
        self._progress = directory / "received"
        self._progress.write_text("0")

    def __enter__(self) -> Transfer:
        script = str(Path(__file__).with_name("stream.py"))
        at = [self._receiver.address, str(self._port)]
        self._receiving = self._receiver.start(
            sys.executable, script, "receive", *at, str(self._progress), stdout=subprocess.PIPE
        )
        assert self._receiving.stdout is not None
        assert self._receiving.stdout.readline() == "listening\n"
        self._sending = self._sender.start(sys.executable, script, "send", *at, stdout=subprocess.PIPE)
        return self

    def received_bytes(self) -> int:
        return int(self._progress.read_text() or 0)

    def flows_for(self, bytes_more: int = 20_000, timeout_s: float = 20) -> float:
        """Seconds until so many more bytes have arrived; AssertionError when the stream stands still."""
        wanted = self.received_bytes() + bytes_more
        return wait_until(
            lambda: self.received_bytes() >= wanted, timeout_s, f"{bytes_more} more bytes by TCP"
        )

    def finish(self) -> tuple[int, float]:
        """Bytes that arrived, and the longest time in seconds without one."""
        self._sending.send_signal(signal.SIGTERM)
        sent = json.loads(self._sending.communicate(timeout=30)[0])
        received = json.loads(self._receiving.communicate(timeout=30)[0])
        assert sent["sha256"] == received["sha256"], f"the stream was damaged: {sent}, {received}"
        return received["bytes"], received["longest_pause_s"]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for node, process in ((self._sender, self._sending), (self._receiver, self._receiving)):
            process.kill()
            process.communicate()
            node.forget(process)


def path_of_pings(network: Network, a: Site, b: Site, *, address: str | None = None) -> str:
    """ "direct", "relay" or "none" for traffic to b, or to an address behind it, now, as the core counts it;
    otherwise the counts, in words.
    """
    before = network.counted_everywhere()
    count = 8
    answered = a.node.run(
        "ping",
        "-n",
        "-q",
        "-i",
        "0.03",
        "-W",
        "1",
        "-c",
        str(count),
        "-s",
        str(PAYLOAD_BYTES),
        address or b.node.address,
        check=False,
    )
    after = network.counted_everywhere()
    passed = {
        pair: packets - before.get(pair, 0)
        for pair, packets in after.items()
        if packets > before.get(pair, 0)
    }
    direct = min(_between(passed, a, b), _between(passed, b, a))
    relayed = min(passed.get((site.nat_address, network.hub_address), 0) for site in (a, b))
    if " 0% packet loss" not in answered:
        return "none" if " 100% packet loss" in answered else f"lossy: {answered.splitlines()[-2:]}"
    if direct >= count:
        return "direct"
    return "relay" if relayed >= count else f"mixed: {passed}"


def _between(passed: dict[tuple[str, ...], int], a: Site, b: Site) -> int:
    """Packets that went from a's own addresses, or its NAT's, to b's."""
    pairs = {(a.nat_address, b.nat_address), (a.lan_address, b.lan_address), (a.address6, b.address6)}
    return sum(passed.get(pair, 0) for pair in pairs)


def wait_for_path(
    network: Network, a: Site, b: Site, path: str, timeout_s: float, *, address: str | None = None
) -> float:
    """Seconds until the pings between two sites, or to an address behind b, take this path."""
    last = [""]

    def taken() -> bool:
        last[0] = path_of_pings(network, a, b, address=address)
        return last[0] == path

    try:
        return wait_until(taken, timeout_s, f"the path between {a.node.name} and {b.node.name} is {path}")
    except AssertionError as error:
        raise AssertionError(f"{error}; it is {last[0]}") from None
