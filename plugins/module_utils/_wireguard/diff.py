# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""What has to be done to a running interface so that it is as wanted: the fewest `wg set` and `ip` commands.

Pure functions from wanted, previously wanted and running state to steps. A step is one command; applying all
steps and asking again gives none. What only WireGuard or the agent knows (a roamed endpoint, a fresh listen
port) is left alone unless the file says otherwise (DESIGN §4, Who owns what).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from . import conf, dump, keys
from .check import Network

DEFAULT_ROUTES = ("0.0.0.0/0", "::/0")


@dataclass(frozen=True)
class Runtime:
    """A running interface."""

    device: dump.Device
    addresses: tuple[str, ...]
    """"address/prefix" each."""
    mtu: int
    preshared_keys: Mapping[str, str] = field(default_factory=dict, repr=False)
    """By public key; peers without one are not in it."""

    def without(self, public_keys: Iterable[str]) -> Runtime:
        """The same without these peers."""
        hidden = set(public_keys)
        peers = {key: peer for key, peer in self.device.peers.items() if key not in hidden}
        return replace(self, device=replace(self.device, peers=peers))


@dataclass(frozen=True)
class Route:
    """A route over the interface."""

    network: str
    protocol: str
    """Who made it: "kernel" for that of an address, "boot" for those of wg-quick and ours."""


@dataclass(frozen=True)
class Step:
    """One command that changes one thing of the running interface."""

    thing: str
    before: str
    after: str
    argv: tuple[str, ...]
    stdin: str | None = field(default=None, repr=False)
    """The private or preshared key that the command reads as /dev/stdin: never an argument, never in /tmp."""


def interface_steps(
    name: str, wanted: conf.Interface, previous: conf.Interface, runtime: Runtime, fwmark_routes: bool = False
) -> list[Step]:
    """Bring key, port, mark, MTU and addresses of a running interface to the wanted ones.

    Addresses that neither `wanted` nor `previous` names are left alone. `fwmark_routes`: wg-quick's rules for
    a default route depend on the mark, which then cannot be changed while the interface is up.
    """
    device = runtime.device
    wg_set = ("wg", "set", name)
    mtu_set = ("ip", "link", "set", "dev", name, "mtu")
    steps = []
    if wanted.private_key is not None:
        public_key = keys.public_key(wanted.private_key)
        if device.public_key != public_key:
            argv = (*wg_set, "private-key", "/dev/stdin")
            stdin = wanted.private_key + "\n"
            steps.append(Step("public key", str(device.public_key), public_key, argv, stdin))
    if wanted.listen_port not in (None, device.listen_port):
        port = str(wanted.listen_port)
        steps.append(Step("listen port", str(device.listen_port), port, (*wg_set, "listen-port", port)))
    if wanted.fwmark not in (None, device.fwmark) and not fwmark_routes:
        fwmark = str(wanted.fwmark)
        steps.append(Step("fwmark", str(device.fwmark), fwmark, (*wg_set, "fwmark", fwmark)))
    if wanted.mtu not in (None, runtime.mtu):
        steps.append(Step("MTU", str(runtime.mtu), str(wanted.mtu), (*mtu_set, str(wanted.mtu))))
    return steps + _address_steps(name, wanted.addresses, previous.addresses, runtime.addresses)


def restart_required(
    wanted: conf.Interface, previous: conf.Interface, runtime: Runtime, fwmark_routes: bool = False
) -> list[str]:
    """The options whose change only takes effect when wg-quick brings the interface up again."""
    differ = [name for name in vars(wanted) if getattr(wanted, name) != getattr(previous, name)]
    changed: list[str] = [name for name in ("table", "pre_up", "post_up") if name in differ]
    changed += [name for name in ("mtu", "fwmark") if name in differ and getattr(wanted, name) is None]
    if fwmark_routes and wanted.fwmark not in (None, runtime.device.fwmark):
        changed.append("fwmark")
    return changed


def peer_steps(
    name: str, wanted: Mapping[str, conf.Peer | None], previous: Mapping[str, conf.Peer], runtime: Runtime
) -> list[Step]:
    """Bring the given peers of a running interface to the wanted state; None = no such peer."""
    steps = []
    for key, peer in wanted.items():
        running = runtime.device.peers.get(key)
        if peer is not None:
            step = _peer_step(name, peer, previous.get(key), running, runtime.preshared_keys.get(key))
        elif running is not None:
            step = Step(f"peer {key}", "present", "absent", ("wg", "set", name, "peer", key, "remove"))
        else:
            step = None
        if step is not None:
            steps.append(step)
    return sorted(steps, key=lambda step: step.argv[-1] != "remove")


def key_steps(
    name: str,
    private_key: str,
    key_path: str,
    peer: conf.Peer | None,
    previous: Mapping[str, conf.Peer],
    runtime: Runtime,
) -> list[Step]:
    """Bring another private key to the running interface, and with it what one peer needs, its preshared key.

    By one command if it is both, so that whatever ends the caller, they change together. The private key is
    read from its file then, since there is only one standard input.
    """
    own = interface_steps(name, conf.Interface(private_key=private_key), conf.Interface(), runtime)
    of_peer = peer_steps(name, {peer.public_key: peer} if peer else {}, previous, runtime)
    if not own or not of_peer:
        return own + of_peer
    (first,), (second,) = own, of_peer
    argv = ("wg", "set", name, "private-key", key_path, *second.argv[3:])
    before, after = f"{first.before}, {second.before}", f"{first.after}, {second.after}"
    return [Step(f"{first.thing}, {second.thing}", before, after, argv, second.stdin)]


def calling(name: str, steps: list[Step], peers: Iterable[dump.Peer]) -> list[Step]:
    """The same steps, the last of which has the interface shake hands with these peers, all by one command.

    A persistent keepalive that is switched on sends a packet at once (in the kernel set_peer() of netlink.c,
    in wireguard-go handlePostConfig); at the end it is what it was. Whom no endpoint is known of gets none.
    """
    call: list[str] = []
    for peer in peers:
        for keepalive_s in (0, 1, peer.persistent_keepalive_s):
            call += ("peer", peer.public_key, "persistent-keepalive", str(keepalive_s))
    if not call:
        return steps
    *others, last = steps or [Step("handshakes", "", "with all peers", ("wg", "set", name))]
    return [*others, replace(last, argv=(*last.argv, *call))]


def routes(interface: conf.Interface, peers: Iterable[conf.Peer]) -> set[str]:
    """The networks to which wg-quick would add a route (`add_route` there), but for default routes.

    In the main table none is needed inside the network of an own address.
    """
    if interface.table == "off":
        return set()
    allowed = {network for peer in peers for network in peer.allowed_ips} - set(DEFAULT_ROUTES)
    if interface.table not in (None, "auto"):
        return allowed
    connected = [ipaddress.ip_interface(address).network for address in interface.addresses]
    return {network for network in allowed if not _covered(ipaddress.ip_network(network), connected)}


def route_steps(
    name: str, table: str | None, wanted: set[str], previous: set[str], running: Iterable[Route]
) -> list[Step]:
    """Add the wanted routes that are missing, then remove the previous ones that are not wanted any more.

    Only routes with protocol "boot" are removed: those that wg-quick and this function make.
    """
    present = set(running)
    networks = {route.network for route in present}
    missing = sorted(wanted - networks, key=_by_prefix)
    stale = sorted((n for n in previous - wanted if Route(n, "boot") in present), key=_by_prefix)
    where = ("dev", name) if table in (None, "auto", "off") else ("dev", name, "table", str(table))
    steps = []
    for network in missing:
        argv = ("ip", family(network), "route", "add", network, *where)
        steps.append(Step(f"route to {network}", "absent", "present", argv))
    for network in stale:
        argv = ("ip", family(network), "route", "del", network, *where, "proto", "boot")
        steps.append(Step(f"route to {network}", "present", "absent", argv))
    return steps


def family(address: str) -> str:
    """The option of `ip` for an address or a network: "-4" or "-6"."""
    return "-6" if ":" in address else "-4"


def _address_steps(
    name: str, wanted: tuple[str, ...], previous: tuple[str, ...], running: tuple[str, ...]
) -> list[Step]:
    """New addresses come before old ones go, so that the interface is never without one.

    Old ones go the last first: the first of a network would take the others of it along.
    """
    missing = [address for address in wanted if address not in running]
    stale = [address for address in reversed(running) if address in previous and address not in wanted]
    steps = []
    for verb, addresses in (("add", missing), ("del", stale)):
        for address in addresses:
            states = ("absent", "present") if verb == "add" else ("present", "absent")
            argv = ("ip", family(address), "address", verb, address, "dev", name)
            steps.append(Step(f"address {address}", *states, argv))
    return steps


def _peer_step(
    name: str,
    wanted: conf.Peer,
    previous: conf.Peer | None,
    running: dump.Peer | None,
    running_preshared_key: str | None,
) -> Step | None:
    """The one `wg set` that a peer needs, if any."""
    changes: list[tuple[str, str, str]] = []
    arguments: list[str] = []
    stdin = None

    if wanted.preshared_key != running_preshared_key:
        before, after = _hidden(running_preshared_key), _hidden(wanted.preshared_key)
        changes.append(("preshared key", before, after if before != after else "another (hidden)"))
        arguments += ["preshared-key", "/dev/stdin" if wanted.preshared_key else "/dev/null"]
        stdin = f"{wanted.preshared_key}\n" if wanted.preshared_key else None

    endpoint_changed = previous is None or previous.endpoint != wanted.endpoint
    running_endpoint = running.endpoint if running else None
    apply_endpoint = endpoint_changed or running_endpoint is None
    if wanted.endpoint is not None and apply_endpoint and running_endpoint != wanted.endpoint:
        changes.append(("endpoint", str(running_endpoint), wanted.endpoint))
        arguments += ["endpoint", wanted.endpoint]

    keepalive_s = wanted.persistent_keepalive_s
    if keepalive_s is None and previous is not None and previous.persistent_keepalive_s:
        keepalive_s = 0
    running_keepalive_s = running.persistent_keepalive_s if running else 0
    if keepalive_s is not None and keepalive_s != running_keepalive_s:
        changes.append(("persistent keepalive", str(running_keepalive_s), str(keepalive_s)))
        arguments += ["persistent-keepalive", str(keepalive_s)]

    allowed_ips = ",".join(wanted.allowed_ips)
    running_ips = running.allowed_ips if running else ()
    if set(wanted.allowed_ips) != {conf.canonical_network(network) for network in running_ips}:
        changes.append(("allowed IPs", ",".join(running_ips), allowed_ips))
        arguments += ["allowed-ips", allowed_ips]

    if running is not None and not changes:
        return None
    before = ", ".join(f"{what} {old}" for what, old, _new in changes) if running else "absent"
    after = ", ".join(["present"] * (running is None) + [f"{what} {new}" for what, _old, new in changes])
    argv = ("wg", "set", name, "peer", wanted.public_key, *arguments)
    return Step(f"peer {wanted}", before, after, argv, stdin)


def _hidden(secret: str | None) -> str:
    return "(hidden)" if secret else "none"


def _covered(network: Network, connected: Iterable[Network]) -> bool:
    return any(network.version == own.version and network.subnet_of(own) for own in connected)  # type: ignore[arg-type]


def _by_prefix(network: str) -> tuple[int, str]:
    """The longest prefix first, as wg-quick does."""
    return -int(network.rpartition("/")[2]), network
