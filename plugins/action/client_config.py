# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Files for devices that Ansible does not manage, written on the controller; documented as a module.

It runs in Ansible itself, and not as a module on the controller, so that a private key goes from here into
its file and, as a QR code, to the terminal, and into nothing that Ansible records.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.rendezvous.wireguard.plugins.module_utils._node import NodeError, locked
from ansible_collections.rendezvous.wireguard.plugins.module_utils._wireguard import check, keys, mesh_secret
from ansible_collections.rendezvous.wireguard.plugins.plugin_utils import _devices, _handed_out, _inventory

HOOKS = {"type": "list", "elements": "str", "default": []}
AGENT = {"type": "dict", "options": {"start": HOOKS, "stop": HOOKS}}
ARGUMENTS = {
    "devices": {"type": "raw", "required": True},
    "directory": {"type": "path", "required": True},
    "hub": {"type": "str", "default": ""},
    "hub_interface": {"type": "str", "default": "wg0"},
    "hub_addresses": {"type": "list", "elements": "str", "default": []},
    "hub_endpoint": {"type": "str", "default": ""},
    "hub_public_key": {"type": "str", "no_log": False},
    "hub_peers": {"type": "list", "elements": "dict", "default": []},
    "networks": {"type": "list", "elements": "str", "default": []},
    "persistent_keepalive_s": {"type": "raw", "default": 13},
    "agents": {"type": "dict", "default": {}, "options": {"linux": AGENT, "windows": AGENT}},
    "regenerate": {"type": "list", "elements": "str", "default": []},
    "reissue": {"type": "list", "elements": "str", "default": []},
    "qr": {"type": "bool", "default": True},
    "qr_terminal": {"type": "str", "choices": ["auto", "always", "never"], "default": "auto"},
    "preflight": {"type": "bool", "default": False},
}
OF_ROLE = "wg_client_config_"

display = Display()


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core ships no types
    """Checks, decides, writes; nothing of it on the node."""

    _supports_check_mode = True
    _supports_diff = True
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Returns changed, devices, peers, and in diff mode diff; fails with one line for each problem."""
        task_vars = task_vars or {}
        result: dict[str, Any] = super().run(tmp, task_vars)
        _unused, arguments = self.validate_argument_spec(ARGUMENTS)
        folder = _handed_out.Folder(os.path.abspath(arguments["directory"]))
        try:
            wanted = self._read(arguments, task_vars)
            if arguments["preflight"]:
                return dict(result, changed=False)
            with self._locked(folder):
                result.update(self._write(arguments, folder, wanted))
        except (ValueError, NodeError) as error:
            name = task_vars["inventory_hostname"]
            problems = [f"{name}: {line}" for line in str(error).splitlines()]
            result.update(failed=True, changed=False, problems=problems, msg="\n".join(problems))
        except OSError as error:
            name = task_vars["inventory_hostname"]
            message = f"{name}: {error.filename}: {error.strerror}: correct {OF_ROLE}directory"
            result.update(failed=True, changed=False, problems=[message], msg=message)
        return result

    def _locked(self, folder: _handed_out.Folder) -> Any:
        if self._task.check_mode:
            return nullcontext()
        folder.prepare()
        return locked(folder.path)

    def _protect(self, folder: _handed_out.Folder) -> list[dict[str, str]]:
        """Close a directory that was there before to others, if it is there for this; entries of the diff."""
        gaps = folder.gaps()
        if gaps and not folder.has_only_devices():
            display.warning(
                f"{folder.path} is open to others, or has no .gitignore that keeps private keys out of a "
                "repository, and was left so, since it is not yours alone or has other files in it: write a "
                f"directory of its own as {OF_ROLE}directory, or, if nobody else needs it, `chmod 700 "
                f"{folder.path}`, and write a .gitignore with *.conf and *.png"
            )
            return []
        if gaps and not self._task.check_mode:
            folder.protect()
        return gaps

    # ---- what is wanted ----

    def _read(self, arguments: Mapping[str, Any], task_vars: Mapping[str, Any]) -> _handed_out.Wanted:
        """ValueError with one line for each thing that is wrong."""
        members = self._members(arguments["hub"], task_vars)
        problems = self._problems_of_network(arguments, members, task_vars)
        network = self._network(arguments, members, task_vars)
        devices, network, wrong = _devices.read_devices(arguments["devices"], network)
        problems += wrong
        for option in ("regenerate", "reissue"):
            problems += _devices.wanted_names(arguments[option], OF_ROLE + option, devices)
        named = [f"{OF_ROLE}devices: {line}" if line.startswith("device") else line for line in problems]
        if named:
            raise ValueError("\n".join(named))
        return _handed_out.Wanted(
            devices,
            network,
            arguments["hub_public_key"] or "",
            [
                _handed_out.Known(peer.get("name"), peer["public_key"], tuple(peer["allowed_ips"]))
                for peer in arguments["hub_peers"]
            ],
            frozenset(arguments["regenerate"]),
            frozenset(arguments["reissue"]),
            next(iter(self._mesh_secrets(arguments["hub"], task_vars)), None),
        )

    @staticmethod
    def _mesh_secrets(hub: str, task_vars: Mapping[str, Any]) -> tuple[str, ...]:
        """Those of the hub, which are no argument of this action, since Ansible may show arguments."""
        if hub not in task_vars["hostvars"]:
            return ()
        listed = task_vars["hostvars"][hub].get("wg_interface_mesh_secret") or []
        return mesh_secret.check_secrets(map(str, listed if isinstance(listed, list) else [listed]))

    def _problems_of_network(
        self, arguments: Mapping[str, Any], members: Iterable[str], task_vars: Mapping[str, Any]
    ) -> list[str]:
        """Of what all devices share."""
        problems = []
        hub = arguments["hub"]
        try:
            self._mesh_secrets(hub, task_vars)
        except ValueError as error:
            problems.append(f"wg_interface_mesh_secret of {hub}: {error}; write what `wg genpsk` prints")
        problems += _inventory.problems_of_subnets_elsewhere(members, task_vars["hostvars"])
        hubs = task_vars["groups"].get("wireguard_hub", [])
        if hub in hubs and len(hubs) > 1:
            problems.append(f"{', '.join(hubs)}: only one host can be the hub: leave one in [wireguard_hub]")
        try:
            check.interface_name(arguments["hub_interface"])
        except ValueError as error:
            problems.append(f"{OF_ROLE}hub_interface: {error}")
        if hub and hub not in task_vars["hostvars"]:
            problems.append(f"{OF_ROLE}hub {hub!r} is no host of the inventory: write the name of one")
        elif hub and not arguments["hub_addresses"]:
            problems.append(
                f"the hub {hub} has no address: write e.g. wg_interface_address=192.168.7.1/24 beside {hub}"
            )
        elif hub and not arguments["hub_endpoint"]:
            problems.append(
                f"the hub {hub} has no public endpoint: write e.g. wg_hub_endpoint={hub}:51820 beside "
                f"{hub}, or {OF_ROLE}hub_endpoint"
            )
        checks = [
            *((check.allowed_ip, text, "networks") for text in arguments["networks"]),
            *((check.endpoint, text, "hub_endpoint") for text in [arguments["hub_endpoint"]] if text),
            *(
                (check.conf_text, command, f"{kind}_agent_{verb}")
                for kind, agent in arguments["agents"].items()
                for verb, commands in (agent or {}).items()
                for command in commands
            ),
        ]
        for checked, value, variable in checks:
            try:
                checked(value, OF_ROLE + variable)
            except ValueError as error:  # noqa: PERF203 - one that fails does not stop the others
                problems.append(str(error))
        keepalive_s = str(arguments["persistent_keepalive_s"])
        if not keepalive_s.isdecimal() or int(keepalive_s) > 65535:
            problems.append(f"{OF_ROLE}persistent_keepalive_s {keepalive_s}: write a number from 0 to 65535")
        return problems

    def _network(
        self, arguments: Mapping[str, Any], members: Iterable[str], task_vars: Mapping[str, Any]
    ) -> _devices.Network:
        hub = arguments["hub"]
        owners: dict[str, str] = {}
        owned_keys: dict[str, str] = {}
        names: set[str] = set()
        for host in members:
            names.add(host)
            addresses = task_vars["hostvars"][host].get("wg_interface_address") or []
            for text in addresses if isinstance(addresses, list) else [addresses]:
                owners[_inventory.bare_address(text)] = host
        listed = task_vars["hostvars"][hub].get("wg_interface_peers") if hub in task_vars["hostvars"] else []
        for key, peer in _inventory.peers_in(listed):
            if peer:
                owned_keys[key] = peer.name or "a peer in wg_interface_peers"
                owners.update({route.partition("/")[0]: str(peer) for route in peer.allowed_ips})
                names |= {peer.name} if peer.name else set()
        keepalive_s = str(arguments["persistent_keepalive_s"])
        return _devices.Network(
            hub=hub,
            hub_addresses=tuple(arguments["hub_addresses"]),
            endpoint=arguments["hub_endpoint"],
            networks=tuple(arguments["networks"]),
            persistent_keepalive_s=int(keepalive_s) if keepalive_s.isdecimal() else 0,
            agents={
                kind: _devices.Agent(agent["start"] or (), agent["stop"] or ())
                for kind, agent in arguments["agents"].items()
                if agent
            },
            owners=owners,
            hosts=frozenset(names),
            keys=owned_keys,
        )

    @staticmethod
    def _members(hub: str, task_vars: Mapping[str, Any]) -> list[str]:
        """The hub, and the hosts in wireguard_peers whose hub it is."""
        if hub not in task_vars["hostvars"]:
            return []
        groups, hostvars = task_vars["groups"], task_vars["hostvars"]
        first = next(iter(groups.get("wireguard_hub", [])), "")
        try:
            peers = [
                host
                for host in groups.get("wireguard_peers", [])
                if (hostvars[host].get("wg_peer_hub") or first) == hub
            ]
        except AnsibleError as error:
            raise ValueError(f"wg_peer_hub of a peer has no value: {error}") from None
        return [hub, *(host for host in peers if host != hub)]

    # ---- what is written ----

    def _write(
        self, arguments: Mapping[str, Any], folder: _handed_out.Folder, wanted: _handed_out.Wanted
    ) -> dict[str, Any]:
        found = {device.name: folder.read(device.name) for device in wanted.devices}
        decisions = _handed_out.decide(wanted, found, keys.generate_private_key)
        phones = [decision.device.name for decision in decisions if decision.qr]
        if phones and arguments["qr"] and not _handed_out.qr_ready():
            remedy = f"`{sys.executable} -m pip install segno` (Debian: python3-segno)"
            raise ValueError(
                f"a QR code for {', '.join(phones)} needs segno on the controller: {remedy}, or set "
                f"{OF_ROLE}qr to false"
            )
        changes = self._protect(folder)
        for decision in decisions:
            qr = decision.qr if arguments["qr"] else None
            contents = folder.contents(decision, _handed_out.qr_png(qr) if qr else None)
            public_keys = decision.public_keys(found[decision.device.name])
            for path, content in contents.items():
                entry = _handed_out.change_of(path, content, public_keys)
                if entry:
                    changes.append(entry)
                    if not self._task.check_mode:
                        _handed_out.write(path, content)
            if qr and not self._task.check_mode:
                self._show(arguments["qr_terminal"], decision.device.name, qr)
            if decision.outdated:
                self._warn_outdated(decision.device, found[decision.device.name])
        self._warn_forgotten(folder, wanted)
        return {
            "changed": bool(changes),
            "diff": changes,
            "devices": [self._returned(folder, decision) for decision in decisions],
            "peers": [peer for decision in decisions for peer in decision.peers],
        }

    @staticmethod
    def _returned(folder: _handed_out.Folder, decision: _handed_out.Decision) -> dict[str, Any]:
        """What is said of a device; nothing of it is secret."""
        device = decision.device
        paths = (folder.file(device.name, suffix) for suffix in ("conf", "png"))
        return {
            "name": device.name,
            "kind": device.kind,
            "state": device.state,
            "addresses": list(device.addresses),
            "public_key": decision.public_key,
            "issued": decision.conf is not None,
            "outdated": decision.outdated,
            "files": [path for path in paths if os.path.exists(path)],
        }

    @staticmethod
    def _show(when: str, name: str, text: str) -> None:
        """On the screen only: not into Ansible's log."""
        if when == "always" or (when == "auto" and on_terminal()):
            display.display(f"{name}:\n{_handed_out.qr_terminal(text)}", screen_only=True)

    @staticmethod
    def _warn_outdated(device: _devices.Device, found: _handed_out.Found) -> None:
        remedies = []
        if device.public_key or found.private_key:
            remedies.append(f"write it again with -e {OF_ROLE}reissue={device.name} and import it there")
        if not device.public_key:
            remedies.append(f"give it a new key with -e {OF_ROLE}regenerate={device.name}")
        display.warning(
            f"device {device.name} has a file that says something else than it would say now: "
            f"{', or '.join(remedies)}"
        )

    @staticmethod
    def _warn_forgotten(folder: _handed_out.Folder, wanted: _handed_out.Wanted) -> None:
        listed = {device.name for device in wanted.devices}
        forgotten = [
            name
            for name, record in folder.records().items()
            if name not in listed
            if _handed_out.of_network(name, _handed_out.Found(record=record), wanted)
        ]
        for name in forgotten:
            display.warning(
                f"device {name} is not listed any more, and still in the network: list it with state: absent "
                "to revoke it"
            )


def on_terminal() -> bool:
    """Is the standard output of ansible-playbook a terminal, and no pipe or log?

    Ansible runs actions in a process of their own, which from ansible-core 2.19 on has no standard output.
    """
    try:
        descriptor = os.open(f"/proc/{os.getppid()}/fd/1", os.O_WRONLY | os.O_NOCTTY)
    except OSError:
        return sys.stdout is not None and sys.stdout.isatty()
    try:
        return os.isatty(descriptor)
    finally:
        os.close(descriptor)
