# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ask the hub for all peers of a run; that it cannot be reached is an answer, too."""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core ships no types
    """Runs the module. An unreachable host would end the play without a word, the task being `run_once`."""

    _supports_check_mode = True
    _requires_connection = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Returns what the module returns; if the hub does not answer it fails, with `reachable` false."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        try:
            result.update(self._execute_module(task_vars=task_vars), reachable=True)
        except AnsibleConnectionFailure as error:
            result.update(failed=True, reachable=False, msg=str(error))
        return result
