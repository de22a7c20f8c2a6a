# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""What is said of a link: its state, and in one sentence why it is what it is and what will be tried when."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .link import Link, State
from .refresh import Policy, Refresh


@dataclass(frozen=True)
class Outlook:
    """What a link may hope for, at `now_s`: when the next fresh port is due, and whether it is allowed."""

    refresh: Refresh
    policy: Policy
    now_s: float

    def of(self, link: Link) -> str:
        """What has failed at this link so far, and what follows from that."""
        count = self.refresh.counts.get(link.peer)
        failures = count.failures if count else 0
        limit = self.refresh.limit(link.peer)
        tried = f"{failures} {'probe' if failures == 1 else 'probes'} in a row failed"
        if self.policy is Policy.OFF:
            return f"{tried}, and a fresh port is never taken (refresh: off)"
        wait_s = self.refresh.allowed_at(self.now_s) - self.now_s
        if failures >= limit and wait_s > 0:
            return f"{tried}, the budget allows a fresh port in {wait_s:.0f} s"
        return f"{tried}, a fresh port is taken at {limit}"


def describe(link: Link, outlook: Outlook, endpoint: str | None) -> dict[str, Any]:
    """The link, which goes to `endpoint`, as a JSON object; `since_s` is how long it is in its state."""
    return {
        "peer": link.peer,
        "address": link.address,
        "state": link.state.value,
        "online": link.online,
        "endpoint": endpoint,
        "strategy": "reflexive" if link.promoted else "relay",
        "rtt_s": link.rtt_s if link.promoted else None,
        "since_s": round(outlook.now_s - link.since_at, 3),
        "why": why(link, outlook),
    }


def describe_refused(peer: str, reason: str) -> dict[str, Any]:
    """The same for a peer that gets no link."""
    return {
        "peer": peer,
        "address": None,
        "state": State.RELAYED.value,
        "online": True,
        "endpoint": None,
        "strategy": "relay",
        "rtt_s": None,
        "since_s": None,
        "why": reason,
    }


def why(link: Link, outlook: Outlook) -> str:
    """One sentence: why the link is what it is, and what will be tried when."""
    if link.state in (State.OPENING, State.KNOCKING):
        return f"knocked at {link.endpoint}, no handshake yet; {outlook.of(link)}"
    if link.state is State.RELAYED and link.retry_at > outlook.now_s:
        return f"{link.why}; tried again in {link.retry_at - outlook.now_s:.0f} s"
    return link.why
