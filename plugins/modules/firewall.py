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
    description: Its addresses, with the prefix of their networks.
    type: list
    elements: str
    required: true
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
    type: list
    elements: int
    default: []
  relay:
    description: Whether packets go from one peer to another through this node.
    type: bool
    default: false
  subnets:
    description:
      - Networks behind this node, to and from which packets of the interface are forwarded.
      - With firewalld, the zones of the interface and of the subnet have to let them pass already.
    type: list
    elements: str
    default: []
  masquerade:
    description: Whether packets of the peers to the rest of the world leave with this node's own address.
    type: bool
    default: false
  backend:
    description:
      - Who keeps the firewall's rules.
      - V(auto) is firewalld or ufw if active, else nftables; V(none) leaves all rules alone.
    type: str
    choices: [auto, firewalld, ufw, nftables, none]
    default: auto
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
import tempfile
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.rendezvous.wireguard.plugins.module_utils import _firewall, _system

PROGRAM = "/usr/local/lib/wg-rendezvous/firewall.py"
COMMENT = "rendezvous.wireguard"

Step = tuple[list[str], list[str]]
"""A question and a command: the command is needed unless the question is answered by success."""


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
        if todo:
            self.note("nft", "", todo.commands())
            if not self.module.check_mode:
                self.module.run_command(["nft", "-f", "-"], data=todo.commands(), check_rc=True)

    def sysctls(self) -> None:
        """The running values; those of an interface that is still to come are set by the unit."""
        wrong = _firewall.wrong_sysctls(self.openings)
        if wrong:
            self.note("sysctl", "", "".join("{} = {}\n".format(*item) for item in wrong.items()))
            if not self.module.check_mode:
                _firewall.set_sysctls(wrong)

    def commands(self, wanted: list[Step], reload: list[str]) -> None:
        """Each (question, command): the command is needed unless the question is answered by success."""
        needed = [command for question, command in wanted if self.module.run_command(question)[0] != 0]
        for command in needed + ([reload] if needed and reload else []):
            self.note(command[0], "", " ".join(command) + "\n")
            if not self.module.check_mode:
                self.module.run_command(command, check_rc=True)


def firewalld(openings: _firewall.Openings, zone: str, default_zone: str) -> list[Step]:
    """For firewalld: `zone` is the interface's, `default_zone` the outside's."""
    wanted = [(zone, f"port={port}/{protocol}") for protocol, port in openings.inside()]
    if openings.listen_port:
        wanted.append((default_zone, f"port={openings.listen_port}/udp"))
    if openings.relay:
        # Only between interfaces that are listed, not between those that are in the default zone by default.
        wanted += [(zone, f"interface={openings.interface}"), (zone, "forward")]
    start = ["firewall-cmd", "--quiet", "--permanent"]
    return [
        ([*start, f"--zone={one}", f"--query-{it}"], [*start, f"--zone={one}", f"--add-{it}"])
        for one, it in wanted
    ]


def ufw(openings: _firewall.Openings, added: str) -> list[list[str]]:
    """The commands that are missing from `ufw show added`."""
    name = openings.interface
    wanted = [
        f"ufw allow in on {name} to any port {port} proto {protocol}" for protocol, port in openings.inside()
    ]
    if openings.listen_port:
        wanted.append(f"ufw allow {openings.listen_port}/udp")
    if openings.relay:
        wanted.append(f"ufw route allow in on {name} out on {name}")
    for subnet in openings.subnets:
        wanted += [
            f"ufw route allow in on {name} to {subnet}",
            f"ufw route allow out on {name} from {subnet}",
        ]
    if openings.masquerade:
        wanted.append(f"ufw route allow in on {name}")
    lines = [line.partition(" comment ")[0].strip() for line in added.splitlines()]
    return [[*command.split(), "comment", COMMENT] for command in wanted if command not in lines]


def ensure(module: AnsibleModule, openings: _firewall.Openings) -> Firewall:
    """All of it, in the order in which a failure leaves least behind."""
    firewall = Firewall(module, openings)
    name = openings.interface
    firewall.file(PROGRAM, inspect.getsource(_firewall), 0o755)
    firewall.file(_firewall.CONFIG.format(interface=name), openings.to_json(), 0o644)
    firewall.file(_firewall.SYSCTL_FILE.format(interface=name), _firewall.sysctl_text(openings), 0o644)
    firewall.sysctls()
    if openings.backend == "firewalld":
        default_zone = (_system.run("firewall-cmd", "--get-default-zone") or "public").strip()
        zone = (_system.run("firewall-cmd", "--get-zone-of-interface=" + name) or default_zone).strip()
        firewall.commands(firewalld(openings, zone, default_zone), ["firewall-cmd", "--quiet", "--reload"])
    elif openings.backend == "ufw":
        missing = ufw(openings, _system.run("ufw", "show", "added") or "")
        firewall.commands([(["false"], command) for command in missing], [])
    firewall.rules()
    return firewall


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "interface": {"type": "str", "required": True},
            "addresses": {"type": "list", "elements": "str", "required": True},
            "listen_port": {"type": "int"},
            "tcp_ports": {"type": "list", "elements": "int", "default": []},
            "udp_ports": {"type": "list", "elements": "int", "default": []},
            "relay": {"type": "bool", "default": False},
            "subnets": {"type": "list", "elements": "str", "default": []},
            "masquerade": {"type": "bool", "default": False},
            "backend": {
                "type": "str",
                "choices": ["auto", "firewalld", "ufw", "nftables", "none"],
                "default": "auto",
            },
        },
        supports_check_mode=True,
    )
    parameters: dict[str, Any] = module.params
    backend = parameters["backend"]
    openings = _firewall.Openings(
        interface=parameters["interface"],
        addresses=tuple(parameters["addresses"]),
        listen_port=parameters["listen_port"],
        tcp_ports=tuple(parameters["tcp_ports"]),
        udp_ports=tuple(parameters["udp_ports"]),
        relay=parameters["relay"],
        subnets=tuple(parameters["subnets"]),
        masquerade=parameters["masquerade"],
        backend=_system.firewall_backend() if backend == "auto" else backend,
    )
    try:
        firewall = ensure(module, openings)
    except (OSError, ValueError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=firewall.changed, diff=firewall.diffs, backend=openings.backend)


if __name__ == "__main__":
    main()
