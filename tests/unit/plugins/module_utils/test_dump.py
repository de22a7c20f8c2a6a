# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
from __future__ import annotations

from dataclasses import astuple

import pytest
from ansible_collections.rendezvous.wireguard.plugins.module_utils._wireguard import dump
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.plugins.module_utils import strategies

PRIVATE = "wAbifAGIGICE7olowKyGKu0wIzU3oN85o7QFEDv97VQ="
PUBLIC = "bi5dJRhgk8aVAcqRz449oOZwbENvMd4KbpNbBgImc08="
PEER = "0ybDBWFYOKT0aOt3SVx4l4/uHyY7IIbtrUVJfBLjHE8="
TEXT = (
    f"{PRIVATE}\t{PUBLIC}\t51820\t0xca6c\n"
    f"{PEER}\t{PRIVATE}\t203.0.113.5:4\t192.168.7.6/32,fd00:7::6/128\t1700000000\t148\t92\t13\n"
)

peers = st.builds(
    dump.Peer,
    public_key=strategies.keys,
    endpoint=st.none() | strategies.endpoints,
    allowed_ips=st.lists(strategies.networks, max_size=3).map(tuple),
    latest_handshake_at=st.integers(0, 2**33),
    rx_bytes=st.integers(0, 2**64 - 1),
    tx_bytes=st.integers(0, 2**64 - 1),
    persistent_keepalive_s=st.integers(0, 65535),
)


def test_a_device_with_a_peer() -> None:
    device = dump.parse_dump(TEXT)
    peer = dump.Peer(PEER, "203.0.113.5:4", ("192.168.7.6/32", "fd00:7::6/128"), 1700000000, 148, 92, 13)
    assert device == dump.Device(PUBLIC, 51820, 0xCA6C, {PEER: peer})


def test_a_device_without_anything() -> None:
    assert dump.parse_dump("(none)\t(none)\t0\toff\n") == dump.Device(None, 0, 0, {})


def test_secrets_are_dropped() -> None:
    assert PRIVATE not in repr(dump.parse_dump(TEXT))


@given(
    st.none() | strategies.keys,
    st.integers(0, 65535),
    st.integers(0, 2**32 - 1),
    st.lists(peers, unique_by=lambda peer: peer.public_key, max_size=5),
)
def test_what_wg_prints_is_read(
    public_key: str | None, listen_port: int, fwmark: int, listed: list[dump.Peer]
) -> None:
    lines = [(PRIVATE, public_key or "(none)", str(listen_port), hex(fwmark) if fwmark else "off")]
    for peer in listed:
        key, endpoint, networks, *numbers, keepalive = astuple(peer)
        networks = ",".join(networks) or "(none)"
        lines.append(
            (key, "(none)", endpoint or "(none)", networks, *map(str, numbers), str(keepalive or "off"))
        )
    device = dump.parse_dump("".join("\t".join(line) + "\n" for line in lines))
    assert device == dump.Device(public_key, listen_port, fwmark, {peer.public_key: peer for peer in listed})


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (TEXT, "", "empty"),
        ("\t0xca6c", "", "line 1 of `wg show dump` has 3 fields instead of 4"),
        ("\t13\n", "\n", "line 2 of `wg show dump` has 7 fields instead of 8"),
        ("51820", PRIVATE, "line 1 of `wg show dump`, listen port: not a number"),
        ("148", "-1", "line 2 of `wg show dump`, received bytes: not a number"),
        (f"\n{PEER}", "\nabc", "line 2 of `wg show dump`, public key: a key is 32 bytes"),
    ],
)
def test_what_cannot_be_read_is_named_without_its_content(old: str, new: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        dump.parse_dump(TEXT.replace(old, new))
    assert PRIVATE not in str(caught.value)
