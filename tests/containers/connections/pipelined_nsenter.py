# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: the rendezvous.wireguard authors
"""An Ansible connection into a container by its first process, with pipelining, as README.md advises."""

from __future__ import annotations

from ansible_collections.community.docker.plugins.connection import nsenter

DOCUMENTATION = """
name: pipelined_nsenter
short_description: enter a container by its first process
description: As community.docker.nsenter, but Python gets a module on standard input, and no copy of it.
author: the rendezvous.wireguard authors
options:
  nsenter_pid:
    description: The process.
    type: int
    default: 0
    vars:
      - name: ansible_nsenter_pid
  pipelining:
    description: Modules are not copied; those that Ansible starts and leaves are copied all the same.
    type: bool
    default: true
"""


class Connection(nsenter.Connection):  # type: ignore[misc]  # ships no types
    """Its base class hands standard input on all the same."""

    transport = "pipelined_nsenter"
    has_pipelining = True
