# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""IF.conf as data, with the names that the modules `interface` and `peers` use, and back. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.rendezvous.wireguard.plugins.module_utils._interface import (
    check_interface,
    read_interface,
)
from ansible_collections.rendezvous.wireguard.plugins.module_utils._peers import read_peer
from ansible_collections.rendezvous.wireguard.plugins.module_utils._wireguard import check, conf, keys

LISTS = ("address", "pre_up", "post_up", "pre_down", "post_down")
INTERFACE_SPEC: dict[str, dict[str, Any]] = {
    **{name: {"type": "list", "elements": "str", "default": []} for name in LISTS},
    "listen_port": {"type": "int"},
    "mtu": {"type": "int"},
    "fwmark": {"type": "int"},
    "table": {"type": "str"},
    "private_key": {"type": "str", "no_log": True},
    "public_key": {"type": "str", "no_log": False},
}
_KNOWN = {
    "interface": {
        "address",
        "listenport",
        "privatekey",
        "mtu",
        "fwmark",
        "table",
        *map(str.lower, conf.HOOKS),
    },
    "peer": {"publickey", "presharedkey", "allowedips", "endpoint", "persistentkeepalive"},
}


def parse(text: str, secrets: bool) -> dict[str, Any]:
    """The text of an IF.conf as data; without `secrets` no private or preshared key is in it.

    ValueError says what in the text cannot be read.
    """
    parsed = conf.parse(text)
    private_key = parsed.interface().private_key
    public_key = None
    if private_key is not None:
        try:
            public_key = keys.public_key(private_key)
        except ValueError as error:
            raise ValueError(f"PrivateKey: {error}; write what `wg genkey` prints") from None
    # Masked, since hooks and comments can have secrets too.
    shown = parsed if secrets else conf.parse(parsed.masked())
    interface, peers = shown.interface(), shown.peers()
    for key in peers:
        check.public_key(key, "PublicKey")
    others = {title: [_others(s) for s in shown.sections if s.title == title] for title in _KNOWN}
    return {
        "interface": _set(
            address=interface.addresses,
            private_key=private_key if secrets else None,
            public_key=public_key,
            listen_port=interface.listen_port,
            mtu=interface.mtu,
            fwmark=interface.fwmark,
            table=interface.table,
            pre_up=interface.pre_up,
            post_up=interface.post_up,
            pre_down=interface.pre_down,
            post_down=interface.post_down,
            other=next(iter(others["interface"]), None),
        ),
        "peers": [
            {**_peer(peer, secrets), **_set(other=other)}
            for peer, other in zip(peers.values(), others["peer"])
        ],
    }


def _peer(peer: conf.Peer, secrets: bool) -> dict[str, Any]:
    told = _set(
        name=peer.name,
        endpoint=peer.endpoint,
        persistent_keepalive_s=peer.persistent_keepalive_s,
        preshared_key=peer.preshared_key if secrets else None,
    )
    return {"public_key": peer.public_key, "allowed_ips": list(peer.allowed_ips), **told}


def _set(**fields: Any) -> dict[str, Any]:
    """Those fields that the file sets."""
    lists = {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}
    return {name: value for name, value in lists.items() if value not in (None, [], {})}


def _others(section: conf.Section) -> dict[str, list[str]]:
    """Settings that have no name of their own, such as DNS."""
    names = [name for name in section.settings if name.lower() not in _KNOWN[section.title]]
    return {name: list(section.values(name)) for name in names}


def render(data: Mapping[str, Any]) -> str:
    """The text of an IF.conf from such data. ValueError names what in it cannot be, and what to write."""
    unknown = set(data) - {"interface", "peers"}
    if unknown:
        raise ValueError(f"{', '.join(sorted(map(str, unknown)))}: write interface and peers only")
    interface, other = _read_interface(data.get("interface") or {})
    made = _with_others(conf.parse("").with_interface(interface), other)
    known: set[str] = set()
    for option in data.get("peers") or []:
        fields = dict(option)
        other = _read_others(fields.pop("other", None), "peer")
        key, peer = read_peer(fields)
        if key in known:
            raise ValueError(f"peer {key} is listed twice: list it once")
        known.add(key)
        if peer is not None:
            made = _with_others(made.with_peer(peer), other)
    return made.render()


def _read_interface(option: Mapping[str, Any]) -> tuple[conf.Interface, dict[str, list[str]]]:
    fields = dict(option)
    other = _read_others(fields.pop("other", None), "interface")
    result = ArgumentSpecValidator(INTERFACE_SPEC).validate(fields)
    if result.error_messages:
        raise ValueError("interface: " + "; ".join(result.error_messages))
    given = result.validated_parameters
    private_key, public_key = given["private_key"], given["public_key"]
    interface = check_interface(read_interface(given))
    if private_key is None:
        return interface, other
    try:
        derived = keys.public_key(private_key)
    except ValueError as error:
        raise ValueError(f"private_key: {error}; write what `wg genkey` prints") from None
    if public_key not in (None, derived):
        raise ValueError(f"public_key {public_key}: that of private_key is {derived}; leave out one of them")
    return replace(interface, private_key=private_key), other


def _read_others(option: Mapping[str, Any] | None, title: str) -> dict[str, list[str]]:
    others: dict[str, list[str]] = {}
    for name, value in (option or {}).items():
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9]*", str(name)) or str(name).lower() in _KNOWN[title]:
            raise ValueError(f"other: {name}: write the name of a setting for which there is no option")
        values: Iterable[Any] = value if isinstance(value, list) else [value]
        others[str(name)] = [check.conf_text(str(one), f"other: {name}") for one in values]
    return others


def _with_others(made: conf.Conf, others: Mapping[str, list[str]]) -> conf.Conf:
    """Give the last section these settings too."""
    *before, last = made.sections
    for name, values in others.items():
        last = last.with_values(name, values)
    return conf.Conf((*before, last))
