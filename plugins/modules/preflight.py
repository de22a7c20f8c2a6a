#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the roles have to know about a node, and what on it would stop them."""

from __future__ import annotations

DOCUMENTATION = r"""
module: preflight
short_description: Find what would stop a deployment, before anything is changed
version_added: 0.1.0
description:
  - On the controller, checks the variables of the roles as the host has them, and the addresses of all hosts
    in the groups C(wireguard_hub) and C(wireguard_peers).
  - On the node, finds out what system it is and what it is able to do.
  - Changes nothing. Each problem is said with the host's name and what to write instead, all of them at once.
extends_documentation_fragment:
  - rendezvous.wireguard.attributes.info
  - rendezvous.wireguard.attributes.action_group
options:
  interface:
    description: The name of the WireGuard interface.
    type: str
    required: true
  address:
    description: Its address with prefix, or a list of them.
    type: raw
  role:
    description: What the host is deployed as, which says whose variables are checked.
    version_added: 0.2.0
    type: str
    choices: [interface, hub, peer]
    default: interface
  failure:
    description:
      - What has kept an earlier call from its end, such as a variable without a value.
      - With it, only the inventory is looked at, for a better reason; if there is none, this is it.
    version_added: 0.3.0
    type: str
  systems:
    description:
      - The supported systems by C(ID) and C(VERSION_ID) of os-release(5).
      - Each has a list C(packages), and a list C(userspace_packages) for kernels without WireGuard.
    type: dict
    required: true
  listen_port:
    description: As in M(rendezvous.wireguard.firewall).
    type: int
  tcp_ports:
    description: As in M(rendezvous.wireguard.firewall).
    type: list
    elements: int
    default: []
  udp_ports:
    description: As in M(rendezvous.wireguard.firewall).
    version_added: 0.2.0
    type: list
    elements: int
    default: []
  relay:
    description: As in M(rendezvous.wireguard.firewall).
    type: bool
    default: false
  subnets:
    description: As in M(rendezvous.wireguard.firewall).
    version_added: 0.2.0
    type: list
    elements: str
    default: []
  masquerade:
    description: As in M(rendezvous.wireguard.firewall).
    version_added: 0.2.0
    type: bool
    default: false
  hub_networks:
    description:
      - What is routed to the hub, so that no other interface may have it. Leave it out, it comes from the
        controller.
    version_added: 0.2.0
    type: list
    elements: str
    default: []
  firewall:
    description: As O(rendezvous.wireguard.firewall#module:backend).
    type: str
    choices: [auto, firewalld, ufw, nftables, none]
    default: auto
  units:
    description: The units that are to run, as in M(rendezvous.wireguard.services).
    version_added: 0.2.0
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: The name with its suffix.
        type: str
        required: true
      files:
        description: A unit that was started before one of these was written waits for a restart.
        type: list
        elements: path
        default: []
      taken_over:
        description: As in M(rendezvous.wireguard.services).
        type: bool
        default: false
  program:
    description: What is to be of the node program, as in M(rendezvous.wireguard.node_program).
    version_added: 0.2.0
    type: dict
    suboptions:
      link:
        description: As in M(rendezvous.wireguard.node_program).
        type: path
      files:
        description: As in M(rendezvous.wireguard.node_program).
        type: list
        elements: dict
        default: []
        suboptions:
          dest:
            description: The file on the node.
            type: path
            required: true
          content:
            description: Its text.
            type: str
            required: true
          mode:
            description: Its permissions.
            type: raw
            default: '0644'
      checksum:
        description: SHA-1 of the program. Leave it out, it comes from the controller.
        type: str
  half_rotated:
    description:
      - Accept an interface that runs with another key than its file has, as a rotation leaves it that was
        killed in the wrong moment. Else it is a problem on a hub, since all peers would lose it with the
        next change.
    version_added: 0.2.0
    type: bool
    default: false
  introduction:
    description:
      - What the hub has to be told of this peer. It is returned as it is, so that one task can tell the hub
        about all peers of a play.
    version_added: 0.2.0
    type: dict
"""

EXAMPLES = r"""
- name: Nothing stands in the way
  rendezvous.wireguard.preflight:
    interface: wg0
    address: 192.168.7.5/24
    systems:
      debian:
        '12': {packages: [wireguard-tools], userspace_packages: [wireguard-go]}
"""

RETURN = r"""
interface:
  description: The interface that was asked about.
  type: str
  returned: success
  sample: wg0
role:
  description: The role that was asked about.
  type: str
  returned: success
  sample: peer
packages_missing:
  description: Packages that are not installed yet.
  type: list
  elements: str
  returned: success
  sample: [wireguard-tools]
package_manager_ready:
  description: Whether the package module could work in check mode.
  type: bool
  returned: success
firewall:
  description: Who keeps the node's firewall rules.
  type: str
  returned: success
  sample: nftables
program_missing:
  description: Whether the node has no node program yet.
  type: bool
  returned: success
program_current:
  description: Whether M(rendezvous.wireguard.node_program) would find nothing to do.
  type: bool
  returned: success, with O(program)
units_waiting:
  description: The units that are not enabled, do not run, or were started before their files were written.
  type: list
  elements: str
  returned: success
  sample: [wg-quick@wg0.service]
introduction:
  description: The option of that name.
  type: dict
  returned: success
deployed:
  description: As of M(rendezvous.wireguard.admission), for all keys.
  type: bool
  returned: success, on a hub
refused:
  description: The same.
  type: dict
  returned: success, on a hub
claims:
  description: The same.
  type: dict
  returned: success, on a hub
preshared_key_ids:
  description: The same.
  type: dict
  returned: success, on a hub
public_key:
  description: The public key of the interface, V(null) if it has none yet.
  type: str
  returned: success
  sample: zcUx7+vGCSLBVH8K1UPjOVAb+KvyzgGFzLFsDLBqVCM=
present_mesh_secrets:
  description: The ids of the mesh secrets that the host has, the newest first.
  type: list
  elements: str
  returned: success, on a hub
  sample: [d0b1e66a9a9fd3fc]
mesh_secrets:
  description: The ids of the mesh secrets that the host is to have, the newest first.
  type: list
  elements: str
  returned: success
  sample: [d0b1e66a9a9fd3fc]
configured:
  description:
    - What C(/etc/wireguard/IF.conf) says so far.
  type: dict
  returned: success
  contains:
    addresses:
      description: The addresses with the prefixes of their networks.
      type: list
      elements: str
    listen_port:
      description: The UDP port, V(null) without one.
      type: int
    former_ports:
      description: Those that it had before and that are answered still; from the firewall's own record.
      type: list
      elements: int
  sample:
    addresses: [192.168.7.1/24]
    listen_port: 51821
    former_ports: [51820]
problems:
  description: What would stop a deployment.
  type: list
  elements: str
  returned: failure
"""

import ipaddress
import json
import os
import subprocess
from collections.abc import Iterable
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.rendezvous.wireguard.plugins.module_utils import (
    _files,
    _firewall,
    _node_program,
    _system,
    _units,
)
from ansible_collections.rendezvous.wireguard.plugins.module_utils._keypair import read_private_key
from ansible_collections.rendezvous.wireguard.plugins.module_utils._node import Node, NodeError
from ansible_collections.rendezvous.wireguard.plugins.module_utils._removal import hub_state
from ansible_collections.rendezvous.wireguard.plugins.module_utils._wireguard import check, conf, keys


def conf_problems(interface: str, result: dict[str, Any], directory: str = "/etc/wireguard") -> list[str]:
    """A file that is there already has to be one that the modules can read, and that stays as it is.

    What it says of the interface goes into the result.
    """
    path = os.path.join(directory, interface + ".conf")
    result["configured"] = {"addresses": [], "listen_port": None, "former_ports": former_ports(interface)}
    try:
        with open(path, encoding="utf-8") as file:
            parsed = conf.parse(file.read())
        before = parsed.interface()
        parsed.peers()
    except FileNotFoundError:
        return []
    except UnicodeDecodeError:
        return [f"{path} is not UTF-8 text: correct or move it"]
    except ValueError as error:
        return [f"{path}: {error}"]
    result["configured"].update(addresses=list(before.addresses), listen_port=before.listen_port)
    return []


def former_ports(interface: str) -> list[int]:
    """Those of the firewall's record, none without one."""
    openings = _firewall.Openings.recorded(_firewall.CONFIG.format(interface=interface))
    return list(openings.former_ports) if openings else []


def key_problems(interface: str, result: dict[str, Any], directory: str = "/etc/wireguard") -> list[str]:
    """A key that is there already has to be one that can stay; its public key goes into the result."""
    try:
        private_key = read_private_key(os.path.join(directory, interface + ".key"))
        private_key = private_key or key_made_by_hand(os.path.join(directory, interface + ".conf"))
    except (NodeError, ValueError) as error:
        return [str(error)]
    result["public_key"] = keys.public_key(private_key) if private_key else running_public_key(interface)
    return []


def key_made_by_hand(path: str) -> str | None:
    """The one in a configuration, which the module `interface` takes over. ValueError if it is none."""
    try:
        with open(path, encoding="utf-8") as file:
            found = conf.parse(file.read()).interface().private_key
    except (OSError, ValueError):  # there is no file, or that it cannot be read is said of the file
        return None
    return None if found is None else check.private_key(found, f"PrivateKey in {path}")


def running_public_key(interface: str) -> str | None:
    """None if it is down."""
    answer = (_system.run("wg", "show", interface, "public-key") or "(none)").strip()
    return None if answer == "(none)" else answer


def half_rotated_problems(interface: str, public_key: str | None) -> list[str]:
    """A hub that runs with the key that its peers know, and would take the one of its file."""
    running = running_public_key(interface)
    if running in (None, public_key):
        return []
    key_file = f"/etc/wireguard/{interface}.key"
    problem = (
        f"{interface} runs with the key {running}, which its peers know, and {key_file} has another one, as "
        "after a rotation that was killed: run rendezvous.wireguard.rotate_hub_key, which ends it; if that "
        f"file is right and the peers know its key: wg set {interface} private-key {key_file}"
    )
    return [problem]


def wireguard_problems(kernel: bool, tun: bool) -> list[str]:
    """Kernel or wireguard-go: one of the two has to be possible."""
    if kernel or tun:
        return []
    remedy = "load the module wireguard or tun, or give the container --device /dev/net/tun"
    return [f"the kernel has no WireGuard, and there is no /dev/net/tun for wireguard-go: {remedy}"]


def neighbour_problems(
    parameters: dict[str, Any], links: str, directory: str = "/etc/wireguard"
) -> list[str]:
    """What another interface that is up has already. `links` is what `ip -json -details address` prints."""
    interface, address, port = (parameters[name] for name in ("interface", "address", "listen_port"))
    own = [ipaddress.ip_interface(text) for text in (address if isinstance(address, list) else [address])]
    problems = []
    for link in json.loads(links or "[]"):
        name = link.get("ifname", "")
        if name == interface:
            # wireguard-go's is a tun
            if link.get("linkinfo", {}).get("info_kind") not in ("wireguard", "tun"):
                problems.append(f"wg_interface_name {name} is no WireGuard interface: write another name")
            continue
        for entry in link.get("addr_info", []):
            network = ipaddress.ip_interface(f"{entry['local']}/{entry['prefixlen']}").network
            problems += [
                f"wg_interface_address {one}: the interface {name} is in {network} already, and a packet can "
                "go to one of them only: write an address of another network"
                for one in own
                if one.network == network
            ]
            problems += [
                f"wg_peer_hub_networks {routed}: the interface {name} has that network already, and a "
                "packet can go to one of them only: give one site another network, or leave it out there"
                for routed in parameters["hub_networks"]
                if ipaddress.ip_network(routed) == network
            ]
        path = os.path.join(directory, f"{name}.conf")
        if port and port == listen_port_in(path):
            problems.append(f"UDP port {port} is that of {name} as well ({path}): write another one")
    return problems


def former_port_problems(port: int | None, records: Iterable[_firewall.Openings]) -> list[str]:
    """What comes in at a former port of another interface is that one's, by the firewall's record of it."""
    return [
        f"UDP port {port} was that of {record.interface}, which is still reached there: write another one, "
        f"or deploy the network of {record.interface} with wg_hub_former_ports: [] first"
        for record in records
        if port in record.former_ports
    ]


def listen_port_in(path: str) -> int | None:
    """The ListenPort of a configuration, None without one; what cannot be read is none of ours."""
    try:
        with open(path, encoding="utf-8") as file:
            return conf.parse(file.read()).interface().listen_port
    except (OSError, ValueError):
        return None


def firewall_problems(parameters: dict[str, Any]) -> list[str]:
    """Only what neither we nor firewalld or ufw can open."""
    backend = parameters["firewall"]
    if backend == "none":
        return []
    address = parameters["address"]
    texts = tuple(address) if isinstance(address, list) else (str(address),)
    for text in texts:
        ipaddress.ip_interface(text)
    openings = _firewall.Openings(
        parameters["interface"],
        texts,
        parameters["listen_port"],
        tuple(parameters["tcp_ports"]),
        parameters["relay"],
        backend,
        tuple(parameters["udp_ports"]),
        tuple(parameters["subnets"]),
        parameters["masquerade"],
    )
    return _firewall.unmanageable(openings, _system.iptables_rules(), nft_ruleset())


def nft_ruleset() -> _firewall.Ruleset:
    """What nftables has; nothing where it is not installed yet."""
    try:
        return _firewall.read_ruleset()
    except (OSError, subprocess.CalledProcessError):
        return _firewall.Ruleset({})


def admission(node: Node, result: dict[str, Any]) -> list[str]:
    """What peers would else have to ask a hub in a task of its own."""
    try:
        result.update(hub_state(node))
    except NodeError as error:
        return [str(error)]
    result["deployed"] = result.get("public_key") is not None
    return []


def program_problems(module: AnsibleModule, result: dict[str, Any]) -> list[str]:
    """What is where the program belongs; whether anything is to be done for it goes into the result."""
    wanted = {"dest": _files.PROGRAM, "mode": "0755", **module.params["program"]}
    try:
        result["program_current"] = _node_program.current(module, wanted)
    except NodeError as error:
        return [str(error)]
    except OSError as error:
        return [f"{error.filename}: {error.strerror}: move away what is there"]
    return []


def units_waiting(wanted: list[dict[str, Any]]) -> list[str]:
    """All of them where systemd does not answer."""
    answer = _system.run(*_units.question(one["name"] for one in wanted)) if wanted else None
    return _units.waiting(wanted, _units.parse(answer or ""))


def find(parameters: dict[str, Any], result: dict[str, Any]) -> list[str]:
    """Fill the result, and return the problems."""
    if os.geteuid() != 0:
        return ["needs root: write become: true in the play"]
    with open("/etc/os-release", encoding="utf-8") as file:
        release = _system.os_release(file.read())
    try:
        system = _system.resolve(parameters["systems"], release)
    except ValueError as error:
        return [str(error)]
    kernel = _system.kernel_has_wireguard()
    packages = list(system["packages"]) + ([] if kernel else list(system["userspace_packages"]))
    if parameters["firewall"] == "auto":
        parameters["firewall"] = _system.firewall_backend()
    result["packages_missing"] = _system.missing_packages(packages)
    result["package_manager_ready"] = _system.package_manager_ready()
    result["firewall"] = parameters["firewall"]
    result["program_missing"] = not os.path.exists(_files.PROGRAM)
    result["units_waiting"] = units_waiting(parameters["units"])
    return (
        conf_problems(parameters["interface"], result)
        + key_problems(parameters["interface"], result)
        + wireguard_problems(kernel, _system.tun_works())
        + neighbour_problems(parameters, _system.run("ip", "-json", "-details", "address") or "")
        + former_port_problems(parameters["listen_port"], _firewall.of_others(parameters["interface"]))
        + firewall_problems(parameters)
    )


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "interface": {"type": "str", "required": True},
            "address": {"type": "raw"},
            "role": {"type": "str", "choices": ["interface", "hub", "peer"], "default": "interface"},
            "failure": {"type": "str"},
            "systems": {"type": "dict", "required": True},
            "listen_port": {"type": "int"},
            "tcp_ports": {"type": "list", "elements": "int", "default": []},
            "udp_ports": {"type": "list", "elements": "int", "default": []},
            "relay": {"type": "bool", "default": False},
            "subnets": {"type": "list", "elements": "str", "default": []},
            "masquerade": {"type": "bool", "default": False},
            "hub_networks": {"type": "list", "elements": "str", "default": []},
            "firewall": {
                "type": "str",
                "choices": ["auto", "firewalld", "ufw", "nftables", "none"],
                "default": "auto",
            },
            "units": {"type": "list", "elements": "dict", "default": [], "options": _units.UNIT_SPEC},
            "program": {
                "type": "dict",
                "options": {
                    "link": {"type": "path"},
                    "files": _node_program.FILES_SPEC,
                    "checksum": {"type": "str"},
                },
            },
            "half_rotated": {"type": "bool", "default": False},
            "introduction": {"type": "dict"},
        },
        supports_check_mode=True,
    )
    result: dict[str, Any] = {
        "changed": False,
        "interface": module.params["interface"],
        "role": module.params["role"],
        "introduction": module.params["introduction"],
    }
    problems = find(module.params, result)
    if module.params["role"] == "hub" and not problems:
        if not module.params["half_rotated"]:
            problems = half_rotated_problems(module.params["interface"], result["public_key"])
        problems += admission(Node(module, module.params["interface"]), result)
    if module.params["program"] and not problems:
        problems = program_problems(module, result)
    if problems:
        module.fail_json(msg="; ".join(problems), problems=problems)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
