# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""What is left on a node after an uninstallation: nothing, but for keys that nobody has given up."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.rendezvous.wireguard.plugins.module_utils import _command, _firewall, _system
from ansible_collections.rendezvous.wireguard.plugins.module_utils._uninstall import Place
from ansible_collections.rendezvous.wireguard.plugins.modules import uninstall
from tests.unit.plugins.conftest import Host

FILES = (
    "etc/wg-rendezvous/wg0.ini",
    "etc/sysctl.d/60-wg-rendezvous-wg0.conf",
    "etc/systemd/system/wg-rendezvous-agent@.service",
    "etc/systemd/system/wg-rendezvous-firewall@.service",
    "etc/systemd/system/wg-rendezvous-give-back@.service",
    "usr/local/bin/wg-rendezvous-give-back",
    "usr/local/lib/wg-rendezvous/wg-rendezvous.pyz",
    "usr/local/lib/wg-rendezvous/__pycache__/wg-rendezvous-1234.cpython-311/DIGEST",
    "usr/local/lib/wg-rendezvous/firewall.py",
    "var/lib/wg-rendezvous/wg0.json",
    "run/wg-rendezvous/wg0.json",
)
UNITS = ("wg-quick@wg0.service", "wg-rendezvous-agent@wg0.service")


class Installed:
    """A node with two running units, below a directory."""

    def __init__(self, root: Path, host: Host) -> None:
        self.root, self.host = root, host
        self.running = list(UNITS)
        self.calls: list[str] = []
        for name in FILES:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text("")
        record = _firewall.Openings("wg0", ("192.168.7.5/24",), None, (8080,))
        (root / "etc/wg-rendezvous/wg0.firewall.json").write_text(record.to_json())
        (root / "usr/local/bin/wg-rendezvous").symlink_to("/usr/local/lib/wg-rendezvous/wg-rendezvous.pyz")
        host.directory.mkdir(exist_ok=True)
        for kind in ("conf", "key", "key.next", "mesh-secret", "removed"):
            (host.directory / f"wg0.{kind}").write_text("")

    def answer(self, *command: str) -> str | None:
        if command[0] != "systemctl":
            return None
        blocks = [f"Id={unit}\nUnitFileState=enabled\nActiveState=active" for unit in self.running]
        return "\n\n".join(blocks) + "\n"

    def run(self, argv: Sequence[str], _stdin: str | None = None) -> tuple[int, str, str]:
        self.calls.append(" ".join(argv))
        if argv[1] == "stop":
            self.running = []
        return 0, "", ""

    def left(self) -> list[str]:
        return sorted(str(path.relative_to(self.root)) for path in self.root.rglob("*") if not path.is_dir())

    def uninstall(self, check: bool = False, **options: Any) -> dict[str, Any]:
        return self.host.module("uninstall", check, directory=str(self.host.directory), **options)


@pytest.fixture
def installed(tmp_path: Path, host: Host, monkeypatch: pytest.MonkeyPatch) -> Installed:
    node = Installed(tmp_path / "root", host)
    monkeypatch.setattr(_system, "run", node.answer)
    monkeypatch.setattr(_command, "run", node.run)
    monkeypatch.setattr(
        "ansible_collections.rendezvous.wireguard.plugins.modules.uninstall.Place",
        lambda one: Place(one, str(node.root)),
    )
    return node


def test_nothing_is_left_but_the_configuration_and_the_key(installed: Installed) -> None:
    result = installed.uninstall()
    assert (result["changed"], result["last"]) == (True, True)
    assert installed.left() == []
    assert not list(installed.root.rglob("*wg-rendezvous*"))
    assert sorted(path.name for path in installed.host.directory.iterdir()) == [
        "wg0.conf",
        "wg0.key",
        "wg0.key.next",
        "wg0.mesh-secret",
        "wg0.removed",
    ]
    both = " ".join(reversed(UNITS))
    late = "wg-rendezvous-give-back@wg0.service"
    assert installed.calls[:3] == [
        f"systemctl stop {both}",
        f"systemctl disable {both}",
        f"systemctl stop {late}",
    ]
    assert "systemctl daemon-reload" in installed.calls


def test_a_second_time_changes_nothing(installed: Installed) -> None:
    installed.uninstall()
    assert not installed.uninstall()["changed"]


def test_keys_go_when_that_is_asked_for(installed: Installed) -> None:
    installed.uninstall()
    names = [path.name.replace("wg0", "IF") for path in installed.host.directory.iterdir()]
    assert [name for name in names if f"C({name})" not in uninstall.DOCUMENTATION] == []
    assert installed.uninstall(forget_key=True)["changed"]
    assert list(installed.host.directory.iterdir()) == []


def test_check_mode_names_all_and_touches_nothing(installed: Installed) -> None:
    before = installed.left()
    result = installed.uninstall(True)
    assert result["changed"]
    named = {change["before_header"].removesuffix(" (before)") for change in result["diff"]}
    assert {*UNITS, str(installed.root / FILES[0])} <= named
    assert installed.left() == before
    assert installed.calls == []


def test_what_another_interface_uses_stays(installed: Installed) -> None:
    (installed.root / "etc/wg-rendezvous/wg0.5.ini").write_text("")
    (installed.root / "var/lib/wg-rendezvous/wg0.5.json").write_text("")
    assert installed.uninstall()["last"] is False
    left = installed.left()
    assert "usr/local/lib/wg-rendezvous/wg-rendezvous.pyz" in left
    assert "etc/systemd/system/wg-rendezvous-agent@.service" in left
    assert "var/lib/wg-rendezvous/wg0.5.json" in left
    assert not any(name.endswith(("wg0.ini", "wg0.json", "wg0.firewall.json")) for name in left)
