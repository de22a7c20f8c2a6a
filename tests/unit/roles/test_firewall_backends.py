# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: the rendezvous.wireguard authors
"""What firewalld and ufw are told."""

from __future__ import annotations

from ansible_collections.rendezvous.wireguard.plugins.module_utils._firewall import Openings
from ansible_collections.rendezvous.wireguard.plugins.modules import firewall

HUB = Openings("wg0", ("192.168.7.1/24",), 51820, (8080,), relay=True, udp_ports=(8080,))
PEER = Openings("wg0", ("192.168.7.5/24",), None, (8080,))


def test_firewalld_opens_the_tunnel_in_its_zone_and_the_listen_port_in_the_default_zone() -> None:
    commands = [" ".join(command) for _question, command in firewall.firewalld(HUB, "vpn", "public")]

    assert commands == [
        "firewall-cmd --quiet --permanent --zone=vpn --add-port=8080/tcp",
        "firewall-cmd --quiet --permanent --zone=vpn --add-port=8080/udp",
        "firewall-cmd --quiet --permanent --zone=public --add-port=51820/udp",
        "firewall-cmd --quiet --permanent --zone=vpn --add-interface=wg0",
        "firewall-cmd --quiet --permanent --zone=vpn --add-forward",
    ]


def test_firewalld_is_asked_before() -> None:
    for question, command in firewall.firewalld(HUB, "vpn", "public"):
        assert " ".join(question).replace("--query-", "--add-") == " ".join(command)


def test_ufw_is_told_what_it_does_not_know() -> None:
    added = "Added user rules:\nufw allow 51820/udp comment 'by hand'\n"
    mark = ["comment", "rendezvous.wireguard"]

    assert firewall.ufw(HUB, added) == [
        ["ufw", "allow", "in", "on", "wg0", "to", "any", "port", "8080", "proto", "tcp", *mark],
        ["ufw", "allow", "in", "on", "wg0", "to", "any", "port", "8080", "proto", "udp", *mark],
        ["ufw", "route", "allow", "in", "on", "wg0", "out", "on", "wg0", *mark],
    ]


def test_ufw_that_knows_is_told_nothing() -> None:
    assert firewall.ufw(PEER, "ufw allow in on wg0 to any port 8080 proto tcp comment 'x'\n") == []
