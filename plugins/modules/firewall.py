#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The part of a node's firewall that one WireGuard interface needs."""

from __future__ import annotations

DOCUMENTATION = r"""
module: firewall
short_description: Let a WireGuard interface's traffic through the node's firewall
version_added: 0.1.0
description:
  - Opens what the tunnel needs, in firewalld or ufw where one is active, else with nftables, and sets the
    sysctls of a relay.
  - With firewalld, the interface gets a zone of its own, such as C(wireguard-wg0), unless the user has put it
    into one. The zone begins with the services, ports and protocols of the default zone, so that who comes
    through the tunnel is not shut out, and forwards within itself on a relay. The listen port is opened in
    the default zone and in the zones of the interfaces with a default route. Only if a zone comes or goes,
    firewalld is reloaded.
  - With ufw, rules for both directions are added, with a comment.
  - What an earlier run has opened and is not wanted any more is closed.
  - With nftables, every table is asked whether it would drop the tunnel's packets. If it would, an accept
    rule, marked by its comment, goes to the head of the chain that drops; nothing else of it is touched.
    Where only a rule for all UDP would do, none is added; M(rendezvous.wireguard.preflight) names the chain.
  - On a relay, packets between peers are not tracked, in a table of our own, so that TCP streams survive the
    move to a direct path and back.
  - Writes the program and its record that C(wg-rendezvous-firewall@INTERFACE.service) of the role
    C(wg_interface) runs at boot and after nftables has been restarted or reloaded.
  - Works in check mode also where C(nft) is not installed yet.
extends_documentation_fragment:
  - rendezvous.wireguard.attributes
  - rendezvous.wireguard.attributes.action_group
options:
  interface:
    description: The name of the WireGuard interface.
    type: str
    required: true
  addresses:
    description: Its addresses, with the prefix of their networks. Required if O(state=present).
    type: list
    elements: str
    default: []
  listen_port:
    description:
      - The UDP port to accept from anywhere.
      - Leave it out where the port may change; a node that begins its conversations itself needs none.
    type: int
  tcp_ports:
    description: TCP ports to accept from the interface.
    type: list
    elements: int
    default: []
  udp_ports:
    description: UDP ports to accept from the interface.
    version_added: 0.2.0
    type: list
    elements: int
    default: []
  former_ports:
    description:
      - UDP ports where WireGuard listened before O(listen_port). Who still sends to one of them is answered
        from there, by a table of our own that gives the packets the present port, and the answers the former
        one. Not with O(backend=none).
      - While the running interface has another port than O(listen_port), only the record is written;
        M(rendezvous.wireguard.interface) makes the table when it changes the port.
    version_added: 0.2.0
    type: list
    elements: int
    default: []
  relay:
    description: Whether packets go from one peer to another through this node.
    type: bool
    default: false
  unit:
    description:
      - The text of the unit C(wg-rendezvous-firewall@.service), which is written to C(/etc/systemd/system).
      - Left out, the unit is the business of others.
    version_added: 0.2.0
    type: str
  subnets:
    description:
      - Networks behind this node, to and from which packets of the interface are forwarded.
      - With firewalld, the zones of the interface and of the subnet have to let them pass already.
    version_added: 0.2.0
    type: list
    elements: str
    default: []
  masquerade:
    description: Whether packets of the peers to the rest of the world leave with this node's own address.
    version_added: 0.2.0
    type: bool
    default: false
  backend:
    description:
      - Who keeps the firewall's rules.
      - V(auto) is firewalld or ufw if active, else nftables; V(none) leaves all rules alone.
    type: str
    choices: [auto, firewalld, ufw, nftables, none]
    default: auto
  state:
    description:
      - V(absent) closes what was opened for the interface, and removes the record. Running sysctls stay.
    version_added: 0.2.0
    type: str
    choices: [present, absent]
    default: present
"""

EXAMPLES = r"""
- name: The hub's firewall
  rendezvous.wireguard.firewall:
    interface: wg0
    addresses: [192.168.7.1/24]
    listen_port: 51820
    tcp_ports: [8080]
    udp_ports: [8080]
    relay: true

- name: A peer's firewall
  rendezvous.wireguard.firewall:
    interface: wg0
    addresses: [192.168.7.5/24]
    tcp_ports: [8080]
    udp_ports: [8080]

- name: The interface is gone, and what was opened for it goes as well
  rendezvous.wireguard.firewall:
    interface: wg0
    state: absent
"""

RETURN = r"""
backend:
  description: Who keeps the firewall's rules.
  type: str
  returned: always
  sample: nftables
"""

import inspect
import os
import shlex
import tempfile
from dataclasses import replace
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.rendezvous.wireguard.plugins.module_utils import (
    _command,
    _firewall,
    _firewall_backends,
    _system,
)

PROGRAM = "/usr/local/lib/wg-rendezvous/firewall.py"
UNIT = "/etc/systemd/system/wg-rendezvous-firewall@.service"


class Firewall:
    """Collects what would change, and changes it unless in check mode."""

    def __init__(self, module: AnsibleModule, openings: _firewall.Openings) -> None:
        self.module = module
        self.openings = openings
        self.changed = False
        self.diffs: list[dict[str, str]] = []

    def note(self, what: str, before: str, after: str) -> None:
        """Record one change for the diff."""
        self.changed = True
        self.diffs.append({"before_header": what, "after_header": what, "before": before, "after": after})

    def file(self, path: str, text: str, mode: int) -> None:
        """The file has this text; an empty one is not there."""
        before = ""
        if os.path.exists(path):
            with open(path, encoding="utf-8") as file:
                before = file.read()
        if before == text:
            return
        self.note(path, before if path != PROGRAM else "", text if path != PROGRAM else "(the program)\n")
        if self.module.check_mode:
            return
        if not text:
            os.unlink(path)
            return
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        descriptor, new = tempfile.mkstemp(dir=self.module.tmpdir)
        with os.fdopen(descriptor, "w", encoding="utf-8") as out:
            out.write(text)
        os.chmod(new, mode)
        self.module.atomic_move(new, path)

    def rules(self) -> None:
        """What nft has to hold."""
        try:
            todo = _firewall.plan(_firewall.read_ruleset(), self.openings)
        except OSError:
            if not self.module.check_mode:
                self.module.fail_json(msg="nft is not installed: install the package nftables")
            todo = _firewall.plan(_firewall.Ruleset({}), self.openings)
        if self.listens_elsewhere():
            todo = replace(todo, former_ports=None)
        if todo:
            self.note("nft", "", todo.commands())
            if not self.module.check_mode:
                self.run(["nft", "-f", "-"], todo.commands())

    def listens_elsewhere(self) -> bool:
        """Does the running interface have another port than the one it is to have?"""
        port = (_system.run("wg", "show", self.openings.interface, "listen-port") or "").strip()
        return port not in ("", str(self.openings.listen_port))

    def sysctls(self) -> None:
        """The running values; those of an interface that is still to come are set by the unit."""
        wrong = _firewall.wrong_sysctls(self.openings)
        if wrong:
            self.note("sysctl", "", "".join("{} = {}\n".format(*item) for item in wrong.items()))
            if not self.module.check_mode:
                _firewall.set_sysctls(wrong)

    def commands(self, commands: list[list[str]]) -> None:
        """Run them; each of them changes something."""
        for command in commands:
            self.note(command[0], "", shlex.join(command) + "\n")
            if not self.module.check_mode:
                self.run(command)

    def run(self, command: list[str], stdin: str | None = None) -> None:
        """Run a command that has to succeed."""
        code, _out, err = _command.run(command, stdin)
        if code != 0:
            self.module.fail_json(msg=f"`{shlex.join(command)}` failed: {err.strip()}")

    def firewalld(self, openings: _firewall.Openings | None, before: _firewall.Openings | None) -> None:
        """Its configuration first: what is in there is still there after a reload."""
        interface, state = self.openings.interface, firewalld_state(self.openings.interface)
        self.commands(_firewall_backends.permanent_commands(state, openings, before))
        if _firewall_backends.needs_reload(state, openings):
            self.commands([["firewall-cmd", "--quiet", "--reload"]])
            if self.module.check_mode:
                return
            state = firewalld_state(interface)
        self.commands(_firewall_backends.runtime_commands(state, openings, before))

    def ufw(self, openings: _firewall.Openings | None) -> None:
        """ufw keeps its rules and applies them in one."""
        added = _system.run("ufw", "show", "added") or ""
        self.commands(_firewall_backends.ufw_commands(self.openings.interface, openings, added))


def firewalld_state(interface: str) -> _firewall_backends.Firewalld:
    """What firewalld has now."""
    return _firewall_backends.Firewalld(
        interface,
        _firewall_backends.read_zones(_system.run("firewall-cmd", "--permanent", "--list-all-zones") or ""),
        _firewall_backends.read_zones(_system.run("firewall-cmd", "--list-all-zones") or ""),
        (_system.run("firewall-cmd", "--get-default-zone") or "public").strip(),
        tuple(name for name in _system.uplinks() if name != interface),
        tuple(other for other in _firewall.of_others(interface) if other.backend == "firewalld"),
    )


def ensure(module: AnsibleModule, openings: _firewall.Openings, wanted: bool) -> Firewall:
    """All of it, in the order in which a failure leaves least behind."""
    firewall = Firewall(module, openings)
    record = _firewall.CONFIG.format(interface=openings.interface)
    before = _firewall.Openings.recorded(record)
    if wanted:
        firewall.file(PROGRAM, inspect.getsource(_firewall), 0o755)
    firewall.file(
        _firewall.SYSCTL_FILE.format(interface=openings.interface), _firewall.sysctl_text(openings), 0o644
    )
    firewall.sysctls()
    _by_others(firewall, before)
    firewall.rules()
    # Last: what was opened is known from it, also after a run that failed half way.
    firewall.file(record, openings.to_json() if wanted else "", 0o644)
    return firewall


def _by_others(firewall: Firewall, before: _firewall.Openings | None) -> None:
    """firewalld and ufw: what is wanted of them, and what they keep of earlier runs if they still run."""
    backend, old = firewall.openings.backend, before.backend if before else ""
    if "firewalld" in (backend, old) and _system.run("firewall-cmd", "--state") is not None:
        openings = firewall.openings if backend == "firewalld" else None
        firewall.firewalld(openings, before if old == "firewalld" else None)
    if "ufw" in (backend, old) and _system.run("ufw", "show", "added") is not None:
        firewall.ufw(firewall.openings if backend == "ufw" else None)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "interface": {"type": "str", "required": True},
            "addresses": {"type": "list", "elements": "str", "default": []},
            "listen_port": {"type": "int"},
            "tcp_ports": {"type": "list", "elements": "int", "default": []},
            "udp_ports": {"type": "list", "elements": "int", "default": []},
            "former_ports": {"type": "list", "elements": "int", "default": []},
            "relay": {"type": "bool", "default": False},
            "unit": {"type": "str"},
            "subnets": {"type": "list", "elements": "str", "default": []},
            "masquerade": {"type": "bool", "default": False},
            "backend": {
                "type": "str",
                "choices": ["auto", "firewalld", "ufw", "nftables", "none"],
                "default": "auto",
            },
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        },
        required_if=[("state", "present", ["addresses"])],
        supports_check_mode=True,
    )
    parameters: dict[str, Any] = module.params
    wanted = parameters["state"] == "present"
    backend = parameters["backend"] if wanted else "none"
    openings = _firewall.Openings(
        interface=parameters["interface"],
        addresses=tuple(parameters["addresses"]),
        listen_port=parameters["listen_port"],
        tcp_ports=tuple(dict.fromkeys(parameters["tcp_ports"])),
        udp_ports=tuple(dict.fromkeys(parameters["udp_ports"])),
        former_ports=tuple(parameters["former_ports"]),
        relay=parameters["relay"] and wanted,
        subnets=tuple(parameters["subnets"]),
        masquerade=parameters["masquerade"],
        backend=_system.firewall_backend() if backend == "auto" else backend,
    )
    try:
        firewall = ensure(module, openings, wanted)
        if parameters["unit"] and wanted:
            firewall.file(UNIT, parameters["unit"], 0o644)
    except (OSError, ValueError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=firewall.changed, diff=firewall.diffs, backend=openings.backend)


if __name__ == "__main__":
    main()
