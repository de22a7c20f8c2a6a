# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: the rendezvous.wireguard authors
"""Others' rules that would drop the tunnel's packets are found, and passed by a marked rule in each chain."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.rendezvous.wireguard.plugins.module_utils import _firewall
from ansible_collections.rendezvous.wireguard.plugins.module_utils._firewall import Openings, Ruleset, plan

HUB = Openings("wg0", ("192.168.7.1/24",), 51820, (8080,), relay=True, udp_ports=(8080,))
PEER = Openings("wg0", ("192.168.7.5/24",), None, (8080,))

ACCEPT = {"accept": None}
DROP = {"drop": None}


def match(left: Any, right: Any, op: str = "==") -> dict[str, Any]:
    return {"match": {"op": op, "left": left, "right": right}}


def meta(key: str) -> dict[str, Any]:
    return {"meta": {"key": key}}


def dport(protocol: str) -> dict[str, Any]:
    return {"payload": {"protocol": protocol, "field": "dport"}}


CT_STATE = {"ct": {"key": "state"}}
ESTABLISHED = [match(CT_STATE, ["established", "related"], "in"), ACCEPT]


def listing(*rules: Any, hook: str = "input", policy: str = "drop", **more: list[Any]) -> dict[str, Any]:
    """What nft lists: a table "site" with one base chain of these rules, and other chains by name."""
    base = {"family": "inet", "table": "site", "name": "base", "handle": 1}
    items: list[Any] = [{"table": {"family": "inet", "name": "site", "handle": 1}}]
    items.append({"chain": {**base, "type": "filter", "hook": hook, "prio": 0, "policy": policy}})
    for chain, expressions in [("base", list(rules)), *more.items()]:
        for number, expression in enumerate(expressions):
            rule = {
                "family": "inet",
                "table": "site",
                "chain": chain,
                "handle": 10 + number,
                "expr": expression,
            }
            items.append({"rule": rule})
    return {"nftables": items}


def named(openings: Openings, iptables: dict[str, str], found: dict[str, Any] | None = None) -> list[str]:
    return _firewall.unmanageable(openings, iptables, Ruleset(found or {}))


def inserted(found: dict[str, Any], openings: Openings = PEER) -> list[str]:
    return [str(rule) for rule in plan(Ruleset(found), openings).insert]


STATUSZ = (
    'inet site base iifname "wg0" tcp dport 8080 accept comment "rendezvous.wireguard wg0: tcp/8080 from wg0"'
)


@pytest.mark.parametrize(
    "rules",
    [
        [],
        [ESTABLISHED],
        [[match(meta("iifname"), "lo"), ACCEPT]],
        [[match(dport("tcp"), {"set": [22, {"range": [80, 90]}]}), ACCEPT]],
        [[match(dport("udp"), 8080), ACCEPT]],
        [[match({"payload": {"protocol": "ip", "field": "saddr"}}, "10.0.0.0/8"), ACCEPT]],
        [[match(dport("tcp"), "@services"), ACCEPT]],
        [[{"limit": {"rate": 3, "per": "second"}}, ACCEPT]],
        [[match(meta("iifname"), "wg*", "!="), ACCEPT]],
        [[{"jump": {"target": "nothing"}}]],
        [[match(meta("iifname"), "wg0"), {"return": None}], [ACCEPT]],
        [[match(meta("iifname"), "wg0"), {"counter": {}}, {"reject": None}], [ACCEPT]],
    ],
)
def test_a_chain_that_would_drop_gets_a_rule(rules: list[Any]) -> None:
    assert inserted(listing(*rules)) == [STATUSZ]


@pytest.mark.parametrize(
    "rules",
    [
        [[ACCEPT]],
        [[match(meta("iifname"), "wg0"), ACCEPT]],
        [[match(meta("iifname"), {"set": ["eth1", "wg*"]}), {"log": {}}, ACCEPT]],
        [[match(meta("iifname"), "eth0", "!="), ACCEPT]],
        [[match(dport("tcp"), {"range": [8000, 9000]}), ACCEPT]],
        [[match(meta("l4proto"), {"set": ["tcp", "udp"]}), match(dport("th"), 8080), ACCEPT]],
        [[match(CT_STATE, {"set": ["new", "established"]}), ACCEPT]],
        [[{"vmap": {"key": CT_STATE, "data": {"set": [["invalid", DROP], ["new", ACCEPT]]}}}]],
        [[{"jump": {"target": "vpn"}}]],
        [[{"goto": {"target": "vpn"}}]],
    ],
)
def test_a_chain_that_accepts_is_left_alone(rules: list[Any]) -> None:
    vpn = [[match(meta("iifname"), "wg0"), ACCEPT]]
    assert inserted(listing(*rules, vpn=vpn)) == []


def test_a_drop_at_the_end_is_as_bad_as_a_policy() -> None:
    assert inserted(listing(ESTABLISHED, [DROP], policy="accept")) == [STATUSZ]


def test_a_loop_of_jumps_ends() -> None:
    assert inserted(listing([{"jump": {"target": "a"}}], a=[[{"jump": {"target": "a"}}]])) == [STATUSZ]


def test_the_hub_needs_its_port_from_anywhere_and_the_way_between_peers() -> None:
    texts = " ".join(inserted(listing(ESTABLISHED), HUB))
    assert "udp dport 51820 accept" in texts
    assert 'iifname "wg0" tcp dport 8080 accept' in texts
    (forward,) = inserted(listing(ESTABLISHED, hook="forward"), HUB)
    assert 'iifname "wg0" oifname "wg0" accept' in forward


def test_heartbeats_are_accepted_from_the_interface_beside_http() -> None:
    assert any('iifname "wg0" udp dport 8080 accept' in text for text in inserted(listing(ESTABLISHED), HUB))
    heartbeats = Openings("wg0", PEER.addresses, udp_ports=(8080,))
    assert inserted(listing([match(dport("tcp"), 8080), ACCEPT]), heartbeats)
    assert not inserted(listing([match(dport("udp"), 8080), ACCEPT]), heartbeats)


def test_the_record_is_read_back_also_one_from_before_there_were_heartbeats() -> None:
    assert Openings.from_json(HUB.to_json()) == HUB
    older = {name: value for name, value in json.loads(PEER.to_json()).items() if name != "udp_ports"}
    assert Openings.from_json(json.dumps(older)) == PEER


def test_a_rule_for_another_interface_does_not_open_the_listen_port() -> None:
    found = listing([match(meta("iifname"), "lo"), match(dport("udp"), 51820), ACCEPT])
    assert any("udp dport 51820" in text for text in inserted(found, HUB))


def test_the_second_plan_is_empty() -> None:
    found = listing(ESTABLISHED)
    first = plan(Ruleset(found), PEER)
    for number, rule in enumerate(first.insert):
        comment = rule.text.split('"')[-2]
        expression = [match(meta("iifname"), "wg0"), match(dport("tcp"), 8080), ACCEPT]
        place = {"family": "inet", "table": "site", "chain": "base", "handle": 90 + number}
        found["nftables"].append({"rule": {**place, "comment": comment, "expr": expression}})

    assert first
    assert not plan(Ruleset(found), PEER)


def test_a_rule_of_ours_that_is_needed_no_more_goes() -> None:
    found = listing([ACCEPT])
    place = {"family": "inet", "table": "site", "chain": "base", "handle": 91, "expr": [ACCEPT]}
    found["nftables"].append({"rule": {**place, "comment": "rendezvous.wireguard wg0: tcp/9090 from wg0"}})
    found["nftables"].append(
        {"rule": {**place, "handle": 92, "comment": "rendezvous.wireguard wg1: tcp/9090"}}
    )

    assert plan(Ruleset(found), PEER).commands().split("\n")[0] == "delete rule inet site base handle 91"
    assert "92" not in plan(Ruleset(found), PEER).commands()


def test_only_a_relay_has_a_table_of_its_own() -> None:
    nothing = Ruleset({})
    commands = plan(nothing, HUB).own_table or ""
    assert 'iifname "wg0" fib daddr oifname "wg0" notrack' in commands
    assert not plan(nothing, PEER)
    was_relay = Ruleset({"nftables": [{"table": {"family": "inet", "name": "rendezvous_wg0"}}]})
    assert plan(was_relay, PEER).own_table == "delete table inet rendezvous_wg0"


def test_what_goes_to_any_own_address_is_tracked() -> None:
    addresses = ("192.168.7.1/24", "192.168.7.2/24", "fd00:7::1/64")
    commands = plan(Ruleset({}), Openings("wg0", addresses, 51820, (8080,), relay=True)).own_table or ""
    rules = [line.split(" comment")[0].strip() for line in commands.splitlines() if "iifname" in line]

    assert rules == [
        'iifname "wg0" ip daddr 192.168.7.1 accept',
        'iifname "wg0" ip daddr 192.168.7.2 accept',
        'iifname "wg0" ip6 daddr fd00:7::1 accept',
        'iifname "wg0" fib daddr oifname "wg0" notrack',
    ]


@pytest.mark.parametrize(
    ("openings", "hook", "rules"),
    [
        (
            HUB,
            "prerouting",
            [
                "udp dport 51820 accept",
                'iifname "wg0" tcp dport 8080',
                'iifname "wg0" udp dport 8080',
                'iifname "wg0" accept',
            ],
        ),
        (
            HUB,
            "output",
            [
                "udp sport 51820 accept",
                'oifname "wg0" meta l4proto tcp accept',
                'oifname "wg0" meta l4proto udp accept',
            ],
        ),
        (
            HUB,
            "postrouting",
            [
                "udp sport 51820",
                'oifname "wg0" meta l4proto tcp',
                'oifname "wg0" meta l4proto udp',
                'oifname "wg0" accept',
            ],
        ),
        (PEER, "prerouting", ['iifname "wg0" tcp dport 8080 accept']),
        (PEER, "output", ['oifname "wg0" meta l4proto tcp accept']),
    ],
)
def test_drop_policies_at_the_other_hooks_are_opened_as_well(
    openings: Openings, hook: str, rules: list[str]
) -> None:
    found = inserted(listing(ESTABLISHED, hook=hook), openings)

    assert len(found) == len(rules)
    for text, rule in zip(found, rules, strict=True):
        assert text.startswith(f"inet site base {rule}")


@pytest.mark.parametrize(
    ("hook", "what", "remedy"),
    [
        ("output", "what WireGuard sends", "meta l4proto udp accept"),
        ("prerouting", "answers to WireGuard", "meta l4proto udp ct state established accept"),
        ("input", "answers to WireGuard", "meta l4proto udp ct state established accept"),
    ],
)
def test_what_would_open_more_than_the_tunnel_is_named_with_the_rule_to_add(
    hook: str, what: str, remedy: str
) -> None:
    (problem,) = named(PEER, {}, listing([match(meta("iifname"), "lo"), ACCEPT], hook=hook))

    assert problem.startswith(f"the chain inet site base of nftables drops {what}")
    assert problem.endswith(f"add `nft insert rule inet site base {remedy}`")


@pytest.mark.parametrize(
    "rule",
    [
        [match(meta("oifname"), "eth0"), ACCEPT],
        [match(dport("udp"), 51820), ACCEPT],
        [match(dport("udp"), "@allowed"), ACCEPT],
        [match(meta("l4proto"), "udp"), {"jump": {"target": "more"}}],
        [{"limit": {"rate": 3, "per": "second"}}, ACCEPT],
    ],
)
def test_an_accept_that_cannot_be_decided_is_believed_before_something_is_refused(rule: list[Any]) -> None:
    more = [[match(meta("skuid"), 0), ACCEPT]]
    assert named(PEER, {}, listing(rule, hook="output", more=more)) == []


def test_a_drop_that_cannot_be_decided_is_no_reason_to_refuse() -> None:
    rule = [match({"payload": {"protocol": "ip", "field": "daddr"}}, "192.0.2.0/24"), DROP]
    assert named(PEER, {}, listing(rule, hook="output", policy="accept")) == []


def test_none_and_firewalld_are_not_named() -> None:
    text = json.dumps(listing(hook="output")).replace('"site"', '"firewalld"')
    firewalld = Openings("wg0", PEER.addresses, None, (8080,), backend="firewalld")
    assert named(firewalld, {}, json.loads(text)) == []


@pytest.mark.parametrize(
    ("openings", "rules", "problems"),
    [
        (PEER, "-P OUTPUT DROP\n", ["-p udp -j ACCEPT", "-o wg0 -p tcp -j ACCEPT"]),
        (PEER, "-P OUTPUT DROP\n-A OUTPUT -o eth0 -j ACCEPT\n", ["-o wg0 -p tcp -j ACCEPT"]),
        (PEER, "-P OUTPUT DROP\n-A OUTPUT -m owner --uid-owner 0 -j ACCEPT\n", []),
        (HUB, "-P OUTPUT DROP\n-A OUTPUT -o wg+ -j ACCEPT\n", ["-p udp --sport 51820 -j ACCEPT"]),
        (HUB, "-P OUTPUT DROP\n-A OUTPUT -o wg+ -j ACCEPT\n-A OUTPUT -p udp --sport 51820 -j ACCEPT\n", []),
    ],
)
def test_iptables_that_drops_what_goes_out_is_named(
    openings: Openings, rules: str, problems: list[str]
) -> None:
    found = named(openings, {"iptables": rules})

    assert [text.split(": add ")[1] for text in found] == [
        f"`iptables -I OUTPUT {rule}`" for rule in problems
    ]


def test_the_table_is_named_after_the_interface_as_nft_can_read_it() -> None:
    assert _firewall.own_table(Openings("wg-home.1", ())) == "rendezvous_wg_home_1"


def test_none_leaves_all_rules_alone() -> None:
    assert not plan(
        Ruleset(listing(ESTABLISHED)), Openings("wg0", HUB.addresses, 51820, (8080,), True, "none")
    )


UFW = """\
-P INPUT DROP
-P OUTPUT DROP
-N ufw-before-input
-N ufw-before-output
-N ufw-user-output
-A INPUT -j ufw-before-input
-A OUTPUT -j ufw-before-output
-A ufw-before-input -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A ufw-before-output -o lo -j ACCEPT
-A ufw-before-output -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A ufw-before-output -j ufw-user-output
"""


@pytest.mark.parametrize(
    ("openings", "rules", "remedies"),
    [
        (PEER, UFW, ["add `ufw allow out to any proto udp`"]),
        (PEER, UFW + "-A ufw-user-output -p udp -j ACCEPT\n", []),
        (PEER, UFW + "-A ufw-user-output -p udp -m udp --dport 51820 -j ACCEPT\n", []),
        (PEER, UFW.replace("-P OUTPUT DROP", "-P OUTPUT ACCEPT"), []),
        (HUB, UFW, []),
    ],
)
def test_of_what_ufw_drops_only_that_is_named_which_the_role_does_not_open(
    openings: Openings, rules: str, remedies: list[str]
) -> None:
    problems = named(replace(openings, backend="ufw"), {"iptables": rules})
    assert [problem.partition(": ")[2] for problem in problems] == remedies


def test_firewalld_keeps_its_table_to_itself() -> None:
    text = json.dumps(listing(ESTABLISHED)).replace('"site"', '"firewalld"')
    assert (
        inserted(json.loads(text), Openings("wg0", PEER.addresses, None, (8080,), backend="firewalld")) == []
    )


IPTABLES_ESTABLISHED = "-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n"
DOCKER = """\
-P INPUT ACCEPT
-P FORWARD DROP
-N DOCKER-USER
-A FORWARD -j DOCKER-USER
-A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A DOCKER-USER -j RETURN
"""


def test_iptables_that_would_drop_is_named_with_the_rule_to_add() -> None:
    (problem,) = named(HUB, {"iptables": DOCKER})
    assert problem.startswith("the FORWARD chain of iptables drops from wg0 to wg0: ")
    assert problem.endswith("add `iptables -I FORWARD -i wg0 -o wg0 -j ACCEPT`")


@pytest.mark.parametrize(
    "rule",
    [
        "-A FORWARD -i wg0 -o wg0 -j ACCEPT",
        "-A FORWARD -i wg+ -j ACCEPT",
        '-A FORWARD ! -i eth0 -m comment --comment "a tunnel" -j ACCEPT',
        "-A DOCKER-USER -i wg0 -j ACCEPT",
        "-A FORWARD -j TUNNELS\n-A TUNNELS -o wg0 -j ACCEPT",
        "-A FORWARD -m conntrack --ctstate NEW,UNTRACKED -j ACCEPT",
    ],
)
def test_iptables_with_that_rule_is_fine(rule: str) -> None:
    lines = DOCKER.replace("-A DOCKER-USER -j RETURN\n", "")
    assert named(HUB, {"iptables": lines + rule + "\n"}) == []


@pytest.mark.parametrize(
    "rule",
    [
        "-A FORWARD -i eth0 -o wg0 -j ACCEPT",
        "-A FORWARD -s 10.0.0.0/8 -j ACCEPT",
        "-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
        "-A FORWARD -i wg0 -j DROP\n-A FORWARD -j ACCEPT",
    ],
)
def test_iptables_with_another_rule_is_not(rule: str) -> None:
    assert len(named(HUB, {"iptables-legacy": DOCKER + rule + "\n"})) == 1


def test_iptables_opens_a_range_of_ports() -> None:
    rules = "-P INPUT DROP\n-A INPUT -p tcp -m tcp --dport 8000:8100 -j ACCEPT\n" + IPTABLES_ESTABLISHED
    assert named(PEER, {"iptables": rules}) == []


def test_the_record_reads_back() -> None:
    assert Openings.from_json(HUB.to_json()) == HUB


def test_sysctls_that_differ_are_set_and_a_missing_interface_waits(tmp_path: Path) -> None:
    for name, value in {"net/ipv4/ip_forward": "0", "net/ipv4/conf/all/send_redirects": "0"}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(value + "\n")

    wrong = _firewall.wrong_sysctls(HUB, str(tmp_path))
    assert wrong == {"net/ipv4/ip_forward": "1"}
    _firewall.set_sysctls(wrong, str(tmp_path))
    assert _firewall.wrong_sysctls(HUB, str(tmp_path)) == {}


def test_a_sysctl_that_cannot_be_set_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        OSError, match=r"sysctl net\.ipv4\.ip_forward to 1 .*--sysctl net\.ipv4\.ip_forward=1"
    ):
        _firewall.set_sysctls({"net/ipv4/ip_forward": "1"}, str(tmp_path / "missing"))


def test_a_peer_needs_no_sysctl() -> None:
    assert _firewall.sysctl_text(PEER) == ""


def test_the_unit_says_what_it_wants(capsys: pytest.CaptureFixture[str]) -> None:
    assert _firewall.main([]) == 2
    assert "firewall.py INTERFACE" in capsys.readouterr().err
    assert _firewall.main(["no-such-interface"]) == 1
    assert "no-such-interface" in capsys.readouterr().err


ROUTER = Openings(
    "wg0", ("192.168.7.5/24", "fd00:7::5/64"), None, (8080,), subnets=("10.1.0.0/24", "fd08::/64")
)


def accepted(found: dict[str, Any], openings: Openings) -> list[str]:
    """What is inserted, without places and comments."""
    return [rule.text.partition(" comment")[0] for rule in plan(Ruleset(found), openings).insert]


def test_a_subnet_behind_a_peer_is_forwarded_to_and_from() -> None:
    assert accepted(listing(ESTABLISHED, hook="forward"), ROUTER) == [
        'iifname "wg0" ip daddr 10.1.0.0/24 accept',
        'oifname "wg0" ip saddr 10.1.0.0/24 accept',
        'iifname "wg0" ip6 daddr fd08::/64 accept',
        'oifname "wg0" ip6 saddr fd08::/64 accept',
    ]
    assert accepted(listing(ESTABLISHED, hook="forward"), PEER) == []


@pytest.mark.parametrize(("family", "subnet"), [("ip", "10.1.0.0/24"), ("ip6", "fd08::/64")])
def test_a_chain_of_one_family_gets_the_rules_of_that_family(family: str, subnet: str) -> None:
    found = json.loads(json.dumps(listing(ESTABLISHED, hook="forward")).replace('"inet"', f'"{family}"'))
    assert all(subnet in rule for rule in accepted(found, ROUTER))
    assert len(accepted(found, ROUTER)) == 2


def test_iptables_that_drops_what_goes_to_a_subnet_is_named_with_the_rule() -> None:
    problems = named(ROUTER, {"iptables": "-P INPUT ACCEPT\n-P FORWARD DROP\n-P OUTPUT ACCEPT\n"})
    assert any("iptables -I FORWARD -i wg0 -d 10.1.0.0/24 -j ACCEPT" in problem for problem in problems)
    assert not any("fd08::" in problem for problem in problems)


def test_a_hub_that_is_the_way_out_masquerades_its_networks_and_lets_them_pass() -> None:
    hub = Openings("wg0", ("192.168.7.1/24", "fd00:7::1/64"), 51820, relay=True, masquerade=True)
    commands = plan(Ruleset({}), hub).own_table or ""
    assert 'oifname != "wg0" ip saddr 192.168.7.0/24 masquerade' in commands
    assert 'oifname != "wg0" ip6 saddr fd00:7::/64 masquerade' in commands
    assert 'iifname "wg0" accept' in accepted(listing(hook="forward"), hub)
    assert 'oifname "wg0" ct state established,related accept' in accepted(listing(hook="forward"), hub)


@pytest.mark.parametrize(
    ("subnets", "forwarding"),
    [
        ((), {}),
        (("10.1.0.0/24",), {"net/ipv4/ip_forward": "1"}),
        (("fd08::/64",), {"net/ipv6/conf/all/forwarding": "1"}),
    ],
)
def test_only_who_has_a_subnet_forwards(
    subnets: tuple[str, ...], forwarding: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_firewall, "IPV6_ROUTES", "/nowhere")
    assert _firewall.sysctls(replace(PEER, subnets=subnets)) == forwarding


def test_a_router_goes_on_to_take_the_advertisements_that_its_own_way_out_comes_from(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    rows = [("00450003", "wan0"), ("00000003", "lan0"), ("00440001", "lan1"), ("00450003", "wan0")]
    zero = "0" * 32
    text = "".join(f"{zero} 00 {zero} 00 {zero} 0400 00 00 {flags} {name}\n" for flags, name in rows)
    (tmp_path / "ipv6_route").write_text(text)
    monkeypatch.setattr(_firewall, "IPV6_ROUTES", str(tmp_path / "ipv6_route"))
    wanted = _firewall.sysctls(replace(PEER, subnets=("fd08::/64",)))
    assert list(wanted) == ["net/ipv6/conf/wan0/accept_ra", "net/ipv6/conf/all/forwarding"]
    assert wanted["net/ipv6/conf/wan0/accept_ra"] == "2"


def test_the_record_of_an_older_version_is_read() -> None:
    values = {key: value for key, value in json.loads(HUB.to_json()).items() if key in _OLDER}
    assert Openings.from_json(json.dumps(values)) == replace(HUB, udp_ports=())


_OLDER = ("interface", "addresses", "listen_port", "tcp_ports", "relay", "backend")


# ---- ports that the hub had before ----

MOVED = Openings("wg0", ("192.168.7.1/24",), 51821, (8080,), relay=True, former_ports=(51820,))


def test_a_former_port_is_open_and_passed_on() -> None:
    commands = _firewall.former_port_commands(
        Ruleset({}), MOVED, {("198.51.100.2", 4000): 51820, ("2001:db8::2", 5000): 51820}
    )
    assert commands is not None
    assert "udp dport 51820 update @clients4_51820 { ip saddr . udp sport } udp dport set 51821" in commands
    assert "udp dport 51821 delete @clients6_51820 { ip6 saddr . udp sport }" in commands
    assert "udp sport 51821 ip daddr . udp dport @clients4_51820 udp sport set 51820" in commands
    assert "elements = { 198.51.100.2 . 4000 }" in commands
    assert "elements = { 2001:db8::2 . 5000 }" in commands
    assert "udp dport 51820 accept" in [packet.nft for packet in _firewall.packets(MOVED)]


def test_each_client_is_answered_from_the_port_that_it_uses() -> None:
    """Who has been at 51821 all the time has not noticed that the hub was elsewhere in between."""
    name = _firewall.former_table(MOVED)

    def known(*concat: Any) -> dict[str, Any]:
        return {"elem": {"val": {"concat": list(concat)}, "timeout": 300, "expires": 299}}

    listing = [
        {
            "set": {
                "family": "inet",
                "table": name,
                "name": "clients4_51821",
                "elem": [known("198.51.100.2", 1)],
            }
        },
        {
            "set": {
                "family": "inet",
                "table": name,
                "name": "clients6_51819",
                "elem": [known("2001:db8::2", 2)],
            }
        },
        {"set": {"family": "inet", "table": name, "name": "clients4_51819"}},
    ]
    clients = _firewall.former_clients(Ruleset({"nftables": listing}), MOVED)
    assert clients == {("198.51.100.2", 1): 51821, ("2001:db8::2", 2): 51819}

    back = dataclasses.replace(MOVED, former_ports=(51819, 51820))
    commands = _firewall.former_port_commands(Ruleset({}), back, {**clients, ("198.51.100.3", 3): 51820})
    assert commands is not None
    sets = [line.strip() for line in commands.splitlines() if line.strip().startswith("set ")]
    assert [line.partition("size 65535;")[2] for line in sets] == [
        " }",
        " elements = { 2001:db8::2 . 2 }; }",
        " elements = { 198.51.100.3 . 3 }; }",
        " }",
    ]


def test_a_table_for_former_ports_that_is_there_keeps_what_it_knows_of_its_users() -> None:
    name = _firewall.former_table(MOVED)
    rule = {"family": "inet", "table": name, "chain": "prerouting", "comment": "udp/51820 is now udp/51821"}
    found = Ruleset(
        {"nftables": [{"table": {"family": "inet", "name": name}}, {"rule": rule}, {"rule": rule}]}
    )
    assert plan(found, MOVED).former_ports is None
    over = dataclasses.replace(MOVED, former_ports=())
    assert plan(found, over).former_ports == f"delete table inet {name}"
    assert plan(found, dataclasses.replace(MOVED, backend="none")).former_ports == f"delete table inet {name}"
    assert plan(Ruleset({}), over).former_ports is None


def test_a_record_of_before_has_no_former_ports() -> None:
    old = json.loads(MOVED.to_json())
    del old["former_ports"]
    assert Openings.from_json(json.dumps(old)).former_ports == ()
    assert Openings.from_json(MOVED.to_json()) == MOVED
