# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""What is said of a link: its state, and in one sentence why it is what it is and what will be tried when."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable

from .events import PeerView
from .ladder import is_behind_one_nat
from .link import Link, State
from .refresh import Policy, Refresh
from .rendezvous import Pair, Phase

AGENT_AWAY = "its agent does not answer"
OFFLINE = "the hub says that it is offline"
WHY_LENGTH = 500
"""The hub takes no more."""
HOPELESS_TRIES = 6
"""Whatever a fresh port can cure was cured by then."""


@dataclass(frozen=True)
class Outlook:
    """What a link may hope for, at `now_s`: when the next fresh port is due, whether it is allowed, why there
    is no candidate pair ("": there is one), and why one that is due is not tried yet ("": it is)."""

    refresh: Refresh
    policy: Policy
    now_s: float
    why_none: Callable[[PeerView], str] = lambda _view: ""
    why_waits: Callable[[Pair], str] = lambda _pair: ""

    def of(self, peer: str) -> str:
        """What has failed at the link to this peer so far, and what follows from that."""
        count = self.refresh.counts.get(peer)
        failures = count.failures if count else 0
        limit = self.refresh.limit(peer)
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


def describe_pair(pair: Pair, outlook: Outlook, endpoint: str | None) -> dict[str, Any]:
    """The same for a link to a peer that sends signals."""
    return {
        "peer": pair.peer,
        "address": pair.address,
        "state": pair.state.value,
        "online": pair.online,
        "endpoint": endpoint,
        "strategy": strategy(pair),
        "rtt_s": pair.watch.rtt_s if pair.promoted else None,
        "since_s": round(outlook.now_s - pair.since_at, 3),
        "why": why_pair(pair, outlook),
    }


def strategy(link: Link | Pair) -> str:
    """Which kind of path the traffic takes."""
    if not link.promoted:
        return "relay"
    return link.rung.strategy if isinstance(link, Pair) and link.rung else "reflexive"


def report(link: Link | Pair, outlook: Outlook, endpoint: str | None) -> dict[str, Any]:
    """What the hub is told of a link (docs/protocol.md, "A report"), as of `outlook`."""
    if isinstance(link, Pair):
        rtt_s, sentence = link.watch.rtt_s, why_pair(link, outlook)
    else:
        rtt_s, sentence = link.rtt_s, why(link, outlook)
    return {
        "state": link.state.value,
        "strategy": strategy(link),
        "endpoint": endpoint if link.promoted else None,
        "rtt_s": rtt_s if link.promoted else None,
        "why": sentence[:WHY_LENGTH],
    }


def why_pair(pair: Pair, outlook: Outlook) -> str:
    """One sentence: why the link is what it is, and what will be tried when."""
    if pair.phase is Phase.WITHDRAWING:
        return f"{pair.why}; the other end has not confirmed yet"
    if pair.phase is not Phase.RELAYED:
        return pair.why
    if not pair.online:
        return OFFLINE
    if not pair.signals:
        return AGENT_AWAY
    hindrance = pair.disagreement or (outlook.why_none(pair.view) if pair.view else "")
    if hindrance:
        return hindrance
    what = pair.why
    if pair.tries and pair.rung is not None and outlook.now_s >= pair.direct_until:
        what = f"{what}; {outlook.of(pair.peer)}"
    elif pair.port_tried and outlook.now_s < pair.direct_until:
        what = f"{what}; a fresh port did not help: it looks like a cut, and there is no second one for it"
    if pair.tries >= HOPELESS_TRIES and pair.direct_until == float("-inf"):
        what = f"{what}; after {pair.tries} tries it seems that {_in_the_way(pair)}"
    return f"{what}; {when}" if (when := _next_try(pair, outlook)) else what


def _next_try(pair: Pair, outlook: Outlook) -> str:
    """When a relayed link will be tried, or by whom; "" if now."""
    if not pair.controlling and not pair.unproven:
        return "the other end offers the next try"
    wait_s = (pair.retry_at or outlook.now_s) - outlook.now_s
    return f"tried again in {wait_s:.0f} s" if wait_s > 0 else outlook.why_waits(pair)


def _in_the_way(pair: Pair) -> str:
    """What is likely to make a link hopeless."""
    if pair.rung is not None and is_behind_one_nat(pair.rung):
        return "the NAT that both are behind does not lead packets for its own address back inside"
    return "one side's NAT maps ports by destination"


def say_agent_away(entry: dict[str, Any], heard_at: float | None, now_s: float) -> None:
    """Put into what `describe` says that nothing is heard of the agent, since `heard_at` (None: not known),
    though the peer is online."""
    away = AGENT_AWAY if heard_at is None else f"{AGENT_AWAY} (last heard {now_s - heard_at:.0f} s ago)"
    relayed = entry["strategy"] == "relay"
    entry["why"] = f"{away}, relayed" if relayed else f"{entry['why']}; {away}"


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
        return f"knocked at {link.endpoint}, no handshake yet; {outlook.of(link.peer)}"
    if link.state is State.RELAYED and link.retry_at > outlook.now_s:
        return f"{link.why}; tried again in {link.retry_at - outlook.now_s:.0f} s"
    return link.why
