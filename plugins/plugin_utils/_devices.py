# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Devices that Ansible does not manage: what may be written of them, and the file that each imports.

Pure: what the user wrote in, devices, sentences and texts out. Each sentence names the device, the option,
its value and what to write instead.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Union

from ansible_collections.rendezvous.wireguard.plugins.module_utils._wireguard import check

Interface = Union[ipaddress.IPv4Interface, ipaddress.IPv6Interface]

KINDS = ("phone", "windows", "linux", "hub")
STATES = ("present", "absent")
WITH_AGENT = ("windows", "linux")
"""Kinds on which an agent can run: it is started and stopped with the tunnel."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_=+.-]{0,14}\Z")
_OF_WINDOWS = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?\Z", re.IGNORECASE)


@dataclass(frozen=True)
class Device:
    """One device, checked."""

    name: str
    kind: str = "phone"
    state: str = "present"
    addresses: tuple[str, ...] = ()
    """With prefix."""
    public_key: str | None = None
    """The owner's; None = the key is made here."""
    networks: tuple[str, ...] | None = None
    """What is sent to the hub; None = what all devices send."""
    dns: tuple[str, ...] = ()
    mtu: int | None = None
    listen_port: int | None = None
    persistent_keepalive_s: int | None = None
    """None = that of all devices."""
    endpoint: str | None = None
    """Of a hub."""
    agent: bool = False

    @property
    def routes(self) -> list[str]:
        """What the hub sends to it."""
        return [str(ipaddress.ip_network(ipaddress.ip_interface(text).ip)) for text in self.addresses]

    @property
    def families(self) -> set[int]:
        """4, 6, or both."""
        return {ipaddress.ip_interface(text).version for text in self.addresses}

    def sent(self, networks: Iterable[str]) -> tuple[str, ...]:
        """What it sends to the hub: its own networks, else those of all that are of its families.

        wg-quick fails where it is to set a route of a family that the device has not.
        """
        if self.networks is not None:
            return self.networks
        return tuple(text for text in networks if (6 if ":" in text else 4) in self.families)

    @property
    def present(self) -> bool:
        """Is it to be in the network?"""
        return self.state == "present"


@dataclass(frozen=True)
class Agent:
    """The commands that start and stop the agent of a kind of device."""

    start: Sequence[str] = ()
    stop: Sequence[str] = ()


@dataclass(frozen=True)
class Network:
    """What all devices share: the hub, and who is in the network already."""

    hub: str = ""
    """The host in the inventory; empty if a listed device is the hub."""
    hub_addresses: tuple[str, ...] = ()
    endpoint: str = ""
    networks: tuple[str, ...] = ()
    """What a device sends to the hub."""
    persistent_keepalive_s: int = 13
    agents: Mapping[str, Agent] = field(default_factory=dict)
    """By kind."""
    owners: Mapping[str, str] = field(default_factory=dict)
    """Addresses of hosts and of peers that are listed for the hub -> whose they are."""
    hosts: frozenset[str] = frozenset()
    """Names of hosts and of the peers that are listed for the hub."""
    keys: Mapping[str, str] = field(default_factory=dict)
    """Public keys of the peers that are listed for the hub -> whose they are."""


# ---- what may be written ----


def read_devices(options: Any, network: Network) -> tuple[list[Device], Network, list[str]]:
    """The devices, the network with the hub that one of them may be, and everything that is wrong."""
    devices: list[Device] = []
    problems: list[str] = []
    listed = options if isinstance(options, (list, tuple)) else [options]
    free = _free_address(network, listed)
    for option in listed:
        device, wrong = read_device(option, free)
        devices += [device] if device else []
        problems += wrong
    hubs = [device for device in devices if device.kind == "hub" and device.present]
    problems += _problems_of_hubs(hubs, network)
    if hubs and not network.hub:
        network = _with_hub(network, hubs[0])
    problems += _problems_of_names(devices, network)
    problems += _problems_of_addresses(devices, network, free)
    problems += _problems_of_keys(devices, network)
    problems += _problems_of_networks(devices, network)
    return devices, network, problems


def read_device(option: Any, free: str) -> tuple[Device | None, list[str]]:
    """One device by itself, None without a usable name, and what is wrong with it.

    `free`: an address that could be written.
    """
    if not isinstance(option, Mapping):
        return None, [
            f"{option!r} is no device: write {{name: phone, kind: phone, address: 192.168.7.50/24}}"
        ]
    try:
        name = device_name(option.get("name"))
    except ValueError as error:
        return None, [str(error)]
    fields: dict[str, Any] = {}
    unknown = sorted(str(key) for key in option if key != "name" and key not in _OPTIONS)
    known = ", ".join(_OPTIONS)
    problems = [f"device {name}: unknown option {key!r}: write one of {known}" for key in unknown]
    for key, (into, checked) in _OPTIONS.items():
        if option.get(key) is not None:
            try:
                fields[into] = checked(option[key], f"device {name}: {key}")
            except ValueError as error:
                problems.append(str(error))
    if fields.get("state") != "absent" and option.get("kind") is None:
        problems.append(f"device {name}: kind is missing: write one of {', '.join(KINDS)}")
    if fields.get("state") != "absent" and not option.get("address"):
        problems.append(f"device {name}: address is missing: write e.g. address: {free}")
    fields.setdefault("agent", fields.get("kind") == "windows")
    device = Device(name, **fields)
    if device.agent and device.kind not in WITH_AGENT and "kind" in fields:
        problems.append(
            f"device {name}: agent: on a {device.kind} it cannot be started with the tunnel: "
            f"remove agent, or write kind: {' or '.join(WITH_AGENT)}"
        )
    return device, problems


def device_name(value: Any) -> str:
    """A name that can be that of a file, and of a tunnel on every system."""
    text = "" if value is None else str(value)
    if not _NAME.match(text) or _OF_WINDOWS.match(text) or text.endswith("."):
        raise ValueError(
            f"device name {text!r} cannot be that of a file and a tunnel: write 1 to 15 letters, digits or "
            "_ = + . -, the first a letter or digit, and no device name of Windows, such as phone"
        )
    return text


def wanted_names(value: Iterable[Any], variable: str, devices: Iterable[Device]) -> list[str]:
    """Problems with a list of names of devices that something is to be done with."""
    known = {device.name: device for device in devices if device.present}
    problems = []
    for name in map(str, value):
        if name not in known:
            listed = ", ".join(sorted(known)) or "nothing, no device is listed"
            problems.append(f"{variable} {name!r} is no device that is listed: write one of {listed}")
        elif known[name].public_key and variable.endswith("regenerate"):
            problems.append(
                f"{variable} {name!r}: its owner makes its key: write the new one as its public_key"
            )
    return problems


def _problems_of_hubs(hubs: Sequence[Device], network: Network) -> Iterator[str]:
    for hub in hubs:
        if network.hub:
            yield (
                f"device {hub.name}: kind 'hub': {network.hub} is the hub of this network already: remove "
                "the device, or set wg_client_config_hub to '' for a network whose hub is no host"
            )
        elif not hub.endpoint:
            yield (
                f"device {hub.name}: endpoint is missing: write where the others reach it, such as "
                "endpoint: hub.example.net:51820"
            )
    if len(hubs) > 1:
        names = ", ".join(hub.name for hub in hubs)
        yield f"devices {names}: only one can be the hub: write kind: linux for the others"
    if not hubs and not network.hub:
        yield (
            "there is no hub: set wg_client_config_hub to a host of the inventory, or list a device with "
            "kind: hub and its endpoint"
        )


def _with_hub(network: Network, hub: Device) -> Network:
    own = tuple(dict.fromkeys(str(ipaddress.ip_interface(text).network) for text in hub.addresses))
    return Network(
        hub="",
        hub_addresses=hub.addresses,
        endpoint=hub.endpoint or "",
        networks=network.networks or own,
        persistent_keepalive_s=network.persistent_keepalive_s,
        agents=network.agents,
        owners=network.owners,
        hosts=network.hosts,
        keys=network.keys,
    )


def _problems_of_names(devices: Sequence[Device], network: Network) -> Iterator[str]:
    seen: dict[str, Device] = {}
    for device in devices:
        # Some file systems do not tell upper from lower case.
        other = seen.setdefault(device.name.lower(), device)
        if other is not device:
            yield f"device {device.name}: name {other.name!r} is given twice: give one of them another"
        if device.name in network.hosts:
            yield (
                f"device {device.name}: name {device.name!r} is that of a host of the network, or of a peer "
                "in wg_interface_peers: write another one"
            )


def _problems_of_addresses(devices: Sequence[Device], network: Network, free: str) -> Iterator[str]:
    present = [device for device in devices if device.present]
    around = [ipaddress.ip_interface(text).network for text in _valid(network.hub_addresses)]
    owners = dict(network.owners)
    for device in present:
        for text in device.addresses:
            address = ipaddress.ip_interface(text)
            yield from _problems_of_place(device, address, around, free)
            owner = owners.setdefault(str(address.ip), device.name)
            if owner != device.name:
                yield f"device {device.name}: address {text} is that of {owner} as well: write e.g. {free}"
        if len({_ip(text) for text in device.addresses}) < len(device.addresses):
            given = ", ".join(device.addresses)
            yield f"device {device.name}: address {given}: one is given twice: write it once"


def _problems_of_place(
    device: Device, address: Interface, around: Sequence[check.Network], free: str
) -> Iterator[str]:
    inside = [network for network in around if address.ip in network]
    if not around or device.kind == "hub":
        return
    if not inside:
        networks = ", ".join(map(str, around))
        yield (
            f"device {device.name}: address {address} is outside of the hub's network {networks}: "
            f"write e.g. {free}"
        )
    elif address.network.prefixlen != inside[0].prefixlen and (
        device.agent or address.network.prefixlen != address.max_prefixlen
    ):
        yield (
            f"device {device.name}: address {address} has another prefix than the hub's network {inside[0]}: "
            f"write {address.ip}/{inside[0].prefixlen}"
        )


def _problems_of_keys(devices: Sequence[Device], network: Network) -> Iterator[str]:
    owners = dict(network.keys)
    for device in devices:
        if device.public_key and device.present:
            owner = owners.setdefault(device.public_key, device.name)
            if owner != device.name:
                yield (
                    f"device {device.name}: public_key {device.public_key} is that of {owner} as well: "
                    "write what `wg pubkey` prints on the device"
                )


def _problems_of_networks(devices: Sequence[Device], network: Network) -> Iterator[str]:
    for device in devices:
        spoke = device.present and device.kind != "hub" and device.addresses
        if spoke and network.networks and device.networks is None and not device.sent(network.networks):
            yield (
                f"device {device.name}: address {', '.join(device.addresses)}: none of "
                f"wg_client_config_networks {', '.join(network.networks)} is of its family, so that it would "
                "send nothing to the hub: write networks: [...] for it, or another address"
            )


def _valid(addresses: Iterable[str]) -> Iterator[str]:
    for text in addresses:
        with suppress(ValueError):
            yield check.interface_address(text)


def _ip(text: str) -> Any:
    return ipaddress.ip_interface(text).ip


def _free_address(network: Network, options: Iterable[Any]) -> str:
    """An address that could be written; the first hundred are left to hosts if there are so many."""
    taken = set(network.owners)
    for option in options:
        addresses = option.get("address") if isinstance(option, Mapping) else None
        listed = addresses if isinstance(addresses, (list, tuple)) else [addresses]
        taken |= {str(text).partition("/")[0] for text in listed}
    for text in _valid(network.hub_addresses):
        around = ipaddress.ip_interface(text).network
        candidates = [str(host) for host in islice(around.hosts(), 1 << 10) if str(host) not in taken]
        if candidates:
            return f"{candidates[min(100, len(candidates) - 1)]}/{around.prefixlen}"
    return "192.168.7.50/24"


# ---- what each option may be ----


def _list_of(checked: Callable[[str, str], Any]) -> Callable[[Any, str], Any]:
    def check_list(value: Any, what: str) -> tuple[Any, ...]:
        listed = value if isinstance(value, (list, tuple)) else [value]
        return tuple(dict.fromkeys(checked(str(one), what) for one in listed))

    return check_list


def _address(text: str, what: str) -> str:
    try:
        return check.interface_address(text)
    except ValueError as error:
        raise ValueError(f"{what}: {error}") from None


def _addresses(value: Any, what: str) -> tuple[str, ...]:
    """Not without those given twice: they are complained about."""
    return tuple(_address(str(one), what) for one in (value if isinstance(value, (list, tuple)) else [value]))


def _dns(text: str, what: str) -> str:
    """An address, or a domain to search in."""
    with suppress(ValueError):
        return str(ipaddress.ip_address(text))
    if not re.fullmatch(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?", text) or text[-1].isdigit():
        raise ValueError(f"{what} {text!r}: write the address of a server, such as 192.168.7.1, or a domain")
    return text


def _whole(checked: Callable[[int, str], int]) -> Callable[[Any, str], Any]:
    def check_whole(value: Any, what: str) -> int:
        text = "" if isinstance(value, bool) else str(value).strip()
        if not re.fullmatch(r"-?[0-9]+", text):
            raise ValueError(f"{what} {value!r}: write a whole number")
        return checked(int(text), what)

    return check_whole


def _one_of(choices: Sequence[str]) -> Callable[[Any, str], Any]:
    def check_choice(value: Any, what: str) -> str:
        if value not in choices:
            raise ValueError(f"{what} {value!r}: write one of {', '.join(choices)}")
        return str(value)

    return check_choice


def _boolean(value: Any, what: str) -> bool:
    text = str(value).lower()
    if text not in ("true", "false", "yes", "no", "on", "off"):
        raise ValueError(f"{what} {value!r}: write true or false")
    return text in ("true", "yes", "on")


_OPTIONS: Mapping[str, tuple[str, Callable[[Any, str], Any]]] = {
    "kind": ("kind", _one_of(KINDS)),
    "state": ("state", _one_of(STATES)),
    "address": ("addresses", _addresses),
    "public_key": ("public_key", lambda value, what: check.public_key(str(value), what)),
    "networks": ("networks", _list_of(check.allowed_ip)),
    "dns": ("dns", _list_of(_dns)),
    "mtu": ("mtu", _whole(check.mtu)),
    "listen_port": ("listen_port", _whole(check.port)),
    "persistent_keepalive_s": ("persistent_keepalive_s", _whole(check.persistent_keepalive_s)),
    "endpoint": ("endpoint", lambda value, what: check.endpoint(str(value), what)),
    "agent": ("agent", _boolean),
}
"""What may be written beside the name: the field of Device, and what checks the value."""


# ---- the file ----


@dataclass(frozen=True)
class Peer:
    """A [Peer] section of a device's file."""

    name: str
    public_key: str
    allowed_ips: Sequence[str]
    endpoint: str | None = None
    persistent_keepalive_s: int | None = None
    preshared_key: str | None = field(default=None, repr=False)


def peers_of(
    device: Device, network: Network, keys: Mapping[str, str], devices: Iterable[Device]
) -> list[Peer]:
    """A hub knows all others, and each of them only the hub. `keys`: public keys by name, "" is the hub's."""
    if device.kind == "hub":
        others = [other for other in devices if other.present and other.name != device.name]
        return [Peer(other.name, keys[other.name], other.routes) for other in others]
    keepalive_s = device.persistent_keepalive_s
    return [
        Peer(
            name=network.hub or "hub",
            public_key=keys[""],
            allowed_ips=device.sent(network.networks),
            endpoint=network.endpoint,
            persistent_keepalive_s=network.persistent_keepalive_s if keepalive_s is None else keepalive_s,
        )
    ]


def render(
    device: Device, network: Network, peers: Iterable[Peer], public_key: str, private_key: str | None
) -> str:
    """The text of the file. Without the private key, a comment says where its owner writes it."""
    settings = [
        f"PrivateKey = {private_key}" if private_key else without_private_key(public_key),
        f"Address = {', '.join(device.addresses)}",
    ]
    listen_port = device.listen_port
    if device.kind == "hub" and listen_port is None and device.endpoint:
        listen_port = int(device.endpoint.rpartition(":")[2])
    optional = {"ListenPort": listen_port, "DNS": ", ".join(device.dns) or None, "MTU": device.mtu}
    settings += [f"{key} = {value}" for key, value in optional.items() if value is not None]
    settings += [f"{key} = {command}" for key, command in _hooks(device, network)]
    lines = [f"# {device.name}", "[Interface]", *settings]
    for peer in peers:
        lines += ["", "[Peer]", f"# Name = {peer.name}", f"PublicKey = {peer.public_key}"]
        lines += [f"PresharedKey = {peer.preshared_key}"] if peer.preshared_key else []
        lines += [f"AllowedIPs = {', '.join(peer.allowed_ips)}"] if peer.allowed_ips else []
        lines += [f"Endpoint = {peer.endpoint}"] if peer.endpoint else []
        if peer.persistent_keepalive_s:
            lines.append(f"PersistentKeepalive = {peer.persistent_keepalive_s}")
    return "\n".join(lines) + "\n"


def without_private_key(public_key: str) -> str:
    """The line in place of a private key that only the owner has."""
    return f"# PrivateKey = (the owner writes it here; its public key is {public_key})"


def _hooks(device: Device, network: Network) -> Iterator[tuple[str, str]]:
    if device.kind == "hub":
        # It relays, and hosts that know a shorter way than through it are not to be told of it (fact 7).
        # The kernel sends redirects if either `all` or the interface says so.
        redirects = [f"net.ipv4.conf.{name}.send_redirects=0" for name in ("all", "%i")]
        settings = ["net.ipv4.ip_forward=1", *redirects] if 4 in device.families else []
        settings += ["net.ipv6.conf.all.forwarding=1"] if 6 in device.families else []
        for setting in settings:
            yield "PostUp", f"sysctl -q -w {setting} || true"
    if device.agent:
        agent = network.agents.get(device.kind, Agent())
        yield from (("PostUp", command) for command in agent.start)
        yield from (("PostDown", command) for command in agent.stop)


def compact(text: str) -> str:
    """Without comments and empty lines: what a QR code carries, and what two files are compared by."""
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    return "\n".join(line for line in lines if line) + "\n"
