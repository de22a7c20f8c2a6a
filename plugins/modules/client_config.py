#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Documentation of the action plugin client_config; all of it runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: client_config
short_description: Write the files that devices import which Ansible does not manage
version_added: 0.2.0
description:
  - Writes, on the controller, a WireGuard configuration for each phone, Windows or Linux machine, and for a
    hub that is no host of the inventory; for phones also as a QR code.
  - A key is made here, or only the public key is taken from the owner of the device.
  - A key that was handed out is neither made nor written nor shown again unless O(regenerate) or O(reissue)
    names the device. That also holds if its files were deleted, or if another controller has made it and
    O(hub_peers) says so.
  - The private key is in NAME.conf and NAME.png only, with mode V(0600), and in no result, log or difference.
  - The peers of the hub are not changed. RV(peers) is what M(rendezvous.wireguard.peers) has to be told
    there, and the role P(rendezvous.wireguard.wg_client_config#role) tells it.
author:
  - The rendezvous.wireguard authors (!UNKNOWN)
requirements:
  - segno (Python, on the controller), for QR codes only
attributes:
  check_mode:
    description: Can run in check mode and say what would be written, without writing or showing anything.
    support: full
  diff_mode:
    description: Shows how the files change, without private keys and QR codes.
    support: full
  idempotent:
    description: A second run changes nothing.
    support: partial
    details:
      - Not with O(regenerate), which makes a new key each time.
options:
  devices:
    description:
      - The devices, each a dictionary with C(name), C(kind), C(address), and optionally C(state),
        C(public_key), C(networks), C(dns), C(mtu), C(listen_port), C(persistent_keepalive_s), C(endpoint)
        and C(agent), as the role P(rendezvous.wireguard.wg_client_config#role) describes them.
    type: raw
    required: true
  directory:
    description:
      - Where the files are on the controller. It is made with mode V(0700) and a C(.gitignore); one that was
        there before gets both if there is nothing else in it, and else a warning says what it lacks.
    type: path
    required: true
  hub:
    description:
      - The hub's name in the inventory; empty if one of the devices is the hub.
    type: str
    default: ''
  hub_addresses:
    description:
      - The hub's addresses with prefix.
    type: list
    elements: str
    default: []
  hub_interface:
    description:
      - The name of its interface.
    type: str
    default: wg0
  hub_endpoint:
    description:
      - Where the hub is reached, as V(host:port).
    type: str
    default: ''
  hub_public_key:
    description:
      - The hub's public key.
    type: str
  hub_peers:
    description:
      - The peers that the hub has, as M(rendezvous.wireguard.peers) returns them.
    type: list
    elements: dict
    default: []
  networks:
    description:
      - What a device sends to the hub.
    type: list
    elements: str
    default: []
  persistent_keepalive_s:
    description:
      - The seconds between two keepalives of a device, V(0) for none.
    type: raw
    default: 13
  agents:
    description:
      - The commands that start and stop the agent of a device that has one.
    type: dict
    default: {}
    suboptions:
      linux:
        description: On Linux.
        type: dict
        suboptions: &hooks
          start:
            description: Written as C(PostUp).
            type: list
            elements: str
            default: []
          stop:
            description: Written as C(PostDown).
            type: list
            elements: str
            default: []
      windows:
        description: On Windows.
        type: dict
        suboptions: *hooks
  regenerate:
    description:
      - Names of devices that get a new key; the old one is refused from then on.
      - With a device that is the hub, all others whose file is still here get one with its new key.
    type: list
    elements: str
    default: []
  reissue:
    description:
      - Names of devices whose file is written, and shown, once more with the key that it has.
    type: list
    elements: str
    default: []
  qr:
    description:
      - Whether phones get a QR code.
    type: bool
    default: true
  qr_terminal:
    description:
      - Whether a new QR code is printed, with V(auto) only if the standard output is a terminal and no log.
    type: str
    choices: [auto, always, never]
    default: auto
  preflight:
    description:
      - Only check what can be checked without the hub.
    type: bool
    default: false
seealso:
  - module: rendezvous.wireguard.peers
"""

EXAMPLES = r"""
- name: The phone has a file and a QR code
  rendezvous.wireguard.client_config:
    directory: "{{ inventory_dir }}/wireguard_clients"
    hub: hub.example.net
    hub_addresses: 192.168.7.1/24
    hub_endpoint: hub.example.net:51820
    hub_public_key: zcUx7+vGCSLBVH8K1UPjOVAb+KvyzgGFzLFsDLBqVCM=
    networks: 192.168.7.0/24
    devices:
      - name: phone
        kind: phone
        address: 192.168.7.50/24
  register: devices

- name: The hub knows it
  rendezvous.wireguard.peers:
    interface: wg0
    peers: "{{ devices.peers }}"
  delegate_to: hub.example.net
"""

RETURN = r"""
devices:
  description: The devices, in the order in which they are listed.
  type: list
  elements: dict
  returned: success
  contains:
    name:
      description: The name.
      type: str
    kind:
      description: The kind.
      type: str
    state:
      description: V(present) or V(absent).
      type: str
    addresses:
      description: The addresses.
      type: list
      elements: str
    public_key:
      description:
        - The public key.
        - In check mode, if a key would be made, that of a key which is made up for the occasion and
          forgotten.
      type: str
    issued:
      description: Whether its file was written, and is to be handed out.
      type: bool
    outdated:
      description: Whether it has a file that says something else than it would say now.
      type: bool
    files:
      description: What can be handed out.
      type: list
      elements: str
  sample:
    - name: phone
      kind: phone
      state: present
      addresses: [192.168.7.50/24]
      public_key: 0ybDBWFYOKT0aOt3SVx4l4/uHyY7IIbtrUVJfBLjHE8=
      issued: true
      outdated: false
      files: [wireguard_clients/phone.conf, wireguard_clients/phone.png]
peers:
  description: What the hub has to be told, for M(rendezvous.wireguard.peers).
  type: list
  elements: dict
  returned: success
  sample:
    - name: phone
      public_key: 0ybDBWFYOKT0aOt3SVx4l4/uHyY7IIbtrUVJfBLjHE8=
      allowed_ips: [192.168.7.50/32]
problems:
  description: What is wrong with the devices.
  type: list
  elements: str
  returned: failure
"""
