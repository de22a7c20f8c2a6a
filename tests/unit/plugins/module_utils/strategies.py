# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""WireGuard's things as hypothesis makes them up."""

from __future__ import annotations

import base64

from ansible_collections.rendezvous.wireguard.plugins.module_utils._wireguard.conf import Interface, Peer
from hypothesis import strategies as st

keys = st.binary(min_size=32, max_size=32).map(lambda raw: base64.b64encode(raw).decode())
ports = st.integers(1, 65535)
networks = st.one_of(
    st.ip_addresses(v=4).map(lambda address: f"{address}/32"),
    st.ip_addresses(v=6).map(lambda address: f"{address}/128"),
    st.integers(1, 200).map(lambda third: f"10.9.{third}.0/24"),
)
interface_addresses = st.one_of(
    st.builds("192.168.{}.{}/24".format, st.integers(0, 3), st.integers(1, 4)),
    st.builds("fd00:{}::{}/64".format, st.integers(1, 3), st.integers(1, 4)),
)
endpoints = st.one_of(
    st.builds("203.0.113.{}:{}".format, st.integers(1, 254), ports),
    st.builds("[2001:db8::{}]:{}".format, st.integers(1, 99), ports),
)
words = (
    st.text("abcdefghijklmnopqrstuvwxyz0123456789 %.-", min_size=1, max_size=20).map(str.strip).filter(bool)
)
hooks = st.lists(words, max_size=2).map(tuple)

interfaces = st.builds(
    Interface,
    addresses=st.lists(interface_addresses, unique=True, max_size=4).map(tuple),
    private_key=keys,
    listen_port=st.none() | ports,
    mtu=st.none() | st.integers(576, 65535),
    fwmark=st.none() | st.integers(0, 2**32 - 1),
    table=st.none() | st.sampled_from(["off", "auto", "42"]),
    pre_up=hooks,
    post_up=hooks,
    pre_down=hooks,
    post_down=hooks,
)


@st.composite
def peers(draw: st.DrawFn, max_size: int = 4) -> dict[str, Peer]:
    """Peers by public key, no network twice."""
    public_keys = draw(st.lists(keys, unique=True, max_size=max_size))
    free = draw(st.lists(networks, unique=True, max_size=3 * max_size))
    found = {}
    for public_key in public_keys:
        count = draw(st.integers(0, 3))
        found[public_key] = Peer(
            public_key=public_key,
            allowed_ips=tuple(free[:count]),
            endpoint=draw(st.none() | endpoints),
            persistent_keepalive_s=draw(st.none() | st.integers(0, 65535)),
            preshared_key=draw(st.none() | keys),
            name=draw(st.none() | words),
        )
        free = free[count:]
    return found
