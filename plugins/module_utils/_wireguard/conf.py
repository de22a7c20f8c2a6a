# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""IF.conf: read, change, write (wg(8) "CONFIGURATION FILE FORMAT", wg-quick(8)).

The file is kept as its own lines, grouped into sections, so that comments, unknown settings and the admin's
layout survive every change; `parse(text).render() == text`. A setting that means the same is not rewritten.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from . import keys

HOOKS = ("PreUp", "PostUp", "PreDown", "PostDown")
_LISTS = ("address", "allowedips")
_SECRETS = ("privatekey", "presharedkey")
_KEY_TOKEN = re.compile(r"(?<![A-Za-z0-9+/])[A-Za-z0-9+/]{43}=")
_ASSIGNMENT = re.compile(r"(?P<start>[\s#]*(?P<key>\w+)\s*=\s*)(?P<value>.*)", re.DOTALL)


@dataclass(frozen=True)
class Interface:
    """The [Interface] section, as far as this collection writes it. None and () = not in the file."""

    addresses: tuple[str, ...] = ()
    private_key: str | None = field(default=None, repr=False)
    listen_port: int | None = None
    mtu: int | None = None
    fwmark: int | None = None
    table: str | None = None
    pre_up: tuple[str, ...] = ()
    post_up: tuple[str, ...] = ()
    pre_down: tuple[str, ...] = ()
    post_down: tuple[str, ...] = ()


@dataclass(frozen=True)
class Peer:
    """A [Peer] section. None = not in the file."""

    public_key: str
    allowed_ips: tuple[str, ...] = ()
    endpoint: str | None = None
    persistent_keepalive_s: int | None = None
    preshared_key: str | None = field(default=None, repr=False)
    name: str | None = None
    """For people; written as the comment `# Name = ...`."""
    replaces: str | None = None
    """The key that the same host had before, while it is changing from one to the other; written as the
    comment `# Replaces = ...`."""

    def __str__(self) -> str:
        return f"{self.name} ({self.public_key})" if self.name else self.public_key


@dataclass(frozen=True)
class Section:
    """A header with what belongs to it: the comments right above it and the lines up to the next section."""

    lines: tuple[str, ...]

    @property
    def title(self) -> str:
        """Interface or peer in lower case, empty for what precedes the first header."""
        return next((_code(line).strip("[]").lower() for line in self.lines if _is_header(line)), "")

    def values(self, key: str) -> tuple[str, ...]:
        """The values of a setting in the order of the file; those of lists are split and canonical."""
        found = (_setting(line) for line in self.lines)
        return _canonical(key, [value for name, value in found if name == key.lower()])

    @property
    def settings(self) -> tuple[str, ...]:
        """The names of what is set, as they are written, each once."""
        written = {_setting(line)[0]: line.partition("=")[0].strip() for line in reversed(self.lines)}
        return tuple(name for key, name in reversed(list(written.items())) if key)

    def value(self, key: str) -> str | None:
        """The value of a setting that can be given once; as in wg(8) the last one counts."""
        values = self.values(key)
        return values[-1] if values else None

    def with_values(self, key: str, values: Sequence[str]) -> Section:
        """Give a setting these values, in its old place if it has one; none removes it."""
        if self.values(key) == _canonical(key, values):
            return self
        written = [", ".join(values)] if key.lower() in _LISTS and values else values
        old = [index for index, line in enumerate(self.lines) if _setting(line)[0] == key.lower()]
        kept = [line for index, line in enumerate(self.lines) if index not in old]
        at = old[0] if old else self._after_last_setting()
        return Section((*kept[:at], *(f"{key} = {value}" for value in written), *kept[at:]))

    @property
    def name(self) -> str | None:
        """What the comment `# Name = ...` says."""
        return self._comment(_NAME)

    @property
    def replaces(self) -> str | None:
        """What the comment `# Replaces = ...` says."""
        return self._comment(_REPLACES)

    def _comment(self, pattern: re.Pattern[str]) -> str | None:
        return next((match[1] for match in map(pattern.fullmatch, self.lines) if match), None)

    def with_name(self, name: str | None) -> Section:
        """Write the comment `# Name = ...` below the header; None keeps what is there."""
        if name is None or name == self.name:
            return self
        lines = [line for line in self.lines if not _NAME.fullmatch(line)]
        at = 1 + next(index for index, line in enumerate(lines) if _is_header(line))
        return Section((*lines[:at], f"# Name = {name}", *lines[at:]))

    def with_replaces(self, public_key: str | None) -> Section:
        """Write the comment `# Replaces = ...` above the settings; None removes it."""
        if public_key == self.replaces:
            return self
        lines = [line for line in self.lines if not _REPLACES.fullmatch(line)]
        at = 1 + max(i for i, line in enumerate(lines) if _is_header(line) or _NAME.fullmatch(line))
        written = [] if public_key is None else [f"# Replaces = {public_key}"]
        return Section((*lines[:at], *written, *lines[at:]))

    def _after_last_setting(self) -> int:
        return 1 + max(
            index
            for index, line in enumerate(self.lines)
            if _is_header(line) or _setting(line)[0] or _NAME.fullmatch(line) or _REPLACES.fullmatch(line)
        )


@dataclass(frozen=True)
class Conf:
    """A whole file."""

    sections: tuple[Section, ...]

    def render(self) -> str:
        """The text of the file."""
        return "\n".join(line for section in self.sections for line in section.lines)

    def interface(self) -> Interface:
        """The settings of [Interface]. ValueError names one that cannot be read."""
        section = next((section for section in self.sections if section.title == "interface"), Section(()))
        return Interface(
            addresses=section.values("Address"),
            private_key=section.value("PrivateKey"),
            listen_port=_number(section, "ListenPort"),
            mtu=_number(section, "MTU"),
            fwmark=_number(section, "FwMark"),
            table=section.value("Table"),
            pre_up=section.values("PreUp"),
            post_up=section.values("PostUp"),
            pre_down=section.values("PreDown"),
            post_down=section.values("PostDown"),
        )

    def peers(self) -> dict[str, Peer]:
        """The peers by public key, in the order of the file. ValueError names one that cannot be read."""
        peers: dict[str, Peer] = {}
        for section in self._peer_sections():
            peer = _read_peer(section)
            if peer.public_key in peers:
                raise ValueError(f"peer {peer} has two [Peer] sections: join them into one")
            peers[peer.public_key] = peer
        return peers

    def with_interface(self, wanted: Interface) -> Conf:
        """Give [Interface] exactly these settings; other lines in it, such as DNS, stay."""
        settings: dict[str, Sequence[str]] = {
            "Address": wanted.addresses,
            "ListenPort": _optional(wanted.listen_port),
            "PrivateKey": _optional(wanted.private_key),
            "MTU": _optional(wanted.mtu),
            "FwMark": _optional(wanted.fwmark),
            "Table": _optional(wanted.table),
            "PreUp": wanted.pre_up,
            "PostUp": wanted.post_up,
            "PreDown": wanted.pre_down,
            "PostDown": wanted.post_down,
        }
        conf = self
        if not any(section.title == "interface" for section in self.sections):
            conf = Conf((Section(("[Interface]", "")), *_without_empty(self.sections)))
        return conf._replace("interface", None, settings)

    def with_peer(self, wanted: Peer) -> Conf:
        """Add this peer at the end, or give its section exactly these settings."""
        settings: dict[str, Sequence[str]] = {
            "PublicKey": (wanted.public_key,),
            "PresharedKey": _optional(wanted.preshared_key),
            "AllowedIPs": wanted.allowed_ips,
            "Endpoint": _optional(wanted.endpoint),
            "PersistentKeepalive": _optional(wanted.persistent_keepalive_s),
        }
        conf = self
        if not any(_public_key(section) == wanted.public_key for section in self._peer_sections()):
            new = Section(("[Peer]", f"PublicKey = {wanted.public_key}", ""))
            conf = Conf((*_with_blank_line_at_end(self.sections), new))
        return conf._replace("peer", wanted, settings)

    def without_peer(self, public_key: str) -> Conf:
        """Remove the section of a peer, with the comments right above it."""
        kept = tuple(s for s in self.sections if s.title != "peer" or _public_key(s) != public_key)
        return self if kept == self.sections else Conf(_with_newline_at_end(kept))

    def masked(self, previous: Conf | None = None) -> str:
        """The text without secrets, for a diff; those preshared keys that `previous` lacks are new."""
        known = (previous or self).preshared_keys()
        lines = (line for section in self.sections for line in section.lines)
        return "\n".join(_mask(line, known) for line in lines)

    def secrets(self) -> set[str]:
        """All private and preshared keys in the file, also those commented out."""
        lines = (line for section in self.sections for line in section.lines)
        return {token for line in lines for token in _secret_tokens(line)}

    def preshared_keys(self) -> set[str]:
        """Those of the peers."""
        return {value for section in self._peer_sections() for value in section.values("PresharedKey")}

    def _peer_sections(self) -> Iterable[Section]:
        return (section for section in self.sections if section.title == "peer")

    def _replace(self, title: str, peer: Peer | None, settings: Mapping[str, Sequence[str]]) -> Conf:
        sections = list(self.sections)
        for index, section in enumerate(self.sections):
            if section.title == title and (peer is None or _public_key(section) == peer.public_key):
                if peer:
                    sections[index] = section.with_name(peer.name).with_replaces(peer.replaces)
                for key, values in settings.items():
                    sections[index] = sections[index].with_values(key, values)
        return self if tuple(sections) == self.sections else Conf(_with_newline_at_end(sections))


def parse(text: str) -> Conf:
    """Read the text of an IF.conf. ValueError for two [Interface] sections and for `SaveConfig = true`."""
    lines = text.split("\n")
    starts = [_start_with_comments(lines, index) for index, line in enumerate(lines) if _is_header(line)]
    bounds = [0, *starts, len(lines)]
    parts = [Section(tuple(lines[start:end])) for start, end in zip(bounds, bounds[1:]) if start < end]
    interfaces = [section for section in parts if section.title == "interface"]
    if len(interfaces) > 1:
        raise ValueError("two [Interface] sections: join them into one")
    if any((section.value("SaveConfig") or "").lower() == "true" for section in interfaces):
        raise ValueError(
            "SaveConfig = true makes wg-quick overwrite the file with what is running, the agent's peers "
            "included, whenever the interface goes down: remove that line"
        )
    return Conf(tuple(parts))


_NAME = re.compile(r"#\s*Name\s*=\s*(.*?)\s*")
_REPLACES = re.compile(r"#\s*Replaces\s*=\s*(\S+)\s*")


def _code(line: str) -> str:
    """A line without its comment."""
    return line.partition("#")[0].strip()


def _is_header(line: str) -> bool:
    return _code(line).startswith("[")


def _setting(line: str) -> tuple[str, str]:
    """The lower-case key and the value of a line; the key is "" if the line sets nothing."""
    key, equals, value = _code(line).partition("=")
    return (key.strip().lower(), value.strip()) if equals else ("", "")


def _start_with_comments(lines: Sequence[str], header: int) -> int:
    """Where a section starts: at its header, or at the comments above it that a blank line sets off."""
    start = header
    while start > 0 and lines[start - 1].lstrip().startswith("#"):
        start -= 1
    return start if start == 0 or not lines[start - 1].strip() else header


def _canonical(key: str, values: Iterable[str]) -> tuple[str, ...]:
    if key.lower() not in _LISTS:
        return tuple(values)
    items = [item.strip() for value in values for item in value.split(",")]
    read = _canonical_address if key.lower() == "address" else canonical_network
    return tuple(read(item) for item in items if item)


def _canonical_address(text: str) -> str:
    try:
        return str(ipaddress.ip_interface(text))
    except ValueError:
        return text


def canonical_network(text: str) -> str:
    """An AllowedIPs entry as the device prints it: masked, with prefix. What is not one stays as it is."""
    try:
        return str(ipaddress.ip_network(text, strict=False))
    except ValueError:
        return text


def _number(section: Section, key: str) -> int | None:
    """A number, decimal or after 0x; "off" is 0."""
    value = section.value(key)
    if value is None:
        return None
    try:
        return 0 if value.lower() == "off" else int(value, 16 if value.lower().startswith("0x") else 10)
    except ValueError:
        raise ValueError(f"{key} = {value} is not a number") from None


def _public_key(section: Section) -> str:
    key = section.value("PublicKey")
    if key is None:
        raise ValueError("a [Peer] section has no PublicKey" + (f": {section.name}" if section.name else ""))
    return key


def _read_peer(section: Section) -> Peer:
    return Peer(
        public_key=_public_key(section),
        allowed_ips=tuple(dict.fromkeys(section.values("AllowedIPs"))),
        endpoint=section.value("Endpoint"),
        persistent_keepalive_s=_number(section, "PersistentKeepalive"),
        preshared_key=section.value("PresharedKey"),
        name=section.name,
        replaces=section.replaces,
    )


def _optional(value: object) -> tuple[str, ...]:
    return () if value is None else (str(value),)


def _without_empty(sections: Iterable[Section]) -> list[Section]:
    return [section for section in sections if any(line.strip() for line in section.lines)]


def _with_newline_at_end(sections: Sequence[Section]) -> tuple[Section, ...]:
    """Let the text end with exactly one newline."""
    if not sections:
        return ()
    last = list(sections[-1].lines)
    while last and not last[-1].strip():
        last.pop()
    return (*sections[:-1], Section((*last, "")))


def _with_blank_line_at_end(sections: Sequence[Section]) -> tuple[Section, ...]:
    """So that a section that is added stands apart."""
    return _with_newline_at_end(_without_empty(sections))


def _mask(line: str, known: set[str]) -> str:
    """A line without secrets: neither in settings, nor in comments, nor in hooks."""
    match = _ASSIGNMENT.fullmatch(line)
    key = match["key"].lower() if match else ""
    if match and key == "privatekey":
        return match["start"] + _mask_private_key(_code(match["value"]))
    if match and key == "presharedkey":
        new = _code(match["value"]) not in known
        return match["start"] + ("<new preshared key>" if new else "<preshared key>")
    return line if key in ("publickey", "replaces") else _KEY_TOKEN.sub("<key>", line)


def _mask_private_key(value: str) -> str:
    try:
        return f"<key of public key {keys.public_key(value)}>"
    except ValueError:
        return "<not a key>"


def _secret_tokens(line: str) -> set[str]:
    match = _ASSIGNMENT.fullmatch(line)
    if match and match["key"].lower() in _SECRETS:
        return set(_KEY_TOKEN.findall(match["value"]))
    return set()
