# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""How a peer of the hub gets from an old key to a new one: the hub's half of a rotation.

    announced    the new key is a peer without AllowedIPs, so it can shake hands and nothing else
                 (`# Replaces = OLD` in its section)
    handed over  the new key has shaken hands: one `wg set` has moved the AllowedIPs to it, which WireGuard
                 does at once; the old key is a peer without any
    confirmed    the old key is gone

Which of the two has the AllowedIPs is decided by one rule only: the one that shook hands last. A host that
goes back to its old key, because it did not reach the hub with the new one, gets them back. So whatever is
interrupted, and for however long, the host is reached with the key that it really has.

`watch` looks twenty times a second, since the host can send nothing from its switch until the move: what a
task of Ansible costs would be the gap. So nobody switches before it looks. For the same reason it moves the
AllowedIPs on the running interface by one command and goes on looking while the file follows: the disk alone
has taken 0.9 s. Killed in between, the next run sees the handshakes. The other half is `_rotation`.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

from ._mesh_secret import SecretsFile
from ._node import Node, NodeError, change_of_steps, changed, write_private
from ._peers import public
from ._wireguard import check, conf, diff, keys

LOOK_EVERY_S = 0.05


@dataclass(frozen=True)
class Announcement:
    """A host changes to `public_key` from the key `replaces`."""

    public_key: str
    replaces: str


@dataclass(frozen=True)
class Handshakes:
    """When each peer shook hands last, as Unix times; with `before`, what the look before has shown."""

    at: Mapping[str, int]
    before: Mapping[str, int] | None = None

    def has_changed_over(self, new: str, old: str) -> bool | None:
        """Has the host its new key? None: nothing has come that would say so.

        Times are whole seconds: two in the same one are told apart only by somebody who looks in between.
        A key that is gone, since its other one was confirmed, has none.
        """
        if self.before is not None:
            came = [key for key in (new, old) if self.at.get(key, 0) not in (0, self.before.get(key, 0))]
            return new in came if came else None
        if not self.at.get(new):
            return None
        return self.at[new] >= self.at.get(old, 0)


def handover(
    node: Node,
    announced: Iterable[Announcement],
    confirmed: Iterable[str],
    watch_s: float,
    await_watch_s: float,
    from_mesh_secret: bool,
) -> dict[str, Any]:
    """Confirm and announce; then hand over whoever shakes hands, for so long or until nobody is left. Or wait
    until another run does that.

    With `from_mesh_secret`, the preshared key of an announced key comes from the newest mesh secret.
    """
    check.interface_name(node.name)
    checked = [_checked(one) for one in announced]
    running = [check.public_key(key, "confirmed") for key in confirmed]
    deadline = time.monotonic() + watch_s
    with node.locked():
        before = node.parse_conf(node.read_conf() or "")
        after = before
        seen = _look(node)
        after = _by_handshakes(after, seen)
        for key in running:
            after = confirm(after, key)
        secrets = SecretsFile(node)
        for one in checked:
            after = announce(after, one, node.name, _preshared_key(after, one, secrets, from_mesh_secret))
        changes = _commit(node, before, after)
    if await_watch_s and _announced(after) and not node.module.check_mode:
        _await_watch(node, await_watch_s)
    handed_over, left = False, _announced(after)
    if time.monotonic() < deadline and left and not node.module.check_mode:
        handed_over, left = _watch(node, deadline, seen)
    result = changed(changes)
    return {
        "changed": result["changed"] or handed_over,
        "diff": result["diff"],
        "pending": [{"name": peer.name, "public_key": peer.public_key} for peer in left],
        "announced": [public(after.peers()[one.public_key]) for one in checked],
        "mesh_secrets": secrets.ids,
    }


# ---- the file, step by step: pure ----


def announce(
    before: conf.Conf, one: Announcement, interface: str, preshared_key: str | None = None
) -> conf.Conf:
    """The file with the new key beside the old one. ValueError if it knows neither."""
    peers = before.peers()
    new, old = peers.get(one.public_key), peers.get(one.replaces)
    if new and not old:
        return before
    if old is None:
        raise ValueError(
            f"no peer of {interface} has the key {one.replaces}, so the host is not in the mesh: deploy it "
            "with rendezvous.wireguard.site first"
        )
    if new is None:
        new = conf.Peer(one.public_key, preshared_key=preshared_key, name=old.name)
    return before.with_peer(replace(new, replaces=one.replaces))


def move(before: conf.Conf, new: conf.Peer, changed_over: bool) -> conf.Conf:
    """The file with what the two keys of a host have at the one that it uses."""
    old = before.peers().get(new.replaces or "")
    giver, taker = (old, new) if changed_over else (new, old)
    if giver is None or taker is None or not giver.allowed_ips:
        return before
    # The giver first: no two sections of the file may have a network, not even for a moment.
    after = before.with_peer(replace(giver, allowed_ips=(), endpoint=None, persistent_keepalive_s=None))
    return after.with_peer(
        replace(
            taker,
            allowed_ips=giver.allowed_ips,
            endpoint=giver.endpoint,
            persistent_keepalive_s=giver.persistent_keepalive_s,
        )
    )


def confirm(before: conf.Conf, public_key: str) -> conf.Conf:
    """The file without the old keys of a host that has changed over; killed runs may leave several."""
    peers = before.peers()
    new = peers.get(public_key)
    if new is None or new.replaces is None:
        return before
    after = before
    old = peers.get(new.replaces)
    while old is not None and old.public_key != public_key:
        after = move(after, replace(after.peers()[public_key], replaces=old.public_key), changed_over=True)
        after = after.without_peer(old.public_key)
        peers.pop(old.public_key)
        old = peers.get(old.replaces or "")
    return after.with_peer(replace(after.peers()[public_key], replaces=None))


def _by_handshakes(before: conf.Conf, seen: Handshakes) -> conf.Conf:
    after = before
    for new in _announced(before):
        changed_over = seen.has_changed_over(new.public_key, new.replaces or "")
        if changed_over is not None:
            after = move(after, new, changed_over)
    return after


def _announced(parsed: conf.Conf) -> list[conf.Peer]:
    return [peer for peer in parsed.peers().values() if peer.replaces]


def _preshared_key(
    before: conf.Conf, one: Announcement, secrets: SecretsFile, from_mesh_secret: bool
) -> str | None:
    """That of an announced key: derived, or what the old one has."""
    private_key, old = before.interface().private_key, before.peers().get(one.replaces)
    if from_mesh_secret and private_key:
        return secrets.newest(keys.public_key(private_key), one.public_key)
    return old.preshared_key if old else None


def _checked(one: Announcement) -> Announcement:
    public_key = check.public_key(one.public_key, "public_key")
    if public_key == check.public_key(one.replaces, "replaces"):
        raise ValueError(f"{public_key} cannot replace itself: write the new key as public_key")
    return one


# ---- the node ----


@dataclass
class _Watched:
    """What the watch goes by: the file as it was read last, and what it has done since it began."""

    text: str | None = None
    announced: list[conf.Peer] = field(default_factory=list)
    olds: Mapping[str, conf.Peer] = field(default_factory=dict)
    takers: dict[str, str] = field(default_factory=dict)
    """By announced key, the one of the two that was given the AllowedIPs."""

    def read(self, node: Node) -> None:
        """Read the file if it has changed."""
        text = node.read_conf()
        if text != self.text:
            parsed = node.parse_conf(text or "")
            self.text, self.announced, self.olds = text, _announced(parsed), parsed.peers()

    def news(self, seen: Handshakes) -> list[conf.Peer]:
        """Who is to be given the AllowedIPs now, with them."""
        found = []
        for new in self.announced:
            old = self.olds.get(new.replaces or "")
            changed_over = seen.has_changed_over(new.public_key, new.replaces or "")
            if old is None or changed_over is None:
                continue
            giver, taker = (old, new) if changed_over else (new, old)
            has = self.takers.get(new.public_key) or (new if new.allowed_ips else old).public_key
            if has != taker.public_key:
                self.takers[new.public_key] = taker.public_key
                found.append(replace(giver if giver.allowed_ips else taker, public_key=taker.public_key))
        return found


def _watch(node: Node, deadline: float, seen: Handshakes) -> tuple[bool, list[conf.Peer]]:
    """Hand over whoever shakes hands until nobody is left or it is time; was there one, and who is left?"""
    watched, flag = _Watched(), None
    settling: list[Future[None]] = []
    with ThreadPoolExecutor(max_workers=1) as thread:
        try:
            while time.monotonic() < deadline:
                watched.read(node)
                if not watched.announced:
                    break
                flag = flag or _flag(node.name)
                time.sleep(LOOK_EVERY_S)
                seen = Handshakes(_look(node).at, seen.at)
                news = watched.news(seen)
                for taker in news:
                    node.try_run(_take(node.name, taker))  # if it fails, `_settle` says so
                is_awaited = settling and not (settling[-1].running() or settling[-1].done())
                if news and not is_awaited:
                    settling.append(thread.submit(_settle, node, watched.takers))
        finally:
            if flag:
                flag.close()
    for one in settling:
        one.result()
    watched.read(node)
    return bool(settling), watched.announced


def _take(interface: str, taker: conf.Peer) -> tuple[str, ...]:
    """The command that somebody waits for; WireGuard takes the AllowedIPs from the other key by itself."""
    keepalive_s, networks = str(taker.persistent_keepalive_s or 0), ",".join(taker.allowed_ips)
    peer = ("peer", taker.public_key)
    return ("wg", "set", interface, *peer, "persistent-keepalive", keepalive_s, "allowed-ips", networks)


def _settle(node: Node, takers: Mapping[str, str]) -> None:
    """Let the file say what the watch has done, and the running interface all that the file says.

    The watch does not hold the lock: whom another run has removed meanwhile it may have added again.
    """
    with node.locked():
        given = dict(takers)
        before = after = node.parse_conf(node.read_conf() or "")
        for new in _announced(before):
            if new.public_key in given:
                after = move(after, new, given[new.public_key] == new.public_key)
        # Not undone if it fails, as somebody has his networks by it: the next run goes on with the file.
        _commit(node, before, after, undo=False)
        for key in set(given.values()) - before.peers().keys():
            node.run(("wg", "set", node.name, "peer", key, "remove"))


def _flag(interface: str) -> socket.socket | None:
    """Tells other runs that this one watches, until it is closed; None if another one does. An abstract
    socket (unix(7)) leaves nothing behind when its process is killed.
    """
    flag = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        flag.bind(f"\0rendezvous.wireguard handover {interface}")
    except OSError:
        flag.close()
        return None
    return flag


def _await_watch(node: Node, within_s: float) -> None:
    deadline = time.monotonic() + within_s
    while (flag := _flag(node.name)) is not None:
        flag.close()
        if time.monotonic() > deadline:
            node.module.warn(
                f"nobody watches {node.name} after {within_s:.0f} s: a new key is handed over when its host "
                "is confirmed, which interrupts its traffic for the length of some tasks"
            )
            return
        time.sleep(LOOK_EVERY_S)


def _look(node: Node) -> Handshakes:
    """No handshakes while the interface is down."""
    out = node.try_run(("wg", "show", node.name, "latest-handshakes"))
    pairs = (line.split("\t") for line in (out or "").splitlines())
    return Handshakes({key: int(at) for key, at in pairs})


def _commit(node: Node, before: conf.Conf, after: conf.Conf, undo: bool = True) -> list[dict[str, str]]:
    """Bring running interface and file to the new state; the interface first, since somebody waits for it."""
    runtime = node.runtime()
    old, new = before.peers(), after.peers()
    touched = {key: new.get(key) for key in {**old, **new} if old.get(key) != new.get(key)}
    # Where a handshake came from is where its sender is. To look up a name again could take long, or fail.
    known = {key: replace(old[key], endpoint=new[key].endpoint) for key in old.keys() & new.keys()}
    steps = diff.peer_steps(node.name, touched, {**old, **known}, runtime) if runtime else []
    # Those who get something first: WireGuard takes it from the others by itself.
    steps.sort(key=lambda step: step.argv[-1] in ("remove", ""))
    changes = [*node.conf_changes(before, after), change_of_steps(node.name, steps)]
    if not node.module.check_mode and changed(changes)["changed"]:
        try:
            node.apply(steps)
            write_private(node.conf_path, after.render())
        except (NodeError, OSError) as error:
            if not undo:
                raise
            problems = node.try_apply(_back(node, old, touched, runtime))
            state = "; ".join(problems) or "file and interface are as they were"
            raise NodeError(f"{error}; {state}") from None
    return changes


def _back(
    node: Node, old: Mapping[str, conf.Peer], touched: Iterable[str], runtime: diff.Runtime | None
) -> list[diff.Step]:
    now = node.runtime() if runtime else None
    return diff.peer_steps(node.name, {key: old.get(key) for key in touched}, {}, now) if now else []
