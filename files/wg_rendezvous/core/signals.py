# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""The signals that two agents send each other through the hub (docs/protocol.md), and what of them is
believed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

OFFER, OPENED, REFUSED = "offer", "opened", "refused"
VERIFIED, PROMOTE = "verified", "promote"
WITHDRAW, WITHDRAWN = "withdraw", "withdrawn"
TYPES = frozenset({OFFER, OPENED, REFUSED, VERIFIED, PROMOTE, WITHDRAW, WITHDRAWN})

SESSION = re.compile(r"[0-9a-f]{16}")
WHY_LENGTH = 200
PAUSE_MAX_S = 3600.0


class SignalError(ValueError):
    """A signal that makes no sense; the text says why."""


@dataclass(frozen=True)
class Signal:
    """One signal, understood.  `session` is None for a withdrawal of whatever there is; `pause_s` asks the
    controlling end to offer no sooner than that.  `endpoint` is the sender's, `target` the receiver's;
    `secret` is the id of the mesh secret of an offer."""

    type: str
    session: str | None = None
    strategy: str = ""
    endpoint: str = ""
    why: str = ""
    pause_s: float = 0.0
    target: str = ""
    secret: str = ""

    def to_json(self) -> dict[str, Any]:
        """The JSON object that `parse` reads."""
        fields: dict[str, Any] = {"session": self.session, "strategy": self.strategy}
        fields.update(endpoint=self.endpoint, target=self.target, why=self.why)
        fields.update(pause_s=round(self.pause_s, 3), secret=self.secret)
        return {"type": self.type, **{name: value for name, value in fields.items() if value}}


def parse(raw: Mapping[str, Any]) -> Signal | None:
    """The signal in a JSON object; None for a type that we do not know, which a newer agent may send.

    Raises SignalError.
    """
    kind = raw.get("type")
    if not isinstance(kind, str):
        raise SignalError("it has no type")
    if kind not in TYPES:
        return None
    session = raw.get("session")
    if session is None and kind in (WITHDRAW, WITHDRAWN):
        return Signal(kind, None, why=_text(raw, "why"), pause_s=_pause_s(raw))
    if not isinstance(session, str) or not SESSION.fullmatch(session):
        raise SignalError(f"the session of its {kind} is not 16 hexadecimal digits")
    return Signal(
        kind,
        session,
        _text(raw, "strategy"),
        _text(raw, "endpoint"),
        _text(raw, "why"),
        _pause_s(raw),
        _text(raw, "target"),
        _text(raw, "secret"),
    )


def _pause_s(raw: Mapping[str, Any]) -> float:
    value = raw.get("pause_s", 0.0)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= PAUSE_MAX_S:
        raise SignalError(f"its pause_s is no number from 0 to {PAUSE_MAX_S:g}")
    return float(value)


def _text(raw: Mapping[str, Any], name: str) -> str:
    """A field for people or to compare with; without control characters, and not longer than it is read."""
    value = raw.get(name, "")
    if not isinstance(value, str):
        raise SignalError(f"its {name} is no text")
    return "".join(character for character in value[:WHY_LENGTH] if character.isprintable())
