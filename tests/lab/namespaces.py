# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""Network namespaces that go away with the process that made them, however it ends.

A name holds the pid and the start time of its owner: `wglab-<pid>-<start>-<lab>-<role>`. Only namespaces
whose owner is dead are ever swept, so several test runs on one machine do not disturb one another. Processes
started in a namespace get SIGKILL when their owner dies (prctl(2), PR_SET_PDEATHSIG).
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

PREFIX = "wglab"
NETNS = Path("/run/netns")
TIMEOUT_S = 30.0
NOTHING_LEFT = b"nothing left"
_labs = itertools.count(1)


def start_time(pid: int) -> str | None:
    """Field 22 of /proc/PID/stat (proc(5)), which with the pid names one process for good; None if dead."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else fields[19]


def unique_prefix() -> str:
    """A prefix for the namespaces of one more lab of this process."""
    return f"{PREFIX}-{os.getpid()}-{start_time(os.getpid())}-{next(_labs)}-"


def sweep() -> list[str]:
    """Remove the namespaces of dead owners, and end what still runs in them; their names."""
    swept = []
    for path in sorted(NETNS.glob(f"{PREFIX}-*-*-*")):
        _, owner, started, _ = path.name.split("-", 3)
        if start_time(int(owner)) != started:
            for pid in _ip_netns("pids", path.name).split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            _ip_netns("delete", path.name)
            swept.append(path.name)
    return swept


def _ip_netns(command: str, name: str) -> str:
    """Output of `ip netns COMMAND NAME`, nothing if another sweep was faster."""
    argv = ["ip", "netns", command, name]
    return subprocess.run(argv, check=False, capture_output=True, text=True, timeout=TIMEOUT_S).stdout


@contextlib.contextmanager
def swept_when_this_process_ends() -> Iterator[None]:
    """Sweep now, and again when this process has ended, be it by SIGKILL."""
    sweep()
    # It learns of our end by the pipe that closes. A session of its own keeps Ctrl-C from it.
    sweeper = subprocess.Popen(
        [sys.executable, __file__, str(os.getpid())], stdin=subprocess.PIPE, start_new_session=True
    )
    yield
    # Not if an exception ends us, or Ctrl-C came while one was made: then nobody else has removed anything.
    if not list(NETNS.glob(f"{PREFIX}-{os.getpid()}-*")):
        sweeper.communicate(NOTHING_LEFT, timeout=TIMEOUT_S)


class CommandFailedError(AssertionError):
    """A command in a namespace failed; the message has its output."""


class Namespace:
    """A network namespace; with `private_files`, also with its own /run, /var/lib,
    /etc/wireguard and /etc/hosts.

    Two nodes may thus both have a wg0: the sockets of wireguard-go and the files of the program are found
    by the name of the interface.
    """

    def __init__(self, name: str, private_files: bool = False) -> None:
        self.name = name
        self._processes: list[subprocess.Popen[str]] = []
        subprocess.run(["ip", "netns", "add", name], check=True, timeout=TIMEOUT_S)
        self._enter = ["nsenter", f"--net={NETNS / name}"]
        if private_files:
            self._enter.append(f"--mount=/proc/{self._hold_mounts()}/ns/mnt")
        self.run("ip", "link", "set", "lo", "up")

    def _hold_mounts(self) -> int:
        """Start the process whose mount namespace the others enter; its pid once the mounts are there."""
        mounts = "".join(
            f"mount -t tmpfs tmpfs {directory} && " for directory in ("/var/lib", "/etc/wireguard", "/run")
        )
        if Path("/etc/wg-rendezvous").is_dir():
            mounts = "mount -t tmpfs tmpfs /etc/wg-rendezvous && " + mounts
        mounts += "mount -t sysfs sysfs /sys && mkdir -p /run/wireguard && "
        mounts += "cp /etc/hosts /run/hosts && mount --bind /run/hosts /etc/hosts && "
        script = f"mkdir -p /etc/wireguard && {mounts} echo ready && exec sleep infinity"
        holder = self.start("unshare", "--mount", "sh", "-c", script, stdout=subprocess.PIPE)
        assert holder.stdout is not None
        if holder.stdout.readline() != "ready\n":
            raise CommandFailedError(f"{self.name}: mounts of its own failed; see above")
        return holder.pid

    def run(
        self, *argv: str, stdin: str | None = None, check: bool = True, timeout_s: float = TIMEOUT_S
    ) -> str:
        """Standard output of a command in this namespace; raises CommandFailedError with what it said."""
        done = subprocess.run(
            [*self._enter, *argv],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            stdin=subprocess.DEVNULL if stdin is None else None,
            check=False,
        )
        if check and done.returncode != 0:
            raise CommandFailedError(
                f"{self.name}: {' '.join(argv)}: exit code {done.returncode}: {done.stderr.strip()}"
            )
        return done.stdout

    def start(
        self,
        *argv: str,
        stdout: int | IO[str] | None = None,
        stderr: int | IO[str] | None = None,
        environment: dict[str, str] | None = None,
    ) -> subprocess.Popen[str]:
        """Start a process in this namespace. It ends with `end`, with the namespace, or with us."""
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *self._enter, *argv],
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            text=True,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )
        self._processes.append(process)
        return process

    def end(self, process: subprocess.Popen[str], how: int = signal.SIGTERM, timeout_s: float = 10) -> int:
        """Signal one of our processes and wait; its exit code. If it does not end in time it is killed."""
        if process.poll() is None:
            process.send_signal(how)
        try:
            return process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(timeout_s)
            raise CommandFailedError(
                f"{self.name}: pid {process.pid} did not end {timeout_s} s after signal {how}"
            ) from None
        finally:
            self.forget(process)

    def forget(self, process: subprocess.Popen[str]) -> None:
        """A process that has ended, and was waited for, by other means."""
        self._processes.remove(process)

    def sysctl(self, settings: dict[str, str]) -> None:
        """Set kernel settings of this namespace, by their names as in sysctl(8)."""
        self.run("sysctl", "-q", "-w", *(f"{name}={value}" for name, value in settings.items()))

    def nft(self, rules: str) -> None:
        """Load rules, as from a file."""
        self.run("nft", "-f", "-", stdin=rules)

    def remove(self) -> None:
        """End what runs in it, last first, and remove it."""
        for process in reversed(self._processes):
            if process.poll() is None:
                process.kill()
            process.wait(TIMEOUT_S)
            if process.stdout is not None:
                process.stdout.close()
        self._processes.clear()
        subprocess.run(["ip", "netns", "delete", self.name], check=True, timeout=TIMEOUT_S)


if __name__ == "__main__":
    owner = int(sys.argv[1])
    if sys.stdin.buffer.read() != NOTHING_LEFT:
        while os.getppid() == owner:
            time.sleep(0.01)
        sweep()
