# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""How a node changes its private key, which never leaves it: the node's half of a rotation.

    prepared   IF.key.next has the next key; nothing uses it yet
    rotated    one rename has made it IF.key; then IF.conf and the running interface follow

The rename is what counts. Killed before it, the node has its old key in every respect. Killed after it, the
modules `rotate_key` and `interface` both bring the running interface to what IF.key says, and a reboot in
between starts with the old key of IF.conf, which the hub still knows. The hub does not let go of the old key
before the new one is confirmed (`_handover`), so a node that gets no answer with the new one goes back. The
preshared key with the hub goes with the private one: into the running interface by one command.
"""

from __future__ import annotations

import ipaddress
import os
import signal
import socket
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from . import _command
from ._keypair import read_private_key
from ._mesh_secret import SecretsFile
from ._node import Node, NodeError, change, changed, write_private
from ._wireguard import check, conf, diff, dump, keys, routes

ANSWER_WITHIN_S = 12.0
"""A handshake that is lost is tried again after 5 s, so this is for two of them."""
RESUME_AFTER_S = 30
SESSION_S = 180.0
"""A peer whose handshake is older has no session (WireGuard's Reject-After-Time)."""
_SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True)
class Plan:
    """The key that the node uses, and the one that it is to use; without that there is nothing to do."""

    running: str
    next: str | None
    next_path: str
    age_s: float
    is_outdated: bool
    """Is the preshared key with the hub not the one of the newest mesh secret?"""
    mesh_secrets: list[str]

    def is_due(self, min_age_s: float) -> bool:
        """Is the key to be changed, if nothing was begun?"""
        return self.is_outdated or self.age_s >= min_age_s

    def result(self) -> dict[str, Any]:
        """What the module returns of it."""
        next_key = keys.public_key(self.next) if self.next else None
        return {
            "public_key": keys.public_key(self.running),
            "next_public_key": next_key,
            "age_s": self.age_s,
            "mesh_secrets": self.mesh_secrets,
        }


@dataclass(frozen=True)
class Hub:
    """Where an answer shows that the hub has changed over; any answer, also that nobody listens."""

    address: str
    port: int

    def peer(self, parsed: conf.Conf) -> conf.Peer | None:
        """The peer of the file that has its address."""
        return routes.peer_towards(ipaddress.ip_address(self.address), parsed.peers().values())

    def calling(self, steps: list[diff.Step], _name: str, _peers: Iterable[dump.Peer]) -> list[diff.Step]:
        """As they are: what the peer sends to its hub makes WireGuard shake hands."""
        return steps

    def await_turn(self, node: Node) -> None:
        """The peer may change at any time."""

    def knows(self, node: Node, _before: Mapping[str, dump.Peer]) -> str | None:
        """Why the new key is of no use, None if it is."""
        if _answers(node.name, self):
            return None
        return f"the hub has not answered at {self.address} port {self.port} within {ANSWER_WITHIN_S:.0f} s"


@dataclass(frozen=True)
class Peers:
    """Of a hub: its peers were told of the new key, and show that by a handshake with it.

    They cannot begin it, since they do not know when; so the hub does, by the command that changes its key.
    """

    def peer(self, _parsed: conf.Conf) -> conf.Peer | None:
        """None: every preshared key stays as it is."""
        return None

    def calling(self, steps: list[diff.Step], name: str, peers: Iterable[dump.Peer]) -> list[diff.Step]:
        """The same, and a handshake with each peer."""
        return diff.calling(name, steps, peers)

    def await_turn(self, node: Node) -> None:
        """Until a handshake that comes next has another time than the last one: they are whole seconds."""
        last_at = max((peer.latest_handshake_at for peer in node.peers().values()), default=0)
        while last_at <= time.time() < last_at + 1:
            time.sleep(last_at + 1 - time.time())

    def knows(self, node: Node, before: Mapping[str, dump.Peer]) -> str | None:
        """As of `Hub`. The peers that were not there `before` do not matter.

        What is received proves nothing: packets of sessions that the old key has begun are still taken.
        """
        present = {key: peer for key, peer in before.items() if _has_session(peer)}
        deadline = time.monotonic() + ANSWER_WITHIN_S
        came: set[str] = set()
        while present.keys() - came and time.monotonic() < deadline:
            time.sleep(0.1)
            now = node.peers()
            came = {
                key
                for key in present.keys() & now.keys()
                if now[key].latest_handshake_at > before[key].latest_handshake_at
            }
        if came or not present:
            return None
        return f"none of {len(present)} peers has answered within {ANSWER_WITHIN_S:.0f} s"


def _has_session(peer: dump.Peer) -> bool:
    return time.time() - peer.latest_handshake_at < SESSION_S


@dataclass(frozen=True)
class MeshKey:
    """The preshared key with the hub comes from a mesh secret: the one with this id, "" for none; None for
    the newest."""

    preshared_key_id: str | None = None


def prepare(
    node: Node, key_path: str, min_age_s: float, others: Hub | Peers, mesh_key: MeshKey | None
) -> dict[str, Any]:
    """Let there be a next key if the present one is so old, or if a rotation was begun; and if the preshared
    key with the hub, where it comes from a mesh secret, is not of the newest.

    NodeError for a hub that has a mesh secret.
    """
    check.interface_name(node.name)
    with node.locked():
        before = _plan(node, key_path, others if mesh_key else None)
        if isinstance(others, Peers) and before.mesh_secrets:
            raise NodeError(
                f"{node.name} is the hub and has a mesh secret, so with its key the preshared keys with all "
                "peers would change, which is not possible: its key stays. To change it, take "
                "wg_interface_mesh_secret out, then run rendezvous.wireguard.site and rotate_keys first"
            )
        made = before.next is None and before.is_due(min_age_s)
        after = replace(before, next=keys.generate_private_key()) if made else before
        node.hide([after.next] if after.next else [])
        if made and not node.module.check_mode:
            write_private(after.next_path, f"{after.next}\n")
    shown = [f"public key: {keys.public_key(p.next)}\n" if p.next else "" for p in (before, after)]
    return {**after.result(), **changed([change(after.next_path, *shown)])}


def rotate(
    node: Node,
    key_path: str,
    min_age_s: float,
    others: Hub | Peers,
    unit: str | None,
    mesh_key: MeshKey | None,
) -> dict[str, Any]:
    """Use the next key from now on, or go on with the old one if the others do not answer to the new one.

    `unit`, the agent's, does not run meanwhile: it gives its links back to the hub first, which know the old
    key. NodeError says what is the case when the key could not be changed.
    """
    check.interface_name(node.name)
    with node.locked():
        plan = _plan(node, key_path, others if mesh_key else None)
        if node.module.check_mode and plan.next is None and plan.is_due(min_age_s):
            plan = replace(plan, next=keys.generate_private_key())  # as `prepare` would have made it
            node.hide([plan.next or ""])
        if plan.next is None:
            return {**plan.result(), **changed([])}
        old, new = plan.running, plan.next
        before = node.parse_conf(node.read_conf() or "")
        after = before.with_interface(replace(before.interface(), private_key=new))
        if mesh_key and isinstance(others, Hub):
            after = _with_preshared_key(node, after, others, mesh_key)
        shown = [f"public key: {keys.public_key(key)}\n" for key in (old, new)]
        changes = [*node.conf_changes(before, after), change(f"{node.name} (running)", *shown)]
        if not node.module.check_mode:
            with _uninterrupted(), _stopped(node.module, unit):
                running = _as_running(node, before, plan, others)
                problem = _try(node, key_path, plan, after, others)
                if problem:
                    _go_back(node, key_path, plan, running, others)
                    raise NodeError(
                        f"{problem}; so {node.name} goes on with its old key {keys.public_key(old)} instead "
                        f"of {keys.public_key(new)}: run the playbook again"
                    )
    return {**replace(plan, running=new, next=None).result(), **changed(changes)}


def _as_running(node: Node, before: conf.Conf, plan: Plan, others: Hub | Peers) -> conf.Conf:
    """The file with the keys that are running; after a killed rotation it may have those that come next."""
    present = before.with_interface(replace(before.interface(), private_key=plan.running))
    peer, runtime = others.peer(before), node.runtime()
    if peer and runtime:
        running = runtime.preshared_keys.get(peer.public_key)
        present = present.with_peer(replace(peer, preshared_key=running))
    return present


def _with_preshared_key(node: Node, before: conf.Conf, hub: Hub, mesh_key: MeshKey) -> conf.Conf:
    peer, secrets = hub.peer(before), SecretsFile(node)
    if peer is None:
        raise NodeError(
            f"no peer of {node.conf_path} has {hub.address} in its AllowedIPs, so this host has no hub: "
            "deploy it with rendezvous.wireguard.site first"
        )
    own_key = keys.public_key(before.interface().private_key or "")
    preshared_key = secrets.newest(own_key, peer.public_key)
    if mesh_key.preshared_key_id is not None:
        wanted_id = mesh_key.preshared_key_id
        preshared_key = secrets.find(own_key, peer.public_key, wanted_id, peer.preshared_key)
    return before.with_peer(replace(peer, preshared_key=preshared_key))


def _is_outdated(node: Node, secrets: SecretsFile, running: str, others: Hub | Peers) -> bool:
    peer = others.peer(node.parse_conf(node.read_conf() or ""))
    return peer is not None and peer.preshared_key != secrets.newest(
        keys.public_key(running), peer.public_key
    )


def _plan(node: Node, key_path: str, others: Hub | Peers | None) -> Plan:
    next_path = f"{key_path}.next"
    private_key = read_private_key(key_path)
    if private_key is None:
        raise NodeError(
            f"{key_path} does not exist, so this host is not in the mesh: deploy it with "
            "rendezvous.wireguard.site first"
        )
    if node.runtime() is None:
        unit = f"wg-quick@{node.name}"
        raise NodeError(f"{node.name} is down, so no new key could be tried: systemctl start {unit}")
    next_key = read_private_key(next_path)
    running = node.private_key() or private_key
    node.hide({private_key, running, *([next_key] if next_key else [])})
    age_s = max(0.0, time.time() - os.stat(key_path).st_mtime)
    if running == next_key:
        # Somebody else has brought it there; the file has to follow.
        running = private_key
    elif running != private_key:
        next_key = private_key  # a rotation was killed after its rename
    secrets = SecretsFile(node)
    is_outdated = others is not None and _is_outdated(node, secrets, running, others)
    return Plan(running, next_key, next_path, round(age_s, 1), is_outdated, secrets.ids)


def _try(node: Node, key_path: str, plan: Plan, after: conf.Conf, others: Hub | Peers) -> str | None:
    """Change over, and say why not if nothing comes of it."""
    others.await_turn(node)
    try:
        if os.path.exists(plan.next_path):
            os.replace(plan.next_path, os.path.realpath(key_path))
        return others.knows(node, _use(node, key_path, after, others))
    except (NodeError, OSError) as error:
        return str(error)


def _go_back(node: Node, key_path: str, plan: Plan, running: conf.Conf, others: Hub | Peers) -> None:
    write_private(plan.next_path, f"{plan.next}\n")
    write_private(key_path, f"{plan.running}\n")
    _use(node, key_path, running, others)


def _use(node: Node, key_path: str, after: conf.Conf, others: Hub | Peers) -> Mapping[str, dump.Peer]:
    """Take the keys of this file; the private one is in `key_path` as well. Returns the peers before that."""
    write_private(node.conf_path, after.render())
    runtime, private_key = node.runtime(), after.interface().private_key
    if runtime is None or private_key is None:
        return {}
    running, peer = runtime.device.peers, others.peer(after)
    steps = diff.key_steps(node.name, private_key, key_path, peer, after.peers(), runtime)
    node.apply(others.calling(steps, node.name, running.values()))
    return running


def _answers(interface: str, hub: Hub) -> bool:
    """Does anything come back from the hub through the tunnel? What is sent makes WireGuard shake hands."""
    deadline = time.monotonic() + ANSWER_WITHIN_S
    wait_s = 0.2
    while time.monotonic() < deadline:
        began = time.monotonic()
        with socket.socket(socket.AF_INET6 if ":" in hub.address else socket.AF_INET) as one:
            one.settimeout(wait_s)
            try:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode() + b"\0")
                one.connect((hub.address, hub.port))
                return True
            except ConnectionRefusedError:
                return True
            except OSError:
                time.sleep(max(0.0, min(0.2, began + wait_s - time.monotonic())))
        wait_s = min(2.0, wait_s * 1.5)
    return False


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """What is only a moment is not broken off half-way, say because the connection of Ansible ended."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _stopped(module: AnsibleModule, unit: str | None) -> Iterator[None]:
    """Stop a unit that runs; afterwards it runs again, by systemd's hand if this process is killed."""
    systemctl = module.get_bin_path("systemctl") if unit else None
    if not systemctl or not unit or _command.run((systemctl, "is-active", "--quiet", unit))[0] != 0:
        yield
        return
    resume = "resume-" + unit.rpartition(".")[0].replace("@", "-")
    timer = [f"--unit={resume}", f"--on-active={RESUME_AFTER_S}"]
    _command.run(("systemd-run", "--quiet", "--collect", *timer, systemctl, "restart", unit))
    _command.run((systemctl, "stop", unit))
    try:
        yield
    finally:
        _command.run((systemctl, "stop", f"{resume}.timer"))
        code, _out, err = _command.run((systemctl, "restart", unit))
        if code != 0:
            module.warn(f"{unit} does not start again: {err.strip()}")
