# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""Send a UDP packet from a port that another socket owns, with each of some TTLs (DESIGN fact 2).

usage: opener.py SOURCE_PORT ADDRESS:PORT TTL...
"""

from __future__ import annotations

import socket
import struct
import sys


def main(source_port: str, endpoint: str, *ttls: str) -> None:
    address, _, port = endpoint.partition(":")
    # RFC 768; a checksum of 0 says that there is none.
    datagram = struct.pack("!HHHH", int(source_port), int(port), 8, 0)
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP) as raw:
        for ttl in ttls:
            raw.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, int(ttl))
            raw.sendto(datagram, (address, 0))


if __name__ == "__main__":
    main(*sys.argv[1:])
