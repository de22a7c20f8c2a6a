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
import ipaddress
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

CONFIG = "/etc/wg-rendezvous/{interface}.firewall.json"
SYSCTL_FILE = "/etc/sysctl.d/60-wg-rendezvous-{interface}.conf"
MAX_JUMPS = 32
IPTABLES_TABLES = ("filter", "nat", "mangle", "raw", "security")
IPTABLES_CHAINS = {"INPUT": "input", "FORWARD": "forward"}


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

    @classmethod
    def from_json(cls, text: str) -> Openings:
        """Read what `to_json` wrote."""
        values = json.loads(text)
        values["addresses"] = tuple(values["addresses"])
        values["tcp_ports"] = tuple(values["tcp_ports"])
        values["udp_ports"] = tuple(values.get("udp_ports", ()))  # an older record has none
        return cls(**values)

    def inside(self) -> list[tuple[str, int]]:
        """(protocol, port) of what is accepted from the interface only."""
        return [("tcp", port) for port in self.tcp_ports] + [("udp", port) for port in self.udp_ports]

    def to_json(self) -> str:
        """The text of the node's own record, CONFIG."""
        return json.dumps(asdict(self), indent=2) + "\n"


@dataclass(frozen=True)
class Packet:
    """The first packet of a flow that has to pass, and the rule that lets it, for nft and for iptables."""

    hook: str
    fields: Mapping[str, Any]
    nft: str
    iptables: str
    what: str


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

    def __bool__(self) -> bool:
        return bool(self.insert or self.delete or self.own_table)

    def commands(self) -> str:
        """The plan as input of `nft -f`, which does all of it or nothing."""
        lines = [f"delete rule {r.family} {r.table} {r.chain} handle {r.handle}" for r in self.delete]
        lines += [f"insert rule {rule}" for rule in self.insert]
        return "\n".join([*lines, self.own_table or ""]) + "\n"


def packets(openings: Openings) -> list[Packet]:
    """The packets that have to pass, one for every opening."""
    name = openings.interface
    found = []
    if openings.listen_port:
        port = openings.listen_port
        found.append(
            Packet(
                "input",
                {"meta l4proto": "udp", "udp dport": port, "th dport": port, "ct state": "new"},
                f"udp dport {port} accept",
                f"-p udp --dport {port} -j ACCEPT",
                f"udp/{port}",
            )
        )
    for protocol, port in openings.inside():
        fields = {"meta l4proto": protocol, f"{protocol} dport": port, "th dport": port, "ct state": "new"}
        fields.update({"meta iifname": name, "meta iif": name})
        found.append(
            Packet(
                "input",
                fields,
                f'iifname "{name}" {protocol} dport {port} accept',
                f"-i {name} -p {protocol} --dport {port} -j ACCEPT",
                f"{protocol}/{port} from {name}",
            )
        )
    if openings.relay:
        fields = {"ct state": "untracked", "meta iifname": name, "meta iif": name}
        fields.update({"meta oifname": name, "meta oif": name})
        found.append(
            Packet(
                "forward",
                fields,
                f'iifname "{name}" oifname "{name}" accept',
                f"-i {name} -o {name} -j ACCEPT",
                f"from {name} to {name}",
            )
        )
    return found


# ---- would somebody else's chain drop it? ----


class Ruleset:
    """`nft -j list ruleset` (libnftables-json(5)), asked about packets."""

    def __init__(self, listing: Mapping[str, Any]) -> None:
        self.chains: list[Mapping[str, Any]] = []
        self.rules: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
        self.tables: list[tuple[str, str]] = []
        for item in listing.get("nftables", []):
            if "table" in item:
                self.tables.append((item["table"]["family"], item["table"]["name"]))
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
        for others' packets, and an accept that depends on one is none that can be relied on.
        """
        verdict = self._verdict(chain["family"], chain["table"], chain["name"], packet.fields, ignore, 0)
        return (verdict or chain.get("policy", "accept")) == "drop"

    def marked(self, comment: str) -> Iterator[Mapping[str, Any]]:
        """The rules whose comment begins so."""
        for rules in self.rules.values():
            for rule in rules:
                if str(rule.get("comment", "")).startswith(comment):
                    yield rule

    def _verdict(
        self, family: str, table: str, chain: str, fields: Mapping[str, Any], ignore: str, depth: int
    ) -> str | None:
        """accept, drop, or None where the chain's end is reached."""
        for rule in self.rules.get((family, table, chain), []) if depth < MAX_JUMPS else []:
            if str(rule.get("comment", "")).startswith(ignore):
                continue
            kind, target = _outcome(rule.get("expr", []), fields)
            if kind in ("jump", "goto"):
                deeper = self._verdict(family, table, target, fields, ignore, depth + 1)
                if deeper or kind == "goto":
                    return deeper
            elif kind == "return":
                return None
            elif kind:
                return kind
        return None


def is_iptables(chain: Mapping[str, Any]) -> bool:
    """Does the chain belong to iptables-nft, which would be confused by rules that are not its own?"""
    return chain["table"] in IPTABLES_TABLES and str(chain["name"]).isupper()


def _outcome(expressions: Sequence[Mapping[str, Any]], fields: Mapping[str, Any]) -> tuple[str, str]:
    """The verdict of one rule, and where it leads; ("", "") if it has none for this packet."""
    for expression in expressions:
        for name, value in expression.items():
            if name == "match":
                if not _matches(value, fields):
                    return "", ""
            elif name == "vmap":
                return _mapped(value, fields)
            elif name in ("accept", "return"):
                return name, ""
            elif name in ("drop", "reject"):
                return "drop", ""
            elif name in ("jump", "goto"):
                return name, value["target"]
            elif name not in ("counter", "log", "mangle"):
                return "", ""
    return "", ""


def _mapped(vmap: Mapping[str, Any], fields: Mapping[str, Any]) -> tuple[str, str]:
    data = vmap["data"]
    if isinstance(data, Mapping):
        for element, verdict in data.get("set", []):
            if _matches({"op": "==", "left": vmap["key"], "right": element}, fields):
                return _outcome([verdict], fields)
    return "", ""


def _matches(match: Mapping[str, Any], fields: Mapping[str, Any]) -> bool:
    known, actual = _field(match["left"], fields)
    if not known:
        return False
    equal = _equals(match["right"], actual)
    return not equal if match["op"] == "!=" else equal


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
    decided = name in fields or name in ("meta iifname", "meta oifname", "meta iif", "meta oif")
    return decided, fields.get(name)


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
    """Would this chain drop the packet, by the text of `iptables -S`? Undecided conditions are not met."""
    policies: dict[str, str] = {}
    chains: dict[str, list[list[str]]] = {}
    for line in rules.splitlines():
        words = line.split()
        if words[:1] == ["-P"]:
            policies[words[1]] = words[2]
        elif words[:1] == ["-A"]:
            chains.setdefault(words[1], []).append(words[2:])
    return (_iptables_verdict(chains, chain, packet.fields, 0) or policies.get(chain, "ACCEPT")) == "DROP"


def _iptables_verdict(
    chains: Mapping[str, Sequence[Sequence[str]]], chain: str, fields: Mapping[str, Any], depth: int
) -> str | None:
    for words in chains.get(chain, []) if depth < MAX_JUMPS else []:
        action, target = _iptables_target(words, fields)
        if target in ("ACCEPT", "DROP", "REJECT"):
            return "ACCEPT" if target == "ACCEPT" else "DROP"
        if target == "RETURN":
            return None
        if target in chains:
            deeper = _iptables_verdict(chains, target, fields, depth + 1)
            if deeper or action == "-g":
                return deeper
    return None


def _iptables_target(words: Sequence[str], fields: Mapping[str, Any]) -> tuple[str, str]:
    """The rule's jump (-j) or goto (-g) and its target; ("", "") if the packet does not match."""
    names = {"-i": "meta iifname", "-o": "meta oifname", "-p": "meta l4proto", "--dport": "th dport"}
    position, negated = 0, False
    while position < len(words):
        word = words[position]
        value = words[position + 1] if position + 1 < len(words) else ""
        if word in ("-j", "-g"):
            return word, value
        if word == "!":
            negated, position = True, position + 1
            continue
        if word in names:
            actual = fields.get(names[word])
            met = actual is not None and _iptables_equals(value, actual)
        elif word in ("--ctstate", "--state"):
            met = str(fields["ct state"]).upper() in value.split(",")
        elif word in ("-m", "--comment"):
            met, negated = True, False
            while word == "--comment" and value.startswith('"') and not words[position + 1].endswith('"'):
                position += 1
        else:
            return "", ""
        if met == negated:
            return "", ""
        position, negated = position + 2, False
    return "", ""


def _iptables_equals(value: str, actual: Any) -> bool:
    low, colon, high = value.partition(":")
    if isinstance(actual, int):
        return low.isdecimal() and int(low) <= actual <= int(high if colon and high.isdecimal() else low)
    return actual == value or (value.endswith("+") and str(actual).startswith(value[:-1]))


def unmanageable(openings: Openings, saved: Mapping[str, str]) -> list[str]:
    """What iptables would drop, each with the rule to add.

    `saved`: command name ("iptables", "iptables-legacy") to the output of its `-S`.
    """
    problems = []
    for command, rules in saved.items():
        for packet in packets(openings):
            chain = packet.hook.upper()
            if iptables_drops(rules, chain, packet):
                rule = f"{command} -I {chain} {packet.iptables}"
                problems.append(f"the {chain} chain of {command} drops {packet.what}: add `{rule}`")
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
            for chain in ruleset.base_chains(packet.hook, families(openings)):
                others = not (openings.backend == "firewalld" and chain["table"] == "firewalld")
                if others and chain["table"] != own_table(openings) and ruleset.drops(chain, packet, comment):
                    text = f'{packet.nft} comment "{comment} {packet.what}"'
                    wanted.append(Rule(chain["family"], chain["table"], chain["name"], text))
    present = {
        (rule["family"], rule["table"], rule["chain"], rule["comment"]): rule["handle"]
        for rule in ruleset.marked(comment)
    }
    keys = {(rule.family, rule.table, rule.chain, rule.text.split('"')[-2]): rule for rule in wanted}
    insert = tuple(rule for key, rule in keys.items() if key not in present)
    delete = tuple(Rule(*key, handle=handle) for key, handle in present.items() if key not in keys)
    return Plan(insert, delete, _own_table_commands(ruleset, openings))


def own_table(openings: Openings) -> str:
    """The name of the own table: nft takes letters, digits and _ only."""
    return "rendezvous_" + "".join(c if c.isalnum() else "_" for c in openings.interface)


def _own_table_commands(ruleset: Ruleset, openings: Openings) -> str | None:
    name = own_table(openings)
    there = ("inet", name) in ruleset.tables
    if not openings.relay or openings.backend == "none":
        return f"delete table inet {name}" if there else None
    rules = _untracked_rules(openings)
    comments = [rule.get("comment") for rule in ruleset.rules.get(("inet", name, "prerouting"), [])]
    if comments == [comment for _rule, comment in rules]:
        return None
    lines = [f"add table inet {name}", f"delete table inet {name}", f"table inet {name} {{"]
    lines += ["  chain prerouting {", "    type filter hook prerouting priority raw;"]
    lines += ['    {} comment "{}"'.format(*rule) for rule in rules]
    return "\n".join([*lines, "  }", "}"])


def _untracked_rules(openings: Openings) -> list[tuple[str, str]]:
    """(rule, its comment) for each network: from the tunnel, to it, and not to this node."""
    rules = []
    for text in openings.addresses:
        address = ipaddress.ip_interface(text)
        family = "ip6" if address.version == 6 else "ip"
        between = f"{family} daddr {address.network} {family} daddr != {address.ip}"
        what = f"between the peers in {address.network}, not {address.ip}"
        rules.append((f'iifname "{openings.interface}" {between} notrack', what))
    return rules


# ---- sysctls ----


def sysctls(openings: Openings) -> dict[str, str]:
    """What a relay needs. Redirects (DESIGN fact 7) are sent if "all" or the interface has it."""
    if not openings.relay:
        return {}
    wanted = {
        "net/ipv4/ip_forward": "1",
        "net/ipv4/conf/all/send_redirects": "0",
        f"net/ipv4/conf/{openings.interface}/send_redirects": "0",
    }
    if "ip6" in families(openings):
        wanted["net/ipv6/conf/all/forwarding"] = "1"
    return wanted


def sysctl_text(openings: Openings) -> str:
    """The file for /etc/sysctl.d, empty if nothing is to be set. Slashes, since wg0.5 is a name as well."""
    lines = ["{} = {}\n".format(*item) for item in sysctls(openings).items()]
    return (
        "".join(["# Written by rendezvous.wireguard: a relay between WireGuard peers\n", *lines])
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
