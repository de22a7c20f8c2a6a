# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""A node with one WireGuard interface, as `wg` and `ip` show it: it keeps state and does what they are told.

An allowed IP belongs to one peer (cryptokey routing); the first address of a network that goes takes the
later ones along, as Linux does by default; all command lines are kept, so that tests can look for secrets.
"""

from __future__ import annotations

import ipaddress
import json
from dataclasses import dataclass, field
from pathlib import Path

from ansible_collections.rendezvous.wireguard.plugins.module_utils._wireguard import keys

Answer = tuple[int, str, str]
OK: Answer = (0, "", "")


@dataclass
class FakePeer:
    preshared_key: str | None = None
    endpoint: str | None = None
    allowed_ips: list[str] = field(default_factory=list)
    persistent_keepalive_s: int = 0
    handshake_at: int = 0
    rx_bytes: int = 0


@dataclass
class FakeNode:
    name: str = "wg0"
    installed: bool = True
    up: bool = True
    private_key: str | None = None
    listen_port: int = 40000
    fwmark: int = 0
    mtu: int = 1420
    addresses: list[str] = field(default_factory=list)
    peers: dict[str, FakePeer] = field(default_factory=dict)
    routes: set[str] = field(default_factory=set)
    """Those of protocol boot in the main table."""
    broken: tuple[str, ...] = ()
    """A command that contains one of these words in a row fails."""
    deaf: tuple[str, ...] = ()
    """A command that contains one of these words in a row says that it worked, and does nothing."""
    commands: list[str] = field(default_factory=list)
    agent_runs: bool = True

    def get_bin_path(self, name: str) -> str | None:
        return f"/usr/bin/{name}" if self.installed else None

    def changes(self) -> list[str]:
        """The commands that were to change something."""
        return [
            c for c in self.commands if c.split()[1] != "show" and " show " not in c and " list " not in c
        ]

    def execute(self, argv: list[str], stdin: str | None = None) -> Answer:
        assert self.installed
        line = " ".join(argv)
        self.commands.append(line)
        if any(words in line for words in self.broken):
            return 1, "", "it does not work\n"
        if any(words in line for words in self.deaf):
            return OK
        if not self.up:
            return 1, "", f'Device "{self.name}" does not exist.\n'
        if argv[0].endswith(("systemctl", "systemd-run")):
            return self._systemctl(argv[1:])
        if argv[0] == "nft":
            return OK
        return self._wg(argv[1:], stdin) if argv[0] == "wg" else self._ip(argv[1:])

    def _systemctl(self, argv: list[str]) -> Answer:
        match argv:
            case ["is-active", "--quiet", _]:
                return (0 if self.agent_runs else 3), "", ""
            case ["stop", unit]:
                self.agent_runs = self.agent_runs and unit.endswith(".timer")
            case ["restart", _]:
                self.agent_runs = True
        return OK

    def _wg(self, argv: list[str], stdin: str | None) -> Answer:
        match argv:
            case ["show", self.name, what]:
                return 0, self._show(what), ""
            case ["set", self.name, "peer", *of_peers]:
                for key, *options in (of_peer.split(" ") for of_peer in " ".join(of_peers).split(" peer ")):
                    self._set_peer(key, options, stdin)
            case ["set", self.name, "private-key", path, *of_peer]:
                self._set_private_key(path, of_peer, stdin)
            case ["set", self.name, "listen-port", port]:
                self.listen_port = int(port)
            case ["set", self.name, "fwmark", mark]:
                self.fwmark = int(mark)
            case _:
                raise AssertionError(f"wg {argv}")
        return OK

    def _show(self, what: str) -> str:
        peers = self.peers.items()
        match what:
            case "dump":
                return self._dump()
            case "preshared-keys":
                return "".join(f"{key}\t{peer.preshared_key or '(none)'}\n" for key, peer in peers)
            case "latest-handshakes":
                return "".join(f"{key}\t{peer.handshake_at}\n" for key, peer in peers)
            case "private-key":
                return f"{self.private_key or '(none)'}\n"
            case "public-key":
                return f"{keys.public_key(self.private_key) if self.private_key else '(none)'}\n"
        raise AssertionError(f"wg show {what}")

    def _set_private_key(self, path: str, of_peer: list[str], stdin: str | None) -> None:
        text = stdin if path == "/dev/stdin" else Path(path).read_text(encoding="ascii")
        assert text
        self.private_key = text.strip()
        if of_peer:
            assert not path == "/dev/stdin" in of_peer, "standard input has one key"
            self._wg(["set", self.name, *of_peer], stdin)

    def _set_peer(self, key: str, options: list[str], stdin: str | None) -> None:
        if options == ["remove"]:
            self.peers.pop(key, None)
            return
        peer = self.peers.setdefault(key, FakePeer())
        for option, value in zip(options[::2], options[1::2], strict=True):
            match option:
                case "preshared-key":
                    assert value == "/dev/null" or (value == "/dev/stdin" and stdin)
                    peer.preshared_key = None if value == "/dev/null" else (stdin or "").strip()
                case "endpoint":
                    peer.endpoint = value
                case "persistent-keepalive":
                    peer.persistent_keepalive_s = int(value)
                case "allowed-ips":
                    peer.allowed_ips = [network for network in value.split(",") if network]
                    for other in self.peers.values():
                        if other is not peer:
                            other.allowed_ips = [n for n in other.allowed_ips if n not in peer.allowed_ips]
                case _:
                    raise AssertionError(option)

    def _ip(self, argv: list[str]) -> Answer:
        match argv:
            case ["-j", "address", "show", "dev", self.name]:
                infos = [
                    {"local": a.split("/")[0], "prefixlen": int(a.split("/")[1]), "scope": "global"}
                    for a in self.addresses
                ]
                infos.append({"local": "fe80::1", "prefixlen": 64, "scope": "link"})
                return 0, json.dumps([{}, {"ifname": self.name, "mtu": self.mtu, "addr_info": infos}]), ""
            case ["link", "set", "dev", self.name, "mtu", mtu]:
                self.mtu = int(mtu)
            case [_, "address", "add", address, "dev", self.name]:
                self.addresses.append(address)
            case [_, "address", "del", address, "dev", self.name]:
                network = ipaddress.ip_interface(address).network
                first, *others = (a for a in self.addresses if ipaddress.ip_interface(a).network == network)
                gone = [first, *others] if first == address else [address]
                self.addresses = [a for a in self.addresses if a not in gone]
            case ["-j", family, "route", "show", "dev", self.name, "table", "main"]:
                return 0, json.dumps(self._routes(family)), ""
            case [_, "route", "add", network, "dev", self.name]:
                if network in self.routes:
                    return 2, "", "RTNETLINK answers: File exists\n"
                self.routes.add(network)
            case [_, "route", "del", network, "dev", self.name, "proto", "boot"]:
                self.routes.remove(network)
            case _:
                raise AssertionError(f"ip {argv}")
        return OK

    def _routes(self, family: str) -> list[dict[str, str]]:
        connected = {str(ipaddress.ip_interface(address).network) for address in self.addresses}
        listed = [{"dst": n, "protocol": "kernel"} for n in connected] + [{"dst": n} for n in self.routes]
        return [r for r in listed if (":" in r["dst"]) == (family == "-6")]

    def _dump(self) -> str:
        public_key = keys.public_key(self.private_key) if self.private_key else "(none)"
        fwmark = hex(self.fwmark) if self.fwmark else "off"
        lines = [[self.private_key or "(none)", public_key, str(self.listen_port), fwmark]]
        for key, peer in self.peers.items():
            keepalive = str(peer.persistent_keepalive_s or "off")
            networks = ",".join(peer.allowed_ips) or "(none)"
            secret = peer.preshared_key or "(none)"
            lines.append(
                [
                    key,
                    secret,
                    peer.endpoint or "(none)",
                    networks,
                    str(peer.handshake_at),
                    str(peer.rx_bytes),
                    "0",
                    keepalive,
                ]
            )
        return "".join("\t".join(line) + "\n" for line in lines)
