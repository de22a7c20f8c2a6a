# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""The command line: `wg-rendezvous hub|agent|status`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

from . import __version__, log
from .config import (
    OPTIONS,
    AgentOptions,
    HubOptions,
    OptionError,
    StatusOptions,
    check_interface,
    read_options,
)

DESCRIPTIONS = {
    "hub": "Tell the peers of a WireGuard network one another's endpoints.",
    "agent": "Open direct WireGuard paths to the other peers.",
    "status": "Show who is reached how.",
}
# What a node needs besides Python, and how to get it.
PACKAGES = {
    name: f"install the distribution's python3-{name.replace('_', '-')}, or pip install {name}"
    for name in ("aiohttp", "prometheus_client")
}


class _Parser(argparse.ArgumentParser):
    """Errors in one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        raise OptionError(f"{message}: see {self.prog} --help")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that `argv` (default: sys.argv[1:]) asks for.

    Returns the exit code: 0 done, 1 it failed, 2 bad options (one line on stderr: option, value, remedy).
    """
    try:
        arguments = _parser().parse_args(argv)
        command = arguments.command
        # Imported when needed: aiohttp alone takes half a second on a small node (DESIGN fact 19).
        if command == "status":
            interface = None if arguments.interface is None else check_interface(arguments.interface)
            from . import status

            return status.run(StatusOptions(interface, arguments.json))
        given: dict[str, str] = {
            name: value
            for name in OPTIONS[command]
            if (value := getattr(arguments, name.replace("-", "_"))) is not None
        }
        fields = read_options(command, given, arguments.config)
        if command == "hub":
            hub_options = HubOptions(**fields)
            log.configure(hub_options.log_format, hub_options.log_level)
            from . import hub

            return hub.run(hub_options)
        agent_options = AgentOptions(**fields)
        log.configure(agent_options.log_format, agent_options.log_level)
        from . import agent

        return agent.run(agent_options)
    except OptionError as error:
        # One line, also if an argument that argparse repeats has several.
        print(f"wg-rendezvous: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        if error.name not in PACKAGES:
            raise
        print(f"wg-rendezvous: {error.name} is not installed: {PACKAGES[error.name]}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # e.g. `status | head`
        sys.stderr.close()
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="wg-rendezvous",
        description="Direct WireGuard tunnels through NATs and firewalls.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"wg-rendezvous {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="hub|agent|status", required=True)
    for command, options in OPTIONS.items():
        sub = commands.add_parser(
            command, help=DESCRIPTIONS[command], description=DESCRIPTIONS[command], allow_abbrev=False
        )
        sub.add_argument(
            "--config", metavar="FILE", help="options as an ini file (/etc/wg-rendezvous/IF.ini)"
        )
        for name, option in options.items():
            sub.add_argument(f"--{name}", metavar=option.metavar, help=option.help)
    sub = commands.add_parser(
        "status", help=DESCRIPTIONS["status"], description=DESCRIPTIONS["status"], allow_abbrev=False
    )
    sub.add_argument("--interface", metavar="IF", help="this interface only (all)")
    sub.add_argument(
        "--json", action="store_true", help="for programs: one object with --interface, else a list"
    )
    return parser
