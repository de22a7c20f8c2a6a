# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What can be known to be wrong before anything is changed: here the inventory, in the module the node."""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.rendezvous.wireguard.plugins.plugin_utils import _inventory

GROUPS = {"hub": "wireguard_hub", "peer": "wireguard_peers"}
INVENTORY_OPTIONS = ("peers", "peers_exclusive", "hub_endpoint")
"""Checked here; they do not leave the controller, since peers can hold preshared keys."""


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core ships no types
    """Checks this host, and the first host of a batch checks the network for all of them."""

    _supports_check_mode = True
    _requires_connection = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Returns what the module returns; fails with one line for each problem."""
        task_vars = task_vars or {}
        result: dict[str, Any] = super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        checked = arguments.pop("checked", None)
        if checked and checked.get("interface") == arguments["interface"]:
            return dict(checked, changed=False)

        problems = self._problems(arguments, task_vars)
        if problems:
            raise AnsibleActionFail("\n".join(problems))
        for_the_node = {name: value for name, value in arguments.items() if name not in INVENTORY_OPTIONS}
        result.update(
            self._execute_module("rendezvous.wireguard.preflight", for_the_node, task_vars=task_vars)
        )
        if result.get("problems"):
            name = task_vars["inventory_hostname"]
            raise AnsibleActionFail("\n".join(f"{name}: {problem}" for problem in result["problems"]))
        return result

    def _problems(self, arguments: dict[str, Any], task_vars: dict[str, Any]) -> list[str]:
        name = task_vars["inventory_hostname"]
        members = self._members(task_vars)
        own = self._host(name, members.get(name, set()), task_vars, arguments)
        problems = list(_inventory.problems_of_host(own))
        batch = [host for host in task_vars.get("ansible_play_batch", [name]) if host in members]
        hostvars = task_vars["hostvars"]
        interface = arguments["interface"]
        if batch[:1] == [name] and self._interface(hostvars[name]) == interface:
            network = self._network(hostvars[name], members[name])
            hosts = [
                own if host == name else self._host(host, groups, hostvars[host])
                for host, groups in members.items()
                if self._network(hostvars[host], groups) == network
            ]
            others = [host for host in hosts if host is not own]
            problems += [problem for host in others for problem in _inventory.problems_of_host(host)]
            problems += _inventory.problems_of_network(hosts)
        return problems

    @staticmethod
    def _interface(variables: Any) -> str:
        return str(variables.get("wg_interface_name", "wg0"))

    def _network(self, variables: Any, groups: set[str]) -> str:
        """The name of the hub's interface tells networks apart; a peer's own may be another one."""
        if "hub" in groups:
            return self._interface(variables)
        return str(variables.get("wg_peer_hub_interface", self._interface(variables)))

    @staticmethod
    def _members(task_vars: dict[str, Any]) -> dict[str, set[str]]:
        """The hosts of the two groups, in the inventory's order, and which of them each is in."""
        members: dict[str, set[str]] = {}
        for role, group in GROUPS.items():
            for host in task_vars["groups"].get(group, []):
                members.setdefault(host, set()).add(role)
        return members

    @staticmethod
    def _host(
        name: str, groups: set[str], variables: Any, arguments: dict[str, Any] | None = None
    ) -> _inventory.Host:
        """From the host's variables; for the host itself the role's, which may come from the play, win."""
        arguments = arguments or {}
        return _inventory.Host(
            name=name,
            groups=frozenset(groups),
            addresses=arguments.get("address", variables.get("wg_interface_address")),
            endpoint=arguments.get("hub_endpoint", variables.get("wg_hub_endpoint")),
            peers=arguments.get("peers", variables.get("wg_interface_peers")) or (),
            exclusive=bool(arguments.get("peers_exclusive", False)),
        )
