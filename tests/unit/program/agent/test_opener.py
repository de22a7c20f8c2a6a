# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""Low-TTL openers, sent over loopback by a raw socket."""

from __future__ import annotations

import os
import socket

import pytest

from wg_rendezvous.agent.opener import send_openers, split_endpoint

IP_RECVTTL = 12
"""<linux/in.h>; Python's socket module does not name it before 3.14."""

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="a raw socket needs root")


def test_an_endpoint_is_split_into_host_and_port() -> None:
    assert split_endpoint("203.0.113.7:51820") == ("203.0.113.7", 51820)
    assert split_endpoint("[2001:db8::7]:51820") == ("2001:db8::7", 51820)


@pytest.mark.parametrize(("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_openers_leave_from_the_given_port_with_the_given_ttls(
    family: socket.AddressFamily, host: str
) -> None:
    endpoint_form = "[{}]:{}" if family == socket.AF_INET6 else "{}:{}"
    with socket.socket(family, socket.SOCK_DGRAM) as own, socket.socket(family, socket.SOCK_DGRAM) as remote:
        own.bind((host, 0))
        remote.bind((host, 0))
        remote.settimeout(5)
        if family == socket.AF_INET:
            remote.setsockopt(socket.IPPROTO_IP, IP_RECVTTL, 1)
        else:
            remote.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1)
        own_port = own.getsockname()[1]
        send_openers(own_port, 0, [endpoint_form.format(host, remote.getsockname()[1])], [2, 3, 4])
        ttls = []
        for _ in range(3):
            _, ancillary, _, sender = remote.recvmsg(100, 100)
            assert sender[1] == own_port
            ttls.append(int.from_bytes(ancillary[0][2], "little"))
        assert ttls == [2, 3, 4]


def test_an_endpoint_that_cannot_be_reached_does_not_stop_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as remote:
        remote.bind(("127.0.0.1", 0))
        remote.settimeout(5)
        good = f"127.0.0.1:{remote.getsockname()[1]}"
        send_openers(40000, 0, ["255.255.255.255:9", good], [2])
        assert remote.recv(10)
    assert "could not send openers" in caplog.text
