# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Is what the inventory says a network that can work? Pure: hosts in, sentences out.

Each sentence names the host, the variable, its value and what to write instead. What a value may be is said
by the functions that the modules use as well, so that no module refuses later what has passed here.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Union

from ansible.errors import AnsibleError
from ansible.module_utils.parsing.convert_bool import boolean
from ansible_collections.rendezvous.wireguard.plugins.module_utils._peers import read_peer
from ansible_collections.rendezvous.wireguard.plugins.module_utils._wireguard import check, conf, mesh_secret

Interface = Union[ipaddress.IPv4Interface, ipaddress.IPv6Interface]
Check = Callable[[Any, str], object]
"""Of a value and the name of its variable; raises ValueError."""

HUB_EXAMPLE = "hub.example.net wg_interface_address=192.168.7.1/24 wg_hub_endpoint=hub.example.net:51820"
SEVERAL = "for several networks, write an inventory for each, and run the playbook with one at a time"
REFRESH = ("rebind", "restart", "off")
FIREWALLS = ("auto", "firewalld", "ufw", "nftables", "none")


@dataclass(frozen=True)
class Host:
    """What the inventory says about one host and one interface. Values are the user's, of any type."""

    name: str
    role: str = "interface"
    """What it is deployed as: hub, peer, or nothing but an interface."""
    variables: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """Those of VARIABLES that are set; they can hold preshared keys."""
    groups: frozenset[str] = frozenset()
    """Those of "hub" and "peer" that it is in."""

    @property
    def addresses(self) -> tuple[str, ...]:
        """One address may be written without the list."""
        value = self.variables.get("wg_interface_address")
        return tuple(map(str, _listed(value))) if value else ()

    @property
    def subnets(self) -> Iterator[check.Network]:
        """What is behind it; those that are none have been complained about."""
        return _networks(self.variables.get("wg_interface_subnets"))

    @property
    def hub_networks(self) -> Iterator[check.Network]:
        """What it sends to its hub; those that are none have been complained about."""
        return _networks(self.variables.get("wg_peer_hub_networks"))

    @property
    def newest_secret(self) -> str | None:
        """The mesh secret that new preshared keys come from."""
        return next(iter(_mesh_secrets(self.variables)), None)

    @property
    def listed_peers(self) -> Iterable[Any]:
        """The peers that are written by hand."""
        return _listed(self.variables.get("wg_interface_peers") or [])


# ---- what one host says ----


def problems_of_host(
    host: Host,
    inventory: Container[str] = (),
    checked_hosts: Container[str] = (),
) -> Iterator[str]:
    """What is wrong with this host, whatever the addresses of others are.

    `inventory`: the names of all hosts. `checked_hosts`: of those that are asked in this run, and say
    themselves what is wrong with them.
    """
    if not host.addresses:
        yield f"{host.name}: wg_interface_address is missing: write e.g. wg_interface_address=192.168.7.5/24"
    for variable, checked in VARIABLES.items():
        if variable in host.variables and _concerns(variable, host.role):
            yield from _problem(host, checked, host.variables[variable], variable)
    yield from _problems_of_own_name(host)
    yield from _problems_of_own_addresses(host)
    yield from _problems_of_own_mtu(host)
    yield from _problems_of_own_subnets(host)
    yield from _problems_of_own_ports(host)
    yield from _problems_of_listed_peers(host)
    if host.role == "hub":
        yield from _problems_of_endpoint(host)
        yield from _problems_of_hub_port(host)
    if host.role == "peer":
        yield from _problems_of_its_hub(host, inventory, checked_hosts)
        yield from _problems_of_foreign_networks(host)
        yield from _problems_of_tunnel_in_tunnel(host)
    if host.role != "interface" and _is_true(host.variables.get("wg_interface_peers_exclusive")):
        yield (
            f"{host.name}: wg_interface_peers_exclusive would remove the peers that other hosts have added: "
            "remove it, and remove peers with state: absent"
        )


def _concerns(variable: str, role: str) -> bool:
    """Does the role use this variable? The role wg_hub sets the interface's port itself."""
    if variable == "wg_interface_listen_port":
        return role != "hub"
    return variable.startswith(("wg_interface_", f"wg_{role}_"))


def _problems_of_own_name(host: Host) -> Iterator[str]:
    """The hub's file and the records of agents have it as well, and the peer is removed by it."""
    if host.role != "interface":
        yield from _problem(host, _host_name, host.name, "the name of the host")


def _problems_of_own_ports(host: Host) -> Iterator[str]:
    """WireGuard has its UDP port at all addresses, so hub and agent cannot have it inside the VPN."""
    outer = "wg_interface_listen_port"
    if host.role == "hub":
        outer = "wg_hub_listen_port" if host.variables.get("wg_hub_listen_port") else "wg_hub_endpoint"
    port = str(host.variables.get(outer) or "").rpartition(":")[2]
    inner = f"wg_{host.role}_port"
    if host.role != "interface" and port.isdecimal() and port == str(host.variables.get(inner)):
        yield f"{host.name}: {inner} {port} is the UDP port of WireGuard ({outer}) as well: write another one"


def _problems_of_own_addresses(host: Host) -> Iterator[str]:
    addresses = [address.ip for address in _parsed(host)]
    for twice in sorted({str(address) for address in addresses if addresses.count(address) > 1}):
        yield f"{host.name}: wg_interface_address: {twice} is given twice: write it once"


def _problems_of_own_mtu(host: Host) -> Iterator[str]:
    """RFC 8200, section 5: the kernel takes IPv6 from an interface with less."""
    mtu = str(host.variables.get("wg_interface_mtu"))
    if mtu.isdecimal() and int(mtu) < 1280 and any(address.version == 6 for address in _parsed(host)):
        yield f"{host.name}: wg_interface_mtu {mtu} is too small for its IPv6 address: write 1280 or more"


def _problems_of_own_subnets(host: Host) -> Iterator[str]:
    """Its own addresses carry them: of the same family, and not among them."""
    addresses = list(_parsed(host))
    for subnet in host.subnets:
        where = f"{host.name}: wg_interface_subnets {subnet}"
        # Everything is complained about by itself.
        inside = subnet.prefixlen and next(
            (address.network for address in addresses if _overlap(subnet, address.network)), None
        )
        if inside:
            yield f"{where} overlaps the VPN's network {inside}: write one outside of the VPN"
        elif addresses and all(address.version != subnet.version for address in addresses):
            family = "an IPv6" if subnet.version == 6 else "an IPv4"
            yield f"{where}: {host.name} has no such address in the VPN: give it {family} address as well"


def _overlap(one: check.Network, other: check.Network) -> bool:
    return one.version == other.version and (one.network_address in other or other.network_address in one)


def _problems_of_listed_peers(host: Host) -> Iterator[str]:
    keys: set[str] = set()
    claims: dict[str, conf.Peer] = {}
    for option in host.listed_peers:
        try:
            key, peer = _read_peer(option)
        except ValueError as error:
            yield f"{host.name}: wg_interface_peers: {error}"
            continue
        if key in keys:
            yield f"{host.name}: wg_interface_peers: peer {peer or key} is listed twice: list it once"
            continue
        keys.add(key)
        for network in peer.allowed_ips if peer else ():
            other = claims.setdefault(network, peer) if peer else None
            if other is not peer:
                yield (
                    f"{host.name}: wg_interface_peers gives {network} to {other} and to {peer}: "
                    "give one of them another"
                )


def _read_peer(option: Any) -> tuple[str, conf.Peer | None]:
    if not isinstance(option, Mapping):  # text may be a peer with its preshared key
        raise ValueError(
            f"a {_type(option)} is no peer: write {{public_key: ..., allowed_ips: [192.168.7.9/32]}}"
        )
    if not isinstance(option.get("name", ""), (str, int)):
        raise ValueError(f"name {option['name']!r}: write a text")
    if not option.get("public_key"):
        raise ValueError(f"peer {option.get('name')} has no public_key: write what `wg pubkey` prints")
    return read_peer(option)


def _problems_of_endpoint(host: Host) -> Iterator[str]:
    endpoint = host.variables.get("wg_hub_endpoint")
    if not endpoint:
        yield (
            f"{host.name}: the hub has no public endpoint: "
            f"write e.g. wg_hub_endpoint={host.name}:51820, a name or address that every peer can reach"
        )
        return
    address = _address_of(endpoint)
    if address is None:
        return
    inside = any(address in interface.network for interface in _parsed(host))
    if inside or address.is_loopback or address.is_unspecified:
        yield (
            f"{host.name}: wg_hub_endpoint {endpoint} cannot be reached by peers: "
            "write the hub's public address"
        )


def _address_of(endpoint: Any) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """None of a name."""
    try:
        return ipaddress.ip_address(str(endpoint).rpartition(":")[0].strip("[]"))
    except ValueError:
        return None


def _problems_of_hub_port(host: Host) -> Iterator[str]:
    """The role wg_hub sets the port of the interface."""
    written = host.variables.get("wg_interface_listen_port")
    port = (
        host.variables.get("wg_hub_listen_port")
        or str(host.variables.get("wg_hub_endpoint")).rpartition(":")[2]
    )
    if written is not None and str(written) != str(port):
        yield (
            f"{host.name}: wg_interface_listen_port {written} is not used beside a hub, whose port is "
            f"{port}: write wg_hub_listen_port={written}, or wg_interface_listen_port beside peers only"
        )


def _problems_of_its_hub(
    host: Host, inventory: Container[str], checked_hosts: Container[str]
) -> Iterator[str]:
    hub = host.variables.get("wg_peer_hub")
    if isinstance(hub, (int, float)) and not isinstance(hub, bool):
        yield f"{host.name}: wg_peer_hub {hub}: write the name of a host, in quotation marks if that is {hub}"
    elif not hub:
        # Of the groups, problems_of_way_to_hub says it, or problems_of_network for all peers at once.
        if not host.groups:
            yield _no_hub(host.name)
    elif not isinstance(hub, str):
        return  # no name, which has been complained about
    elif hub == host.name:
        yield f"{host.name}: wg_peer_hub {hub!r} is this peer itself: write the name of its hub"
    elif hub not in inventory:
        yield (
            f"{host.name}: wg_peer_hub {hub!r} is no host of the inventory: write the name of one, "
            f"or none for that in [wireguard_hub]"
        )
    elif hub in checked_hosts:
        return
    elif not host.variables.get("wg_peer_hub_networks"):
        yield (
            f"{host.name}: the hub {hub} has no address: "
            f"write e.g. wg_interface_address=192.168.7.1/24 beside {hub}"
        )
    elif not host.variables.get("wg_peer_hub_endpoint"):
        yield (
            f"{host.name}: the hub {hub} has no public endpoint: "
            f"write e.g. wg_hub_endpoint={hub}:51820 beside {hub}, or wg_peer_hub_endpoint beside {host.name}"
        )


def _problems_of_foreign_networks(host: Host) -> Iterator[str]:
    """wg-quick fails where it is to set a route of a family that the node has not. All of a family may be
    meant: it keeps that from leaving the node beside the tunnel.
    """
    versions = {address.version for address in _parsed(host)}
    networks = list(host.hub_networks)
    # Where none is of a family that it has, its address or the hub's has been complained about.
    for network in networks if any(one.version in versions for one in networks) else ():
        if network.prefixlen and network.version not in versions:
            yield (
                f"{host.name}: wg_peer_hub_networks {network}: {host.name} has no IPv{network.version} "
                "address in the VPN: give it one as well, or remove that network"
            )


def _problems_of_tunnel_in_tunnel(host: Host) -> Iterator[str]:
    """wg-quick keeps its own packets out of the tunnel only where all of a family goes there."""
    endpoint = _address_of(host.variables.get("wg_peer_hub_endpoint"))
    if not endpoint or host.variables.get("wg_interface_table") == "off":
        return
    for network in host.hub_networks:
        if network.prefixlen and endpoint in network:
            yield (
                f"{host.name}: wg_peer_hub_networks {network} has the hub's public address {endpoint} in it, "
                "so that the tunnel's own packets would go into the tunnel: remove it there, or from the "
                "wg_interface_subnets that it comes from"
            )


def problems_of_lone_peer(host: Host) -> Iterator[str]:
    """A peer whose network is not that of the groups: of its hub, only what goes there is known."""
    networks = list(host.hub_networks)
    for address in _parsed(host) if networks and host.role == "peer" else ():
        if not any(address.ip in network for network in networks):
            inside = ", ".join(map(str, networks))
            yield (
                f"{host.name}: wg_interface_address {address} is outside of wg_peer_hub_networks, {inside}: "
                "write one in the hub's network, or write that one into wg_peer_hub_networks"
            )


def problems_of_way_to_hub(host: Host, hub: Host) -> Iterator[str]:
    """A peer of the groups sends the hub what is for the hub, and for those whom it has no direct path to."""
    if host.role == "peer" and host.variables.get("wg_peer_hub", "none") in (None, ""):
        yield f"{host.name}: wg_peer_hub is empty: write {hub.name}, or remove the line"
        return
    networks = {one.network for one in _parsed(hub)} & {one.network for one in _parsed(host)}
    is_told = host.role == "peer" and "wg_peer_hub_networks" in host.variables
    for network in sorted(networks, key=str) if is_told else ():
        if not _is_within(network, host.hub_networks):
            written = ", ".join(map(str, host.hub_networks)) or "[]"
            yield (
                f"{host.name}: wg_peer_hub_networks {written} leaves out {network}, in which {hub.name} and "
                "the other peers are: add that, or remove the variable"
            )


def problems_of_subnets_elsewhere(
    names: Iterable[str], hostvars: Mapping[str, Mapping[str, Any]]
) -> Iterator[str]:
    """Of hosts that are not asked in this run: without those subnets, the others would lose the way there."""
    for name in names:
        try:
            written = hostvars[name].get("wg_interface_subnets")
        except AnsibleError:
            yield f"{name}: wg_interface_subnets has no value: define what it is made of, or correct it"
            continue
        yield from _problem(Host(name, "peer", {}), _each(_subnet), written or [], "wg_interface_subnets")


def _is_within(network: check.Network, others: Iterable[check.Network]) -> bool:
    """Whether others have all of it, be it together."""
    same_family: list[Any] = [other for other in others if other.version == network.version]
    return any(network.subnet_of(whole) for whole in ipaddress.collapse_addresses(same_family))


def routed_networks(role: str, variables: Mapping[str, Any]) -> list[str]:
    """What wg-quick is to route to the hub, of variables that were found good."""
    if role != "peer" or variables.get("wg_interface_table") == "off":
        return []
    return [str(network) for network in _listed(variables.get("wg_peer_hub_networks") or [])]


def problems_of_variables(name: str, variables: Iterable[str]) -> Iterator[str]:
    """What looks like a variable of the roles and is none: a misspelt one would else be missed by nobody."""
    for variable in sorted(filter(OURS.match, variables)):
        if variable not in KNOWN:
            near = difflib.get_close_matches(variable, sorted(KNOWN), 1)
            remedy = f"write {near[0]}" if near else "remove it"
            yield (
                f"{name}: {variable} is no variable of these roles: {remedy}, or give a variable of your own "
                "another prefix"
            )


# ---- what several hosts say ----


def problems_of_network(hosts: Sequence[Host], hubs: Sequence[str]) -> Iterator[str]:
    """What is wrong between those hosts of the groups wireguard_hub and wireguard_peers that are one network.

    `hubs`: the names of all hosts in wireguard_hub, also of those with an interface of another name.
    """
    if not hubs:
        yield _no_hub(", ".join(host.name for host in hosts))
    elif len(hubs) > 1:
        yield (
            f"{', '.join(hubs)}: only one host can be the hub: leave one in [wireguard_hub], "
            f"write the others into [wireguard_peers]; {SEVERAL}"
        )
    for host in hosts:
        if len(host.groups) > 1:
            yield (
                f"{host.name}: is in wireguard_hub and in wireguard_peers: remove it from one of them; "
                f"{SEVERAL}"
            )
    if len(hubs) == 1:
        for hub in (host for host in hosts if host.name in hubs):
            yield from _problems_of_room(hub)
            for host in hosts:
                yield from _problems_of_place(host, hub)
            yield from _problems_of_secrets(hosts, hub)
    yield from _problems_of_claims(hosts)
    yield from _problems_of_subnets(hosts)
    yield from _problems_of_names(hosts)


def _problems_of_secrets(hosts: Sequence[Host], hub: Host) -> Iterator[str]:
    """New preshared keys come from the newest secret, so that has to be the same everywhere."""
    for host in hosts:
        if host.newest_secret != hub.newest_secret:
            yield (
                f"{host.name}: wg_interface_mesh_secret does not begin with the same secret as that of "
                f"{hub.name}: write it once for all hosts of the network, such as in group_vars/all"
            )


def secret_ids(variables: Mapping[str, Any]) -> list[str]:
    """Of the mesh secrets that a host is to have, which were checked, the newest first."""
    return [mesh_secret.secret_id(secret) for secret in _mesh_secrets(variables)]


def _mesh_secrets(variables: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(str(one).strip() for one in _listed(variables.get("wg_interface_mesh_secret") or []))


def _no_hub(names: str) -> str:
    return f"{names}: there is no hub: write into the inventory\n[wireguard_hub]\n{HUB_EXAMPLE}"


def _problems_of_room(hub: Host) -> Iterator[str]:
    """The hub's prefix is that of the network, as everybody's is."""
    addresses = list(_parsed(hub))
    if addresses and all(address.network.num_addresses == 1 for address in addresses):
        wider = f"{addresses[0].ip}/{24 if addresses[0].version == 4 else 64}"
        yield (
            f"{hub.name}: wg_interface_address {addresses[0]} has no room for peers: write it with the "
            f"prefix of the whole network, such as {wider}"
        )


def _problems_of_place(host: Host, hub: Host) -> Iterator[str]:
    """Every host is in the hub's network, and says so with its prefix: an agent goes by its own."""
    # Of a hub without any, or without room for others in it, that has been said.
    networks = [address.network for address in _parsed(hub) if address.network.num_addresses > 1]
    for address in _parsed(host) if networks else ():
        around = [network for network in networks if address.ip in network]
        if not around:
            inside = ", ".join(map(str, networks))
            yield (
                f"{host.name}: wg_interface_address {address} is outside of {hub.name}'s network: "
                f"write one in {inside}"
            )
        elif address.network not in around:
            yield (
                f"{host.name}: wg_interface_address {address} has another prefix than {hub.name}'s network "
                f"{around[0]}: write {address.ip}/{around[0].prefixlen}"
            )


def _problems_of_claims(hosts: Sequence[Host]) -> Iterator[str]:
    """One address is one host's or one listed peer's."""
    owners: dict[str, str] = {}
    for host in hosts:
        for address in _parsed(host):
            owner = owners.setdefault(str(address.ip), host.name)
            if owner != host.name:
                yield (
                    f"{host.name}: wg_interface_address {address.ip} is that of {owner} as well: "
                    "write another one"
                )
    for host in hosts:
        own = [address.network for address in _parsed(host)]
        for network, peer in _claims(host):
            its_host = owners.get(str(network.network_address))
            if its_host and network.prefixlen == network.max_prefixlen:
                yield (
                    f"{host.name}: wg_interface_peers gives {network} to {peer}, but it is the address of "
                    f"{its_host}: write another one"
                )
            elif (
                "hub" not in host.groups
                and network.prefixlen < network.max_prefixlen
                and any(_is_within(network, [whole]) for whole in own)
            ):
                yield (
                    f"{host.name}: wg_interface_peers gives {network} to {peer}, but what is in the VPN's "
                    "network goes to the hub: list that peer beside the hub, or give it a network of its own"
                )
    yield from _problems_of_devices(hosts, owners)


def _problems_of_subnets(hosts: Sequence[Host]) -> Iterator[str]:
    """A subnet is behind one peer, and is neither the VPN itself nor what a listed peer has."""
    taken: list[tuple[check.Network, str, str]] = [
        (address.network, "the VPN's network", "")
        for host in hosts
        if "hub" in host.groups
        for address in _parsed(host)
    ]
    taken += [
        (network, f"what wg_interface_peers of {host.name} gives to {peer},", "")
        for host in hosts
        for network, peer in _claims(host)
    ]
    for host in hosts:
        own = [address.network for address in _parsed(host)]
        for subnet in host.subnets:
            for network, what, owner in taken:
                if owner != host.name and network not in own and _overlap(subnet, network):
                    yield (
                        f"{host.name}: wg_interface_subnets {subnet} overlaps {what} {network}: a packet "
                        "can go to one of them only: write another one"
                    )
            taken.append((subnet, f"wg_interface_subnets of {host.name},", host.name))


def _problems_of_devices(hosts: Sequence[Host], owners: Mapping[str, str]) -> Iterator[str]:
    """A new host does not take the address of a device that Ansible does not manage."""
    devices = {
        (str(device.get("name")), bare_address(text))
        for host in hosts
        for device in _listed(host.variables.get("wg_client_config_devices") or [])
        if isinstance(device, Mapping) and device.get("state") != "absent"
        for text in _listed(device.get("address") or [])
    }
    for name, address in sorted(devices):
        if address in owners:
            yield (
                f"{owners[address]}: wg_interface_address {address} is that of the device {name} in "
                "wg_client_config_devices as well: write another one"
            )


def _problems_of_names(hosts: Sequence[Host]) -> Iterator[str]:
    """At the hub a name is one peer's: playbooks remove by name, and people read it."""
    taken = {host.name: "a host of the inventory" for host in hosts}
    for hub in (host for host in hosts if "hub" in host.groups):
        devices = _listed(hub.variables.get("wg_client_config_devices") or [])
        by_key = {key: peer.name or "" for key, peer in peers_in(hub.listed_peers) if peer}
        peers = [("wg_interface_peers", name) for name in by_key.values()]
        peers += [
            ("wg_client_config_devices", str(device.get("name")))
            for device in devices
            if isinstance(device, Mapping) and device.get("state") != "absent"
        ]
        for variable, name in peers:
            if name in taken:
                yield (
                    f"{hub.name}: {variable}: the name {name!r} is that of {taken[name]} as well: write "
                    "another name"
                )
            elif name:
                taken[name] = f"another peer in {variable}"


def bare_address(text: Any) -> str:
    """An address without its prefix, in its one notation; what is none stays as it is."""
    bare = str(text).partition("/")[0]
    try:
        return str(ipaddress.ip_address(bare))
    except ValueError:
        return bare


def _claims(host: Host) -> Iterator[tuple[check.Network, conf.Peer]]:
    """The networks of the listed peers; what cannot be read has been complained about."""
    for _key, peer in peers_in(host.listed_peers):
        for network in peer.allowed_ips if peer else ():
            yield ipaddress.ip_network(network), peer  # type: ignore[misc]  # None has no networks


def peers_in(options: Any) -> Iterator[tuple[str, conf.Peer | None]]:
    """Key and peer of each entry of wg_interface_peers that can be read."""
    for option in _listed(options or []):
        with suppress(ValueError):
            yield _read_peer(option)


def _networks(value: Any) -> Iterator[check.Network]:
    """One or a list, without those that are none."""
    for text in _listed(value or []):
        with suppress(ValueError):
            yield ipaddress.ip_network(str(text))


def _parsed(host: Host) -> Iterator[Interface]:
    """Its addresses; those that are none have been complained about."""
    for text in host.addresses:
        with suppress(ValueError):
            yield ipaddress.ip_interface(check.interface_address(text))


# ---- what one variable may be ----


def _problem(host: Host, checked: Check, value: Any, variable: str) -> Iterable[str]:
    """What has to be there is complained about as missing."""
    if value is None and variable not in ("wg_interface_address", "wg_hub_endpoint"):
        return [f"{host.name}: {variable} is empty: write a value, or remove the line"]
    try:
        checked(value, variable)
    except ValueError as error:
        return [f"{host.name}: {error}"]
    return []


def _listed(value: Any) -> Iterable[Any]:
    return value if isinstance(value, (list, tuple)) else [value]


def _whole(checked: Callable[[int, str], int]) -> Check:
    """A check of a number that the user may have written as text."""

    def check_whole(value: Any, variable: str) -> object:
        text = "" if isinstance(value, bool) else str(value).strip()
        if not text.lstrip("-").isdecimal():
            raise ValueError(f"{variable} {value!r}: write a whole number")
        return checked(int(text), variable)

    return check_whole


def _each(checked: Check) -> Check:
    """A check of every element of a list."""
    return lambda value, variable: [checked(one, variable) for one in _listed(value)]


def _text(checked: Callable[[str, str], object]) -> Check:
    """A check of a text; a number is one as well."""

    def check_text(value: Any, variable: str) -> object:
        if value is None or isinstance(value, (bool, list, tuple, Mapping)):
            raise ValueError(f"{variable} {value!r}: write a text")
        return checked(str(value), variable)

    return check_text


def _list(value: Any, variable: str) -> None:
    """A list, each entry of which is checked by itself. What is in it may be secret."""
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"{variable} is a {_type(value)}: write a list, in an inventory of YAML")


def _type(value: Any) -> str:
    """For people."""
    return (
        "text" if isinstance(value, str) else "dictionary" if isinstance(value, Mapping) else "single value"
    )


def _prefixed(checked: Callable[[str], object]) -> Check:
    """A check whose sentences do not name the variable by themselves."""

    def check_prefixed(value: Any, variable: str) -> object:
        try:
            return checked(str(value))
        except ValueError as error:
            raise ValueError(f"{variable}: {error}") from None

    return check_prefixed


def _optional(checked: Check) -> Check:
    """A check of what may be empty."""
    return lambda value, variable: checked(value, variable) if value not in (None, "") else None


def _as_it_is(text: str, _variable: str) -> str:
    """For names, which are right if there is such a thing."""
    return text


def _anything(value: Any, variable: str) -> None:
    """For variables of which only the meaning can be wrong."""


def _mesh_secret(value: Any, variable: str) -> object:
    """One, or a list with the newest first. What is wrong is said without it."""
    try:
        return mesh_secret.check_secrets(map(str, _listed(value)))
    except ValueError as error:
        raise ValueError(f"{variable}: {error}; write what `wg genpsk` prints") from None


def _interval_s(value: Any, variable: str) -> object:
    """As the agent takes it."""
    try:
        seconds = 0.0 if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        seconds = 0.0
    if not 0.5 <= seconds <= 3600:
        raise ValueError(f"{variable} {value!r}: write a number of seconds from 0.5 to 3600")
    return seconds


def _age_s(value: Any, variable: str) -> object:
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise ValueError(f"{variable} {value!r}: write a number of seconds, 0 for keys of any age")
    return seconds


def _host_name(value: Any, variable: str) -> object:
    """One line of a file, and one of a list of names."""
    if "," in str(value):
        raise ValueError(
            f"{variable} {value!r}: write one without a comma, which stands between names in --limit and "
            "wg_hub_remove_peers"
        )
    return check.conf_text(str(value), variable)


def _table(value: Any, variable: str) -> object:
    """YAML reads `off` as false, which wg-quick does not take."""
    if isinstance(value, bool):
        raise ValueError(f"{variable} {value!r}: write 'off' in quotation marks, auto, or a number")
    return _text(check.table)(value, variable)


def _boolean(value: Any, variable: str) -> object:
    """An INI inventory has no booleans but True and False: anything else is text there."""
    try:
        return boolean(value)
    except TypeError:
        raise ValueError(f"{variable} {value!r}: write true or false") from None


def _is_true(value: Any) -> bool:
    """Whether it is one, and a true one."""
    return bool(boolean(value, strict=False))


def _subnet(value: Any, variable: str) -> object:
    """WireGuard would take a single address from the hub peer when a direct peer gets it, and it could not
    fall back. All there is cannot be behind one peer.
    """
    network = ipaddress.ip_network(check.allowed_ip(str(value), variable))
    if network.num_addresses == 1:
        wider = network.supernet()
        raise ValueError(f"{variable} {network} is a single address: write a subnet, {wider} or wider")
    if network.prefixlen == 0:
        raise ValueError(
            f"{variable} {network} is everything: write the subnets behind this host; "
            "to send everything through the hub, write wg_peer_hub_networks: [0.0.0.0/0]"
        )
    return network


def _firewall(value: Any, variable: str) -> object:
    if value not in FIREWALLS:
        raise ValueError(f"{variable} {value!r}: write one of {', '.join(FIREWALLS)}")
    return value


def _hub_url(value: Any, variable: str) -> object:
    """As the agent takes it. Without a host it is that of a hub without an address, of which that is said."""
    text = str(value)
    host, port = text.removeprefix("http://").removesuffix("/").rpartition(":")[::2]
    if text.startswith("http://:"):
        return text
    with suppress(ValueError):
        ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
        if text.startswith("http://") and port.isdecimal() and (":" in host) == host.startswith("["):
            return check.port(int(port), variable)
    raise ValueError(
        f"{variable} {text!r}: write the hub's address inside the VPN and its port, such as "
        "http://192.168.7.1:8080"
    )


def _refresh(value: Any, variable: str) -> object:
    """YAML reads `off` as false."""
    if value is not False and value not in REFRESH:
        raise ValueError(f"{variable} {value!r}: write one of {', '.join(REFRESH)}")
    return value


VARIABLES: Mapping[str, Check] = {
    "wg_interface_name": _prefixed(check.interface_name),
    "wg_interface_address": _optional(_each(_prefixed(check.interface_address))),
    "wg_interface_listen_port": _whole(check.port),
    "wg_interface_mtu": _whole(check.mtu),
    "wg_interface_fwmark": _whole(check.fwmark),
    "wg_interface_table": _table,
    "wg_interface_pre_up": _each(_text(check.conf_text)),
    "wg_interface_post_up": _each(_text(check.conf_text)),
    "wg_interface_pre_down": _each(_text(check.conf_text)),
    "wg_interface_post_down": _each(_text(check.conf_text)),
    "wg_interface_mesh_secret": _mesh_secret,
    "wg_interface_peers": _list,
    "wg_client_config_devices": _anything,  # here, only whose addresses they have
    "wg_interface_peers_exclusive": _boolean,
    "wg_interface_install": _boolean,
    "wg_interface_firewall": _firewall,
    "wg_interface_tcp_ports": _each(_whole(check.port)),
    "wg_interface_udp_ports": _each(_whole(check.port)),
    "wg_interface_relay": _boolean,
    "wg_interface_subnets": _each(_subnet),
    "wg_interface_forget_key": _boolean,
    "wg_hub_endpoint": _optional(_text(check.endpoint)),
    "wg_hub_listen_port": _optional(_whole(check.port)),
    "wg_hub_former_ports": _each(_whole(check.port)),
    "wg_hub_port": _whole(check.port),
    "wg_hub_masquerade": _boolean,
    "wg_hub_remove_peers": _anything,  # the module knows whom there is
    "wg_hub_rotate_without": _anything,  # who cannot be told is known when all have been asked
    "wg_hub_rotate_min_age_s": _age_s,
    "wg_peer_hub": _optional(_text(_as_it_is)),
    "wg_peer_hub_interface": _prefixed(check.interface_name),
    "wg_peer_hub_endpoint": _optional(_text(check.endpoint)),
    "wg_peer_hub_url": _hub_url,
    "wg_peer_hub_networks": _each(_text(check.allowed_ip)),
    "wg_peer_interval_s": _interval_s,
    "wg_peer_refresh": _refresh,
    "wg_peer_port": _whole(check.port),
    "wg_peer_persistent_keepalive_s": _whole(check.persistent_keepalive_s),
    "wg_peer_rotate_min_age_s": _age_s,
}
"""What the user may write, and what each value has to be."""

SECRETS = frozenset({"wg_interface_mesh_secret", "wg_interface_peers", "wg_client_config_devices"})
"""Those that may have keys in them."""

OURS = re.compile(r"wg_(interface|hub|peer|client_config)_(?!_)")
"""Names that are the roles' by Ansible's convention; what has two underscores there is internal."""

KNOWN = frozenset(VARIABLES) | {
    "wg_interface_uninstall_all",
    "wg_peer_rotate_serial",
    "wg_client_config_directory",
    "wg_client_config_hub",
    "wg_client_config_hub_endpoint",
    "wg_client_config_hub_interface",
    "wg_client_config_hub_url",
    "wg_client_config_linux_agent_start",
    "wg_client_config_linux_agent_stop",
    "wg_client_config_networks",
    "wg_client_config_persistent_keepalive_s",
    "wg_client_config_qr",
    "wg_client_config_qr_terminal",
    "wg_client_config_regenerate",
    "wg_client_config_reissue",
    "wg_client_config_windows_agent_start",
    "wg_client_config_windows_agent_stop",
}
"""Those, and what playbooks and the role wg_client_config use and check by themselves."""
