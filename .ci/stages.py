# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: the rendezvous.wireguard authors
"""`make test`: every stage in its order, some side by side, one log each.

Stops at the first failure and prints that stage's log, and what it says of the failure once more at the end,
where whoever sees the last lines alone finds it. SIGINT and SIGTERM reach the stages, which clean up
after themselves. The last line counts the tests of all stages, `N passed, N failed`; a stage without pytest
is one test.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
LOGS = CHECKOUT / "build/logs"
HEARTBEAT_S = 30.0
NICENESS = 10
CLEAN_UP_S = 120.0  # for a stage to remove its containers after SIGINT

ROTATION = "tests/integration/modules/test_rotation.py"
"""It measures gaps, so it does not give way as the others there do."""
PLAYBOOKS = "tests/integration/playbooks/test_life.py"
"""What templates make of variables without a value differs between versions of ansible-core."""

COLOUR = re.compile(r"\x1b\[[0-9;]*[A-Za-z]|\x1b\]8;.*?\x1b\\")
"""And links, as ansible-lint prints them."""
SUMMARY = re.compile(r"^(?:=+ )?((?:\d+ \w+,? ?)+)in [\d.]+s", re.MULTILINE)
COUNT = re.compile(r"(\d+) (passed|failed|errors?|skipped)\b")
REASON = re.compile(
    r"^[ │]*((?:E  |FAILED (?!\[)|fatal: |\[?ERROR[]:! ]|[Ee]rror: |"
    r"[a-z-]+\[[a-z-]+\]: |[^\s:]+:\d+(?::\d+)?: [^ ]).*)$",
    re.MULTILINE,
)
"""pytest, Ansible, what checks sources, and others; Molecule draws a line at the left of what it runs."""
NO_REASON = re.compile(
    r"E +\+|\S+:\d+: (?:in \S+|\w+)$|ERROR +(?:\S+ ➜ \w+: Executed: Failed|Verifier tests failed)"
)
"""Of these, what only leads to a reason: pytest's details and places, and Molecule's last words."""
REASONS, REASON_CHARACTERS = 4, 200
COLUMNS = "250"
"""So wide are the lines of the logs, for a reason to be on one of them."""


@dataclass(frozen=True)
class Stage:
    """One target of the Makefile, with its variables; one that gives way has the processors last."""

    name: str
    target: str
    variables: tuple[str, ...] = ()
    gives_way: bool = False

    @property
    def log(self) -> Path:
        """Where its output goes."""
        return LOGS / f"{self.name}.log"


@dataclass
class Counts:
    """Tests that passed, failed and were skipped."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def add(self, other: Counts) -> None:
        """Add the other's counts to these."""
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped

    def __str__(self) -> str:
        return f"{self.passed} passed, {self.failed} failed" + (
            f", {self.skipped} skipped" if self.skipped else ""
        )


def plan() -> list[list[list[Stage]]]:
    """Phases, one after the other; a phase has lanes that run side by side; a lane has stages in sequence.

    What is quick comes first. What depends on times has the machine to itself, the lab, or the others give
    way to it: the scenario whose agents pass more often than in the field, and the one that measures gaps.
    """
    # Made by .ci/setup where there is a Python that ansible-core after 2.19 takes.
    newest = [Stage("unit-newest", "unit", ("CORE=newest",))] if (CHECKOUT / ".venv-newest").exists() else []
    return [
        [[Stage("checkout", "collections"), Stage("collection", "installed")]],
        [
            [Stage("lint", "lint"), *newest],
            [Stage("types", "types"), Stage("unit", "unit"), Stage("unit-2.18", "unit", ("CORE=2.18",))],
        ],
        [
            [
                Stage("sanity", "sanity", gives_way=True),
                Stage("sanity-2.18", "sanity", ("CORE=2.18",), gives_way=True),
                Stage("simulation", "simulation", gives_way=True),
                Stage("integration", "integration", (f"ARGS=--ignore={ROTATION}",), gives_way=True),
                Stage("playbooks-2.18", "integration", (f"TESTS={PLAYBOOKS}", "CORE=2.18"), gives_way=True),
            ],
            [
                Stage("molecule-default", "molecule", ("SCENARIOS=default",)),
                Stage("molecule-restart", "molecule", ("SCENARIOS=restart", "CORE=2.18")),
                Stage("molecule-life", "molecule", ("SCENARIOS=life",)),
                Stage("demo", "demo-check"),
                Stage("rotation", "integration", (f"TESTS={ROTATION}",)),
            ],
        ],
        [[Stage("lab", "lab")]],
    ]


def give_way() -> None:
    """Be nice, and among sessions as well, where the kernel weighs those (sched(7)).

    A tenth of another's share: with the least there is (1.5 %), a test here stood still for seconds.
    """
    os.nice(NICENESS)
    with contextlib.suppress(OSError):
        Path("/proc/self/autogroup").write_text(str(NICENESS), encoding="ascii")


def count(output: str, succeeded: bool) -> Counts:
    """Count what pytest's closing lines in `output` say; without any, the stage itself is the test."""
    counts = Counts()
    for summary in SUMMARY.finditer(COLOUR.sub("", output)):
        for number, outcome in COUNT.findall(summary[1]):
            if outcome == "passed":
                counts.passed += int(number)
            elif outcome == "skipped":
                counts.skipped += int(number)
            else:
                counts.failed += int(number)
    if succeeded and not counts.passed:
        counts.passed = 1
    if not succeeded and not counts.failed:
        counts.failed = 1
    return counts


def reasons(output: str) -> list[str]:
    """The last lines of `output` that say why it failed, not longer than a few in a terminal."""
    found = [line.strip()[:REASON_CHARACTERS] for line in REASON.findall(COLOUR.sub("", output))]
    said = [line for line in dict.fromkeys(found) if not NO_REASON.match(line)]
    return (said or found)[-REASONS:]


def minutes(seconds: float) -> str:
    """Write 83.2 s as 1:23."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


class Run:
    """One run of the plan: its clock, its counts, what is running now."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.counts = Counts()
        self.running: dict[Stage, float] = {}
        self.reasons: list[str] = []

    def say(self, text: str) -> None:
        """Print a line of progress after the time since the start."""
        print(f"[{minutes(time.monotonic() - self.started):>5}] {text}", flush=True)

    async def stage(self, stage: Stage) -> bool:
        """Run one stage and say whether it passed; on cancellation it gets SIGINT and time to clean up."""
        began = self.running[stage] = time.monotonic()
        self.say(f"==> {stage.name}")
        with stage.log.open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                "make",
                stage.target,
                *stage.variables,
                cwd=CHECKOUT,
                env=os.environ | {"COLUMNS": COLUMNS},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=give_way if stage.gives_way else None,
            )
            try:
                succeeded = await process.wait() == 0
            except asyncio.CancelledError:
                await self.interrupt(stage, process)
                raise
            finally:
                del self.running[stage]
        output = stage.log.read_text(errors="replace")
        counts = count(output, succeeded)
        self.counts.add(counts)
        took = minutes(time.monotonic() - began)
        self.say(f"    {stage.name} {'ok' if succeeded else 'FAILED'} after {took}: {counts}")
        if not succeeded:
            self.reasons += [f"{stage.name}: {reason}" for reason in reasons(output)]
            print(output, flush=True)
            self.say(
                f"    the above is {stage.log.relative_to(CHECKOUT)} of the stage that failed: {stage.name}"
            )
        return succeeded

    async def interrupt(self, stage: Stage, process: asyncio.subprocess.Process) -> None:
        """Let a stage clean up, as after Ctrl-C; kill what is left of it when that takes too long."""
        self.say(f"    {stage.name} stops and cleans up")
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
            os.killpg(process.pid, number)
            try:
                await asyncio.wait_for(process.wait(), CLEAN_UP_S)
            except TimeoutError:
                continue
            return

    async def lane(self, stages: list[Stage]) -> bool:
        """Run stages one after the other up to the first that fails."""
        for stage in stages:
            if not await self.stage(stage):
                return False
        return True

    async def phase(self, lanes: list[list[Stage]]) -> bool:
        """Run lanes side by side; the first that fails stops the others."""
        tasks = [asyncio.create_task(self.lane(stages)) for stages in lanes]
        try:
            for task in asyncio.as_completed(tasks):
                if not await task:
                    return False
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return True

    async def heartbeat(self) -> None:
        """Show now and then what is running, so that a long stage is seen to be alive."""
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            now = time.monotonic()
            self.say(
                "    ... "
                + ", ".join(f"{stage.name} {minutes(now - began)}" for stage, began in self.running.items())
            )

    async def all(self) -> bool:
        """Run all phases up to the first that fails."""
        beat = asyncio.create_task(self.heartbeat())
        try:
            for lanes in plan():
                if not await self.phase(lanes):
                    return False
        finally:
            beat.cancel()
        return True


def give_back() -> None:
    """Let what root has made here belong to the user who has called sudo."""
    user, group = os.environ.get("SUDO_UID"), os.environ.get("SUDO_GID")
    if os.geteuid() == 0 and user and group:
        subprocess.run(["chown", "-R", "--no-dereference", f"{user}:{group}", str(CHECKOUT)], check=False)


async def main() -> int:
    """Run the plan, say how it went, and return the exit code."""
    LOGS.mkdir(parents=True, exist_ok=True)
    run = Run()
    work = asyncio.create_task(run.all())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, work.cancel)
    try:
        succeeded = await work
    except asyncio.CancelledError:
        run.say("interrupted")
        return 130
    finally:
        give_back()
    run.say(
        f"all stages passed; logs in {LOGS.relative_to(CHECKOUT)}"
        if succeeded
        else "stopped at the first failure"
    )
    print(*run.reasons, run.counts, sep="\n", flush=True)
    return 0 if succeeded else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
