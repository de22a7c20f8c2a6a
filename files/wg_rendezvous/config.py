# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""The options of the three commands: what they may be, what they mean, and where they come from.

An option is text, from the command line or from `/etc/wg-rendezvous/IF.ini` (section [hub] or [agent], the
keys are the long names without the dashes); the command line wins. One table, OPTIONS, holds them all.
"""

from __future__ import annotations

import configparser
import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Callable
from urllib.parse import urlsplit

from . import log
from ._wireguard import check

DEFAULT_PORT = 8080
CONFIG_DIRECTORY = "/etc/wg-rendezvous"
RUN_DIRECTORY = "/run/wg-rendezvous"
STATE_DIRECTORY = "/var/lib/wg-rendezvous"

REFRESH = ("rebind", "restart", "off")


class OptionError(Exception):
    """An option, its value, and the remedy, in one line."""


@dataclass(frozen=True)
class HubOptions:
    """Options of `wg-rendezvous hub`. `listen_host` None: all of the interface's own addresses."""

    interface: str
    listen_host: str | None = None
    listen_port: int = DEFAULT_PORT
    log_format: str = "text"
    log_level: str = "info"


@dataclass(frozen=True)
class AgentOptions:
    """Options of `wg-rendezvous agent`. `hub` is `http://host:port` without a slash at its end."""

    interface: str
    hub: str
    listen_host: str | None = None
    listen_port: int = DEFAULT_PORT
    interval_s: float = 13.0
    refresh: str = "rebind"
    refresh_per_minute: int = 1
    refresh_per_hour: int = 6
    opener_ttls: tuple[int, ...] = (2, 3, 4)
    log_format: str = "text"
    log_level: str = "info"


@dataclass(frozen=True)
class StatusOptions:
    """Options of `wg-rendezvous status`. `interface` None: every one that has a hub or an agent here."""

    interface: str | None = None
    json: bool = False


@dataclass(frozen=True)
class Option:
    """One option: `read` makes fields of its options class from text, or raises ValueError (the remedy)."""

    read: Callable[[str], dict[str, Any]]
    metavar: str
    help: str


# --- what each option may be ---


def _interface(text: str) -> dict[str, Any]:
    try:
        return {"interface": check.interface_name(text)}
    except ValueError:
        raise ValueError(
            "is not an interface name: 1 to 15 letters, digits or any of _=+.-, not - first, e.g. wg0"
        ) from None


def _port(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", text) or not 1 <= int(text) <= 65535:
        raise ValueError("has no port between 1 and 65535")
    return int(text)


def _listen(text: str) -> dict[str, Any]:
    remedy = "is not an address of the interface with a port, e.g. 192.168.7.1:8080 or [fd07::1]:8080"
    match = re.fullmatch(r"(?:\[([0-9a-fA-F:.]+)\]|([0-9.]*))(?::([0-9]+))?", text)
    if match is None or not text:
        raise ValueError(remedy)
    host = match.group(1) or match.group(2) or None
    try:
        address = ipaddress.ip_address(host) if host else None
        port = _port(match.group(3)) if match.group(3) else DEFAULT_PORT
    except ValueError:
        raise ValueError(remedy) from None
    if address is not None and address.is_unspecified:
        raise ValueError(
            "would listen outside of the VPN: give the interface's own address, e.g. 192.168.7.1:8080"
        )
    return {"listen_host": str(address) if address else None, "listen_port": port}


def _is_address(host: str | None) -> bool:
    try:
        ipaddress.ip_address(host or "")
    except ValueError:
        return False
    return True


def _hub(text: str) -> dict[str, Any]:
    remedy = "is not the URL of a hub inside the VPN, e.g. http://192.168.7.1:8080"
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise ValueError(remedy) from None
    plain = parts.path in ("", "/") and not (
        parts.query or parts.fragment or parts.username or parts.password
    )
    if (
        parts.scheme != "http"
        or not _is_address(parts.hostname)
        or not plain
        or port == 0
        or not text.isprintable()
        or " " in text
    ):
        raise ValueError(remedy)
    return {"hub": f"http://{parts.netloc}"}


def _number(name: str, low: float, high: float, whole: bool, example: str) -> Callable[[str], dict[str, Any]]:
    kind = "a whole number" if whole else "a number"
    remedy = f"is not {kind} between {low:g} and {high:g}, e.g. {example}"

    def read(text: str) -> dict[str, Any]:
        try:
            value = int(text) if whole else float(text)
        except ValueError:
            raise ValueError(remedy) from None
        if not low <= value <= high:
            raise ValueError(remedy)
        return {name: value}

    return read


def _choice(name: str, allowed: tuple[str, ...]) -> Callable[[str], dict[str, Any]]:
    def read(text: str) -> dict[str, Any]:
        if text not in allowed:
            raise ValueError(f"is none of {', '.join(allowed)}")
        return {name: text}

    return read


def _opener_ttls(text: str) -> dict[str, Any]:
    words = [word.strip() for word in text.split(",")]
    if (
        not all(re.fullmatch(r"[0-9]{1,3}", word) and 1 <= int(word) <= 255 for word in words)
        or len(words) > 3
    ):
        raise ValueError("is not a list of at most 3 TTLs between 1 and 255, e.g. 2,3,4")
    return {"opener_ttls": tuple(int(word) for word in words)}


_COMMON = {
    "interface": Option(_interface, "IF", "the WireGuard interface, e.g. wg0"),
    "listen": Option(
        _listen,
        "ADDRESS:PORT",
        "where the HTTP API listens (all addresses of the interface, port 8080)",
    ),
    "log-format": Option(_choice("log_format", log.FORMATS), "FORMAT", "text or json (text)"),
    "log-level": Option(_choice("log_level", log.LEVELS), "LEVEL", "debug, info, warning or error (info)"),
}

OPTIONS: Mapping[str, Mapping[str, Option]] = {
    "hub": _COMMON,
    "agent": {
        **_COMMON,
        "hub": Option(_hub, "URL", "the hub inside the VPN, e.g. http://192.168.7.1:8080"),
        "interval-s": Option(
            _number("interval_s", 0.5, 3600, False, "13"), "SECONDS", "between two passes over all peers (13)"
        ),
        "refresh": Option(
            _choice("refresh", REFRESH),
            "HOW",
            "take a fresh port by rebind, by restart of the unit, or off (rebind)",
        ),
        "refresh-per-minute": Option(
            _number("refresh_per_minute", 1, 60, True, "1"), "N", "fresh ports a minute, at most (1)"
        ),
        "refresh-per-hour": Option(
            _number("refresh_per_hour", 1, 3600, True, "6"), "N", "fresh ports an hour, at most (6)"
        ),
        "opener-ttls": Option(_opener_ttls, "TTL,…", "TTLs of the openers (2,3,4)"),
    },
}


# --- where they come from ---


def read_options(command: str, given: Mapping[str, str], config: str | None) -> dict[str, Any]:
    """The fields of the options class of `command` (hub, agent).

    `given` holds the command line's options as text by long name; `config` is the ini file named there, else
    `/etc/wg-rendezvous/IF.ini`, which need not exist. Raises OptionError.
    """
    from_file = _read_ini(command, config, given.get("interface"))
    fields: dict[str, Any] = {}
    for name, option in OPTIONS[command].items():
        if name in given:
            where, text = f"option --{name}", given[name]
        elif name in from_file:
            where, text = f"{from_file[name][0]}: option {name}", from_file[name][1]
        else:
            continue
        fields.update(_checked(option, where, text))
    for name in ("interface", "hub") if command == "agent" else ("interface",):
        if name not in fields:
            example = {"interface": "wg0", "hub": "http://192.168.7.1:8080"}[name]
            raise OptionError(f"option --{name} is missing: write e.g. --{name} {example}")
    return fields


def check_interface(text: str) -> str:
    """`text`, if it can be the name of an interface. Raises OptionError."""
    name: str = _checked(_COMMON["interface"], "option --interface", text)["interface"]
    return name


def _checked(option: Option, where: str, text: str) -> dict[str, Any]:
    try:
        return option.read(text)
    except ValueError as error:
        raise OptionError(f"{where}: {text!r} {error}") from None


def _read_ini(command: str, config: str | None, interface: str | None) -> dict[str, tuple[str, str]]:
    """Options of section [command] as {name: (file, text)}."""
    if config is None and interface is None:
        return {}
    path = config or f"{CONFIG_DIRECTORY}/{check_interface(interface or '')}.ini"
    parser = configparser.ConfigParser(interpolation=None, delimiters=("=",), default_section="")
    try:
        with open(path, encoding="utf-8") as file:
            parser.read_file(file)
    except FileNotFoundError:
        if config is None:
            return {}
        raise OptionError(f"option --config: {path!r} does not exist: name a file that does") from None
    except (OSError, UnicodeDecodeError) as error:
        raise OptionError(f"{path}: cannot be read ({error}): make it a readable text file") from None
    except configparser.Error as error:
        raise OptionError(
            f"{path}: {' '.join(str(error).split())}: write [{command}] and lines 'name = value'"
        ) from None
    if not parser.has_section(command):
        return {}
    known = OPTIONS[command]
    for name in parser.options(command):
        if name not in known:
            raise OptionError(
                f"{path}: section [{command}] has no option {name!r}: use {', '.join(sorted(known))}"
            )
    return {name: (path, text.strip()) for name, text in parser.items(command)}
