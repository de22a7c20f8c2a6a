# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""Is a value one that WireGuard and wg-quick take? Each function returns the canonical form of the value.

Each ValueError names the thing, the value and what to write instead; none is ever called with a secret.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Union

from . import keys

Network = Union[ipaddress.IPv4Network, ipaddress.IPv6Network]

INTERFACE_NAME = re.compile(r"[a-zA-Z0-9_=+.-]{1,15}\Z")
"""What wg-quick takes as the name of IF.conf; 15 is the kernel's IFNAMSIZ - 1."""

HOST_NAME = re.compile(
    r"[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*\.?\Z"
)
"""Labels of RFC 952 and 1123, and with the underscore that resolvers take."""


def interface_name(name: str) -> str:
    """A name that both the kernel and wg-quick accept."""
    if not INTERFACE_NAME.match(name) or name in (".", "..") or name.startswith("-"):
        raise ValueError(
            f"interface name {name!r}: write 1 to 15 letters, digits or _ = + . -, not - first, such as wg0"
        )
    return name


def public_key(text: str, what: str) -> str:
    """A public key in WireGuard's own form; `what` names it in the error."""
    try:
        return keys.check_key(text)
    except ValueError as error:
        raise ValueError(f"{what} {text!r}: {error}; write what `wg pubkey` prints") from None


def private_key(text: str, what: str) -> str:
    """A private key; the error does not contain it."""
    return _secret_key(text, what, "wg genkey")


def preshared_key(text: str, what: str) -> str:
    """A preshared key; the error does not contain it."""
    return _secret_key(text, what, "wg genpsk")


def _secret_key(text: str, what: str, command: str) -> str:
    try:
        return keys.check_key(text)
    except ValueError as error:
        raise ValueError(f"{what}: {error}; write what `{command}` prints") from None


def interface_address(text: str) -> str:
    """An address of the interface with the prefix of its network, "192.168.7.5/24"."""
    if "/" not in text:
        example = f"{text}/{64 if ':' in text else 24}"
        raise ValueError(f"address {text!r} has no prefix: write that of the network too, such as {example}")
    try:
        address = ipaddress.ip_interface(text)
    except ValueError:
        raise ValueError(
            f"address {text!r}: write an IP address with prefix, such as 192.168.7.5/24"
        ) from None
    network = address.network
    if address.is_multicast or address.is_loopback or address.is_unspecified:
        raise ValueError(
            f"address {text!r} cannot be an interface's: write one of a private network (RFC 1918, 4193)"
        )
    if address.ip == network.network_address and network.prefixlen < network.max_prefixlen - 1:
        first = f"{network.network_address + 1}/{network.prefixlen}"
        raise ValueError(f"address {text!r} is the network itself: write an address in it, such as {first}")
    if address.version == 4 and address.ip == network.broadcast_address and network.prefixlen < 31:
        last = f"{network.broadcast_address - 1}/{network.prefixlen}"
        raise ValueError(
            f"address {text!r} is the broadcast address of its network: write another one, such as {last}"
        )
    return str(address)


def allowed_ip(text: str, what: str) -> str:
    """A network that a peer may use, "192.168.7.6/32"; a bare address is one host. `what` is for errors."""
    try:
        return str(ipaddress.ip_network(text))
    except ValueError:
        pass
    try:
        address = ipaddress.ip_interface(text)
    except ValueError:
        raise ValueError(f"{what} {text!r}: write an address with a prefix, such as 192.168.7.6/32") from None
    one_host = f"{address.ip}/{address.max_prefixlen}"
    raise ValueError(f"{what} {text!r} has host bits set: write {one_host} for the host or {address.network}")


def endpoint(text: str, what: str) -> str:
    """ "host:port" or "[v6]:port"; `what` names it in the error."""
    host, colon, port_text = text.rpartition(":")
    problem = f"{what} {text!r}: write host:port, such as hub.example.net:51820 or [2001:db8::1]:51820"
    if (
        not colon
        or not host
        or not re.fullmatch(r"[0-9]{1,5}", port_text)
        or not 1 <= int(port_text) <= 65535
    ):
        raise ValueError(problem)
    if host.startswith("[") and host.endswith("]"):
        try:
            ipaddress.IPv6Address(host[1:-1])
        except ValueError:
            raise ValueError(problem) from None
    elif not HOST_NAME.match(host):
        raise ValueError(problem)
    elif re.fullmatch(r"[0-9.]+", host):
        try:
            ipaddress.IPv4Address(host)
        except ValueError:
            raise ValueError(problem) from None
    return text


def number(value: int, what: str, lowest: int, highest: int) -> int:
    """A number between two others, inclusive."""
    if not lowest <= value <= highest:
        raise ValueError(f"{what} {value}: write a number from {lowest} to {highest}")
    return value


def port(value: int, what: str) -> int:
    """A UDP or TCP port."""
    return number(value, what, 1, 65535)


def mtu(value: int, what: str) -> int:
    """The MTU of an interface; less than 576 no IPv4 host takes (RFC 791)."""
    return number(value, what, 576, 65535)


def fwmark(value: int, what: str) -> int:
    """The mark of outgoing packets, 0 for none."""
    return number(value, what, 0, 2**32 - 1)


def table(text: str, what: str) -> str:
    """The routing table of wg-quick(8): `auto`, `off`, or what `ip route` knows one by."""
    if not re.fullmatch(r"[0-9]{1,10}|[A-Za-z_][A-Za-z0-9_.-]*", text.strip()):
        raise ValueError(f"{what} {text!r}: write auto, off, a number, or a name of /etc/iproute2/rt_tables")
    return text.strip()


def persistent_keepalive_s(value: int, what: str) -> int:
    """The silent seconds after which a keepalive is sent, 0 for never."""
    return number(value, what, 0, 65535)


def conf_text(text: str, what: str) -> str:
    """A value that wg-quick reads back as it was written: one line, without #."""
    if not text.strip() or "#" in text or not text.isprintable():
        raise ValueError(f"{what} {text!r}: write one line without #, where wg-quick would cut it off")
    return text.strip()
