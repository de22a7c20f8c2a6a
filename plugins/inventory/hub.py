# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The hub's view of the mesh as hosts and groups."""

from __future__ import annotations

DOCUMENTATION = r"""
name: hub
short_description: The peers of a mesh, as its hub sees them now
version_added: 0.2.0
author:
  - The rendezvous.wireguard authors (!UNKNOWN)
description:
  - Asks the hub of a mesh for its peers and their links, and makes hosts and groups of them.
  - The file has a name that ends in C(wireguard.yml) or C(wireguard.yaml).
  - A hub that cannot be asked, that refuses, or that answers nonsense is an error that names the URL and the
    remedy. Ansible goes on after an inventory source that failed, with a warning and whatever other sources
    say. So that it stops, set C(any_unparsed_is_failed=true) in the section C([inventory]) of
    C(ansible.cfg), or E(ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED=true).
  - B(Groups.) C(online) and C(offline), as the hub says; C(signalling), whose agents can be reached by
    signals; C(direct), which have a direct link at least; C(relayed), which are online and reach at least one
    other peer that is online through the hub. They exist even when they are empty.
  - B(Variables.) C(wg_address), C(wg_public_key), C(wg_endpoint), C(wg_online), C(wg_signals),
    C(wg_latest_handshake_at), C(wg_version) (of the agent), C(wg_candidates), C(wg_polls), C(wg_direct) and
    C(wg_relayed) (the names of the other hosts), C(wg_links) (a list of what its agent reports, with C(peer),
    C(state), C(strategy), C(endpoint), C(rtt_s), C(since_at) and C(why)).
  - C(ansible_host) is the address in the VPN, except for hosts that were in the inventory before.
  - A hub of the original protocol tells neither of links nor of who is offline, except for the keys in
    O(names). Then C(wg_links), C(wg_direct) and C(wg_relayed) are V(null), and the groups of those empty.
  - The hub itself is not among its peers. A peer that asks is among them if an agent has a link to it, or
    O(names) has its key.
extends_documentation_fragment:
  - ansible.builtin.constructed
  - ansible.builtin.inventory_cache
requirements:
  - requests on the controller
options:
  plugin:
    description: Says that the file is for this plugin.
    type: str
    required: true
    choices: [rendezvous.wireguard.hub]
  url:
    description:
      - Where the hub serves, inside the VPN.
      - The machine that asks is a peer or the hub itself; the proxies of the environment are not used.
    type: str
    required: true
    env:
      - name: WG_RENDEZVOUS_HUB
  timeout_s:
    description: The seconds to wait for an answer.
    type: float
    default: 10
  hostnames:
    description:
      - How a host gets its name. The first of these that it has counts.
    type: list
    elements: str
    default: [name, address]
    choices:
      name: Its name in O(names), or that of the host in the other inventory sources that has its address.
      address: Its address in the VPN.
      public_key: Its public key, URL-safe and without padding, since C(/) and C(=) are no good in names.
  names:
    description:
      - Names of hosts, each with its address in the VPN or its public key.
    type: dict
    default: {}
  address_variable:
    description:
      - The variable in which other inventory sources, those given before this one, have the address of a host
        in the VPN, with or without a prefix, or a list of them. Files in C(host_vars) count. A template does
        not.
    type: str
    default: wg_interface_address
  group_prefix:
    description:
      - What the names of the groups of this plugin begin with.
    type: str
    default: ''
seealso:
  - module: rendezvous.wireguard.mesh_info
"""

EXAMPLES = r"""
# mesh.wireguard.yml, after the static inventory:
#   ansible-inventory -i inventory.ini -i mesh.wireguard.yml --graph
plugin: rendezvous.wireguard.hub
url: http://192.168.7.1:8080

---
# By itself, with names for devices that are in no other inventory
plugin: rendezvous.wireguard.hub
url: http://192.168.7.1:8080
hostnames: [name, public_key]
names:
  phone: 192.168.7.9
  laptop: zcUx7+vGCSLBVH8K1UPjOVAb+KvyzgGFzLFsDLBqVCM=
group_prefix: mesh_
cache: true
cache_plugin: ansible.builtin.jsonfile
cache_connection: ~/.cache/ansible-mesh
cache_timeout: 60
compose:
  silent_s: now().timestamp() - wg_latest_handshake_at
groups:
  # Online, and with nobody directly
  needs_a_look: wg_online and wg_direct == []
keyed_groups:
  - key: wg_version
    prefix: agent
"""

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any

from ansible.errors import AnsibleParserError
from ansible.plugins.inventory import BaseInventoryPlugin, Cacheable, Constructable
from ansible.utils.unsafe_proxy import wrap_var
from ansible.vars.plugins import get_vars_from_inventory_sources
from ansible_collections.rendezvous.wireguard.plugins.module_utils._wireguard import keys
from ansible_collections.rendezvous.wireguard.plugins.plugin_utils import _hub
from ansible_collections.rendezvous.wireguard.plugins.plugin_utils._pairs import direct_peers

GROUPS = ("online", "offline", "direct", "relayed", "signalling")
SUFFIXES = ("wireguard.yml", "wireguard.yaml")


class InventoryModule(BaseInventoryPlugin, Constructable, Cacheable):  # type: ignore[misc]  # ansible-core ships no types
    NAME = "rendezvous.wireguard.hub"

    def verify_file(self, path: str) -> bool:
        return bool(super().verify_file(path)) and path.endswith(SUFFIXES)

    def parse(self, inventory: Any, loader: Any, path: str, cache: bool = True) -> None:
        super().parse(inventory, loader, path, cache)
        self._read_config_data(path)
        given = _given_names(self.get_option("names"))
        try:
            view = self._view(self.get_cache_key(path), cache, [one for one in given if _is_key(one)])
        except _hub.HubError as error:
            raise AnsibleParserError(str(error)) from error
        if not view["peers"]:
            self.display.warning(f"the hub at {view['url']} has no peers")
        names = self._names(view["peers"], given)
        variables = _variables(view, names)
        for group in GROUPS:
            inventory.add_group(self._group(group))
        for key in sorted(names, key=names.__getitem__):
            self._add(names[key], variables[key])

    def _view(self, cache_key: str, cache: bool, known: Iterable[str]) -> dict[str, Any]:
        """What the hub says, or has said as long as that is kept."""
        wanted_url = _hub.check_url(self.get_option("url"))
        is_kept = self.get_option("cache")
        if cache and is_kept:
            kept: dict[str, Any] | None = self._cache.get(cache_key)
            if kept and kept.get("url") == wanted_url:
                return kept
        view = _hub.read_view(wanted_url, self.get_option("timeout_s"), known)
        if is_kept:
            self._cache[cache_key] = view
        return view

    # --- names ---

    def _names(self, peers: Mapping[str, Mapping[str, Any]], given: Mapping[str, str]) -> dict[str, str]:
        """The names of the peers by key. AnsibleParserError if two have the same."""
        static = self._static_names()
        names: dict[str, str] = {}
        for key, record in peers.items():
            address = _address(record["address"])
            found: dict[str, str | None] = {
                "name": given.get(key) or given.get(address) or static.get(address),
                "address": address,
                "public_key": key.rstrip("=").translate(_URL_SAFE),
            }
            # Whoever has none of what was asked for has a key.
            name = next((found[how] for how in self.get_option("hostnames") if found[how]), None)
            names[key] = name or key.rstrip("=").translate(_URL_SAFE)
        for key, name in names.items():
            twins = [other for other, same in names.items() if same == name and other != key]
            if twins:
                raise AnsibleParserError(
                    f"two peers would be the host {name!r}: {key} and {twins[0]}: correct names, "
                    f"or {self.get_option('address_variable')} in the other inventory sources"
                )
        return names

    def _static_names(self) -> dict[str, str]:
        """Names by address, of the hosts that other inventory sources have told of."""
        names: dict[str, str] = {}
        variable, sources = self.get_option("address_variable"), self.inventory.processed_sources
        for host in self.inventory.hosts.values():
            files = get_vars_from_inventory_sources(self.loader, sources, [host], "all")
            value = {**host.get_vars(), **files}.get(variable)
            for text in value if isinstance(value, list) else [value]:
                address = _address(text)
                if address:
                    names.setdefault(address, host.name)
        return names

    # --- hosts ---

    def _add(self, name: str, variables: dict[str, Any]) -> None:
        is_new = name not in self.inventory.hosts
        self.inventory.add_host(name)
        # What comes over the network is never a template: an agent chooses what it reports.
        safe = {variable: wrap_var(value) for variable, value in variables.items()}
        if is_new and safe["wg_address"]:
            safe["ansible_host"] = safe["wg_address"]
        for variable, value in safe.items():
            self.inventory.set_variable(name, variable, value)
        memberships = {
            "online": variables["wg_online"],
            "offline": not variables["wg_online"],
            "signalling": variables["wg_signals"],
            "direct": variables["wg_online"] and variables["wg_direct"],
            "relayed": variables["wg_relayed"],
        }
        for group, is_member in memberships.items():
            if is_member:
                self.inventory.add_child(self._group(group), name)
        strict = self.get_option("strict")
        self._set_composite_vars(self.get_option("compose"), safe, name, strict=strict)
        self._add_host_to_composed_groups(self.get_option("groups"), safe, name, strict=strict)
        self._add_host_to_keyed_groups(self.get_option("keyed_groups"), safe, name, strict=strict)

    def _group(self, name: str) -> str:
        return f"{self.get_option('group_prefix')}{name}"


_URL_SAFE = str.maketrans("+/", "-_")


def _given_names(names: Mapping[str, Any]) -> dict[str, str]:
    """The option `names` turned around: names by canonical address or key."""
    given: dict[str, str] = {}
    for name, value in names.items():
        what = _address(value) or (str(value) if _is_key(str(value)) else None)
        if what is None:
            raise AnsibleParserError(
                f"names: {name}: {value!r} is neither an address in the VPN nor a public key: "
                "write e.g. 192.168.7.9, or what `wg pubkey` prints"
            )
        if what in given:
            raise AnsibleParserError(f"names: {name} and {given[what]} are both {what}: remove one of them")
        given[what] = str(name)
    return given


def _is_key(text: str) -> bool:
    try:
        keys.check_key(text)
    except ValueError:
        return False
    return True


def _address(text: Any) -> str:
    """An address without prefix, in canonical form; empty if there is none."""
    try:
        return str(ipaddress.ip_interface(str(text).partition(",")[0]).ip)
    except ValueError:
        return ""


def _variables(view: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """The variables of each peer, by key."""
    peers, links = view["peers"], view["links"]
    knows_links = view["api"] == "v1"
    direct = direct_peers({key: told for key, told in links.items() if key in peers})
    online = {key for key, record in peers.items() if record["online"]}
    variables = {}
    for key, record in peers.items():
        direct_keys = direct.get(key, set()) & online
        relayed_keys = online - direct_keys - {key} if key in online else set()
        variables[key] = {
            "wg_address": _address(record["address"]) or None,
            "wg_public_key": key,
            "wg_endpoint": record["endpoint"],
            "wg_online": record["online"],
            "wg_signals": record["signals"],
            "wg_latest_handshake_at": record["hands_shaken_at"],
            "wg_version": record["version"],
            "wg_candidates": record["candidates"],
            "wg_polls": record["polls"],
            "wg_direct": sorted(names[other] for other in direct_keys) if knows_links else None,
            "wg_relayed": sorted(names[other] for other in relayed_keys) if knows_links else None,
            "wg_links": _links(links.get(key, {}), names) if knows_links else None,
        }
    return variables


def _links(told: Mapping[str, Mapping[str, Any]], names: Mapping[str, str]) -> list[dict[str, Any]]:
    """What an agent reports of its links, with names."""
    fields = ("state", "strategy", "endpoint", "rtt_s", "since_at", "why")
    found = [
        {"peer": names.get(to, to), **{name: report.get(name) for name in fields}}
        for to, report in told.items()
    ]
    return sorted(found, key=lambda link: str(link["peer"]))
