# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""What all links of an agent share."""

from __future__ import annotations

import pytest

from wg_rendezvous._wireguard.dump import Device, Peer
from wg_rendezvous.core import actions
from wg_rendezvous.core.candidates import UnacceptableError
from wg_rendezvous.core.node import Node, Settings

from .driven import ADDRESS, ENDPOINT, HUB, HUB_PEER, OWN, PEER, PLACE


def node_that_saw(*peers: Peer) -> Node:
    node = Node(OWN, PLACE, Settings())
    node.device = Device(OWN, 51820, 0, {HUB: HUB_PEER, **{peer.public_key: peer for peer in peers}})
    return node


def test_a_peer_that_it_removed_is_not_taken_for_one_of_the_admin_before_the_device_was_read_again() -> None:
    node = node_that_saw(Peer(PEER, ENDPOINT, (ADDRESS,), 1, 0, 0, 13))
    node.own(PEER, ADDRESS)
    node.remove(PEER)
    assert node.check(PEER, ADDRESS) == ADDRESS


def test_a_peer_of_the_device_that_is_not_its_own_is_the_admins() -> None:
    node = node_that_saw(Peer(PEER, ENDPOINT, (ADDRESS,), 1, 0, 0, 13))
    node.remove(PEER)
    with pytest.raises(UnacceptableError):
        node.check(PEER, ADDRESS)


def test_a_peer_that_is_added_and_removed_in_one_breath_is_not_added_at_all() -> None:
    """It would stand in the device for a moment without being recorded as the agent's.  (Found by the
    simulation's chaos, seed 901211.)"""
    node = node_that_saw()
    node.own(PEER, ADDRESS)
    node.change(PEER, fresh=True, endpoint=ENDPOINT, allowed_ips=())
    node.remove(PEER)
    changes = [
        change for action in node.flush() if isinstance(action, actions.SetPeers) for change in action.changes
    ]
    assert [change.remove for change in changes] == [True]
