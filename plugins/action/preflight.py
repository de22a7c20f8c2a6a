# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What can be known to be wrong before anything is changed: here the inventory, in the module the node."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase
from ansible_collections.rendezvous.wireguard.plugins.plugin_utils import _inventory, _program

GROUPS = {"hub": "wireguard_hub", "peer": "wireguard_peers"}
HOSTS_BY_THEMSELVES = ("free", "host_pinned")
"""Ends of the names of strategies that know neither `run_once` nor `any_errors_fatal`."""


def _why_no_answer(result: Mapping[str, Any]) -> list[str]:
    """Of a module that could not run, as where Python is missing. Who is not reached is not refused."""
    if not result.get("failed") or result.get("unreachable"):
        return []
    said = " ".join(str(result.get("module_stderr") or "").split())[-300:]
    answer = f"{str(result.get('msg')).rstrip('.')}: {said}".rstrip(": ")
    remedy = "install python3, or write ansible_python_interpreter=/path/to/python3 (3.9 or newer)"
    return [f"no module runs there: {answer}: {remedy}"]


def _why_no_value(variable: str, error: AnsibleError) -> str:
    """What is not there. All that ansible-core 2.18 says has the value in it, as far as there is one."""
    undefined = re.findall(r"'\w+' is undefined", str(error))
    if undefined:
        return f", since {undefined[-1]}"
    return "" if variable in _inventory.SECRETS else f": {error}"


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core ships no types
    """Checks this host, and the first host of a network in a batch checks that network for all of them."""

    _supports_check_mode = True
    _requires_connection = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Returns what the module returns; fails with one line for each problem."""
        task_vars = task_vars or {}
        result: dict[str, Any] = super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        name = task_vars["inventory_hostname"]
        role = arguments.get("role", "interface")
        variables, problems = self._variables(arguments, task_vars)
        problems += self._problems_of_strategy(name)
        problems += self._problems(role, variables, task_vars)
        if not problems and arguments.get("failure"):
            problems = [f"{name}: {arguments['failure']}"]
        if not problems:
            if arguments.get("program"):
                packed = _program.pack_collection(_program.collection_dir())
                arguments["program"] = {**arguments["program"], "checksum": _program.checksum(packed)}
            arguments["hub_networks"] = _inventory.routed_networks(role, variables)
            result.update(
                self._execute_module("rendezvous.wireguard.preflight", arguments, task_vars=task_vars)
            )
            found = result.get("problems", _why_no_answer(result))
            problems = [f"{name}: {problem}" for problem in found]
            result["mesh_secrets"] = _inventory.secret_ids(variables)
        if problems:
            # Not raised, since that would get past the task's own failed_when.
            result.update(failed=True, changed=False, problems=problems, msg="\n".join(problems))
        return result

    def _variables(
        self, arguments: dict[str, Any], task_vars: dict[str, Any]
    ) -> tuple[dict[str, Any], list[str]]:
        """The roles' variables as this task sees them, and what is wrong with their templates.

        They do not leave the controller, since listed peers can have preshared keys.
        """
        variables: dict[str, Any] = {}
        problems = []
        for name in filter(task_vars.__contains__, _inventory.VARIABLES):
            try:
                variables[name] = self._templar.template(task_vars[name])
            except AnsibleError as error:  # noqa: PERF203 - one that fails does not stop the others
                host, why = task_vars["inventory_hostname"], _why_no_value(name, error)
                problems.append(f"{host}: {name} has no value{why}: define that, or correct {name}")
        variables["wg_interface_name"] = arguments["interface"]
        if "address" in arguments:
            variables["wg_interface_address"] = arguments["address"]
        return variables, problems

    def _problems(self, role: str, variables: dict[str, Any], task_vars: dict[str, Any]) -> list[str]:
        name = task_vars["inventory_hostname"]
        members = self._members(task_vars)
        hostvars = task_vars["hostvars"]
        own = _inventory.Host(name, role, variables, frozenset(members.get(name, ())))
        batch = task_vars.get("ansible_play_batch", [name])
        problems = list(_inventory.problems_of_variables(name, task_vars))
        checked_hubs = [host for host in batch if "hub" in members.get(host, ())]
        problems += _inventory.problems_of_host(own, hostvars, checked_hubs)
        if name not in members or self._interface(hostvars[name]) != variables["wg_interface_name"]:
            return problems + list(_inventory.problems_of_lone_peer(own))
        network = self._network(hostvars[name], members[name])
        for hub, groups in members.items():
            if "hub" in groups and self._network(hostvars[hub], groups) == network:
                problems += _inventory.problems_of_way_to_hub(own, self._other(hub, groups, hostvars[hub]))
        of_network = (
            host
            for host in batch
            if host in members and self._network(hostvars[host], members[host]) == network
        )
        if next(of_network, None) == name:
            hosts = [
                own if host == name else self._other(host, groups, hostvars[host])
                for host, groups in members.items()
                if self._network(hostvars[host], groups) == network
            ]
            hubs = [host for host, groups in members.items() if "hub" in groups]
            problems += _inventory.problems_of_network(hosts, hubs)
            elsewhere = [host.name for host in hosts if host.name not in batch]
            problems += _inventory.problems_of_subnets_elsewhere(elsewhere, hostvars)
        return problems

    def _problems_of_strategy(self, name: str) -> list[str]:
        strategy = str(self._task.get_play().strategy)
        if not strategy.endswith(HOSTS_BY_THEMSELVES):
            return []
        problem = "each host would be changed by itself, before the others are found to be right"
        return [f"{name}: strategy {strategy}: {problem}: write strategy: linear in this play"]

    def _interface(self, variables: Any) -> str:
        return str(self._value(variables, "wg_interface_name", "wg0"))

    def _network(self, variables: Any, groups: set[str]) -> str:
        """The name of the hub's interface tells networks apart; a peer's own may be another one."""
        if "hub" in groups:
            return self._interface(variables)
        return str(self._value(variables, "wg_peer_hub_interface", self._interface(variables)))

    @staticmethod
    def _value(variables: Any, variable: str, default: Any = None) -> Any:
        """Of a host of the inventory; what is wrong with a template is for that host to say."""
        try:
            return variables.get(variable, default)
        except AnsibleError:
            return default

    @staticmethod
    def _members(task_vars: dict[str, Any]) -> dict[str, set[str]]:
        """The hosts of the two groups, in the inventory's order, and which of them each is in."""
        members: dict[str, set[str]] = {}
        for role, group in GROUPS.items():
            for host in task_vars["groups"].get(group, []):
                members.setdefault(host, set()).add(role)
        return members

    def _other(self, name: str, groups: set[str], hostvars: Any) -> _inventory.Host:
        """Another host, of which only the inventory is known: what its address is, and those of its peers."""
        known = (
            "wg_interface_address",
            "wg_interface_mesh_secret",
            "wg_interface_peers",
            "wg_interface_subnets",
            "wg_client_config_devices",
        )
        variables = {variable: self._value(hostvars, variable) for variable in known}
        return _inventory.Host(name, min(groups), variables, frozenset(groups))
