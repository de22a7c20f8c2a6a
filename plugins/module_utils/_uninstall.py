# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""Everything of one interface goes from a node again; with the last interface, what they all share.

Decided by what is there, not by what a run has done: what a killed run has left, the next one finds.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from . import _command, _firewall, _removed, _system, _units
from ._node import Node, change, changed, run
from ._wireguard import check, mesh_secret

ETC, STATE, RUN = "etc/wg-rendezvous", "var/lib/wg-rendezvous", "run/wg-rendezvous"
PROGRAMS = ("hub", "agent", "give-back", "firewall")


@dataclass(frozen=True)
class Place:
    """One interface on a node whose files are below `root`."""

    node: Node
    root: str = "/"

    @property
    def units(self) -> list[str]:
        """Those that run for the interface; the tunnel last."""
        names = [f"wg-rendezvous-{program}@{self.node.name}.service" for program in PROGRAMS]
        return [*names, f"wg-quick@{self.node.name}.service"]

    def own_files(self) -> Iterator[str]:
        """What belongs to this interface alone, but for its configuration and keys."""
        name = self.node.name
        yield from (os.path.join(self.root, ETC, f"{name}.{kind}") for kind in ("ini", "firewall.json"))
        yield from (os.path.join(self.root, STATE, f"{name}.json"),)
        yield from (os.path.join(self.root, RUN, f"{name}.{kind}") for kind in ("json", "sock"))
        yield os.path.join(self.root, _firewall.SYSCTL_FILE.format(interface=name).lstrip("/"))

    def secrets(self) -> Iterator[str]:
        """Its configuration, keys and mesh secrets, and the keys that it does not let in."""
        key = os.path.join(self.node.directory, f"{self.node.name}.key")
        yield from (self.node.conf_path, key, f"{key}.next", _removed.path(self.node))
        yield mesh_secret.path(self.node.name, self.node.directory)

    def shared(self) -> Iterator[str]:
        """What all interfaces of the node use."""
        units = (f"etc/systemd/system/wg-rendezvous-{program}@.service" for program in PROGRAMS)
        links = ("usr/local/bin/wg-rendezvous", "usr/local/bin/wg-rendezvous-give-back")
        for path in (*units, *links, "usr/local/lib/wg-rendezvous", ETC, STATE, RUN):
            yield os.path.join(self.root, path)

    def is_the_last(self) -> bool:
        """Does no other interface of the node use what is shared?"""
        own = set(self.own_files())
        directory = os.path.join(self.root, ETC)
        names = os.listdir(directory) if os.path.isdir(directory) else []
        return not {os.path.join(directory, name) for name in names} - own


def uninstall(place: Place, forget_key: bool) -> dict[str, Any]:
    """Stop and remove everything of the interface; its configuration and keys only with `forget_key`.

    What the firewall was told is taken back by the module `firewall`.
    """
    check.interface_name(place.node.name)
    module = place.node.module
    with place.node.locked():
        last = place.is_the_last()
        changes = _stop(module, place.units)
        files = [*place.own_files(), *(place.secrets() if forget_key else ())]
        gone = _remove(module, [*files, *(place.shared() if last else ())])
        if any("/systemd/" in path for path in gone) and not module.check_mode:
            _command.run(("systemctl", "daemon-reload"))
        changes += [change(path, "present\n", "absent\n") for path in gone]
    return {"last": last, **changed(changes)}


def _stop(module: AnsibleModule, names: list[str]) -> list[dict[str, str]]:
    """All at once, so that systemd orders them: an agent gives its links back while the tunnel is up."""
    found = _units.parse(_system.run(*_units.question(names)) or "")
    units = [found[name] for name in names if name in found]
    changes = []
    for unit in units:
        states = (("runs", unit.runs), ("enabled", unit.enabled))
        is_now = "".join(f"{word}\n" for word, is_so in states if is_so)
        changes.append(change(unit.name, is_now, ""))
    stopped = [unit.name for unit in units if unit.runs]
    disabled = [unit.name for unit in units if unit.enabled]
    for verb, of_these in (("stop", stopped), ("disable", disabled)):
        if of_these and not module.check_mode:
            run(("systemctl", verb, *of_these))
    if stopped and not module.check_mode:
        # The end of an agent that could not give its links back has started this meanwhile.
        late = [name for name in names if name.startswith("wg-rendezvous-give-back@")]
        _command.run(("systemctl", "stop", *late))
    if not module.check_mode and units:
        _command.run(("systemctl", "reset-failed", *(unit.name for unit in units)))
    return changes


def _remove(module: AnsibleModule, paths: Iterable[str]) -> list[str]:
    """Those that were there."""
    gone = [path for path in paths if os.path.lexists(path)]
    for path in gone if not module.check_mode else ():
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        elif os.path.lexists(path):
            os.unlink(path)
    return gone
