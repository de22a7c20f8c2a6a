# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""Reading what agents send: bodies of `PUT /v1/self` and `POST /v1/signal/{key}`. Pure: no I/O, no clock.

What an older or newer agent may leave out or add is let pass; what is there has to be what docs/protocol.md
says.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Mapping
from typing import Any, Callable, NoReturn

from .._wireguard.keys import check_key
from ..core.candidates import Network, host_candidates
from .registrations import Claim, Report

INSTANCE = re.compile(r"[0-9a-fA-F]{16,64}")
# States and strategies are words, not a list: a newer agent may have others.
WORD = re.compile(r"[a-z][a-z_-]{0,31}")
SECRET_ID = re.compile(r"[0-9a-f]{16}")
MAX_SECRETS = 4
MAX_VERSION = 64
MAX_ENDPOINT = 64
MAX_WHY = 500


class ClaimError(ValueError):
    """A body that is not what it should be; the text says what is wrong with which part."""


def parse_object(body: bytes) -> dict[str, Any]:
    """The JSON object in `body`. Raises ClaimError."""
    try:
        value = json.loads(body.decode(), parse_constant=_no_json)
    except (ValueError, RecursionError):
        raise ClaimError("the body is not JSON") from None
    if not isinstance(value, dict):
        raise ClaimError("the body is not a JSON object")
    return value


def _no_json(name: str) -> NoReturn:
    raise ValueError(name)


def parse_claim(body: bytes, vpn: Iterable[Network]) -> Claim:
    """What an agent says of itself; of its candidates, those that are acceptable outside of `vpn`.

    Raises ClaimError.
    """
    fields = parse_object(body)
    instance = fields.get("instance")
    if not isinstance(instance, str) or not INSTANCE.fullmatch(instance):
        raise ClaimError("instance: not 16 to 64 hexadecimal digits")
    candidates = fields.get("candidates")
    if candidates is not None:
        if not isinstance(candidates, list) or not all(isinstance(one, str) for one in candidates):
            raise ClaimError('candidates: not a list of "address:port"')
        candidates = host_candidates(candidates, vpn)
    return Claim(
        instance,
        _text(fields, "version", MAX_VERSION),
        candidates,
        _parse_links(fields.get("links")),
        _parse_secrets(fields.get("secrets")),
        _count(fields, "number"),
    )


def _parse_secrets(ids: Any) -> tuple[str, ...] | None:
    """The ids of mesh secrets: of those, the hub only says them on."""
    if ids is None:
        return None
    if not isinstance(ids, list) or not all(isinstance(one, str) and SECRET_ID.fullmatch(one) for one in ids):
        raise ClaimError("secrets: not a list of ids of 16 hexadecimal digits")
    return tuple(ids[:MAX_SECRETS])


def _parse_links(links: Any) -> Mapping[str, Report | None]:
    if links is None:
        return {}
    if not isinstance(links, dict):
        raise ClaimError("links: not an object of reports by key")
    return {_key(key): None if report is None else _parse_report(report) for key, report in links.items()}


def _key(text: str) -> str:
    try:
        return check_key(text)
    except ValueError as error:
        raise ClaimError(f"links: one of its keys is no public key: {error}") from None


def _parse_report(report: Any) -> Report:
    if not isinstance(report, dict):
        raise ClaimError("links: a report is not an object")
    if "state" not in report:
        raise ClaimError("links: a report has no state")
    return {name: parse(report, name) for name, parse in _REPORT.items() if name in report}


def _word(fields: Mapping[str, Any], name: str) -> str | None:
    value = fields.get(name)
    if value is not None and not (isinstance(value, str) and WORD.fullmatch(value)):
        raise ClaimError(f"{name}: not a word of small letters")
    return value


def _state(fields: Mapping[str, Any], name: str) -> str:
    word = _word(fields, name)
    if word is None:
        raise ClaimError(f"{name}: not a word of small letters")
    return word


def _text(fields: Mapping[str, Any], name: str, longest: int) -> str | None:
    value = fields.get(name)
    if value is not None and not (isinstance(value, str) and len(value) <= longest and value.isprintable()):
        raise ClaimError(f"{name}: not one line of at most {longest} printable characters")
    return value


def _number(fields: Mapping[str, Any], name: str) -> float | None:
    value = fields.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= sys.float_info.max:
        raise ClaimError(f"{name}: not a number that is 0 or more")
    return float(value)


def _count(fields: Mapping[str, Any], name: str) -> int | None:
    value = fields.get(name)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
        raise ClaimError(f"{name}: not a whole number that is 0 or more")
    return value


_REPORT: Mapping[str, Callable[[Mapping[str, Any], str], Any]] = {
    "state": _state,
    "strategy": _word,
    "endpoint": lambda fields, name: _text(fields, name, MAX_ENDPOINT),
    "rtt_s": _number,
    "since_at": _number,
    "why": lambda fields, name: _text(fields, name, MAX_WHY),
}


def parse_signal(body: bytes, sender: str) -> bytes:
    """The data of the `signal` event for what `sender` posted. Raises ClaimError."""
    fields = parse_object(body)
    _state(fields, "type")
    try:
        return json.dumps({**fields, "from": sender}, allow_nan=False).encode()
    except ValueError:
        raise ClaimError("the body has a number that is out of range") from None
