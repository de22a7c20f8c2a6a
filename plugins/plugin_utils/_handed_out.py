# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What has been handed out to devices, and what is to be written for them now.

Each device has up to three files in one directory:

NAME.json   the record: public key, of which network, what the file said when it was issued; nothing secret.
            Written last, so that it says that the others were written.
NAME.conf   what the device imports, with the private key if it was made here. The only place of that key;
            whoever handed it out may delete it.
NAME.png    for phones, the same as a QR code.

A key that has been handed out is neither made again nor written again unless that is asked for, whatever has
been deleted since, and also if another controller made it: then the hub knows the name.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import io
import json
import os
import stat
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from ansible_collections.rendezvous.wireguard.plugins.module_utils._node import (
    NodeError,
    change,
    write_private,
)
from ansible_collections.rendezvous.wireguard.plugins.module_utils._wireguard import (
    check,
    conf,
    keys,
    mesh_secret,
)

from . import _devices
from ._devices import Device, Network

KeyMaker = Callable[[], str]


@dataclass(frozen=True)
class Record:
    """NAME.json."""

    public_key: str
    network: str
    """The name of the hub."""
    made_here: bool
    """Was the key made here, or is it its owner's?"""
    issued: str
    """What the file said, but for the key: a hash."""
    replaces: tuple[str, ...] = ()
    """Keys that the hub may still know, if runs were killed before it learned the new one."""

    def to_json(self) -> str:
        """The text of the file."""
        return json.dumps(vars(self), indent=2, sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, text: str, path: str) -> Record:
        """NodeError if it is damaged."""
        try:
            fields = json.loads(text)
            record = cls(**{**fields, "replaces": tuple(fields["replaces"])})
            check.public_key(record.public_key, "public_key")
        except (KeyError, TypeError, ValueError):
            raise NodeError(
                f"{path} is damaged: restore it from a backup, or delete it together with the device's other "
                "files and run with wg_client_config_regenerate for this device"
            ) from None
        return record


@dataclass(frozen=True)
class Found:
    """The files of a device."""

    conf: str | None = field(default=None, repr=False)
    png: bool = False
    record: Record | None = None

    @property
    def private_key(self) -> str | None:
        """That in the file; None if there is none, or a placeholder."""
        return None if self.conf is None else conf.parse(self.conf).interface().private_key


UNKNOWN = "unknown"
"""In place of a preshared key: that of a device whose file is not here any more."""


@dataclass(frozen=True)
class Known:
    """A peer in the hub's file."""

    name: str | None
    public_key: str
    allowed_ips: tuple[str, ...] = ()


@dataclass(frozen=True)
class Key:
    """The key of a device, and whether this run made it."""

    public: str
    private: str | None = field(default=None, repr=False)
    new: bool = False
    replaces: tuple[str, ...] = ()


@dataclass
class Decision:
    """What is to become of one device."""

    device: Device
    public_key: str | None
    conf: str | None = field(default=None, repr=False)
    """To be written."""
    record: Record | None = None
    """To be written."""
    qr: str | None = field(default=None, repr=False)
    """The text of a QR code that is to be made and shown."""
    remove: bool = False
    """Remove all files."""
    outdated: bool = False
    """Does the device have a file that says something else than it would say now?"""
    peers: list[dict[str, Any]] = field(default_factory=list)
    """For the module peers at the hub."""

    def public_keys(self, found: Found) -> set[str]:
        """Those of the device, now and before."""
        before = found.record.public_key if found.record else None
        return {key for key in (self.public_key, before) if key}


@dataclass(frozen=True)
class Wanted:
    """What a run was asked for."""

    devices: Sequence[Device]
    network: Network
    hub_public_key: str = ""
    """Empty if a device is the hub."""
    known: Sequence[Known] = ()
    regenerate: frozenset[str] = frozenset()
    reissue: frozenset[str] = frozenset()
    mesh_secret: str | None = field(default=None, repr=False)
    """What the preshared keys of the hub with new devices come from."""


def decide(wanted: Wanted, found: Mapping[str, Found], make_key: KeyMaker) -> list[Decision]:
    """For each device what is to be written. ValueError has one line for each problem."""
    problems: list[str] = []
    chosen: dict[str, Key] = {}
    for device in wanted.devices:
        if device.present:
            try:
                chosen[device.name] = _choose_key(device, found[device.name], wanted, make_key)
            except ValueError as error:
                problems.append(f"device {device.name}: {error}")
    problems += _problems_of_claims(wanted, chosen, found)
    if problems:
        raise ValueError("\n".join(problems))
    public = {name: key.public for name, key in chosen.items()}
    hub = next((device.name for device in wanted.devices if device.present and device.kind == "hub"), None)
    public[""] = public[hub] if hub else wanted.hub_public_key
    return [
        _issue(device, found[device.name], chosen[device.name], wanted, public)
        if device.present
        else _revoke(device, found[device.name], wanted)
        for device in wanted.devices
    ]


def of_network(name: str, found: Found, wanted: Wanted) -> bool:
    """Are a device's files of this network?

    If they are of a hub of this name, or, since a host may get another name, if the hub knows the device by
    its key, or if the file knows the hub by its key.
    """
    record = found.record
    if record is None:
        return False
    known = {record.public_key, *record.replaces}.intersection(_at_hub(wanted, name))
    hubs = conf.parse(found.conf or "").peers() if wanted.network.hub else ()
    return record.network == wanted.network.hub or bool(known) or wanted.hub_public_key in hubs


def _at_hub(wanted: Wanted, name: str) -> list[str]:
    return [peer.public_key for peer in wanted.known if peer.name == name]


def _choose_key(device: Device, found: Found, wanted: Wanted, make_key: KeyMaker) -> Key:
    record, at_hub = found.record, _at_hub(wanted, device.name)
    told = device.name in wanted.regenerate | wanted.reissue
    if record and not told and not of_network(device.name, found, wanted):
        other, this = (name or "a hub that is a device" for name in (record.network, wanted.network.hub))
        raise ValueError(
            f"its files are of the network of {other}, and {this} neither knows their key nor has that of "
            "their hub: write another wg_client_config_directory for each network, or, if this hub has taken "
            f"the place of that one, write them again with -e wg_client_config_reissue={device.name}"
        )
    private = found.private_key
    in_file = keys.public_key(private) if private else None
    handed_out = in_file or (record.public_key if record and record.made_here else None)
    earlier = {in_file, *((record.public_key, *record.replaces) if record else ())} - {None}
    if device.public_key:
        if handed_out not in (None, device.public_key):
            raise ValueError(
                f"public_key {device.public_key}: its files here are of another key, {handed_out}: leave "
                "public_key out, or revoke the other key first with state: absent"
            )
        return Key(device.public_key, private if in_file == device.public_key else None)
    if device.name in wanted.regenerate:
        new = make_key()
        return Key(keys.public_key(new), new, new=True, replaces=_still_at(at_hub, earlier))
    if handed_out:
        strangers = [key for key in at_hub if key not in earlier]
        if strangers:
            raise ValueError(
                f"the hub knows it with the key {strangers[0]}, and its files here are of {handed_out}: "
                "delete its files here if another controller has made that key, or make a new one with "
                f"{_again(device)}"
            )
        return Key(handed_out, private, replaces=_still_at(at_hub, earlier - {handed_out}))
    if record:
        raise ValueError(
            f"public_key {record.public_key} was its owner's, and is not listed any more: write it again, or "
            f"make a key here with {_again(device)}"
        )
    if at_hub:
        raise ValueError(
            f"the hub knows it already, with the key {at_hub[0]}, and it has no files in this directory: run "
            f"where it was made, write that key as its public_key, or make a new one with {_again(device)}"
        )
    new = make_key()
    return Key(keys.public_key(new), new, new=True)


def _still_at(at_hub: Iterable[str], earlier: Container[str | None]) -> tuple[str, ...]:
    return tuple(key for key in at_hub if key in earlier)


def _again(device: Device) -> str:
    return f"-e wg_client_config_regenerate={device.name}"


def _problems_of_claims(
    wanted: Wanted, chosen: Mapping[str, Key], found: Mapping[str, Found]
) -> Iterable[str]:
    """The hub knows peers that no inventory knows: their addresses and keys cannot be given away."""
    going = {key for name in chosen for key in _at_hub(wanted, name)}
    for device in wanted.devices:
        if not device.present:
            going |= set(_keys_to_revoke(device, found[device.name], wanted))
    owners = {
        network: peer
        for peer in wanted.known
        if peer.public_key not in going
        for network in map(conf.canonical_network, peer.allowed_ips)
    }
    names = {peer.public_key: peer.name for peer in wanted.known}
    for device in wanted.devices:
        key = chosen.get(device.name)
        if key is None:
            continue
        if key.public == wanted.hub_public_key:
            yield f"device {device.name}: public_key {key.public} is the hub's: write the device's"
        other_name = names.get(key.public)
        if other_name not in (None, device.name):
            yield (
                f"device {device.name}: public_key {key.public} is that of {other_name} at the hub: write "
                "that of the device"
            )
        for route in device.routes:
            owner = owners.get(route)
            if owner and owner.public_key != key.public:
                yield (
                    f"device {device.name}: address {route} is that of {owner.name or owner.public_key} at "
                    "the hub: write another one, or revoke that peer first"
                )


def _issue(device: Device, found: Found, key: Key, wanted: Wanted, public: Mapping[str, str]) -> Decision:
    peers = _devices.peers_of(device, wanted.network, public, wanted.devices)
    plain = _devices.render(device, wanted.network, peers, key.public, None)
    issued = hashlib.sha256(_devices.compact(plain).encode()).hexdigest()
    made_here = device.public_key is None
    record = Record(key.public, wanted.network.hub, made_here, issued, key.replaces)
    preshared_key = _preshared_key(found, key, wanted)
    decision = Decision(device, key.public)
    reissue = device.name in wanted.reissue
    if reissue and made_here and key.private is None:
        raise ValueError(
            f"device {device.name}: its private key is not here any more, so it cannot be issued again: "
            f"make a new one with {_again(device)}"
        )
    old = found.record
    first = key.new or old is None or old.public_key != key.public
    outdated = old is not None and old.issued != issued
    keyed = [replace(peer, preshared_key=preshared_key) for peer in peers]
    text = _devices.render(device, wanted.network, keyed, key.public, key.private)
    if first or reissue or (outdated and _follows(device, found, key, text, public[""], wanted)):
        decision.conf = text
        decision.record = record
        if device.kind == "phone" and key.private:
            decision.qr = _devices.compact(decision.conf)
    else:
        decision.outdated = outdated
        decision.record = replace(old, network=wanted.network.hub) if old else None
    in_file = found.conf is not None or decision.conf is not None
    decision.peers = _registration(device, key, wanted, preshared_key if in_file else UNKNOWN)
    return decision


def _follows(device: Device, found: Found, key: Key, text: str, hub_key: str, wanted: Wanted) -> bool:
    """Is its file written again when it changes?

    If nothing in it is secret, if it knows all devices, if it knows a hub that is a device by another key, so
    that it is of no use, and if a run that was killed wrote it and not the record.
    """
    if key.private is None:
        return device.public_key is not None
    in_file = conf.parse(found.conf or "")
    another_hub = not wanted.network.hub and hub_key not in in_file.peers()
    return device.kind == "hub" or another_hub or found.conf == text


def _preshared_key(found: Found, key: Key, wanted: Wanted) -> str | None:
    """That of the device with the hub: what its file says, also none, as long as both have their keys."""
    if not wanted.network.hub:
        return None
    old = found.record
    if found.conf is not None and old and old.public_key == key.public:
        in_file = conf.parse(found.conf).peers().get(wanted.hub_public_key)
        if in_file:
            return in_file.preshared_key
    if wanted.mesh_secret is None:
        return None
    return mesh_secret.preshared_key(wanted.mesh_secret, wanted.hub_public_key, key.public)


def _registration(
    device: Device, key: Key, wanted: Wanted, preshared_key: str | None
) -> list[dict[str, Any]]:
    """What the hub is told; nothing if the hub is a device. UNKNOWN: it keeps the preshared key it has."""
    if not wanted.network.hub:
        return []
    going = [other for other in _at_hub(wanted, device.name) if other != key.public]
    peer: dict[str, Any] = {
        "name": device.name,
        "public_key": key.public,
        "allowed_ips": device.routes,
        "from_mesh_secret": True,
    }
    if preshared_key != UNKNOWN:
        peer["preshared_key_id"] = mesh_secret.preshared_key_id(preshared_key) if preshared_key else ""
    return [*({"public_key": gone, "state": "absent"} for gone in going), peer]


def _keys_to_revoke(device: Device, found: Found, wanted: Wanted) -> list[str]:
    """Never those of a peer that has another name, whatever key is listed."""
    mine = {device.public_key}
    if found.record:
        mine |= {found.record.public_key, *found.record.replaces}
    if found.private_key:
        mine.add(keys.public_key(found.private_key))
    return [
        peer.public_key
        for peer in wanted.known
        if peer.name == device.name or (peer.name is None and peer.public_key in mine)
    ]


def _revoke(device: Device, found: Found, wanted: Wanted) -> Decision:
    gone = _keys_to_revoke(device, found, wanted) if wanted.network.hub else []
    return Decision(
        device,
        found.record.public_key if found.record else next(iter(gone), None),
        remove=True,
        peers=[{"public_key": key, "state": "absent"} for key in gone],
    )


# ---- files ----


SUFFIXES = ("png", "conf", "json")
GITIGNORE = "# private keys\n*.conf\n*.png\n"


class Folder:
    """The directory with the files of all devices."""

    def __init__(self, path: str) -> None:
        self.path = path

    def file(self, name: str, suffix: str) -> str:
        """The path of one file of a device."""
        return os.path.join(self.path, f"{name}.{suffix}")

    def read(self, name: str) -> Found:
        """What is there of a device. NodeError if it is damaged, or if others could read its private key."""
        text, record = self._text(name, "conf"), self._text(name, "json")
        found = Found(
            conf=text,
            png=os.path.exists(self.file(name, "png")),
            record=None if record is None else Record.from_json(record, self.file(name, "json")),
        )
        path = self.file(name, "conf")
        try:
            private_key = found.private_key
            if private_key is not None:
                keys.check_key(private_key)
        except ValueError as error:
            raise NodeError(f"{path} is damaged ({error}): restore it from a backup or delete it") from None
        mode = stat.S_IMODE(os.stat(path).st_mode) if private_key else 0
        if mode & 0o077:
            raise NodeError(
                f"{path} has mode {mode:04o}, so others may have read the private key: chmod 600 {path}, and "
                f"make a new key if they have, with -e wg_client_config_regenerate={name}"
            )
        return found

    def records(self) -> dict[str, Record]:
        """By name, of all devices that have one; other JSON files may be there too."""
        try:
            listed = os.listdir(self.path)
        except FileNotFoundError:
            return {}
        found: dict[str, Record] = {}
        for name in sorted(name[: -len(".json")] for name in listed if name.endswith(".json")):
            with suppress(NodeError):
                text = self._text(name, "json")
                found.update({} if text is None else {name: Record.from_json(text, self.file(name, "json"))})
        return found

    def prepare(self) -> None:
        """Make the directory, where a version control system is told to leave the private keys alone."""
        if not os.path.isdir(self.path):
            os.makedirs(self.path, mode=0o700)
            self.protect()

    def gaps(self) -> list[dict[str, str]]:
        """What the directory lacks to keep private keys to its owner, as entries of a diff."""
        if not os.path.isdir(self.path):
            return []
        mode = stat.S_IMODE(os.stat(self.path).st_mode)
        ignored = os.path.join(self.path, ".gitignore")
        entries = [change(self.path, f"mode {mode:04o}\n", "mode 0700\n")] if mode & 0o077 else []
        return entries + ([] if os.path.lexists(ignored) else [change(ignored, "", GITIGNORE)])

    def has_only_devices(self) -> bool:
        """Is it a directory that is there for this, so that it can be closed to all others?

        It belongs to whoever runs this, and has nothing but the files of devices. One directly below the
        root, such as /mnt, may be empty and somebody else's.
        """
        path = os.path.realpath(self.path)
        if os.path.dirname(path) in ("/", path) or os.stat(path).st_uid != os.geteuid():
            return False
        ours = {os.path.basename(self.file(name, suffix)) for name in self.records() for suffix in SUFFIXES}
        return ours.issuperset(set(os.listdir(path)) - {".gitignore", ".gitkeep"})

    def protect(self) -> None:
        """Close what gaps() names."""
        os.chmod(self.path, 0o700)
        ignored = os.path.join(self.path, ".gitignore")
        if not os.path.lexists(ignored):
            with open(ignored, "w", encoding="utf-8") as file:
                file.write(GITIGNORE)

    def contents(self, decision: Decision, png: bytes | None) -> dict[str, bytes | None]:
        """The files that are to be written, None for those that are to be removed; the record is the last."""
        name = decision.device.name
        if decision.remove:
            return {self.file(name, suffix): None for suffix in SUFFIXES}
        contents: dict[str, bytes | None] = {}
        if decision.conf is not None:
            contents[self.file(name, "conf")] = decision.conf.encode()
        if png is not None:
            contents[self.file(name, "png")] = png
        if decision.record is not None:
            contents[self.file(name, "json")] = decision.record.to_json().encode()
        return contents

    def _text(self, name: str, suffix: str) -> str | None:
        path = self.file(name, suffix)
        try:
            with open(path, encoding="utf-8") as file:
                return file.read()
        except FileNotFoundError:
            return None
        except UnicodeDecodeError:
            raise NodeError(f"{path} is not UTF-8 text: restore it from a backup or delete it") from None


def change_of(path: str, wanted: bytes | None, public_keys: Iterable[str]) -> dict[str, str] | None:
    """How a file changes, without secrets; None if it does not.

    `public_keys`: those that the device has or had, which may be shown where its private key belongs.
    """
    try:
        with open(path, "rb") as file:
            before = file.read()
    except FileNotFoundError:
        before = None
    if before == wanted:
        return None
    sentences = {_devices.without_private_key(key) for key in public_keys}
    entry = change(path, _shown(path, before, sentences), _shown(path, wanted, sentences))
    if entry["before"] == entry["after"]:
        entry["after"] += "(another)\n"
    return entry


def write(path: str, content: bytes | None) -> None:
    """Replace or remove a file."""
    if content is not None:
        write_private(path, content)
    elif os.path.lexists(path):
        os.unlink(path)


def _shown(path: str, content: bytes | None, sentences: Container[str]) -> str:
    if content is None:
        return ""
    if path.endswith(".png"):
        return "(a QR code)\n"
    text = content.decode()
    if not path.endswith(".conf"):
        return text
    lines = zip(text.split("\n"), conf.parse(text).masked().split("\n"))
    return "\n".join(line if line in sentences else masked for line, masked in lines)


# ---- QR codes ----


def qr_ready() -> bool:
    """Can QR codes be made?"""
    return importlib.util.find_spec("segno") is not None


def qr_png(text: str) -> bytes:
    """A QR code as a PNG file."""
    png = io.BytesIO()
    _qr(text).save(png, kind="png", scale=8)
    return png.getvalue()


def qr_terminal(text: str) -> str:
    """A QR code for a terminal, black on white whatever its colours are; two rows of modules in each line."""
    written = io.StringIO()
    _qr(text).terminal(out=written, compact=True)
    return "\n".join(f"\x1b[97;40m{line}\x1b[0m" for line in written.getvalue().splitlines())


def _qr(text: str) -> Any:
    segno = importlib.import_module("segno")
    return segno.make(text.rstrip("\n"), micro=False, error="l")
