# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ship the node program: packed on the controller, copied as one file, compiled there; see the module."""

from __future__ import annotations

import hashlib
import os
import shlex
import tempfile
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.rendezvous.wireguard.plugins.plugin_utils._program import (
    collection_dir,
    pack_collection,
)

DEST = "/usr/local/lib/wg-rendezvous/wg-rendezvous.pyz"
MODE = "0755"


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core ships no types
    """A directory, then a copy: both are left to Ansible's own actions, with their modes and errors."""

    _supports_check_mode = True
    _supports_diff = True
    _requires_connection = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Returns changed, dest, checksum, and in diff mode diff."""
        task_vars = task_vars or {}
        result: dict[str, Any] = super().run(tmp, task_vars)
        _unused, arguments = self.validate_argument_spec(
            {"dest": {"type": "path", "default": DEST}, "mode": {"type": "raw", "default": MODE}}
        )
        dest, mode = arguments["dest"], arguments["mode"]
        if not os.path.isabs(dest):
            raise AnsibleActionFail(f"dest {dest!r} is not an absolute path: write e.g. {DEST}")
        program = pack_collection(collection_dir())
        checksum = hashlib.sha1(program, usedforsecurity=False).hexdigest()
        before = self._execute_remote_stat(dest, task_vars, follow=True)
        if before["exists"] and before.get("isdir"):
            raise AnsibleActionFail(
                f"dest {dest} is a directory: name the file, e.g. {dest}/{os.path.basename(DEST)}"
            )

        result.update(dest=dest, checksum=checksum, changed=False)
        if self._task.check_mode and not before["exists"]:
            # copy would refuse, for want of the directory that a real run makes.
            result["changed"] = True
        else:
            directory = {"path": os.path.dirname(dest), "state": "directory"}
            if not before["exists"]:
                directory["mode"] = "0755"
                self._merge(
                    result, self._execute_module("ansible.legacy.file", directory, task_vars=task_vars)
                )
            if not result.get("failed"):
                self._merge(result, self._copy(program, dest, mode, task_vars))
            if not result.get("failed") and not self._task.check_mode:
                self._merge(result, self._compile(dest))
        if self._task.diff and result["changed"] and before.get("checksum") != checksum:
            result["diff"] = {
                "before_header": dest,
                "after_header": dest,
                "before": f"sha1 {before['checksum']}\n" if before["exists"] else "",
                "after": f"sha1 {checksum}\n",
            }
        return result

    def _copy(self, program: bytes, dest: str, mode: Any, task_vars: dict[str, Any]) -> dict[str, Any]:
        """The result of ansible.builtin.copy of `program`."""
        with tempfile.NamedTemporaryFile(prefix="wg-rendezvous-", suffix=".pyz") as source:
            source.write(program)
            source.flush()
            task = self._task.copy()
            task.args = {"src": source.name, "dest": dest, "mode": mode, "follow": True}
            task.diff = False  # it would print nothing but "a binary file"
            action = self._shared_loader_obj.action_loader.get(
                "ansible.legacy.copy",
                task=task,
                connection=self._connection,
                play_context=self._play_context,
                loader=self._loader,
                templar=self._templar,
                shared_loader_obj=self._shared_loader_obj,
            )
            copied: dict[str, Any] = action.run(task_vars=task_vars)
            return copied

    def _compile(self, dest: str) -> dict[str, Any]:
        """Let the program compile itself, unless it has: the services may not write there.

        It is asked each time, since the node may have got another Python.
        """
        said = self._low_level_execute_command(f"python3 {shlex.quote(dest)} --version")
        if said["rc"] == 0:
            return {}
        text = (said["stderr"] or said["stdout"]).strip()
        return {
            "failed": True,
            "msg": f"{dest} does not run with python3, which has to be 3.9 or newer: {text}",
        }

    @staticmethod
    def _merge(result: dict[str, Any], step: dict[str, Any]) -> None:
        """Add the outcome of one step: changed if any changed, failed with its message if it failed."""
        result["changed"] = bool(result["changed"] or step.get("changed"))
        if step.get("failed"):
            result.update({name: step[name] for name in ("failed", "msg", "module_stderr") if name in step})
