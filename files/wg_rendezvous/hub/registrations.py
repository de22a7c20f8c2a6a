# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""What the agents say of themselves: one run of one agent for each peer. Pure: no I/O, no clock.

Nothing here is believed of anybody else: endpoints and addresses come from the hub's own observation
(`registry`). A registration lives as long as its stream is open, and a minute longer; nothing is kept over a
restart of the hub, since the agents notice it and register again.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

FORGET_S = 60.0
POLLS_S = 120.0
"""An agent of the origin asks every 13 s, or as its user likes it."""
MOVED = ("provisional", "direct", "doubtful")
"""States of a link in which its end has moved the AllowedIPs."""

Report = Mapping[str, Any]
"""What an agent says of one of its links (docs/protocol.md)."""


@dataclass(frozen=True)
class Claim:
    """The body of `PUT /v1/self`. None: as this run said before."""

    instance: str
    version: str | None = None
    candidates: tuple[str, ...] | None = None
    links: Mapping[str, Report | None] = field(default_factory=dict)
    """By key of the other peer; None takes a report out."""
    secrets: tuple[str, ...] | None = None
    """The ids of its mesh secrets, the newest first."""
    number: int | None = None
    """Larger than those of this run's earlier ones; None: older agents do not count."""


@dataclass
class Registration:
    """One run of an agent."""

    instance: str
    idle_since_s: float
    """Since when it has had no stream, and not registered."""
    version: str | None = None
    candidates: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()
    links: dict[str, Report] = field(default_factory=dict)
    number: int = 0
    """The largest of what it has said."""
    has_stream: bool = False
    is_announced: bool = False
    """Its stream was open once: the others know of this run."""


class Registrations:
    """The registrations of all peers, by key."""

    def __init__(self) -> None:
        self._runs: dict[str, Registration] = {}
        self._polled_at_s: dict[str, float] = {}

    def polled(self, key: str, at_s: float) -> None:
        """That peer asked who is online, as an agent of the origin does."""
        self._polled_at_s[key] = at_s

    def polls(self, key: str, at_s: float) -> bool:
        """Whether it has an agent of the origin."""
        return at_s - self._polled_at_s.get(key, float("-inf")) <= POLLS_S

    def get(self, key: str) -> Registration | None:
        """The run of this peer's agent, if it has one."""
        return self._runs.get(key)

    def is_another_run(self, key: str, instance: str) -> bool:
        """Whether that peer is registered, but as another run than this."""
        run = self._runs.get(key)
        return run is not None and run.instance != instance

    def register(self, key: str, claim: Claim, known: Collection[str], at_s: float) -> None:
        """Take in what an agent says; of links only those to `known` peers.

        Another instance is another run: what the last one said is forgotten, its stream with it.  What comes
        after a later registration of the same run says nothing: the agent gave it up, its kernel did not.
        """
        self._polled_at_s.pop(key, None)  # whatever it was, it is an agent that signals now
        run = self._runs.get(key)
        if run is None or run.instance != claim.instance:
            run = self._runs[key] = Registration(claim.instance, at_s)
        run.idle_since_s = at_s
        if claim.number is not None:
            if claim.number < run.number:
                return
            run.number = claim.number
        if claim.version is not None:
            run.version = claim.version
        if claim.candidates is not None:
            run.candidates = claim.candidates
        if claim.secrets is not None:
            run.secrets = claim.secrets
        for other, report in claim.links.items():
            if report is None:
                run.links.pop(other, None)
            elif other in known and other != key:
                run.links[other] = report

    def stream_opened(self, key: str) -> None:
        """From now on signals reach this run."""
        self._runs[key].has_stream = self._runs[key].is_announced = True

    def stream_closed(self, key: str, at_s: float) -> None:
        """From now on they do not."""
        run = self._runs.get(key)
        if run is not None and run.has_stream:
            run.has_stream, run.idle_since_s = False, at_s

    def has_stream(self, key: str) -> bool:
        """Whether signals reach that peer."""
        run = self._runs.get(key)
        return run is not None and run.has_stream

    def says_direct(self, key: str, other: str) -> bool:
        """Whether the present run of `key` has moved its traffic to `other` to a direct path, as it says."""
        run = self._runs.get(key)
        return run is not None and other in run.links and run.links[other]["state"] in MOVED

    def links(self) -> dict[str, dict[str, Report]]:
        """All reports: who says it, of the link to whom."""
        return {key: dict(run.links) for key, run in self._runs.items()}

    def forget(self, known: Collection[str], at_s: float) -> None:
        """Forget runs that were without a stream for a minute, and peers that are not `known` any more."""
        for key in self._polled_at_s.keys() - set(known):
            del self._polled_at_s[key]
        for key, run in list(self._runs.items()):
            expired = not run.has_stream and at_s - run.idle_since_s >= FORGET_S
            if expired or key not in known:
                del self._runs[key]
                continue
            for other in [other for other in run.links if other not in known]:
                del run.links[other]
