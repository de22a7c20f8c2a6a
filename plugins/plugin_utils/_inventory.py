# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Is what the inventory says a network that can work? Pure: hosts in, sentences out."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Union

from ansible_collections.rendezvous.wireguard.plugins.module_utils._wireguard import check

Interface = Union[ipaddress.IPv4Interface, ipaddress.IPv6Interface]

HUB_EXAMPLE = "hub.example.net wg_interface_address=192.168.7.1/24 wg_hub_endpoint=hub.example.net:51820"


@dataclass(frozen=True)
class Host:
    """What the inventory says about one host and one interface. Values are the user's, of any type."""

    name: str
    groups: frozenset[str] = frozenset()
    """Those of "hub" and "peer" that it is in."""
    addresses: Any = None
    endpoint: Any = None
    peers: Sequence[Mapping[str, Any]] = field(default=())
    exclusive: bool = False

    @property
    def address_texts(self) -> tuple[str, ...]:
        """One address may be written without the list."""
        if not self.addresses:
            return ()
        return (
            tuple(map(str, self.addresses))
            if isinstance(self.addresses, (list, tuple))
            else (str(self.addresses),)
        )


def problems_of_host(host: Host) -> Iterator[str]:
    """What is wrong with this host, whatever the others are."""
    if not host.address_texts:
        yield f"{host.name}: wg_interface_address is missing: write e.g. wg_interface_address=192.168.7.5/24"
    for text in host.address_texts:
        yield from _problem(host, "wg_interface_address", check.interface_address, text)
    if "hub" in host.groups:
        yield from _problems_of_endpoint(host)
    for peer in host.peers:
        key = str(peer.get("public_key"))
        yield from _problem(
            host, "wg_interface_peers", lambda text: check.public_key(text, "public_key"), key
        )
        psk = peer.get("preshared_key")
        if psk:
            yield from _problem(
                host, "wg_interface_peers", lambda text: check.preshared_key(text, "preshared_key"), psk
            )
    if host.exclusive and host.groups:
        yield (
            f"{host.name}: wg_interface_peers_exclusive would remove the peers that other hosts have added: "
            "remove it, and remove peers with state: absent"
        )


def problems_of_network(hosts: Sequence[Host]) -> Iterator[str]:
    """What is wrong between the hosts of the groups wireguard_hub and wireguard_peers."""
    hubs = [host for host in hosts if "hub" in host.groups]
    if not hubs:
        names = ", ".join(host.name for host in hosts)
        yield f"{names}: there is no hub: write into the inventory\n[wireguard_hub]\n{HUB_EXAMPLE}"
    elif len(hubs) > 1:
        names = ", ".join(host.name for host in hubs)
        yield (
            f"{names}: only one host can be the hub: leave one in [wireguard_hub], "
            "write the others into [wireguard_peers]"
        )
    for host in hosts:
        if len(host.groups) > 1:
            yield f"{host.name}: is in wireguard_hub and in wireguard_peers: remove it from one of them"
    yield from _address_problems(hosts, hubs[0] if len(hubs) == 1 else None)


def _address_problems(hosts: Sequence[Host], hub: Host | None) -> Iterator[str]:
    networks = [address.network for address in _parsed(hub)] if hub else []
    owners: dict[str, str] = {}
    for host in hosts:
        for address in _parsed(host):
            owner = owners.setdefault(str(address.ip), host.name)
            if owner != host.name:
                yield f"{host.name}: address {address.ip} is that of {owner} as well: write another one"
            same_version = [network for network in networks if network.version == address.version]
            if hub and not any(address.ip in network for network in same_version):
                inside = ", ".join(map(str, networks)) or "the hub's network"
                yield (
                    f"{host.name}: address {address} is outside of {hub.name}'s network: "
                    f"write one in {inside}"
                )
    for host in hosts:
        for peer in host.peers:
            yield from _claims(host, peer, owners)


def _claims(host: Host, peer: Mapping[str, Any], owners: Mapping[str, str]) -> Iterator[str]:
    """One address is one peer's: a peer written by hand must not have the address of a host."""
    if peer.get("state", "present") != "present":
        return
    for text in peer.get("allowed_ips") or ():
        owner = owners.get(str(text).split("/", maxsplit=1)[0])
        if owner and "/" in str(text) and str(text).endswith(("/32", "/128")):
            label = peer.get("name") or peer.get("public_key")
            yield (
                f"{host.name}: wg_interface_peers gives {text} to {label}, but it is the address of {owner}: "
                "write another one"
            )


def _problems_of_endpoint(host: Host) -> Iterator[str]:
    if not host.endpoint:
        yield (
            f"{host.name}: the hub has no public endpoint: "
            f"write e.g. wg_hub_endpoint={host.name}:51820, a name or address that every peer can reach"
        )
        return
    yield from _problem(
        host, "wg_hub_endpoint", lambda text: check.endpoint(text, "endpoint"), str(host.endpoint)
    )
    name = str(host.endpoint).rpartition(":")[0].strip("[]")
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return
    inside = any(address in interface.network for interface in _parsed(host))
    if inside or address.is_loopback or address.is_unspecified:
        yield (
            f"{host.name}: wg_hub_endpoint {host.endpoint} cannot be reached by peers: "
            "write the hub's public address"
        )


def _parsed(host: Host) -> Iterator[Interface]:
    """Its addresses; those that are none have been complained about."""
    for text in host.address_texts:
        with suppress(ValueError):
            yield ipaddress.ip_interface(check.interface_address(text))


def _problem(host: Host, variable: str, checked: Callable[[str], object], text: str) -> Iterable[str]:
    try:
        checked(text)
    except ValueError as error:
        return [f"{host.name}: {variable}: {error}"]
    return []
