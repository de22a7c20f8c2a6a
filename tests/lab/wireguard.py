# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""A machine of the lab with a real WireGuard interface, wg0, run by wireguard-go."""

from __future__ import annotations

import base64
import ipaddress
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

from tests.lab.namespaces import CommandFailedError, Namespace

INTERFACE = "wg0"
KEEPALIVE_S = 13
VPN = "192.168.7.0/24"
VPN6 = "fd77::/64"
TAI64_EPOCH = 2**62 + 10


def wait_until(condition: Callable[[], bool], timeout_s: float, what: str, every_s: float = 0.05) -> float:
    """Seconds until the condition held; AssertionError naming `what` if it did not within timeout_s."""
    start = time.monotonic()
    while not condition():
        if time.monotonic() - start > timeout_s:
            raise AssertionError(f"not within {timeout_s} s: {what}")
        time.sleep(every_s)
    return time.monotonic() - start


def _find_clock(pid: int, memory: IO[bytes]) -> int:
    """The address of TAI64_EPOCH in the code of a running wireguard-go."""
    mappings = [line.split() for line in Path(f"/proc/{pid}/maps").read_text().splitlines()]
    code = next(line for line in mappings if line[1].startswith("r-x") and line[-1].endswith("wireguard-go"))
    start, end = (int(address, 16) for address in code[0].split("-"))
    memory.seek(start)
    load = re.compile(rb"\x48[\xb8-\xbf]" + re.escape(TAI64_EPOCH.to_bytes(8, "little")))  # movabs
    found = [match.start() + 2 for match in load.finditer(memory.read(end - start))]
    assert len(found) == 1, f"{len(found)} places in wireguard-go look like the number of TAI64N"
    return start + found[0]


def new_private_key() -> str:
    return subprocess.run(["wg", "genkey"], check=True, capture_output=True, text=True).stdout.strip()


def public_key_of(private_key: str) -> str:
    return subprocess.run(
        ["wg", "pubkey"], input=private_key, check=True, capture_output=True, text=True
    ).stdout.strip()


def ordered_keys(count: int = 2) -> list[str]:
    """Private keys, those with the smaller public key (raw bytes) first."""
    return sorted(
        (new_private_key() for _ in range(count)), key=lambda key: base64.b64decode(public_key_of(key))
    )


class Node(Namespace):
    """A namespace with files of its own and wg0."""

    def __init__(self, name: str, directory: Path) -> None:
        super().__init__(name, private_files=True)
        self.directory = directory
        self.directory.mkdir(parents=True, exist_ok=True)
        self.public_key = ""
        self._clock_at: int | None = None
        self.address = ""
        self.addresses: tuple[str, ...] = ()
        self.hub_address = ""

    def up(self, *addresses: str, private_key: str | None = None, listen_port: int | None = None) -> None:
        """Start wireguard-go; set the key, also in /etc/wireguard/wg0.key, and each address/prefix."""
        private_key = private_key or new_private_key()
        self.public_key = public_key_of(private_key)
        self.addresses = tuple(address.partition("/")[0] for address in addresses)
        self.address = self.addresses[0]
        self._clock_at = None
        with (self.directory / "wireguard-go.log").open("w") as log:
            self._wireguard = self.start(
                "wireguard-go",
                "--foreground",
                INTERFACE,
                stdout=log,
                stderr=log,
                environment={"LOG_LEVEL": "error"},
            )
        wait_until(
            lambda: self.run("ls", f"/run/wireguard/{INTERFACE}.sock", check=False) != "",
            10,
            f"{self.name}: the socket of wireguard-go; see {log.name}",
        )
        self.run("sh", "-c", f"umask 077; cat > /etc/wireguard/{INTERFACE}.key", stdin=private_key + "\n")
        port = ["listen-port", str(listen_port)] if listen_port else []
        self.run("wg", "set", INTERFACE, "private-key", f"/etc/wireguard/{INTERFACE}.key", *port)
        for address in addresses:
            self.run("ip", "address", "add", address, "dev", INTERFACE)
        self.run("ip", "link", "set", INTERFACE, "up")

    def join(
        self,
        hub_key: str,
        endpoint: str,
        allowed_ips: str = VPN,
        interface: Sequence[str] = (),
    ) -> None:
        """Add the hub as the peer for the whole VPN, by a file such as Ansible writes; `interface` are more
        lines of that section.
        """
        private_key = self.run("cat", f"/etc/wireguard/{INTERFACE}.key").strip()
        self.run(
            "sh",
            "-c",
            f"umask 077; cat > /etc/wireguard/{INTERFACE}.conf",
            stdin="".join(f"{line}\n" for line in ("[Interface]", f"PrivateKey = {private_key}", *interface))
            + f"\n[Peer]\nPublicKey = {hub_key}\nEndpoint = {endpoint}\nAllowedIPs = {allowed_ips}\n"
            f"PersistentKeepalive = {KEEPALIVE_S}\n",
        )
        self.sync_file()

    def make_hub_peer_anew(self) -> None:
        """Take the hub out and in again by the file: the next handshake is a new one."""
        for key in self.peers():
            self.run("wg", "set", INTERFACE, "peer", key, "remove")
        self.sync_file()

    def make_interface_anew(self, down_s: float = 0.0) -> None:
        """End wireguard-go, which takes wg0 with it, and start over from the file, as a reboot does."""
        private_key = self.run("cat", f"/etc/wireguard/{INTERFACE}.key").strip()
        prefix = ipaddress.ip_network(VPN).prefixlen
        self.end(self._wireguard, signal.SIGKILL)
        self.run("rm", "-rf", f"/run/wireguard/{INTERFACE}.sock", "/run/wg-rendezvous")
        time.sleep(down_s)
        self.up(f"{self.address}/{prefix}", private_key=private_key)
        self.sync_file()

    def freeze(self, frozen: bool = True) -> None:
        """Stop wireguard-go as a suspended machine does; with frozen=False, let it go on."""
        self._wireguard.send_signal(signal.SIGSTOP if frozen else signal.SIGCONT)

    def set_clock(self, ahead_s: int) -> None:
        """Set the clock from which WireGuard takes the time of its handshakes so much ahead of the true one.

        A process has no clock of its own. But TAI64N timestamps are Unix time plus 2^62 + 10 (tai64n.go), and
        that number is changed where the running program loads it.
        """
        pid = self._wireguard.pid
        with Path(f"/proc/{pid}/mem").open("r+b", buffering=0) as memory:
            self.freeze()
            try:
                if self._clock_at is None:
                    self._clock_at = _find_clock(pid, memory)
                memory.seek(self._clock_at)
                memory.write((TAI64_EPOCH + ahead_s).to_bytes(8, "little"))
            finally:
                self.freeze(False)

    def knows_host(self, name: str, address: str) -> None:
        """Have the name in /etc/hosts, in place of what was there."""
        self.run("sh", "-c", "cat > /etc/hosts", stdin=f"127.0.0.1 localhost\n{address} {name}\n")

    def sync_file(self) -> None:
        """`wg syncconf` with the node's file: what `systemctl reload wg-quick@wg0` does (DESIGN fact 8)."""
        self.run("wg", "syncconf", INTERFACE, f"/etc/wireguard/{INTERFACE}.conf")

    def wg_set_peer(
        self,
        key: str,
        endpoint: str | None = None,
        allowed_ips: str | None = None,
        keepalive_s: int | None = None,
    ) -> None:
        """`wg set wg0 peer KEY ...` with what is given."""
        options: list[str] = []
        if endpoint is not None:
            options += ["endpoint", endpoint]
        if keepalive_s is not None:
            options += ["persistent-keepalive", str(keepalive_s)]
        if allowed_ips is not None:
            options += ["allowed-ips", allowed_ips]
        self.run("wg", "set", INTERFACE, "peer", key, *options)

    def knock(self, key: str, endpoint: str, allowed_ips: str = "") -> None:
        """Start a handshake now: the peer is removed and added again (DESIGN fact 5)."""
        self.run(
            "wg",
            "set",
            INTERFACE,
            "peer",
            key,
            "remove",
            "peer",
            key,
            "endpoint",
            endpoint,
            "persistent-keepalive",
            str(KEEPALIVE_S),
            "allowed-ips",
            allowed_ips,
        )

    def fresh_port(self) -> int:
        """Take a fresh listen port without taking the interface down; the port."""
        port = random.randrange(20000, 60000)
        self.run("wg", "set", INTERFACE, "listen-port", str(port))
        return port

    def send_openers(self, endpoint: str) -> None:
        """Low-TTL openers from WireGuard's own port (DESIGN fact 2)."""
        script = str(Path(__file__).with_name("opener.py"))
        self.run(sys.executable, script, str(self.listen_port), endpoint, "2", "3", "4")

    @property
    def listen_port(self) -> int:
        return int(self.run("wg", "show", INTERFACE, "listen-port"))

    def _show(self, what: str) -> dict[str, str]:
        """`wg show wg0 WHAT`: a value for each key."""
        lines = self.run("wg", "show", INTERFACE, what).splitlines()
        return dict(line.split("\t", 1) for line in lines)

    def peers(self) -> dict[str, str]:
        """AllowedIPs by key; "(none)" for none."""
        return self._show("allowed-ips")

    def endpoints(self) -> dict[str, str]:
        return self._show("endpoints")

    def keepalives(self) -> dict[str, str]:
        return self._show("persistent-keepalive")

    def preshared_keys(self) -> dict[str, str]:
        """By key; "(none)" for none."""
        return self._show("preshared-keys")

    def has_mesh_secrets(self, *secrets: str) -> None:
        """Write them, the newest first, as Ansible does: at once, and no file for none."""
        path = f"/etc/wireguard/{INTERFACE}.mesh-secret"
        text = "".join(f"{secret}\n" for secret in secrets)
        script = f"umask 077; cat > {path}.new && mv {path}.new {path}" if secrets else f"rm -f {path}"
        self.run("sh", "-c", script, stdin=text)

    def handshakes(self) -> dict[str, int]:
        """When the last handshake was completed, by key; 0 for never."""
        return {key: int(at) for key, at in self._show("latest-handshakes").items()}

    def has_handshake(self, key: str) -> bool:
        return self.handshakes().get(key, 0) > 0

    def wait_for_handshake(self, key: str, timeout_s: float = 10) -> float:
        """Seconds until there was a handshake."""
        return wait_until(lambda: self.has_handshake(key), timeout_s, f"{self.name}: a handshake with {key}")

    def ping(self, address: str, count: int = 3) -> bool:
        """Is every one of some pings answered?"""
        try:
            self.run("ping", "-q", "-i", "0.05", "-W", "1", "-c", str(count), address)
        except CommandFailedError:
            return False
        return True
