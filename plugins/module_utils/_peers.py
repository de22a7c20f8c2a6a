# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""The peers of an interface in its file and running (DESIGN §4, Who owns what)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from . import _removed
from ._mesh_secret import SecretsFile
from ._node import Node, NodeError, change_of_steps, changed, write_private
from ._wireguard import check, conf, diff, keys, mesh_secret

Wanted = dict[str, "conf.Peer | None"]
"""By public key; None = there is to be no such peer."""

PEER_SPEC = {
    "name": {"type": "str"},
    "public_key": {"type": "str", "required": True, "no_log": False},
    "allowed_ips": {"type": "list", "elements": "str"},
    "endpoint": {"type": "str"},
    "persistent_keepalive_s": {"type": "int"},
    "preshared_key": {"type": "str", "no_log": True},
    "from_mesh_secret": {"type": "bool", "default": False},
    "preshared_key_id": {"type": "str", "no_log": False},
    "mesh_secret_id": {"type": "str", "no_log": False},
    "state": {"type": "str", "default": "present", "choices": ["present", "absent"]},
}
"""One peer of the option `peers` of the modules `peers` and `interface`."""


@dataclass(frozen=True)
class Choice:
    """Which preshared key a peer is to have of those that come from mesh secrets, if not any."""

    preshared_key_id: str | None
    mesh_secret_id: str | None

    @classmethod
    def read(cls, option: Mapping[str, Any]) -> Choice:
        """Of one entry of the option `peers`."""
        return cls(option.get("preshared_key_id"), option.get("mesh_secret_id"))


def read_peer(option: Mapping[str, Any]) -> tuple[str, conf.Peer | None]:
    """One entry of the option `peers` as a user wrote it, of any types, in canonical form.

    For those who want to know before the module runs. ValueError says what the module would say.
    """
    result = ArgumentSpecValidator(PEER_SPEC).validate(dict(option))
    if result.error_messages:
        of_peer = f"peer {option['name']}: " if option.get("name") else ""
        raise ValueError(of_peer + "; ".join(result.error_messages))
    return _check_option(result.validated_parameters)


def check_peers(options: Iterable[Mapping[str, Any]]) -> Wanted:
    """The option `peers` in canonical form. ValueError names the first peer that cannot be, and why."""
    wanted: Wanted = {}
    for option in options:
        key, peer = _check_option(option)
        if key in wanted:
            raise ValueError(f"peer {key} is listed twice: list it once")
        wanted[key] = peer
    return wanted


def _check_option(option: Mapping[str, Any]) -> tuple[str, conf.Peer | None]:
    name = option.get("name")
    key = check.public_key(option["public_key"], f"public_key of peer {name}" if name else "public_key")
    return key, None if option["state"] == "absent" else _check_peer(key, option)


def _check_peer(key: str, option: Mapping[str, Any]) -> conf.Peer:
    name, endpoint = option.get("name"), option.get("endpoint")
    keepalive_s, preshared_key = option.get("persistent_keepalive_s"), option.get("preshared_key")
    of_peer = f"of peer {name or key}"
    if preshared_key is not None and option["from_mesh_secret"]:
        raise ValueError(f"preshared_key {of_peer}: leave it out, or set from_mesh_secret to false")
    if option.get("allowed_ips") is None:
        raise ValueError(f"allowed_ips {of_peer} is missing: list its addresses, or [] for none")
    networks = [check.allowed_ip(text, f"allowed_ips {of_peer}") for text in option["allowed_ips"]]
    return conf.Peer(
        public_key=key,
        allowed_ips=tuple(dict.fromkeys(networks)),
        endpoint=None if endpoint is None else check.endpoint(endpoint, f"endpoint {of_peer}"),
        persistent_keepalive_s=(
            None
            if keepalive_s is None
            else check.persistent_keepalive_s(keepalive_s, f"persistent_keepalive_s {of_peer}")
        ),
        preshared_key=(
            None if preshared_key is None else check.preshared_key(preshared_key, f"preshared_key {of_peer}")
        ),
        name=None if name is None else check.conf_text(name, "peer name"),
    )


def ensure_peers(
    node: Node, options: Iterable[Mapping[str, Any]], exclusive: bool, one_key_a_name: bool = False
) -> dict[str, Any]:
    """Bring these peers to the wanted state, and with `exclusive` remove the others, but never the agent's.

    With `one_key_a_name` remove those that have the name of a wanted one and another key.
    Whatever fails, file and running interface are put back as they were.
    """
    check.interface_name(node.name)
    options = list(options)
    wanted = check_peers(options)
    derived = {one["public_key"]: Choice.read(one) for one in options if one["from_mesh_secret"]}
    with node.locked():
        update = PeersUpdate(node, wanted, exclusive, derived, one_key_a_name)
        if not node.module.check_mode:
            update.commit()
        return update.result()


class PeersUpdate:
    """From the peers that are found to the wanted ones, and back if they cannot be reached."""

    def __init__(
        self,
        node: Node,
        wanted: Wanted,
        exclusive: bool,
        derived: Mapping[str, Choice] | None = None,
        one_key_a_name: bool = False,
    ) -> None:
        self.node = node
        self.text = node.read_conf()
        if self.text is None and not node.module.check_mode:
            raise NodeError(f"{node.conf_path} does not exist: run the module interface first")
        self.before = node.parse_conf(self.text or "")
        self.interface = self.before.interface()
        self.owned = node.owned()
        self.runtime = node.runtime()
        if derived:
            wanted = self._with_preshared_keys(wanted, derived)
        self.wanted = {**dict.fromkeys(self._replaced(wanted)), **wanted}
        if one_key_a_name:
            self.wanted = {**dict.fromkeys(self._namesakes(wanted)), **self.wanted}
        if exclusive:
            others = {*self.before.peers(), *self._running()} - set(wanted)
            self.wanted = {**self.wanted, **dict.fromkeys(others)}
        self._check_own_key()
        self._check_removed()
        self.after = self._with_wanted(self.before)
        self._check_claims()
        self.steps = self._steps()
        self.changes = [*node.conf_changes(self.before, self.after), change_of_steps(node.name, self.steps)]

    def result(self) -> dict[str, Any]:
        """What the module returns."""
        return {
            "public_key": self._own_public_key(),
            "peers": [public(peer) for peer in self.after.peers().values()],
            **changed(self.changes),
        }

    def commit(self) -> None:
        """Write the file and take the steps, or leave everything as it was."""
        if not changed(self.changes)["changed"]:
            return
        self._warn_of_what_waits()
        try:
            # The file last: the one of before says what has changed, also to the run after a killed one.
            self.node.apply(self.steps)
            write_private(self.node.conf_path, self.after.render())
        except BaseException as error:
            problem = self._restore()
            if isinstance(error, (NodeError, OSError)):
                raise NodeError(f"{error}; {problem or 'file and interface are as they were'}") from None
            raise

    def _own_public_key(self) -> str | None:
        """Of the interface. In check mode on a fresh node it is made up, as the module interface does."""
        private_key = self.interface.private_key
        if private_key is None and self.text is None:
            private_key = keys.generate_private_key()
        return None if private_key is None else keys.public_key(private_key)

    def _with_preshared_keys(self, wanted: Wanted, derived: Mapping[str, Choice]) -> Wanted:
        """Those that come from a mesh secret. A peer of the file keeps the one that it has, also none, unless
        it is to have a certain one: the other end would have to change with it.
        """
        secrets, present = SecretsFile(self.node), self.before.peers()
        # In check mode the key may have yet to be made.
        own_key = keys.public_key(self.interface.private_key or keys.generate_private_key())
        found = dict(wanted)
        for key, choice in derived.items():
            peer, before = found[key], present.get(key)
            if peer is None:
                continue
            preshared_key = before.preshared_key if before else secrets.newest(own_key, key)
            if choice.mesh_secret_id is not None:
                preshared_key = secrets.of(own_key, key, choice.mesh_secret_id)
            elif choice.preshared_key_id is not None:
                preshared_key = secrets.find(own_key, key, choice.preshared_key_id, preshared_key)
            found[key] = replace(peer, preshared_key=preshared_key)
        return found

    def _running(self) -> Mapping[str, Any]:
        """The running peers that are not the agent's."""
        return self.runtime.without(self.owned).device.peers if self.runtime else {}

    def _with_wanted(self, before: conf.Conf) -> conf.Conf:
        after = before
        for key, peer in self.wanted.items():
            after = after.without_peer(key) if peer is None else after.with_peer(peer)
        return after

    def _steps(self) -> list[diff.Step]:
        if self.runtime is None:
            return []
        before, after = self.before.peers(), self.after.peers()
        wanted = {key: after.get(key) for key in self.wanted if key not in self.owned}
        steps = diff.peer_steps(self.node.name, wanted, before, self.runtime)
        return steps + self._route_steps(after.values(), before.values(), wanted)

    def _route_steps(
        self, after: Iterable[conf.Peer], before: Iterable[conf.Peer], touched: Iterable[str]
    ) -> list[diff.Step]:
        """The routes of the peers in question; those of other peers are not looked at."""
        only = set(touched)
        kept = diff.routes(self.interface, (peer for peer in after if peer.public_key not in only))
        wanted = diff.routes(self.interface, (peer for peer in after if peer.public_key in only))
        stale = diff.routes(self.interface, (peer for peer in before if peer.public_key in only)) - kept
        running = self.node.routes(self.interface.table, wanted | stale)
        return diff.route_steps(self.node.name, self.interface.table, wanted, stale, running)

    def _replaced(self, wanted: Wanted) -> Iterable[str]:
        """The keys that end with this: of hosts that were changing to a key which is wanted now."""
        before = self.before.peers()
        announced = (before[key].replaces for key, peer in wanted.items() if peer and key in before)
        return [key for key in announced if key in before]

    def _namesakes(self, wanted: Wanted) -> Iterable[str]:
        """The keys in the file that have the name of a wanted peer, which has another."""
        names = {peer.name for peer in wanted.values() if peer and peer.name}
        return [key for key, peer in self.before.peers().items() if peer.name in names and key not in wanted]

    def _check_removed(self) -> None:
        removed = _removed.read(self.node)
        for key, peer in self.wanted.items():
            if peer and key in removed:
                raise NodeError(_removed.explain(self.node, removed[key]))

    def _check_own_key(self) -> None:
        own = {self.runtime.device.public_key} if self.runtime else set()
        if self.interface.private_key:
            own.add(keys.public_key(self.interface.private_key))
        for key, peer in self.wanted.items():
            if peer and key in own:
                raise ValueError(
                    f"peer {peer} has the key of {self.node.name} itself: write that of the peer"
                )

    def _check_claims(self) -> None:
        """No two peers may claim one network: WireGuard would silently take it from the first."""
        claims: dict[str, conf.Peer] = {}
        for peer in self.after.peers().values():
            for network in peer.allowed_ips:
                other = claims.setdefault(network, peer)
                if other is not peer and {other.public_key, peer.public_key} & set(self.wanted):
                    raise ValueError(self._explain_two_claims(other, peer, network))
        for key, network in self._foreign_claims():
            peer_in_file = claims.get(network)
            if peer_in_file and peer_in_file.public_key in self.wanted:
                raise ValueError(self._explain_claim(peer_in_file, key, network))

    def _explain_two_claims(self, first: conf.Peer, second: conf.Peer, network: str) -> str:
        text = f"peers {first} and {second} both claim {network}, and a network belongs to one peer"
        asked_for = [peer for peer in (first, second) if peer.public_key in self.wanted]
        if len(asked_for) == 2:
            return f"{text}: give one of them another"
        old = second if asked_for == [first] else first
        options = (
            f'{{interface: {self.node.name}, peers: [{{public_key: "{old.public_key}", state: absent}}]}}'
        )
        return (
            f"{text}: give {asked_for[0]} another. If it is the same host with a new key, as after a new "
            f"installation, remove the old key on this node: `rendezvous.wireguard.peers: {options}`"
        )

    def _foreign_claims(self) -> Iterable[tuple[str, str]]:
        """Key and network of the running peers that are in no file and stay: the agent's and the admin's."""
        known = {*self.after.peers(), *(key for key in self.wanted if key not in self.owned)}
        peers = self.runtime.device.peers.values() if self.runtime else ()
        return (
            (peer.public_key, conf.canonical_network(network))
            for peer in peers
            if peer.public_key not in known
            for network in peer.allowed_ips
        )

    def _explain_claim(self, peer: conf.Peer, key: str, network: str) -> str:
        text = f"peer {peer} claims {network}, which the running peer {key} has"
        if key in self.owned:
            unit = f"wg-rendezvous-agent@{self.node.name}"
            return (
                f"{text}; the agent of this node added it, as the direct path to that address. "
                f"Leave peers of the mesh to the agent, or stop it first: systemctl stop {unit}"
            )
        return f"{text} but no file: remove it (wg set {self.node.name} peer {key} remove) or list it too"

    def _warn_of_what_waits(self) -> None:
        warn, name = self.node.module.warn, self.node.name
        for key in set(self.wanted) & set(self.owned):
            warn(f"peer {key} runs under the agent of this node: the change is in {name}.conf only")
        before, after = self.before.peers(), self.after.peers()
        networks = [
            {network for peer in peers.values() for network in peer.allowed_ips} & set(diff.DEFAULT_ROUTES)
            for peers in (before, after)
        ]
        if self.runtime and networks[0] != networks[1] and self.interface.table in (None, "auto"):
            warn(f"a default route over {name} changes when wg-quick@{name} is restarted")

    def _restore(self) -> str:
        """Put file and running peers back; what could not be is returned as a sentence."""
        problems = []
        try:
            self.node.restore_conf(self.text)
        except OSError as error:
            problems.append(f"{self.node.conf_path} could not be restored: {error.strerror}")
        now = self.node.runtime() if self.runtime else None
        if self.runtime and now:
            ours = [key for key in self.wanted if key not in self.owned]
            old: Wanted = {key: running(self.runtime, key) for key in ours}
            steps = diff.peer_steps(self.node.name, old, {}, now)
            steps += self._route_steps(self.before.peers().values(), self.after.peers().values(), ours)
            problems += self.node.try_apply(steps)
        return "; ".join(problems)


def running(runtime: diff.Runtime, key: str) -> conf.Peer | None:
    """A running peer as if a file named all that it has now."""
    peer = runtime.device.peers.get(key)
    if peer is None:
        return None
    return conf.Peer(
        public_key=key,
        allowed_ips=tuple(conf.canonical_network(network) for network in peer.allowed_ips),
        endpoint=peer.endpoint,
        persistent_keepalive_s=peer.persistent_keepalive_s,
        preshared_key=runtime.preshared_keys.get(key),
    )


def public(peer: conf.Peer) -> dict[str, Any]:
    """A peer of the file as data, without its preshared key."""
    return {
        "public_key": peer.public_key,
        "name": peer.name,
        "allowed_ips": list(peer.allowed_ips),
        "endpoint": peer.endpoint,
        "persistent_keepalive_s": peer.persistent_keepalive_s,
        "has_preshared_key": peer.preshared_key is not None,
        "preshared_key_id": mesh_secret.preshared_key_id(peer.preshared_key) if peer.preshared_key else None,
        "replaces": peer.replaces,
    }
