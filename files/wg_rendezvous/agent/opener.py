# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""Low-TTL openers: UDP packets from WireGuard's own port that pass the own NAT and die before the
other one, so that the own mapping and filter are open and nothing arrives (DESIGN fact 2).

WireGuard's port is taken, so they go through a raw socket (raw(7), CAP_NET_RAW).
"""

from __future__ import annotations

import ipaddress
import logging
import socket
import struct
from collections.abc import Iterable

logger = logging.getLogger(__name__)

UDP_HEADER = struct.Struct("!HHHH")
UDP_CHECKSUM_OFFSET = 6
IPV6_CHECKSUM = 7
"""<linux/in6.h>; Python's socket module does not name it on every version."""
PAYLOAD = b"\0"


def datagram(source_port: int, port: int) -> bytes:
    """A UDP datagram of one byte (RFC 768).  The checksum is left 0: none over IPv4, and over IPv6
    the kernel fills it in (RFC 3542, section 3.1)."""
    return UDP_HEADER.pack(source_port, port, UDP_HEADER.size + len(PAYLOAD), 0) + PAYLOAD


def split_endpoint(endpoint: str) -> tuple[str, int]:
    """`("203.0.113.7", 51820)` of `"203.0.113.7:51820"`, without the brackets of an IPv6 address."""
    host, port = endpoint.rsplit(":", 1)
    return host.strip("[]"), int(port)


def send_openers(source_port: int, fwmark: int, endpoints: Iterable[str], ttls: Iterable[int]) -> None:
    """Send one opener for every TTL to every endpoint, marked as WireGuard's packets are.

    An endpoint that cannot be reached at all is logged and skipped: a knock says the same, later.
    """
    for endpoint in endpoints:
        host, port = split_endpoint(endpoint)
        try:
            with _raw_socket(ipaddress.ip_address(host).version, fwmark) as raw:
                for ttl in ttls:
                    _set_ttl(raw, ttl)
                    raw.sendto(datagram(source_port, port), (host, 0))
        except OSError as error:
            logger.warning(
                "could not send openers", extra={"fields": {"endpoint": endpoint, "error": str(error)}}
            )


def _raw_socket(version: int, fwmark: int) -> socket.socket:
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    raw = socket.socket(family, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.IPPROTO_UDP)
    if version == 6:
        raw.setsockopt(socket.IPPROTO_IPV6, IPV6_CHECKSUM, UDP_CHECKSUM_OFFSET)
    if fwmark:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, fwmark)
    return raw


def _set_ttl(raw: socket.socket, ttl: int) -> None:
    if raw.family == socket.AF_INET:
        raw.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttl)
    else:
        raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, ttl)
