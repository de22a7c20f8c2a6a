# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a tunnel needs of the node's netfilter and sysctls: found out, put there, taken away.

On the hub, packets between peers are not tracked (DESIGN fact 16), in our own table, `inet rendezvous_IF`.
An accept in that table would not override a drop in another one (DESIGN fact 17). So every other table is
asked whether it would let the tunnel's packets through, and if one of its base chains would not, an accept
rule, marked by its comment, is put at that chain's head.

The module `firewall` uses this file, and also copies it to the node, as the program that the unit
`wg-rendezvous-firewall@IF.service` runs: at boot, and whenever nftables.service has flushed everything.
Therefore it needs the standard library only.
"""

from __future__ import annotations

import fnmatch
import glob
import ipaddress
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

CONFIG = "/etc/wg-rendezvous/{interface}.firewall.json"
SYSCTL_FILE = "/etc/sysctl.d/60-wg-rendezvous-{interface}.conf"
IPV6_ROUTES = "/proc/net/ipv6_route"
MAX_JUMPS = 32
IPTABLES_TABLES = ("filter", "nat", "mangle", "raw", "security")
IN = ("prerouting", "input")
OUT = ("output", "postrouting")
"""The hooks that a packet to this node passes, and one from it."""

INTERFACES = ("meta iifname", "meta iif", "meta oifname", "meta oif")


@dataclass(frozen=True)
class Openings:
    """What the firewall has to let through for one interface."""

    interface: str
    addresses: tuple[str, ...]
    """The interface's own, with the prefix of their networks."""
    listen_port: int | None = None
    """UDP, from anywhere; None where the port may change, since only answers come in there."""
    tcp_ports: tuple[int, ...] = ()
    """From the interface only."""
    relay: bool = False
    """Packets go from one peer to another through this node."""
    backend: str = "nftables"
    """Who keeps rules on this node: firewalld, ufw, nftables (nobody but nft), none (leave all alone)."""
    udp_ports: tuple[int, ...] = ()
    """From the interface only."""
    subnets: tuple[str, ...] = ()
    """Networks behind this node that the tunnel's packets go to and come from."""
    masquerade: bool = False
    """The peers' packets to the rest of the world leave with this node's address."""
    former_ports: tuple[int, ...] = ()
    """UDP, where WireGuard listened before: who still sends there is answered from there."""

    @classmethod
    def from_json(cls, text: str) -> Openings:
        """Read what `to_json` wrote."""
        values = json.loads(text)
        values["addresses"] = tuple(values["addresses"])
        values["tcp_ports"] = tuple(values["tcp_ports"])
        for name in ("udp_ports", "former_ports", "subnets"):  # an older record has none
            values[name] = tuple(values.get(name, ()))
        return cls(**values)

    @classmethod
    def recorded(cls, path: str) -> Openings | None:
        """What the last run opened; None if there was none, or its record cannot be read."""
        try:
            with open(path, encoding="utf-8") as file:
                return cls.from_json(file.read())
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def inside(self) -> list[tuple[str, int]]:
        """(protocol, port) of what is accepted from the interface only."""
        return [("tcp", port) for port in self.tcp_ports] + [("udp", port) for port in self.udp_ports]

    def to_json(self) -> str:
        """The text of the node's own record, CONFIG."""
        return json.dumps(asdict(self), indent=2) + "\n"


def of_others(interface: str, pattern: str = CONFIG) -> list[Openings]:
    """What the last runs opened for the node's other interfaces."""
    own = pattern.format(interface=interface)
    paths = sorted(glob.glob(pattern.format(interface="*")))
    records = (Openings.recorded(path) for path in paths if path != own)
    return [openings for openings in records if openings is not None]


@dataclass(frozen=True)
class Outside:
    """Any interface but lo and the tunnel: which one, the routes decide."""

    tunnel: str

    def may_be(self, equals: Callable[[str], bool]) -> bool:
        """Could it be one that a condition is for?"""
        return not (equals("lo") or equals(self.tunnel))


@dataclass(frozen=True)
class Packet:
    """The first packet of a flow that has to pass, and the rule that lets it, for nft and for iptables."""

    hooks: tuple[str, ...]
    fields: Mapping[str, Any]
    nft: str
    iptables: str
    what: str
    ufw: str = ""
    """The same for ufw, where it is named only."""
    ours: bool = True
    """Do we add the rule? Not if it would let through more than the tunnel's own; then it is named only."""
    version: int | None = None
    """Of the Internet Protocol; None for both."""

    @property
    def trusting(self) -> bool:
        """Is an accept believed whose conditions cannot be decided here, such as an interface?"""
        return not self.ours or self.hooks == OUT


@dataclass(frozen=True)
class Rule:
    """A rule in the base chain of somebody else's table; `handle` None: it has yet to be inserted."""

    family: str
    table: str
    chain: str
    text: str
    handle: int | None = None

    def __str__(self) -> str:
        return f"{self.family} {self.table} {self.chain} {self.text}"


@dataclass(frozen=True)
class Plan:
    """What has to be done for the packets to pass: all empty, nothing."""

    insert: tuple[Rule, ...] = ()
    delete: tuple[Rule, ...] = ()
    own_table: str | None = None
    """nft commands that make or remove the own table; None if it is as wanted."""
    former_ports: str | None = None
    """The same of the table for former ports."""

    def __bool__(self) -> bool:
        return bool(self.insert or self.delete or self.own_table or self.former_ports)

    def commands(self) -> str:
        """The plan as input of `nft -f`, which does all of it or nothing."""
        lines = [f"delete rule {r.family} {r.table} {r.chain} handle {r.handle}" for r in self.delete]
        lines += [f"insert rule {rule}" for rule in self.insert]
        return "\n".join([*lines, self.own_table or "", self.former_ports or ""]) + "\n"


def packets(openings: Openings) -> list[Packet]:
    """The packets that have to pass, one for every opening."""
    found = _of_wireguard(openings)
    inside = openings.inside()
    found += [_to_service(openings.interface, protocol, port) for protocol, port in inside]
    for protocol in dict.fromkeys(protocol for protocol, _port in inside):
        found.append(_to_services_of_others(openings.interface, protocol))
    found += _between_peers(openings.interface) if openings.relay else []
    for subnet in openings.subnets:
        found += _behind_this_node(openings.interface, ipaddress.ip_network(subnet))
    return found + (_to_the_world(openings.interface) if openings.masquerade else [])


def _of_wireguard(openings: Openings) -> list[Packet]:
    """The encrypted ones, which go over any interface. Without a port of their own they look like any UDP."""
    somewhere = dict.fromkeys(INTERFACES, Outside(openings.interface))
    fields: dict[str, Any] = {"meta l4proto": "udp", "ct state": "new"}
    if openings.listen_port:
        # The former ones too: they are in use until the very moment of the change.
        ports = (openings.listen_port, *openings.former_ports)
        return [packet for port in ports for packet in _of_port(port, fields, somewhere)]
    answers = {**fields, **somewhere, "ct state": "established"}
    established = "-p udp -m conntrack --ctstate ESTABLISHED -j ACCEPT"
    return [
        Packet(
            IN,
            answers,
            "meta l4proto udp ct state established accept",
            established,
            "answers to WireGuard",
            ours=False,
        ),
        Packet(
            OUT,
            {**fields, **somewhere},
            "meta l4proto udp accept",
            "-p udp -j ACCEPT",
            "what WireGuard sends, UDP from any port",
            ufw="allow out to any proto udp",
            ours=False,
        ),
    ]


def _of_port(port: int, fields: Mapping[str, Any], somewhere: Mapping[str, Any]) -> list[Packet]:
    to_us = {**fields, "udp dport": port, "th dport": port}
    from_us = {**fields, "udp sport": port, "th sport": port}
    return [
        Packet(IN, to_us, f"udp dport {port} accept", f"-p udp --dport {port} -j ACCEPT", f"udp/{port}"),
        Packet(
            OUT,
            {**from_us, **somewhere},
            f"udp sport {port} accept",
            f"-p udp --sport {port} -j ACCEPT",
            f"udp from port {port}",
        ),
    ]


def _to_service(name: str, protocol: str, port: int) -> Packet:
    fields = {"meta l4proto": protocol, f"{protocol} dport": port, "th dport": port, "ct state": "new"}
    return Packet(
        IN,
        {**fields, "meta iifname": name, "meta iif": name},
        f'iifname "{name}" {protocol} dport {port} accept',
        f"-i {name} -p {protocol} --dport {port} -j ACCEPT",
        f"{protocol}/{port} from {name}",
    )


def _to_services_of_others(name: str, protocol: str) -> Packet:
    """An agent asks the hub and the other agents, whose ports may be others."""
    fields = {"meta l4proto": protocol, "ct state": "new", "meta oifname": name, "meta oif": name}
    nft, iptables = f'oifname "{name}" meta l4proto {protocol} accept', f"-o {name} -p {protocol} -j ACCEPT"
    return Packet(OUT, fields, nft, iptables, f"{protocol} to {name}")


def _between_peers(name: str) -> list[Packet]:
    """What is relayed. Only the hook forward knows both interfaces."""
    source, destination = {"meta iifname": name, "meta iif": name}, {"meta oifname": name, "meta oif": name}
    untracked = {"ct state": "untracked"}
    to_itself = f'iifname "{name}" oifname "{name}" accept'
    return [
        Packet(
            ("prerouting",),
            {**untracked, **source},
            f'iifname "{name}" accept',
            "",
            f"what comes from {name}",
        ),
        Packet(
            ("forward",),
            {**untracked, **source, **destination},
            to_itself,
            f"-i {name} -o {name} -j ACCEPT",
            f"from {name} to {name}",
        ),
        Packet(
            ("postrouting",),
            {**untracked, **source, **destination},
            f'oifname "{name}" accept',
            "",
            f"what goes to {name}",
        ),
    ]


def _behind_this_node(name: str, subnet: ipaddress.IPv4Network | ipaddress.IPv6Network) -> list[Packet]:
    """To a subnet and from there, whichever interface it is behind."""
    version, family = subnet.version, "ip6" if subnet.version == 6 else "ip"
    new, elsewhere = {"ct state": "new"}, Outside(name)
    inwards = {"meta iifname": name, "meta iif": name, "meta oifname": elsewhere, "meta oif": elsewhere}
    outwards = {"meta iifname": elsewhere, "meta iif": elsewhere, "meta oifname": name, "meta oif": name}
    return [
        Packet(
            ("forward",),
            {**new, **inwards},
            f'iifname "{name}" {family} daddr {subnet} accept',
            f"-i {name} -d {subnet} -j ACCEPT",
            f"from {name} to {subnet}",
            version=version,
        ),
        Packet(
            ("forward",),
            {**new, **outwards},
            f'oifname "{name}" {family} saddr {subnet} accept',
            f"-o {name} -s {subnet} -j ACCEPT",
            f"from {subnet} to {name}",
            version=version,
        ),
    ]


def _to_the_world(name: str) -> list[Packet]:
    """From a peer to anywhere, and the answers."""
    elsewhere = Outside(name)
    there = {"meta iifname": name, "meta iif": name, "meta oifname": elsewhere, "meta oif": elsewhere}
    back = {"meta iifname": elsewhere, "meta iif": elsewhere, "meta oifname": name, "meta oif": name}
    return [
        Packet(
            ("forward",),
            {"ct state": "new", **there},
            f'iifname "{name}" accept',
            f"-i {name} -j ACCEPT",
            f"from {name} to anywhere",
        ),
        Packet(
            ("forward",),
            {"ct state": "established", **back},
            f'oifname "{name}" ct state established,related accept',
            f"-o {name} -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT",
            f"answers to {name}",
        ),
    ]


# ---- would somebody else's chain drop it? ----


class Ruleset:
    """`nft -j list ruleset` (libnftables-json(5)), asked about packets."""

    def __init__(self, listing: Mapping[str, Any]) -> None:
        self.chains: list[Mapping[str, Any]] = []
        self.rules: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
        self.tables: list[tuple[str, str]] = []
        self.sets: dict[tuple[str, str, str], Mapping[str, Any]] = {}
        for item in listing.get("nftables", []):
            if "table" in item:
                self.tables.append((item["table"]["family"], item["table"]["name"]))
            elif "set" in item:
                self.sets[item["set"]["family"], item["set"]["table"], item["set"]["name"]] = item["set"]
            elif "chain" in item:
                self.chains.append(item["chain"])
            elif "rule" in item:
                rule = item["rule"]
                self.rules.setdefault((rule["family"], rule["table"], rule["chain"]), []).append(rule)

    def base_chains(self, hook: str, families: Sequence[str]) -> Iterator[Mapping[str, Any]]:
        """The filter chains at a hook, iptables' own ones left out."""
        for chain in self.chains:
            at_hook = chain.get("type") == "filter" and chain.get("hook") == hook
            if at_hook and chain["family"] in families and not is_iptables(chain):
                yield chain

    def drops(self, chain: Mapping[str, Any], packet: Packet, ignore: str) -> bool:
        """Would this base chain drop the packet, leaving out the rules whose comment begins with `ignore`?

        A condition that cannot be decided here (a set, a limit, an address) counts as not met: such rules are
        for others' packets, and an accept that depends on one is none that can be relied on. It is believed
        where a drop would only be named, or the packet takes a way that is not known here.
        """
        verdict = self._verdict(chain, chain["name"], packet, ignore, 0)
        return (verdict or chain.get("policy", "accept")) == "drop"

    def marked(self, comment: str) -> Iterator[Mapping[str, Any]]:
        """The rules whose comment begins so."""
        for rules in self.rules.values():
            for rule in rules:
                if str(rule.get("comment", "")).startswith(comment):
                    yield rule

    def _verdict(
        self, base: Mapping[str, Any], chain: str, packet: Packet, ignore: str, depth: int
    ) -> str | None:
        """accept, drop, or None where the chain's end is reached."""
        rules = self.rules.get((base["family"], base["table"], chain), []) if depth < MAX_JUMPS else []
        for rule in rules:
            if str(rule.get("comment", "")).startswith(ignore):
                continue
            kind, target, certain = _outcome(rule.get("expr", []), packet.fields)
            if not kind or not (certain or packet.trusting):
                continue
            verdict: str | None = kind
            if kind in ("jump", "goto"):
                verdict = self._verdict(base, target, packet, ignore, depth + 1)
                if verdict is None and kind == "jump":
                    continue
            if certain or verdict == "accept":
                return None if verdict == "return" else verdict
        return None


def is_iptables(chain: Mapping[str, Any]) -> bool:
    """Does the chain belong to iptables-nft, which would be confused by rules that are not its own?"""
    return chain["table"] in IPTABLES_TABLES and str(chain["name"]).isupper()


Outcome = tuple[str, str, bool]
"""A verdict or "", where it leads, and whether all of its conditions could be decided."""

NO_VERDICT: Outcome = ("", "", True)


def _outcome(expressions: Sequence[Mapping[str, Any]], fields: Mapping[str, Any]) -> Outcome:
    """What one rule does with this packet."""
    certain = True
    for expression in expressions:
        for name, value in expression.items():
            if name == "match":
                met = _matches(value, fields)
                if met is False:
                    return NO_VERDICT
                certain = certain and met is True
            elif name == "vmap":
                return _mapped(value, fields)
            elif name in ("accept", "return"):
                return name, "", certain
            elif name in ("drop", "reject"):
                return "drop", "", certain
            elif name in ("jump", "goto"):
                return name, value["target"], certain
            elif name not in ("counter", "log", "mangle"):
                certain = False
    return NO_VERDICT


def _mapped(vmap: Mapping[str, Any], fields: Mapping[str, Any]) -> Outcome:
    data = vmap["data"]
    if isinstance(data, Mapping):
        for element, verdict in data.get("set", []):
            if _matches({"op": "==", "left": vmap["key"], "right": element}, fields):
                return _outcome([verdict], fields)
    return NO_VERDICT


def _matches(match: Mapping[str, Any], fields: Mapping[str, Any]) -> bool | None:
    """None if it cannot be decided."""
    known, actual = _field(match["left"], fields)
    if not known or str(match["right"]).startswith("@"):
        return None
    equal = _is_one_of(match["right"], actual)
    return not equal if match["op"] == "!=" and equal is not None else equal


def _field(left: Any, fields: Mapping[str, Any]) -> tuple[bool, Any]:
    """Is the field decided for our packets, and its value; interfaces always are, if only as "another"."""
    if not isinstance(left, Mapping):
        return False, None
    if "meta" in left:
        name = "meta {}".format(left["meta"]["key"])
    elif "ct" in left:
        name = "ct {}".format(left["ct"]["key"])
    elif "payload" in left:
        name = "{} {}".format(left["payload"].get("protocol"), left["payload"].get("field"))
    else:
        return False, None
    return name in fields or name in INTERFACES, fields.get(name)


def _is_one_of(right: Any, actual: Any) -> bool | None:
    if not isinstance(actual, Outside):
        return _equals(right, actual)
    names = right["set"] if isinstance(right, Mapping) and "set" in right else [right]
    possible = [name for name in names if actual.may_be(partial(_equals, name))]
    return None if possible else False


def _equals(right: Any, actual: Any) -> bool:
    if isinstance(right, Mapping):
        if "set" in right:
            return any(_equals(one, actual) for one in right["set"])
        if "range" in right and isinstance(actual, int):
            low, high = right["range"]
            return bool(isinstance(low, int) and isinstance(high, int) and low <= actual <= high)
        return False
    if isinstance(right, (list, tuple)):
        return any(_equals(one, actual) for one in right)
    if isinstance(right, str) and isinstance(actual, str):
        return fnmatch.fnmatchcase(actual, right.replace("[", "[[]"))
    return bool(right == actual)


# ---- iptables, whose rules are only looked at ----


def iptables_drops(rules: str, chain: str, packet: Packet) -> bool:
    """Would this chain drop the packet, by the text of `iptables -S`? As in Ruleset.drops."""
    policies: dict[str, str] = {}
    chains: dict[str, list[list[str]]] = {}
    for line in rules.splitlines():
        words = line.split()
        if words[:1] == ["-P"]:
            policies[words[1]] = words[2]
        elif words[:1] == ["-A"]:
            chains.setdefault(words[1], []).append(words[2:])
    return (_iptables_verdict(chains, chain, packet, 0) or policies.get(chain, "ACCEPT")) == "DROP"


def _iptables_verdict(
    chains: Mapping[str, Sequence[Sequence[str]]], chain: str, packet: Packet, depth: int
) -> str | None:
    for words in chains.get(chain, []) if depth < MAX_JUMPS else []:
        action, target, certain = _iptables_target(words, packet.fields)
        if not action or not (certain or packet.trusting):
            continue
        verdict: str | None = "DROP" if target == "REJECT" else target
        if target in chains:
            verdict = _iptables_verdict(chains, target, packet, depth + 1)
            if verdict is None and action == "-j":
                continue
        elif target not in ("ACCEPT", "DROP", "REJECT", "RETURN"):
            continue
        if certain or verdict == "ACCEPT":
            return None if verdict == "RETURN" else verdict
    return None


def _iptables_target(words: Sequence[str], fields: Mapping[str, Any]) -> Outcome:
    """The rule's jump (-j) or goto (-g) and its target; no verdict if the packet does not match."""
    position, negated, certain = 0, False, True
    while position < len(words):
        word = words[position]
        value = words[position + 1] if position + 1 < len(words) else ""
        if word in ("-j", "-g"):
            return word, value, certain
        if word == "!":
            negated, position = True, position + 1
            continue
        if word == "-m":
            position += 2
            continue
        if word == "--comment":
            position = _after_comment(words, position + 1)
            continue
        met = _iptables_met(word, value, fields)
        if met is None:
            certain, negated, position = False, False, position + 1
            continue
        if met == negated:
            return NO_VERDICT
        position, negated = position + 2, False
    return NO_VERDICT


def _after_comment(words: Sequence[str], position: int) -> int:
    """Where a comment that begins here has ended: it is in quotation marks if it has more than one word."""
    if words[position].startswith('"'):
        while not words[position].endswith('"') or words[position] == '"':
            position += 1
    return position + 1


def _iptables_met(word: str, value: str, fields: Mapping[str, Any]) -> bool | None:
    """Is one condition met? None if it cannot be decided; an interface that is not ours is "another"."""
    names = {"-i": "meta iifname", "-o": "meta oifname", "-p": "meta l4proto"}
    names.update({"--dport": "th dport", "--sport": "th sport"})
    if word in ("--ctstate", "--state"):
        return str(fields["ct state"]).upper() in value.split(",")
    if word not in names:
        return None
    actual = fields.get(names[word])
    if isinstance(actual, Outside):
        return None if actual.may_be(partial(_iptables_equals, value)) else False
    if actual is None and word in ("--dport", "--sport"):
        return None
    return actual is not None and _iptables_equals(value, actual)


def _iptables_equals(value: str, actual: Any) -> bool:
    low, colon, high = value.partition(":")
    if isinstance(actual, int):
        return low.isdecimal() and int(low) <= actual <= int(high if colon and high.isdecimal() else low)
    return actual == value or (value.endswith("+") and str(actual).startswith(value[:-1]))


def unmanageable(openings: Openings, saved: Mapping[str, str], ruleset: Ruleset) -> list[str]:
    """What is dropped by rules that we leave alone, each with the rule to add.

    `saved`: command name ("iptables", "iptables-legacy") to the output of its `-S`. Where ufw writes these
    rules, it is told what it can be told.
    """
    problems = []
    by_ufw = openings.backend == "ufw"
    for packet in packets(openings):
        for command, rules in saved.items() if not (by_ufw and packet.ours) else ():
            for chain in (hook.upper() for hook in packet.hooks if packet.version != 6):
                if iptables_drops(rules, chain, packet):
                    add = f"{command} -I {chain} {packet.iptables}"
                    rule = f"ufw {packet.ufw}" if by_ufw and packet.ufw else add
                    problems.append(f"the {chain} chain of {command} drops {packet.what}: add `{rule}`")
        if not packet.ours:
            for base in _dropping_chains(ruleset, openings, packet):
                place = "{family} {table} {name}".format(**base)
                rule = f"nft insert rule {place} {packet.nft}"
                problems.append(f"the chain {place} of nftables drops {packet.what}: add `{rule}`")
    return problems


# ---- what to do about it ----


def families(openings: Openings) -> tuple[str, ...]:
    """The nft families whose chains see the tunnel's packets."""
    six = any(ipaddress.ip_interface(address).version == 6 for address in openings.addresses)
    return ("inet", "ip", "ip6") if six else ("inet", "ip")


def mark(openings: Openings) -> str:
    """How the comments of our rules in others' chains begin."""
    return f"rendezvous.wireguard {openings.interface}:"


def plan(ruleset: Ruleset, openings: Openings) -> Plan:
    """From what is there to what has to be there. Applied twice, the second plan is empty."""
    comment = mark(openings)
    wanted: list[Rule] = []
    if openings.backend != "none":
        for packet in packets(openings):
            for chain in _dropping_chains(ruleset, openings, packet) if packet.ours else ():
                text = f'{packet.nft} comment "{comment} {packet.what}"'
                wanted.append(Rule(chain["family"], chain["table"], chain["name"], text))
    present = {
        (rule["family"], rule["table"], rule["chain"], rule["comment"]): rule["handle"]
        for rule in ruleset.marked(comment)
    }
    keys = {(rule.family, rule.table, rule.chain, rule.text.split('"')[-2]): rule for rule in wanted}
    insert = tuple(rule for key, rule in keys.items() if key not in present)
    delete = tuple(Rule(*key, handle=handle) for key, handle in present.items() if key not in keys)
    former_ports = former_port_commands(ruleset, openings)
    return Plan(insert, delete, _own_table_commands(ruleset, openings), former_ports)


def _dropping_chains(ruleset: Ruleset, openings: Openings, packet: Packet) -> Iterator[Mapping[str, Any]]:
    """The others' base chains that would drop the packet; firewalld keeps its own table."""
    kept = {own_table(openings), former_table(openings)} | (
        {"firewalld"} if openings.backend == "firewalld" else set()
    )
    for hook in packet.hooks:
        for chain in ruleset.base_chains(hook, _families_of(packet, openings)):
            if chain["table"] not in kept and ruleset.drops(chain, packet, mark(openings)):
                yield chain


def _families_of(packet: Packet, openings: Openings) -> list[str]:
    other = {4: "ip6", 6: "ip"}.get(packet.version or 0)
    return [family for family in families(openings) if family != other]


def own_table(openings: Openings) -> str:
    """The name of the own table: nft takes letters, digits and _ only."""
    return "rendezvous_" + "".join(c if c.isalnum() else "_" for c in openings.interface)


def _own_table_commands(ruleset: Ruleset, openings: Openings) -> str | None:
    name = own_table(openings)
    there = ("inet", name) in ruleset.tables
    if not openings.relay or openings.backend == "none":
        return f"delete table inet {name}" if there else None
    chains = {"prerouting": _untracked_rules(openings), "postrouting": _masquerade_rules(openings)}
    kinds = {
        "prerouting": "filter hook prerouting priority raw",
        "postrouting": "nat hook postrouting priority srcnat",
    }
    if all(
        [rule.get("comment") for rule in ruleset.rules.get(("inet", name, chain), [])]
        == [comment for _rule, comment in rules]
        for chain, rules in chains.items()
    ):
        return None
    lines = [f"add table inet {name}", f"delete table inet {name}", f"table inet {name} {{"]
    for chain, rules in chains.items():
        if rules:
            lines += [f"  chain {chain} {{", f"    type {kinds[chain]};"]
            lines += ['    {} comment "{}"'.format(*rule) for rule in rules]
            lines.append("  }")
    return "\n".join([*lines, "}"])


def _untracked_rules(openings: Openings) -> list[tuple[str, str]]:
    """(rule, its comment): what goes back into the tunnel, to a peer or to a subnet behind one."""
    addresses = [ipaddress.ip_interface(text) for text in openings.addresses]
    name = openings.interface
    own = [(f'iifname "{name}" {_daddr(a)} {a.ip} accept', f"to this node, {a.ip}") for a in addresses]
    return [*own, (f'iifname "{name}" fib daddr oifname "{name}" notrack', "from peer to peer")]


def _masquerade_rules(openings: Openings) -> list[tuple[str, str]]:
    if not openings.masquerade:
        return []
    networks = dict.fromkeys(ipaddress.ip_interface(text).network for text in openings.addresses)
    return [
        (
            f'oifname != "{openings.interface}" {_saddr(network)} {network} masquerade',
            f"from {network} to the world",
        )
        for network in networks
    ]


def _saddr(network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> str:
    return "ip6 saddr" if network.version == 6 else "ip saddr"


def _daddr(address: ipaddress.IPv4Interface | ipaddress.IPv6Interface) -> str:
    return "ip6 daddr" if address.version == 6 else "ip daddr"


# ---- ports that WireGuard had before ----
#
# Peers that were not told of the new port yet send to the old one. Their packets are given the new port
# before conntrack sees them, and the answers the old one, so that neither a NAT on the way nor the peer
# notices anything. Who has sent to the new port once is answered from there: WireGuard follows the address
# that answers come from, so it must not be the old one again.


def former_table(openings: Openings) -> str:
    """The name of the table for former ports."""
    return own_table(openings) + "_former_ports"


def former_clients(ruleset: Ruleset, openings: Openings) -> dict[tuple[str, int], int]:
    """By (address, port) of those who are answered from a former port, that port."""
    clients = {}
    for (family, table, name), found in ruleset.sets.items():
        if (family, table) == ("inet", former_table(openings)):
            for element in found.get("elem", ()):
                address, port = element["elem"]["val"]["concat"]
                clients[address, port] = int(name.rpartition("_")[2])
    return clients


def former_port_commands(
    ruleset: Ruleset, openings: Openings, clients: Mapping[tuple[str, int], int] | None = None
) -> str | None:
    """nft commands that make or remove the table; None if it is as wanted.

    `clients`: by (address, port) of those whose port of ours is known, that port; the present one is no
    former one.
    """
    name, port = former_table(openings), openings.listen_port
    formers = [] if openings.backend == "none" or not port else openings.former_ports
    there = ("inet", name) in ruleset.tables
    if not formers:
        return f"delete table inet {name}" if there else None
    wanted = [f"udp/{former} is now udp/{port}" for former in formers]
    rules = ruleset.rules.get(("inet", name, "prerouting"), [])
    if list(dict.fromkeys(rule["comment"] for rule in rules if "comment" in rule)) == wanted:
        return None
    lines = [f"add table inet {name}", f"delete table inet {name}", f"table inet {name} {{"]
    known: dict[tuple[int, str], list[str]] = {}
    for (address, client_port), used in (clients or {}).items():
        known.setdefault((used, "6" if ":" in address else "4"), []).append(f"{address} . {client_port}")
    arriving = [f'    iifname "{openings.interface}" accept']
    arrived, leaving = [], []
    for former, comment in zip(formers, wanted):
        for family, kind, ip in (("4", "ipv4_addr", "ip"), ("6", "ipv6_addr", "ip6")):
            clients_of = f"clients{family}_{former}"
            users = ", ".join(known.get((former, family), ()))
            elements = f" elements = {{ {users} }};" if users else ""
            lines.append(
                f"  set {clients_of} {{ type {kind} . inet_service; flags dynamic,timeout; timeout 5m; "
                f"size 65535;{elements} }}"
            )
            client = f"@{clients_of} {{ {ip} saddr . udp sport }}"
            arriving.append(
                f"    fib daddr type local udp dport {former} update {client} udp dport set {port} accept "
                f'comment "{comment}"'
            )
            arrived.append(f"    fib daddr type local udp dport {port} delete {client}")
            leaving.append(
                f"    udp sport {port} {ip} daddr . udp dport @{clients_of} udp sport set {former}"
            )
    lines += ["  chain prerouting {", "    type filter hook prerouting priority -290;", *arriving, *arrived]
    lines += ["  }", "  chain output {", "    type filter hook output priority 100;", *leaving]
    return "\n".join([*lines, "  }", "}"])


# ---- sysctls ----


def sysctls(openings: Openings) -> dict[str, str]:
    """What a relay, or a router to a subnet, needs. Redirects (DESIGN fact 7) are sent if "all" or the
    interface has it; over IPv6 there are none, since a tunnel has no link-local address.
    """
    wanted: dict[str, str] = {}
    if openings.relay:
        wanted["net/ipv4/conf/all/send_redirects"] = "0"
        wanted[f"net/ipv4/conf/{openings.interface}/send_redirects"] = "0"
    versions = {ipaddress.ip_network(subnet).version for subnet in openings.subnets}
    if openings.relay or 4 in versions:
        wanted["net/ipv4/ip_forward"] = "1"
    if 6 in versions or (openings.relay and "ip6" in families(openings)):
        # A router takes no router advertisements, unless it is told to: its own way out may depend on them.
        for interface in advertised_routes(IPV6_ROUTES):
            wanted[f"net/ipv6/conf/{interface}/accept_ra"] = "2"
        wanted["net/ipv6/conf/all/forwarding"] = "1"
    return wanted


def advertised_routes(path: str) -> list[str]:
    """The interfaces with a default route that the kernel has from a router advertisement (RTF_DEFAULT and
    RTF_ADDRCONF of linux/ipv6_route.h)."""
    try:
        with open(path, encoding="ascii") as file:
            rows = [line.split() for line in file]
    except FileNotFoundError:
        return []
    return sorted({row[9] for row in rows if int(row[8], 16) & 0x50000 == 0x50000})


def sysctl_text(openings: Openings) -> str:
    """The file for /etc/sysctl.d, empty if nothing is to be set. Slashes, since wg0.5 is a name as well."""
    lines = ["{} = {}\n".format(*item) for item in sysctls(openings).items()]
    return (
        "".join(
            ["# Written by rendezvous.wireguard: this node forwards packets of WireGuard peers\n", *lines]
        )
        if lines
        else ""
    )


def wrong_sysctls(openings: Openings, root: str = "/proc/sys") -> dict[str, str]:
    """The ones whose running value differs. An interface that is not there yet has none."""
    return {
        name: value for name, value in sysctls(openings).items() if _sysctl(root, name) not in (None, value)
    }


def _sysctl(root: str, name: str) -> str | None:
    try:
        with open(os.path.join(root, name), encoding="ascii") as file:
            return file.read().strip()
    except FileNotFoundError:
        return None


def set_sysctls(values: Mapping[str, str], root: str = "/proc/sys") -> None:
    """Write the running values. OSError names sysctl and remedy where they are read-only."""
    for name, value in values.items():
        _set_sysctl(os.path.join(root, name), name.replace("/", "."), value)


def _set_sysctl(path: str, name: str, value: str) -> None:
    try:
        with open(path, "w", encoding="ascii") as file:
            file.write(value)
    except OSError as error:
        raise OSError(
            f"cannot set the sysctl {name} to {value} ({error.strerror}): "
            f"set it from outside, e.g. `podman run --sysctl {name}={value}`"
        ) from None


# ---- doing it ----


def read_ruleset() -> Ruleset:
    """The node's ruleset. OSError if nft is missing, subprocess.CalledProcessError if it fails."""
    listing = subprocess.run(["nft", "-j", "list", "ruleset"], check=True, stdout=subprocess.PIPE)
    return Ruleset(json.loads(listing.stdout or b"{}"))


def apply(openings: Openings) -> Plan:
    """Make the running system what it has to be; what was changed in the ruleset."""
    todo = plan(read_ruleset(), openings)
    if todo:
        subprocess.run(["nft", "-f", "-"], check=True, input=todo.commands().encode())
    set_sysctls(wrong_sysctls(openings))
    return todo


def main(arguments: Sequence[str]) -> int:
    """What the unit runs: `firewall.py INTERFACE`."""
    if len(arguments) != 1:
        sys.stderr.write("usage: firewall.py INTERFACE\n")
        return 2
    path = CONFIG.format(interface=arguments[0])
    try:
        with open(path, encoding="utf-8") as file:
            openings = Openings.from_json(file.read())
        apply(openings)
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        sys.stderr.write(f"firewall of {arguments[0]}: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
