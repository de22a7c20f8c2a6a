# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What firewalld and ufw have to be told for one interface. Pure: what they say in, commands out.

`before` are the openings of the last run, by the node's own record: what they needed and nobody needs any
more is closed again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from ansible_collections.rendezvous.wireguard.plugins.module_utils._firewall import Openings

Command = list[str]
Zone = Mapping[str, Sequence[str]]
"""What a zone has, by the words of `firewall-cmd --list-all-zones`: {"ports": ["8080/tcp"], ...}."""
Zones = Mapping[str, Zone]

ZONE_NAME_MAX = 17
"""firewalld derives the names of chains from that of a zone."""
COPIED = ("service", "port", "protocol")
"""What a new zone takes over from the default zone, where the interface has been so far."""


# ---- firewalld ----


@dataclass(frozen=True)
class Firewalld:
    """What firewalld says of itself, the tunnel's interface, and those with a default route."""

    interface: str
    permanent: Zones
    runtime: Zones
    default_zone: str
    uplinks: tuple[str, ...] = ()
    others: tuple[Openings, ...] = ()
    """Of the node's other interfaces: they may be in the same zones."""


def read_zones(listing: str) -> dict[str, dict[str, list[str]]]:
    """The output of `firewall-cmd --list-all-zones`, rich rules left out."""
    zones: dict[str, dict[str, list[str]]] = {}
    zone: dict[str, list[str]] = {}
    for line in listing.splitlines():
        if line and not line[0].isspace():
            zone = zones.setdefault(line.split()[0], {})
        elif line.startswith("  "):
            name, _colon, values = line.strip().partition(":")
            zone[name] = values.split()
    return zones


def own_zone(interface: str) -> str:
    """The name of the zone that is made for an interface."""
    name = "".join(c if c.isalnum() or c in "_-" else "_" for c in interface)
    return f"wireguard-{name}" if len(f"wireguard-{name}") <= ZONE_NAME_MAX else name


def zone_of(zones: Zones, interface: str) -> str | None:
    """The zone that names the interface."""
    return next((name for name, zone in zones.items() if interface in zone.get("interfaces", ())), None)


def inside_zone(state: Firewalld) -> str:
    """The zone of the tunnel: the one that the user has put it into, else our own.

    While it runs, an interface can be in the default zone without anybody's decision.
    """
    chosen = zone_of(state.permanent, state.interface)
    if chosen:
        return chosen
    running = zone_of(state.runtime, state.interface)
    return running if running and running != state.default_zone else own_zone(state.interface)


def wanted_items(openings: Openings, state: Firewalld) -> dict[str, list[str]]:
    """What has to be in which zone, in the words of `--add-...`."""
    inside = inside_zone(state)
    items = [f"port={port}/{protocol}" for protocol, port in openings.inside()]
    if inside == own_zone(state.interface):
        items.append(f"interface={state.interface}")
    if openings.relay:
        items.append("forward")  # between the interfaces of the zone: from a peer to a peer
    wanted = {inside: items}
    if openings.listen_port:
        for zone in outside_zones(state):
            ports = (openings.listen_port, *openings.former_ports)
            wanted.setdefault(zone, []).extend(f"port={port}/udp" for port in ports)
    return wanted


def outside_zones(state: Firewalld) -> list[str]:
    """Where peers' packets come from: the default zone, and those of the interfaces with a default route."""
    uplinks = (zone_of(state.runtime, name) for name in state.uplinks)
    return list(dict.fromkeys([state.default_zone, *filter(None, uplinks)]))


def has(zone: Zone, item: str) -> bool:
    """Is it there already, for a port also as part of a range?"""
    kind, _equals, value = item.partition("=")
    if not value:
        return list(zone.get(kind, ())) == ["yes"]
    there = zone.get(kind + "s", ())
    return value in there or (kind == "port" and any(_in_range(value, known) for known in there))


def _in_range(port: str, known: str) -> bool:
    match = re.fullmatch(r"(\d+)-(\d+)/(\w+)", known)
    number, _slash, protocol = port.partition("/")
    return bool(match and protocol == match[3] and int(match[1]) <= int(number) <= int(match[2]))


def permanent_commands(state: Firewalld, openings: Openings | None, before: Openings | None) -> list[Command]:
    """What its configuration lacks, and what it has of an earlier run; `openings` None: nothing is wanted."""
    start = ["firewall-cmd", "--quiet", "--permanent"]
    wanted = wanted_items(openings, state) if openings else {}
    stale = _stale(state, wanted, before)
    own = own_zone(state.interface)
    commands: list[Command] = []
    if own in wanted and own not in state.permanent:
        commands.append([*start, f"--new-zone={own}"])
        wanted[own] = list(dict.fromkeys([*wanted[own], *_copied(state)]))
    if own in state.permanent and own not in wanted:
        commands.append([*start, f"--delete-zone={own}"])
        stale.pop(own, None)
    return commands + [[*start, *words] for words in _differences(state.permanent, wanted, stale)]


def needs_reload(state: Firewalld, openings: Openings | None) -> bool:
    """Only a reload makes or removes a running zone; it drops what others changed at run time only."""
    own = own_zone(state.interface)
    return (own in state.runtime) != (openings is not None and own in wanted_items(openings, state))


def runtime_commands(state: Firewalld, openings: Openings | None, before: Openings | None) -> list[Command]:
    """What the running firewall lacks, and has too much; for after the reload, if one was needed."""
    wanted = wanted_items(openings, state) if openings else {}
    commands = _differences(state.runtime, wanted, _stale(state, wanted, before))
    return [["firewall-cmd", "--quiet", *words] for words in commands]


def _copied(state: Firewalld) -> list[str]:
    """Who came through the tunnel to this node, by SSH for instance, still does."""
    default = state.permanent.get(state.default_zone, {})
    return [f"{kind}={value}" for kind in COPIED for value in default.get(kind + "s", ())]


def _stale(
    state: Firewalld, wanted: Mapping[str, Iterable[str]], before: Openings | None
) -> dict[str, list[str]]:
    """What was opened by us and is not wanted any more, by another interface of the node either."""
    known = wanted_items(before, state) if before else {}
    used = [
        wanted,
        *(wanted_items(other, replace(state, interface=other.interface)) for other in state.others),
    ]
    return {
        zone: [
            item
            for item in items
            if item.startswith("port=") and not any(item in one.get(zone, ()) for one in used)
        ]
        for zone, items in known.items()
    }


def _differences(
    zones: Zones, wanted: Mapping[str, Sequence[str]], stale: Mapping[str, Sequence[str]]
) -> list[Command]:
    commands = [
        [f"--zone={zone}", f"--{_adding(item)}-{item}"]
        for zone, items in wanted.items()
        for item in items
        if not has(zones.get(zone, {}), item)
    ]
    commands += [
        [f"--zone={zone}", f"--remove-{item}"]
        for zone, items in stale.items()
        for item in items
        if item.partition("=")[2] in zones.get(zone, {}).get("ports", ())
    ]
    return commands


def _adding(item: str) -> str:
    """An interface can be in another zone, which `--add-` refuses."""
    return "change" if item.startswith("interface=") else "add"


# ---- ufw ----


def ufw_rules(openings: Openings) -> list[str]:
    """The rules that have to be there, in the words of `ufw show added`.

    Those for `out` matter under `ufw default deny outgoing`. A peer's port may change, so only a rule for all
    UDP would let its WireGuard out: that one is the user's to add, and the preflight names it.
    """
    name, inside = openings.interface, openings.inside()
    rules = [f"allow in on {name} to any port {port} proto {protocol}" for protocol, port in inside]
    rules += [
        f"allow out on {name} proto {protocol}" for protocol in dict.fromkeys(it for it, _port in inside)
    ]
    if openings.listen_port:
        for port in (openings.listen_port, *openings.former_ports):
            rules += [f"allow {port}/udp", f"allow out from any port {port} proto udp"]
    if openings.relay:
        rules.append(f"route allow in on {name} out on {name}")
    for subnet in openings.subnets:
        rules += [f"route allow in on {name} to {subnet}", f"route allow out on {name} from {subnet}"]
    if openings.masquerade:
        rules.append(f"route allow in on {name}")
    return rules


def ufw_commands(interface: str, openings: Openings | None, added: str) -> list[Command]:
    """What is missing from `ufw show added`, and what is in it with our comment and not wanted any more."""
    comment = f"rendezvous.wireguard {interface}"
    rules = ufw_rules(openings) if openings else []
    there: dict[str, str] = {}
    for line in added.splitlines():
        rule, _comment, text = line.strip().partition(" comment ")
        if rule.startswith("ufw "):
            there[rule[len("ufw ") :]] = text.strip("'")
    commands = [["ufw", *rule.split(), "comment", comment] for rule in rules if rule not in there]
    gone = [rule for rule, text in there.items() if text == comment and rule not in rules]
    return commands + [_deleting(rule) for rule in gone]


def _deleting(rule: str) -> Command:
    """`ufw delete allow ...`, but `ufw route delete allow ...`."""
    words = rule.split()
    return ["ufw", "route", "delete", *words[1:]] if words[0] == "route" else ["ufw", "delete", *words]
