# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""The command line: options in, exit codes and one-line errors out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import wg_rendezvous
from wg_rendezvous import agent, cli, config, hub, status
from wg_rendezvous.config import AgentOptions, HubOptions, StatusOptions

HUB_URL = "http://192.168.7.1:8080"
AGENT = ["agent", "--interface", "wg0", "--hub", HUB_URL]


@pytest.fixture(autouse=True)
def no_ini(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(config, "CONFIG_DIRECTORY", str(tmp_path))
    return tmp_path


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The options that hub, agent or status were run with."""
    calls: list[Any] = []

    def run(options: Any) -> int:
        calls.append(options)
        return 0

    for module in (agent, hub, status):
        monkeypatch.setattr(module, "run", run)
    return calls


def test_the_defaults_are_the_designs(ran: list[Any]) -> None:
    assert cli.main(["hub", "--interface", "wg0"]) == 0
    assert cli.main(AGENT) == 0
    assert cli.main(["status"]) == 0

    assert ran == [HubOptions("wg0", None, 8080), AgentOptions("wg0", HUB_URL), StatusOptions(None, False)]
    assert (ran[1].interval_s, ran[1].refresh, ran[1].opener_ttls) == (13, "rebind", (2, 3, 4))
    assert (ran[1].refresh_per_minute, ran[1].refresh_per_hour) == (1, 6)


def test_every_option_can_be_given(ran: list[Any]) -> None:
    options = (
        "--listen [fd07::5]:81 --interval-s 0.5 --refresh off --refresh-per-minute 3 --refresh-per-hour 2"
    )
    more = "--opener-ttls 2,9 --log-format json --log-level debug"
    assert cli.main([*AGENT, *options.split(), *more.split()]) == 0
    assert ran == [AgentOptions("wg0", HUB_URL, "fd07::5", 81, 0.5, "off", 3, 2, (2, 9), "json", "debug")]


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("192.168.7.1:81", "192.168.7.1", 81),
        ("192.168.7.1", "192.168.7.1", 8080),
        (":81", None, 81),
        ("[fd07::1]:81", "fd07::1", 81),
        ("[fd07::1]", "fd07::1", 8080),
    ],
)
def test_listen_is_an_address_a_port_or_both(ran: list[Any], text: str, host: str | None, port: int) -> None:
    assert cli.main(["hub", "--interface", "wg0", "--listen", text]) == 0
    assert ran == [HubOptions("wg0", host, port)]


def test_options_come_from_the_ini_of_the_interface_and_the_command_line_wins(
    ran: list[Any], no_ini: Path
) -> None:
    (no_ini / "wg0.ini").write_text(
        f"[agent]\nhub = {HUB_URL}/\ninterval-s=5\nlisten = 192.168.7.5:9090\n\n[hub]\nlisten=192.168.7.1\n"
    )
    assert cli.main(["agent", "--interface", "wg0", "--interval-s", "7"]) == 0
    assert ran == [AgentOptions("wg0", HUB_URL, "192.168.7.5", 9090, 7.0)]


def test_a_file_named_by_config_is_read_instead(ran: list[Any], tmp_path: Path) -> None:
    (tmp_path / "mine.ini").write_text("[hub]\ninterface = wg7\nlog-format = json\n")
    assert cli.main(["hub", "--config", str(tmp_path / "mine.ini")]) == 0
    assert ran == [HubOptions("wg7", log_format="json")]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["hub"], ["--interface", "wg0"]),
        (["agent", "--interface", "wg0"], ["--hub", HUB_URL]),
        (["hub", "--interface", "wg0/../x"], ["--interface", "'wg0/../x'", "wg0"]),
        (["hub", "--interface", "a-name-that-is-too-long"], ["--interface", "15"]),
        (["status", "--interface", ".."], ["--interface", "'..'"]),
        (
            ["hub", "--interface", "wg0", "--listen", "0.0.0.0:8080"],
            ["--listen", "'0.0.0.0:8080'", "own address"],
        ),
        (["hub", "--interface", "wg0", "--listen", "192.168.7.1:0"], ["--listen", "192.168.7.1:0"]),
        (["hub", "--interface", "wg0", "--listen", "192.168.7.300:80"], ["--listen", "'192.168.7.300:80'"]),
        (["hub", "--interface", "wg0", "--listen", ""], ["--listen", "''"]),
        ([*AGENT[:3], "--hub", "https://192.168.7.1"], ["--hub", "'https://192.168.7.1'", HUB_URL]),
        ([*AGENT[:3], "--hub", "192.168.7.1:8080"], ["--hub", HUB_URL]),
        ([*AGENT[:3], "--hub", "http://192.168.7.1:99999"], ["--hub", HUB_URL]),
        ([*AGENT[:3], "--hub", "http://192.168.7.1:8080/path"], ["--hub", HUB_URL]),
        ([*AGENT, "--interval-s", "0"], ["--interval-s", "'0'", "13"]),
        ([*AGENT, "--interval-s", "nan"], ["--interval-s", "'nan'"]),
        ([*AGENT, "--refresh", "maybe"], ["--refresh", "'maybe'", "rebind, restart, off"]),
        ([*AGENT, "--refresh-per-hour", "1.5"], ["--refresh-per-hour", "'1.5'"]),
        ([*AGENT, "--opener-ttls", "2,x"], ["--opener-ttls", "'2,x'", "2,3,4"]),
        ([*AGENT, "--opener-ttls", "0"], ["--opener-ttls", "'0'"]),
        ([*AGENT, "--log-level", "loud"], ["--log-level", "'loud'", "debug"]),
        ([*AGENT, "--inter", "5"], ["--inter", "--help"]),
        (["hub", "--interface", "wg0", "--config", "/nowhere.ini"], ["--config", "'/nowhere.ini'"]),
        (["dance"], ["dance", "hub"]),
        (["hub", "--two\nlines"], ["--two lines", "--help"]),
        ([], ["hub|agent|status"]),
    ],
)
def test_a_bad_option_is_one_line_that_names_it_its_value_and_the_remedy(
    arguments: list[str], named: list[str], ran: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(arguments) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert all(text in err for text in named), err
    assert ran == []


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[agent]\ninterval-s = soon\n", ["interval-s", "'soon'", "13"]),
        ("[agent]\nintervall = 13\n", ["'intervall'", "interval-s"]),
        ("interval-s = 13\n", ["[agent]"]),
        ("[agent]\nhub = a\nhub = b\n", ["hub", "[agent]"]),
        ("[agent\n", ["[agent]"]),
    ],
)
def test_a_bad_ini_is_one_line_that_names_the_file(
    text: str, named: list[str], no_ini: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (no_ini / "wg0.ini").write_text(text)
    assert cli.main(AGENT) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert all(word in err for word in [str(no_ini / "wg0.ini"), *named]), err


def run_alone(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run this Python text in a process of its own, where nothing is imported yet."""
    return subprocess.run(
        [sys.executable, "-c", f"import sys\nfrom wg_rendezvous import cli\n{program}", *arguments],
        check=False,
        capture_output=True,
        text=True,
        cwd=Path(wg_rendezvous.__file__).parents[1],
    )


def test_a_missing_package_is_named() -> None:
    run = run_alone(
        "sys.modules['aiohttp'] = None\nsys.exit(cli.main(sys.argv[1:]))", "hub", "--interface", "wg0"
    )
    assert run.returncode == 1
    assert "python3-aiohttp" in run.stderr
    assert run.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "arguments", [["--version"], ["status", "--json"], ["hub", "--interface", "wg0", "--listen", "x"]]
)
def test_what_needs_no_network_imports_no_aiohttp(arguments: list[str]) -> None:
    run = run_alone(
        "try:\n    cli.main(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        "sys.exit(any(name in sys.modules for name in ('aiohttp', 'prometheus_client', 'asyncio')))",
        *arguments,
    )
    assert run.returncode == 0
