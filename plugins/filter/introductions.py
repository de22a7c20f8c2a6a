# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What each hub has to be told of the peers of a play."""

from __future__ import annotations

DOCUMENTATION = r"""
name: introductions
short_description: What each hub has to be told of the peers of a play
version_added: 0.2.0
author:
  - The rendezvous.wireguard authors (!UNKNOWN)
description:
  - Collects what the role C(wg_peer) has found out about each host of a play, so that one task tells a hub
    about all of its peers. The work per host does not grow with their number.
extends_documentation_fragment:
  - rendezvous.wireguard.hosts
options:
  moving:
    description:
      - Only those peers whose addresses change, with the addresses of before and the new ones. So the hub
        reaches them at either, until they have changed.
      - A new address that another of the hosts still has is not among them, and of those of before only
        what the hub routes to the peer.
    type: bool
    default: false
  asked:
    description: The results of M(rendezvous.wireguard.admission) of the hubs that are not in this run.
    type: list
    elements: dict
    default: []
"""

EXAMPLES = r"""
- name: Each hub knows its peers
  rendezvous.wireguard.peers:
    interface: "{{ item.interface }}"
    peers: "{{ item.peers }}"
  delegate_to: "{{ item.hub }}"
  run_once: true
  loop: "{{ ansible_play_batch | rendezvous.wireguard.introductions(hostvars) }}"
"""

RETURN = r"""
_value:
  description:
    - One entry for each hub and interface, with C(hub), C(interface), and C(peers).
    - Each of the peers has C(name), C(public_key), and C(allowed_ips), its addresses and the
      subnets behind it. A host that has no key yet is not among them.
    - Also C(hub_was_asked), whether the preflight of this run was on the hub itself.
  type: list
  elements: dict
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Callable

from ansible_collections.rendezvous.wireguard.plugins.filter.host_route import host_route

Claims = Mapping[str, Mapping[str, Any]]
"""By network, as M(rendezvous.wireguard.admission) returns them."""


def introductions(
    hosts: Iterable[str],
    hostvars: Mapping[str, Mapping[str, Any]],
    moving: bool = False,
    asked: Sequence[Mapping[str, Any]] = (),
) -> list[dict[str, Any]]:
    """The entries for the hubs, each with its peers in the order of the hosts."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    present = {host: _host_routes(_preflight(hostvars[host])) for host in hosts}
    for host in present:
        node = _preflight(hostvars[host])
        about = node.get("introduction") or {}
        if not about.get("hub"):
            continue  # without a hub the preflight has refused the host
        hub, interface = about["hub"], about["interface"]
        routes = wanted_routes(about)
        if moving:
            claims = claims_of(hub, interface, hostvars, asked)
            going = [route for route in present[host] if is_own(claims.get(route), node.get("public_key"))]
            if set(going) <= set(routes):
                continue
            others = {route for other, its in present.items() if other != host for route in its}
            coming = [route for route in routes if route not in others]
            routes = list(dict.fromkeys([*going, *coming]))
        if (hub, interface) not in found:
            hub_was_asked = _is_hub(_preflight(hostvars[hub]), interface)
            found[hub, interface] = {
                "hub": hub,
                "interface": interface,
                "hub_was_asked": hub_was_asked,
                "peers": [],
            }
        key = _public_key(hostvars[host], node)
        if key:
            peer = {"name": host, "public_key": key, "allowed_ips": routes, "from_mesh_secret": True}
            found[hub, interface]["peers"].append(peer)
    return list(found.values())


def wanted_routes(about: Mapping[str, Any]) -> list[str]:
    """What the hub is to route to a host, by the introduction in its preflight's result."""
    return [*map(host_route, about["addresses"]), *about["subnets"]]


def claims_of(
    hub: str,
    interface: str,
    hostvars: Mapping[str, Mapping[str, Any]],
    asked: Sequence[Mapping[str, Any]],
) -> Claims:
    """What a hub routes to whom, as it has said in its own preflight, or when it was asked."""
    node = _preflight(hostvars[hub])
    if _is_hub(node, interface):
        found: Claims = node.get("claims", {})
        return found
    answers = (
        one.get("claims", {})
        for one in asked
        if (one["item"]["hub"], one["item"]["interface"]) == (hub, interface)
    )
    return next(answers, {})


def is_own(claim: Mapping[str, Any] | None, public_key: str | None) -> bool:
    """Whether the hub routes something to this key, or to the one that it takes the place of."""
    return claim is not None and public_key in (claim["public_key"], *claim["also"])


def _is_hub(node: Mapping[str, Any], interface: str) -> bool:
    """Whether a preflight was that of the hub of this interface; with another role it knows no peers."""
    return node.get("interface") == interface and node.get("role") == "hub"


def _host_routes(node: Mapping[str, Any]) -> list[str]:
    """What the hub routes to a host that has the addresses of its file."""
    return [host_route(address) for address in (node.get("configured") or {}).get("addresses", [])]


def _preflight(variables: Mapping[str, Any]) -> Mapping[str, Any]:
    """What it has found on a host, in this run."""
    node: Mapping[str, Any] = variables.get("wg_interface__node", {})
    return node


def _public_key(variables: Mapping[str, Any], node: Mapping[str, Any]) -> str | None:
    """The one that was made in this run, else the one that the preflight has seen."""
    made = variables.get("wg_interface__key", {})
    if made.get("interface") == node["interface"] and made.get("public_key"):
        return str(made["public_key"])
    return node.get("public_key")


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Names and functions."""
        return {"introductions": introductions}
