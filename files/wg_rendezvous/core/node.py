# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""What all links of one agent share: the device as it was seen, who owns what, and the actions that
were decided and not returned yet."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .._wireguard.dump import Device, Peer
from .._wireguard.keys import check_key
from . import actions, memory, secrets
from .actions import Action, PeerChange
from .candidates import Place, UnacceptableError, moved, networks
from .memory import Memory
from .pacing import Pace, TokenBucket, Turns
from .refresh import Budget, Policy, Refresh
from .secrets import Secrets

KEEPALIVE_S = 13
OPENERS_PER_KNOCK = 3
PACKETS_PER_KNOCK = OPENERS_PER_KNOCK + 1
CONFIGURED = "it is a peer of the interface's own configuration, which is not ours to change"


@dataclass(frozen=True)
class Settings:
    """What the user chooses."""

    interval_s: float = 13.0
    refresh: Policy = Policy.REBIND
    budget: Budget = field(default_factory=Budget)


class Node:
    """The agent's own node, whose public key is `own_key`, at `place` in the VPN.

    `owned` maps the peers of the device that are the agent's to their addresses; `claims` maps networks to
    the online peers whose links have them; `known` maps peers to the addresses and endpoints that are
    remembered across restarts, `memories` to what is known of links that were lost; `secrets` tells which
    preshared keys links have.
    """

    def __init__(self, own_key: str, place: Place, settings: Settings) -> None:
        self.own_key = own_key
        self.place = place
        self.settings = settings
        self.refresh = Refresh(own_key, settings.budget)
        self.secrets = Secrets()
        self.bucket = TokenBucket()
        self.turns = Turns(self.bucket, PACKETS_PER_KNOCK)
        self.pace = Pace()
        self.device = Device(None, 0, 0, {})
        self.configured: frozenset[str] = frozenset()
        self.owned: dict[str, str] = {}
        self.recorded: dict[str, str] = {}
        self.claims: dict[str, str] = {}
        self.known: dict[str, tuple[str, str]] = {}
        self.memories: dict[str, Memory] = {}
        self._saved: tuple[Any, ...] = ()
        self._openers: dict[str, bool] = {}
        self._changes: list[PeerChange] = []
        self._after: list[Action] = []

    # -- what is believed -------------------------------------------------------------------

    def check(self, peer: str, allowed_ips: str) -> str:
        """The address of `peer`, which the hub gives as `allowed_ips`, if there may be a direct link to it.

        Raises UnacceptableError.
        """
        try:
            check_key(peer)
        except ValueError as error:
            raise UnacceptableError(f"the hub names it, but {error}") from None
        address = self.place.address(allowed_ips)
        if peer in self.device.peers and peer not in self.owned:
            raise UnacceptableError(CONFIGURED)
        for network in networks(address):
            owner = self.claims.get(network, peer)
            if owner != peer:
                raise UnacceptableError(f"{network} belongs to {owner}, which is online")
        return address

    def claim(self, peer: str, address: str) -> None:
        """The link to `peer` has these networks, as far as they are nobody else's."""
        for network in networks(address):
            self.claims.setdefault(network, peer)

    def unclaim(self, peer: str, address: str) -> None:
        """The link to `peer` has them no more."""
        for network in networks(address):
            if self.claims.get(network) == peer:
                del self.claims[network]

    def is_moved(self, address: str, entry: Peer) -> bool:
        """Whether all of `address` is with this peer of the device."""
        return set(moved(address)) <= set(entry.allowed_ips)

    # -- what survives a restart ------------------------------------------------------------

    def remember(self, peer: str, lost: Memory | None) -> None:
        """What is known of the lost link to `peer`, None if it is not lost."""
        if lost is None:
            self.memories.pop(peer, None)
        else:
            self.memories[peer] = lost

    def save(self, now_s: float) -> None:
        """Ask for the state to be persisted, if it is another one than last time."""
        refresh = self.refresh.to_state(now_s)
        announced = self.secrets.to_state()
        taken_ats = tuple(self.refresh.taken_ats)
        essence = (dict(self.known), refresh["counts"], taken_ats, announced, dict(self.memories))
        if essence != self._saved:
            self._saved = essence
            links = {
                peer: {"address": address, "endpoint": endpoint}
                for peer, (address, endpoint) in self.known.items()
            }
            lost = memory.to_state(self.memories, now_s)
            state = {"links": links, "refresh": refresh, "secrets": announced, "lost": lost}
            self.do(actions.SaveState(state))

    def restore(self, state: Mapping[str, Any], saved_at_s: float) -> None:
        """Take over the `SaveState` of an earlier run, saved at `saved_at_s` on this clock.

        Raises KeyError, TypeError or ValueError if it is none; nothing is changed then.
        """
        known = {
            str(peer): (str(place["address"]), str(place["endpoint"]))
            for peer, place in state["links"].items()
        }
        announced = secrets.from_state(state.get("secrets", {}))
        memories = memory.from_state(state.get("lost", {}), saved_at_s)
        self.refresh.restore(state["refresh"], saved_at_s)
        self.known, self.secrets.announced, self.memories = known, announced, memories

    # -- what is to be done -----------------------------------------------------------------

    def open(self, endpoint: str, single: bool = False) -> None:
        """Send low-TTL openers, or a `single` one."""
        self._openers[endpoint] = single and self._openers.get(endpoint, True)

    def own(self, peer: str, address: str) -> None:
        """The entry of `peer` in the device is ours from now on."""
        self.owned[peer] = address

    def change(self, peer: str, **settings: Any) -> None:
        """Change a peer of ours, as `PeerChange` has it."""
        change = PeerChange(peer, **settings)
        if change.fresh:
            self.secrets.used[peer] = change.secret
        self._changes.append(change)

    def remove(self, peer: str) -> None:
        """Take a peer out of the device, if it is ours."""
        self.secrets.used.pop(peer, None)
        if self.owned.pop(peer, None) is not None:
            # What was decided a moment ago must not add it first, without an owner.
            self._changes = [change for change in self._changes if change.peer != peer]
            self.change(peer, remove=True)
            # Until the next reading what was ours must not be taken for a peer of somebody else.
            peers = {key: entry for key, entry in self.device.peers.items() if key != peer}
            self.device = dataclasses.replace(self.device, peers=peers)

    def do(self, action: Action) -> None:
        """Carry this out after openers and changes.  The device is read once: what comes of the first reading
        may change what a second one has seen."""
        if not (isinstance(action, actions.ReadDevice) and action in self._after):
            self._after.append(action)

    def say(self, level: str, message: str, **fields: Any) -> None:
        """A line for the log."""
        self.do(actions.Say(level, message, fields))

    def take_fresh_port(self, peer: str, address: str, now_s: float) -> bool:
        """The restart condition holds for `peer`: take a fresh port, if that is allowed now."""
        if not self.may_take_fresh_port(now_s):
            return False
        self.say(
            "warning",
            "restart condition: taking a fresh port",
            peer=peer,
            address=address,
            reason=self.refresh.reason(peer),
            how=self.settings.refresh.value,
        )
        self.refresh.taken(now_s)
        self.save(now_s)
        restart = self.settings.refresh is Policy.RESTART
        self.do(actions.RestartClient() if restart else actions.TakeFreshPort())
        return True

    def may_take_fresh_port(self, now_s: float) -> bool:
        """Whether the user permits fresh ports, and the budget has one left."""
        return self.settings.refresh is not Policy.OFF and self.refresh.allowed_at(now_s) <= now_s

    def flush(self) -> list[Action]:
        """The collected actions in their order: owners first, openers before knocks, everything else last."""
        out: list[Action] = []
        during: Mapping[str, str] = {**self.recorded, **self.owned} if self._changes else self.owned
        if during != self.recorded:
            out.append(actions.RecordOwned(dict(during)))
        if self._openers:
            single = frozenset(endpoint for endpoint, alone in self._openers.items() if alone)
            out.append(actions.SendOpeners(tuple(self._openers), single))
        if self._changes:
            out.append(actions.SetPeers(tuple(self._changes)))
        if during != self.owned:
            out.append(actions.RecordOwned(dict(self.owned)))
        self.recorded = dict(self.owned)
        out += self._after
        self._openers, self._changes, self._after = {}, [], []
        return out
