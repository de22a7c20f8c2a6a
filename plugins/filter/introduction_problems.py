# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Why a hub could not take the peers of a play."""

from __future__ import annotations

DOCUMENTATION = r"""
name: introduction_problems
short_description: Why a hub could not take the peers of a play
version_added: 0.2.0
author:
  - The rendezvous.wireguard authors (!UNKNOWN)
description:
  - Finds keys that several hosts of a play have, and addresses that the hub routes to somebody else, before
    anything is changed.
extends_documentation_fragment:
  - rendezvous.wireguard.hosts
options:
  asked:
    description: The results of M(rendezvous.wireguard.admission) of the hubs that are not in this run.
    type: list
    elements: dict
    default: []
"""

EXAMPLES = r"""
- name: The hubs can take all of them
  ansible.builtin.fail:
    msg: "{{ problems | join('; ') }}"
  when: problems | length > 0
  vars:
    problems: "{{ ansible_play_batch | rendezvous.wireguard.introduction_problems(hostvars) }}"
  run_once: true
"""

RETURN = r"""
_value:
  description: One sentence for each problem.
  type: list
  elements: str
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Callable

from ansible_collections.rendezvous.wireguard.plugins.filter.introductions import (
    Claims,
    claims_of,
    introductions,
    is_own,
    wanted_routes,
)


def introduction_problems(
    hosts: Iterable[str],
    hostvars: Mapping[str, Mapping[str, Any]],
    asked: Sequence[Mapping[str, Any]] = (),
) -> list[str]:
    """The sentences, by hub."""
    hosts = list(hosts)
    problems: list[str] = []
    for entry in introductions(hosts, hostvars):
        wanted = list(_wanted(hosts, hostvars, entry))
        problems += _same_keys(entry["peers"])
        # The preflight says this of hosts in wireguard_peers, with all else that it refuses.
        if not any("msg" in hostvars[host].get("wg_interface__node", {}) for host in hosts):
            problems += _same_routes(wanted)
        claims = claims_of(entry["hub"], entry["interface"], hostvars, asked)
        for host, network, claim in _claimed(entry, wanted, claims):
            is_away = claim["name"] and claim["name"] in hostvars and claim["name"] not in hosts
            problems.append(_explain(host, network, claim, entry, is_away))
    return problems


def _same_keys(peers: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    for host, key, owner in _taken((peer["name"], peer["public_key"]) for peer in peers):
        yield (
            f"{host}: has the same key as {owner} ({key}), as a copy of its disk has: give it one of "
            "its own, with `rendezvous.wireguard.keypair: {path: /etc/wireguard/IF.key, regenerate: always}` "
            f"on {host}"
        )


def _wanted(
    hosts: Iterable[str], hostvars: Mapping[str, Mapping[str, Any]], entry: Mapping[str, Any]
) -> Iterator[tuple[str, str]]:
    """Whom the hub is to route what to; also those that have no key yet."""
    for host in hosts:
        about = hostvars[host].get("wg_interface__node", {}).get("introduction") or {}
        if (about.get("hub"), about.get("interface")) == (entry["hub"], entry["interface"]):
            yield from ((host, route) for route in wanted_routes(about))


def _same_routes(wanted: Iterable[tuple[str, str]]) -> Iterator[str]:
    for host, route, owner in _taken(wanted):
        yield f"{host}: {route} is that of {owner} as well: write another one"


def _taken(wanted: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str, str]]:
    """Of (host, thing): those things that an earlier host has as well, with that one."""
    owners: dict[str, str] = {}
    for host, thing in wanted:
        owner = owners.setdefault(thing, host)
        if owner != host:
            yield host, thing, owner


def _claimed(
    entry: Mapping[str, Any], wanted: Iterable[tuple[str, str]], claims: Claims
) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """An address or subnet that another peer has at the hub, unless that one gives it up in this run."""
    keys = {peer["name"]: peer["public_key"] for peer in entry["peers"]}
    routes = {peer["public_key"]: peer["allowed_ips"] for peer in entry["peers"]}
    for host, network in wanted:
        claim = claims.get(network)
        if claim is None or is_own(claim, keys.get(host)):
            continue
        if network in routes.get(claim["public_key"], [network]):
            yield host, network, claim


def _explain(
    host: str, network: str, claim: Mapping[str, Any], entry: Mapping[str, Any], is_away: bool
) -> str:
    """`is_away`: the other peer is a host of the inventory and not in this run."""
    key, name = claim["public_key"], claim["name"] or "without a name"
    text = f"{host}: {entry['hub']} routes {network} to peer {name} ({key})"
    if name == host:
        options = f'{{interface: {entry["interface"]}, peers: [{{public_key: "{key}", state: absent}}]}}'
        return (
            f"{text}, which was this host with another key: if it has a new one, as after an installation, "
            f"remove the old one on the hub: `rendezvous.wireguard.peers: {options}`"
        )
    another = f"{text}: write another wg_interface_address, or take it out of wg_interface_subnets"
    if is_away:
        return f"{another}; or if {name} gives it up, deploy both in one run (--limit {name},{host})"
    return (
        f"{another}; or if {name} has left the network, remove it first "
        f"(rendezvous.wireguard.remove_peer -e wg_hub_remove_peers={claim['name'] or key})"
    )


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Names and functions."""
        return {"introduction_problems": introduction_problems}
