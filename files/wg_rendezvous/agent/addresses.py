# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""The node's own addresses outside of the VPN, and word of their changes: the node may roam."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Callable

from ..wg.device import DeviceError, run
from .netlink import Changes
from .opener import split_endpoint
from .timing import both

logger = logging.getLogger(__name__)

SETTLE_S = 0.05
"""Changes come in bursts: an address, its routes, the default route."""
AGAIN_S = 0.5
"""A node whose routes change all the time is not read more often."""

NOT_OUTSIDE = frozenset(
    {
        *("bridge", "openvswitch"),
        *("tun", "wireguard", "vxlan", "geneve", "xfrm", "vti", "vti6"),
        *("ipip", "sit", "ip6tnl", "gre", "gretap", "erspan", "ip6gre", "ip6gretap", "ip6erspan"),
        *("dummy", "ifb", "vrf"),
    }
)
"""Kinds of interfaces (ip-link(8)) whose addresses others cannot reach, or only through something else."""


@dataclass(frozen=True)
class Outside:
    """The node's own addresses, and the way that packets to the hub's outer endpoint take."""

    addresses: tuple[str, ...]
    way: tuple[str, ...] = ()


async def read(interface: str, endpoint: str | None, fwmark: int) -> Outside:
    """What is so now, beside the WireGuard `interface` whose hub is at `endpoint`; the address that packets
    to there leave from comes first. Raises DeviceError.
    """
    listing, route = await both(run("ip", "-j", "-d", "addr"), _route(endpoint, fwmark))
    try:
        addresses = parse_addresses(listing, interface)
        way, source = parse_route(route)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DeviceError(f"what ip says is not understood: {error!r}") from None
    return Outside(tuple(sorted(addresses, key=lambda address: address != source)), way)


async def _route(endpoint: str | None, fwmark: int) -> str:
    """`ip route get` for WireGuard's own packets to the hub; nothing if there is no way."""
    if endpoint is None:
        return ""
    mark = ["mark", str(fwmark)] if fwmark else []
    try:
        return await run("ip", "-j", "route", "get", split_endpoint(endpoint)[0], *mark)
    except DeviceError:
        return ""


def parse_addresses(listing: str, interface: str) -> list[str]:
    """The addresses in `ip -j -d addr` (ip-address(8)) that others may reach, in the kernel's order.
    Raises ValueError.
    """
    return [
        str(address["local"])
        for link in json.loads(listing or "[]")
        if link.get("ifname") != interface and _is_outside(link)
        for address in link.get("addr_info", ())
        if _is_usable(address)
    ]


def _is_outside(link: Mapping[str, Any]) -> bool:
    flags = link.get("flags", ())
    kind = link.get("linkinfo", {}).get("info_kind")
    if "LOOPBACK" in flags or "UP" not in flags or "NO-CARRIER" in flags or kind in NOT_OUTSIDE:
        return False
    # A veth pair is how a container is wired to its bridge, but also the real uplink inside of it.
    return not (kind == "veth" and "master" in link)


def _is_usable(address: Mapping[str, Any]) -> bool:
    unusable = any(address.get(flag) for flag in ("deprecated", "tentative", "dadfailed"))
    return address.get("scope") in ("global", "site") and "local" in address and not unusable


def parse_route(text: str) -> tuple[tuple[str, ...], str]:
    """From `ip -j route get`: what of it makes another way when it changes, and the source address.
    Raises ValueError.
    """
    for route in json.loads(text or "[]"):
        way = tuple(str(route.get(name, "")) for name in ("dev", "gateway", "prefsrc"))
        return way, way[2]
    return (), ""


class Watch:
    """Calls `changed` with the node's own addresses whenever they, or the way to the hub, are others.

    `where` gives the endpoint of the hub and the fwmark, as they are at the time.
    """

    def __init__(
        self,
        interface: str,
        where: Callable[[], tuple[str | None, int]],
        changed: Callable[[tuple[str, ...]], None],
    ) -> None:
        self._interface = interface
        self._where = where
        self._changed = changed
        self._latest: Outside | None = None
        self._changes = Changes(self._on_change)
        self._again = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> tuple[str, ...]:
        """Begin to watch; the addresses as they are now."""
        self._changes.open()
        await self._read()
        self._task = asyncio.ensure_future(self._run())
        return self._latest.addresses if self._latest else ()

    async def stop(self) -> None:
        """Watch no longer."""
        self._changes.close()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _on_change(self) -> None:
        self._again.set()

    async def _run(self) -> None:
        while True:
            await self._again.wait()
            await asyncio.sleep(SETTLE_S)
            self._again.clear()
            if await self._read() and self._latest is not None:
                self._changed(self._latest.addresses)
            await asyncio.sleep(AGAIN_S - SETTLE_S)

    async def _read(self) -> bool:
        """Whether anything is different from before."""
        before = self._latest
        try:
            self._latest = await read(self._interface, *self._where())
        except DeviceError as error:
            logger.warning("the own addresses could not be read", extra={"fields": {"error": str(error)}})
        return self._latest != before
