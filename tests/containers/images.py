#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: the rendezvous.wireguard authors
"""Container images of plain Debian machines, made from Debian packages: no registry is needed.

`images.py 12 13` makes what is missing and prints one image name a line. An image is named after a hash of
what goes into it, so that a second run makes nothing. `MOLECULE_IMAGE` is pulled and used instead.

A machine has systemd and what Ansible needs. What the roles install is not installed, but lies with its
dependencies in an apt repository of the image (`/srv/apt`), its only source: the roles' `apt` tasks really
install, and no container needs a way to a mirror. Debian 11 is no machine for roles (it has no wireguard-go
package); its image only runs the node program on the oldest Python and aiohttp, and has them installed.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import re
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

MACHINE = (
    "ca-certificates",
    "dbus",
    "iproute2",
    "iputils-ping",
    "kmod",
    "nftables",
    "procps",
    "python3",
    "python3-apt",
    "systemd",
    "systemd-sysv",
)
PROGRAM = ("python3-aiohttp", "python3-prometheus-client", "wireguard-tools")
FIREWALLS = ("firewalld", "ufw")

# A package source like any other, as far as apt can tell: an index made from the packages' own control files.
OFFLINE_REPOSITORY = r"""#!/bin/sh
set -eu
cd "$1"
chroot . apt-get --yes -qq -o Dpkg::Use-Pty=0 --no-install-recommends --download-only install {packages} >&2
mkdir -p srv/apt
mv var/cache/apt/archives/*.deb srv/apt/
cd srv/apt
for deb in *.deb; do
    dpkg-deb --field "$deb"
    printf 'Filename: ./%s\nSize: %s\nSHA256: %s\n\n' \
        "$deb" "$(stat -c %s "$deb")" "$(sha256sum "$deb" | cut -d ' ' -f 1)"
done > Packages
"""
OFFLINE_SOURCE = r"""#!/bin/sh
set -eu
rm -f "$1"/etc/apt/sources.list "$1"/etc/apt/sources.list.d/* "$1"/etc/apt/apt.conf.d/99mmdebstrap
echo 'deb [trusted=yes] file:/srv/apt ./' > "$1"/etc/apt/sources.list
# No lists, and long ago: to Ansible the directory's own time would say that they are fresh.
rm -rf "$1"/var/lib/apt/lists/*
mkdir -p "$1"/var/lib/apt/periodic
touch -d 2020-01-01 "$1"/var/lib/apt/periodic/update-success-stamp
"""
# The containers share the host's kernel: only settings of their own network namespace are theirs to change.
CONTAINER_MACHINE = r"""#!/bin/sh
set -eu
for unit in systemd-sysctl.service systemd-udevd.service systemd-modules-load.service apt-daily.timer \
    apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer getty.target \
    console-getty.service systemd-firstboot.service systemd-logind.service systemd-networkd.service \
    systemd-resolved.service systemd-timesyncd.service; do
    ln -sf /dev/null "$1/etc/systemd/system/$unit"
done
rm -f "$1"/etc/machine-id "$1"/etc/hostname
"""


@dataclass(frozen=True)
class Release:
    """One Debian release: its name, the packages installed, and those that lie in the image for the roles."""

    codename: str
    installed: tuple[str, ...]
    offered: tuple[str, ...] = ()


RELEASES = {
    "11": Release("bullseye", (*MACHINE, *PROGRAM)),
    "12": Release("bookworm", MACHINE, (*PROGRAM, "wireguard-go", *FIREWALLS)),
    "13": Release("trixie", MACHINE, (*PROGRAM, "wireguard-go", *FIREWALLS)),
}


def hooks(release: Release) -> list[str]:
    """The shell scripts that mmdebstrap runs with the finished tree as argument, in order."""
    made = [CONTAINER_MACHINE]
    if release.offered:
        made += [OFFLINE_REPOSITORY.format(packages=" ".join(release.offered)), OFFLINE_SOURCE]
    return made


def image_name(version: str) -> str:
    """The image's name: the tag changes when anything that goes into the image does."""
    release = RELEASES[version]
    digest = hashlib.sha256(repr((release, hooks(release))).encode()).hexdigest()[:12]
    return f"localhost/rwc-debian{version}:{digest}"


def host_proxies() -> list[str]:
    """The host's apt proxy settings as apt.conf lines: a mirror may be reachable through them only."""
    dump = subprocess.run(["apt-config", "dump"], check=True, capture_output=True, text=True).stdout
    return [line for line in dump.splitlines() if re.match(r"Acquire::https?::.*Proxy", line, re.IGNORECASE)]


def exists(image: str) -> bool:
    """Whether the image is in the local store."""
    return subprocess.run(["podman", "image", "exists", image], check=False).returncode == 0


def build(version: str) -> None:
    """Make one image and print how long it took. Raises CalledProcessError; what failed is on stderr."""
    release, image, started_at = RELEASES[version], image_name(version), time.monotonic()
    command = ["mmdebstrap", "--quiet", "--variant=apt", f"--include={','.join(release.installed)}"]
    command += [f"--aptopt={line}" for line in host_proxies()]
    command += ["--dpkgopt=force-unsafe-io"]
    command += [f"--dpkgopt=path-exclude=/usr/share/{unused}/*" for unused in ("doc", "man", "locale")]
    with tempfile.TemporaryDirectory(prefix="rwc-image-") as directory:
        for number, script in enumerate(hooks(release)):
            hook = Path(directory, f"hook-{number}")
            hook.write_text(script)
            hook.chmod(0o755)
            command.append(f"--customize-hook={hook}")
        archive = Path(directory, "root.tar")
        subprocess.run(
            [*command, release.codename, str(archive)],
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,
        )
        subprocess.run(
            ["podman", "import", "--quiet", "--change", "CMD=/sbin/init", str(archive), image],
            check=True,
            stdout=subprocess.DEVNULL,
        )
    print(f"made {image} in {time.monotonic() - started_at:.0f} s", file=sys.stderr, flush=True)


def ensure(version: str) -> str:
    """Name of an image of that release that is in the local store, made or pulled if it was not."""
    pulled = os.environ.get("MOLECULE_IMAGE")
    image = pulled or image_name(version)
    with Path(tempfile.gettempdir(), f"rwc-image-{version}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not exists(image):
            if pulled:
                subprocess.run(["podman", "pull", "--quiet", image], check=True, stdout=subprocess.DEVNULL)
            else:
                print(f"making {image} from Debian packages ...", file=sys.stderr, flush=True)
                build(version)
    return image


def main() -> int:
    """Command line: the releases to have."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("release", nargs="+", choices=sorted(RELEASES))
    versions = parser.parse_args().release
    with ThreadPoolExecutor(max_workers=2) as pool:
        print("\n".join(pool.map(ensure, versions)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
