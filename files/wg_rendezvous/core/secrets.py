# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""Which mesh secret the preshared key of a link comes from, by their public ids (docs/preshared-keys.md).

A node has none, one, or during a rotation several, the newest first, and its agent announces their ids. A
link takes the controlling end's newest that both have. Where one end has secrets and none of them is the
other's, there is no direct link: one without a preshared key would be a silent downgrade.
"""

from __future__ import annotations

from collections.abc import Mapping

from .candidates import UnacceptableError

NONE = ""
"""In place of an id: no preshared key."""


class Secrets:
    """The ids that this node has (`own`), those that the agents of its peers announce, and `used`, which of
    them the entry of each peer in the device was made with."""

    def __init__(self) -> None:
        self.own: tuple[str, ...] = ()
        self.announced: dict[str, tuple[str, ...]] = {}
        self.used: dict[str, str] = {}

    def agree(self, peer: str, controlling: bool) -> str:
        """The id of the secret for the link to `peer`, or NONE.  Raises UnacceptableError."""
        announced = self.announced.get(peer, ())
        if not self.own and not announced:
            return NONE
        if not announced:
            raise UnacceptableError("it has no mesh secret, and this node has one")
        if not self.own:
            raise UnacceptableError("it has a mesh secret, and this node has none")
        ours, theirs = (self.own, announced) if controlling else (announced, self.own)
        for secret in ours:
            if secret in theirs:
                return secret
        raise UnacceptableError("it has another mesh secret than this node: a rotation is under way")

    def choose(self, peer: str, controlling: bool) -> str:
        """The same for a link that is opened; where nothing is agreed, whatever may work, but never NONE if
        this node has a secret."""
        try:
            return self.agree(peer, controlling)
        except UnacceptableError:
            used = self.used.get(peer, NONE)
            return used if used in self.own else next(iter(self.own), NONE)

    def objection(self, offered: str) -> str:
        """Why a link with this secret is not taken; "" if it is."""
        if offered in self.own or (offered == NONE and not self.own):
            return ""
        if offered == NONE:
            return "no mesh secret is offered, and this node has one"
        if not self.own:
            return "a mesh secret is offered, and this node has none"
        return "another mesh secret is offered than this node has: a rotation is under way"

    def to_state(self) -> dict[str, list[str]]:
        """What the peers announce, as JSON types, for `from_state`."""
        return {peer: list(ids) for peer, ids in self.announced.items() if ids}


def from_state(state: Mapping[str, list[str]]) -> dict[str, tuple[str, ...]]:
    """What was announced to an earlier run.  Raises TypeError or ValueError if it is none."""
    return {str(peer): tuple(map(str, ids)) for peer, ids in dict(state).items()}
