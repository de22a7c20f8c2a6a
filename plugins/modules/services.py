#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The units of one interface, all at once."""

from __future__ import annotations

DOCUMENTATION = r"""
module: services
short_description: Run the units of an interface, with the files as they are now
version_added: 0.2.0
description:
  - Enables and starts several units of systemd in one execution. One that started before its files were
    written is restarted, and systemd reads unit files that have changed.
  - What is to be done is told from times, not from what the run has changed. So it is done also by the next
    run, if one was killed before it came to that.
  - In check mode a unit that is not there yet counts as one that would be started.
extends_documentation_fragment:
  - rendezvous.wireguard.attributes
options:
  units:
    description:
      - The units.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description:
          - The name with its suffix. With O(state=refreshed) it can be a pattern.
        type: str
        required: true
      files:
        description:
          - A unit that was started before one of these was written is restarted.
        type: list
        elements: path
        default: []
      taken_over:
        description:
          - Whether the next process takes over what the one before has made, and a restart is to leave it in
            place. Then its main process is ended by SIGKILL, since a stop would take it back. The links of an
            agent go on like that, with nobody noticing.
        type: bool
        default: false
  state:
    description:
      - What is to become of the units.
    type: str
    default: started
    choices:
      started: They are enabled, and run.
      refreshed: Those that run do so with the files as they are; the others are left alone.
seealso:
  - module: ansible.builtin.systemd_service
"""

EXAMPLES = r"""
- name: The interface and its agent run, now and at boot
  rendezvous.wireguard.services:
    units:
      - name: wg-quick@wg0.service
      - name: wg-rendezvous-agent@wg0.service
        files:
          - /usr/local/lib/wg-rendezvous/wg-rendezvous.pyz
          - /etc/wg-rendezvous/wg0.ini

- name: All agents run the new program
  rendezvous.wireguard.services:
    units:
      - name: wg-rendezvous-agent@*.service
        files: [/usr/local/lib/wg-rendezvous/wg-rendezvous.pyz]
    state: refreshed
"""

RETURN = r"""
started:
  description: The units that were started.
  type: list
  elements: str
  returned: success
  sample: [wg-quick@wg0.service]
restarted:
  description: The units that were restarted.
  type: list
  elements: str
  returned: success
  sample: [wg-rendezvous-agent@wg0.service]
"""

import fnmatch
from collections.abc import Iterable
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.rendezvous.wireguard.plugins.module_utils import _system, _units
from ansible_collections.rendezvous.wireguard.plugins.module_utils._node import (
    NodeError,
    change,
    changed,
    run,
    run_module,
)


class Services:
    """Units as they are, and what becomes of them."""

    def __init__(self, module: AnsibleModule, wanted: list[dict[str, Any]]) -> None:
        self.module = module
        self.wanted = wanted
        self.found = _units.parse(self._systemctl_show())
        self.changes: list[dict[str, str]] = []

    def start(self) -> dict[str, Any]:
        """All are enabled and run, with the files as they are."""
        units = [self.found.get(one["name"], _units.Unit(one["name"])) for one in self.wanted]
        stopped = [unit.name for unit in units if not unit.runs]
        self._reload(units)
        self._do("enable", [unit.name for unit in units if not unit.enabled], "disabled", "enabled")
        self._do("start", stopped, "stopped", "started")
        return self._result(stopped)

    def refresh(self) -> dict[str, Any]:
        """Those that run do so with the files as they are."""
        self._reload(self.found.values())
        return self._result([])

    def _result(self, started: list[str]) -> dict[str, Any]:
        old = [unit.name for unit in self.found.values() if unit.runs and self._is_old(unit)]
        abrupt = [name for name in old if any(one["taken_over"] for one in self._matching(name))]
        if abrupt and not self.module.check_mode:
            run(("systemctl", "kill", "--kill-who=main", "--signal=SIGKILL", *abrupt))
        self._do("restart", old, "runs with files of before", "restarted")
        return {"started": started, "restarted": old, **changed(self.changes)}

    def _is_old(self, unit: _units.Unit) -> bool:
        return any(_units.older_than(unit, one["files"]) for one in self._matching(unit.name))

    def _matching(self, name: str) -> Iterable[dict[str, Any]]:
        return (one for one in self.wanted if fnmatch.fnmatchcase(name, one["name"]))

    def _reload(self, units: Iterable[_units.Unit]) -> None:
        names = [unit.name for unit in units if unit.stale_manager]
        for name in names:
            self.changes.append(change(name, "unit file of before\n", "unit file read again\n"))
        if names and not self.module.check_mode:
            run(("systemctl", "daemon-reload"))

    def _do(self, verb: str, names: list[str], before: str, after: str) -> None:
        """One call for all units, so that systemd orders them."""
        for name in names:
            self.changes.append(change(name, f"{before}\n", f"{after}\n"))
        if names and not self.module.check_mode:
            run(("systemctl", verb, *names))

    def _systemctl_show(self) -> str:
        answer = _system.run(*_units.question(one["name"] for one in self.wanted))
        if answer is None and not self.module.check_mode:
            raise NodeError("systemd does not answer `systemctl show`: is it what this node was booted with?")
        return answer or ""


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "units": {"type": "list", "elements": "dict", "required": True, "options": _units.UNIT_SPEC},
            "state": {"type": "str", "default": "started", "choices": ["started", "refreshed"]},
        },
        supports_check_mode=True,
    )

    def work() -> dict[str, Any]:
        services = Services(module, module.params["units"])
        return services.start() if module.params["state"] == "started" else services.refresh()

    run_module(module, work)


if __name__ == "__main__":
    main()
