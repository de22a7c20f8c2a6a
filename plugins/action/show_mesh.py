# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The mesh as lines on the terminal, which no callback plugin puts into quotes; documented as a module."""

from __future__ import annotations

from typing import Any

from ansible import constants
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.rendezvous.wireguard.plugins.plugin_utils import _table

ARGUMENTS = {
    "answers": {"type": "dict", "required": True},
    "width": {"type": "int", "default": 120},
}

display = Display()


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core ships no types
    """Makes the table of what it is given; asks nobody."""

    _supports_check_mode = True
    _supports_diff = False
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Returns lines and unanswered; fails if nobody has answered, with what each host said instead."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        _unused, arguments = self.validate_argument_spec(ARGUMENTS)
        answers = arguments["answers"]
        try:
            lines = _table.table(answers, arguments["width"])
            unanswered = _table.unanswered(answers)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            message = f"answers: write registered results of mesh_info by host name; {error!r}"
            return dict(result, failed=True, msg=message)
        result.update(changed=False, unanswered=unanswered)
        if len(unanswered) == len(answers):
            why = "\n".join(f"{host}: {reason}" for host, reason in unanswered.items())
            result.update(failed=True, msg=f"no host has answered, so nothing is known of the mesh\n{why}")
            return result
        display.display("\n".join(lines), stderr=writes_json(constants.DEFAULT_STDOUT_CALLBACK))
        return dict(result, lines=lines)


def writes_json(callback: str) -> bool:
    """Does this callback plugin write JSON, so that the standard output is for a program?"""
    return "json" in callback.rpartition(".")[2]
