# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""Hold packets back: what is routed to the interface `delay` comes out of it again so much later.

usage: delay.py SECONDS

For kernels without netem. Prints "ready" when the interface is up.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import struct
import subprocess
import sys

TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000  # linux/if_tun.h
LARGEST_BYTES = 65535


def make_interface() -> int:
    tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH", b"delay", IFF_TUN | IFF_NO_PI))
    subprocess.run(["ip", "link", "set", "delay", "up"], check=True)
    return tun


async def forward(tun: int, delay_s: float) -> None:
    loop = asyncio.get_running_loop()

    def take() -> None:
        loop.call_later(delay_s, os.write, tun, os.read(tun, LARGEST_BYTES))

    loop.add_reader(tun, take)
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(forward(make_interface(), float(sys.argv[1])))
