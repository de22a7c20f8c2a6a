# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""What hub and agents say to one another (docs/protocol.md), between JSON and the core's own words.

Fields and events that are not known are ignored; a known one of the wrong type is a MessageError.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Callable

from ..core import actions, events
from .stream import ServerSentEvent

MAX_BODY_BYTES = 16 * 1024


class MessageError(Exception):
    """What came in is not what the protocol says; the text says what is wrong with it."""


# --- in ---


def event_of(sent: ServerSentEvent) -> events.Event | None:
    """The core's event for one of the stream; None for one of an unknown kind. Raises MessageError."""
    read = _READERS.get(sent.event)
    return None if read is None else read(json_object(sent.data, f"the event {sent.event}"))


def json_object(text: str | bytes, what: str) -> dict[str, Any]:
    """The JSON object in `text`; `what` names it in the MessageError that may be raised."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise MessageError(f"{what} is not JSON") from None
    return _object(value, what)


def peer_view(value: Any, what: str) -> events.PeerView:
    """A peer record. Raises MessageError."""
    record = _object(value, what)

    def field(name: str, kind: type, default: Any) -> Any:
        found = record.get(name)
        if found is not None and not isinstance(found, kind):
            raise MessageError(f"{what}: {name} is no {kind.__name__}")
        return default if found is None else found

    def texts(name: str) -> tuple[str, ...]:
        found = field(name, list, [])
        if not all(isinstance(one, str) for one in found):
            raise MessageError(f"{what}: {name} are not text")
        return tuple(found)

    return events.PeerView(
        address=field("address", str, None),
        endpoint=field("endpoint", str, None),
        online=field("online", bool, False),
        signals=field("signals", bool, False),
        instance=field("instance", str, None),
        candidates=texts("candidates"),
        linked=field("linked", bool, False),
        polls=field("polls", bool, False),
        secrets=texts("secrets"),
    )


def _object(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise MessageError(f"{what} is no JSON object")
    return value


def _key(record: Mapping[str, Any], name: str, what: str) -> str:
    key = record.get(name)
    if not isinstance(key, str):
        raise MessageError(f"{what} has no {name}")
    return key


def _snapshot(data: dict[str, Any]) -> events.Event:
    peers = _object(data.get("peers"), "the snapshot's peers")
    return events.Snapshot(
        own=peer_view(data.get("self"), "the snapshot's self"),
        peers={key: peer_view(record, f"the record of {key}") for key, record in peers.items()},
    )


def _peer(data: dict[str, Any]) -> events.Event:
    key = _key(data, "key", "the event peer")
    return events.PeerChanged(key, peer_view(data, f"the record of {key}"))


def _self(data: dict[str, Any]) -> events.Event:
    return events.Registered(peer_view(data, "the own record"))


def _gone(data: dict[str, Any]) -> events.Event:
    return events.PeerGone(_key(data, "key", "the event gone"))


def _signal(data: dict[str, Any]) -> events.Event:
    peer = _key(data, "from", "the event signal")
    return events.SignalReceived(peer, {name: value for name, value in data.items() if name != "from"})


_READERS: Mapping[str, Callable[[dict[str, Any]], events.Event]] = {
    "snapshot": _snapshot,
    "peer": _peer,
    "self": _self,
    "gone": _gone,
    "signal": _signal,
}


# --- out ---


def body(value: Mapping[str, Any]) -> bytes:
    """JSON, without a byte too many."""
    return json.dumps(value, separators=(",", ":")).encode()


def registration_bodies(
    registration: actions.Registration, version: str, at_most_bytes: int = MAX_BODY_BYTES
) -> Iterator[bytes]:
    """The bodies of `PUT /v1/self` for one registration, the links spread over as many as it takes: the hub
    merges them.
    """
    common = {
        "instance": registration.instance,
        "number": registration.number,
        "version": version,
        "candidates": list(registration.candidates),
        "secrets": list(registration.secrets),
    }
    empty_bytes = len(body({**common, "links": {}}))
    links: dict[str, Any] = {}
    size_bytes = empty_bytes
    for peer, report in registration.links.items():
        more_bytes = len(body({peer: report}))  # its braces stand for the comma
        if links and size_bytes + more_bytes > at_most_bytes:
            yield body({**common, "links": links})
            links, size_bytes = {}, empty_bytes
        links[peer] = report
        size_bytes += more_bytes
    yield body({**common, "links": links})
