# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ship the node program: packed on the controller, and sent only to nodes that have another one."""

from __future__ import annotations

import base64
import zlib
from typing import Any

from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase
from ansible_collections.rendezvous.wireguard.plugins.plugin_utils._program import (
    checksum,
    collection_dir,
    pack_collection,
)

MODULE = "rendezvous.wireguard.node_program"


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core ships no types
    """The module does it all in one execution, unless the program turns out to be another one."""

    _supports_check_mode = True
    _supports_diff = True
    _requires_connection = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Returns what the module returns."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        program = pack_collection(collection_dir())
        arguments = {**self._task.args, "checksum": checksum(program)}
        is_missing = boolean(arguments.get("missing", False), strict=False) and not self._task.check_mode
        done = {"program_wanted": True} if is_missing else self._execute(arguments, task_vars)
        if done.get("program_wanted"):
            done = self._execute({**arguments, "program": packed(program)}, task_vars)
        result.update(done)
        return result

    def _execute(self, arguments: dict[str, Any], task_vars: dict[str, Any] | None) -> dict[str, Any]:
        done: dict[str, Any] = self._execute_module(MODULE, arguments, task_vars=task_vars)
        return done


def packed(program: bytes) -> str:
    """As the module takes it. No file is copied beside it: that is one more way to the node, and with
    pipelining the only file that a run which is killed leaves there.
    """
    return base64.b64encode(zlib.compress(program)).decode()
