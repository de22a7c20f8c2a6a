# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What kind of system a node is, and what it is able to do. Reads only; nothing of Ansible."""

from __future__ import annotations

import glob
import importlib.util
import json
import os
import shlex
import shutil
from collections.abc import Mapping
from typing import Any

from . import _command

Systems = Mapping[str, Mapping[str, Mapping[str, Any]]]


def os_release(text: str) -> dict[str, str]:
    """The assignments of os-release(5)."""
    pairs = (line.partition("=") for line in text.splitlines() if "=" in line and not line.startswith("#"))
    return {name.strip(): " ".join(shlex.split(value)) for name, _equals, value in pairs}


def resolve(systems: Systems, release: Mapping[str, str]) -> Mapping[str, Any]:
    """The entry for this system in `systems`, {ID: {VERSION_ID: entry}}. ValueError if there is none."""
    system, version = release.get("ID", "unknown"), release.get("VERSION_ID", "unknown")
    try:
        return systems[system][version]
    except KeyError:
        supported = ", ".join(
            f"{name} {known}" for name in sorted(systems) for known in sorted(systems[name])
        )
        raise ValueError(f"{system} {version} is not supported; supported are {supported}") from None


def run(*command: str) -> str | None:
    """Standard output of a command, None if it is missing or fails."""
    code, out, _err = _command.run(command)
    return out if code == 0 else None


def missing_packages(wanted: list[str]) -> list[str]:
    """Those of the packages that dpkg does not have installed."""
    listing = run("dpkg-query", "--show", "--showformat", "${Package} ${db:Status-Status}\\n") or ""
    installed = {line.split()[0] for line in listing.splitlines() if line.endswith(" installed")}
    return [package for package in wanted if package not in installed]


def package_manager_ready() -> bool:
    """Whether Ansible's apt module works in check mode, which fetches neither python3-apt nor lists."""
    return importlib.util.find_spec("apt") is not None and bool(glob.glob("/var/lib/apt/lists/*Packages*"))


def kernel_has_wireguard() -> bool:
    """Loaded, or there to be loaded. The last resort asks the kernel, in a network namespace made for it."""
    if os.path.isdir("/sys/module/wireguard"):
        return True
    directory = os.path.join("/lib/modules", os.uname().release)
    lists = [os.path.join(directory, name) for name in ("modules.dep", "modules.builtin")]
    if any("/wireguard.ko" in _text(path) for path in lists):
        return True
    return run("unshare", "--net", "ip", "link", "add", "type", "wireguard") is not None


def _text(path: str) -> str:
    """A file's text, empty if it cannot be read."""
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError:
        return ""


def tun_works() -> bool:
    """Can /dev/net/tun be opened? wireguard-go needs it."""
    try:
        os.close(os.open("/dev/net/tun", os.O_RDWR))
    except OSError:
        return False
    return True


def firewall_backend() -> str:
    """Who keeps the node's firewall rules: firewalld, ufw, or nobody but nftables."""
    if run("firewall-cmd", "--state") is not None:
        return "firewalld"
    if "Status: active" in (run("ufw", "status") or ""):
        return "ufw"
    return "nftables"


def uplinks() -> list[str]:
    """The interfaces with a default route."""
    names: list[str] = []
    for family in ("-4", "-6"):
        for route in json.loads(run("ip", family, "-json", "route", "show", "default") or "[]"):
            names += [hop["dev"] for hop in route.get("nexthops", [route]) if "dev" in hop]
    return list(dict.fromkeys(names))


def iptables_rules() -> dict[str, str]:
    """The filter rules of both kinds of iptables, {command: output of -S}, of those that are installed."""
    found: dict[str, str] = {}
    for command in ("iptables", "iptables-legacy"):
        if shutil.which(command, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin"):
            rules = run(command, "-S")
            if rules and rules not in found.values():
                found[command] = rules
    return found
