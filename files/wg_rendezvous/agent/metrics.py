# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""The agent's figures for Prometheus."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, generate_latest


def render(
    links: Mapping[str, int], fresh_ports: int, hub_up: bool, refused: Mapping[str, int]
) -> tuple[bytes, str]:
    """The page and its content type, from {state: number of links}, {reason: signals not acted on} and the
    rest."""
    registry = CollectorRegistry()
    gauge = Gauge("wg_rendezvous_links", "Links to other peers", ["state"], registry=registry)
    for state, count in links.items():
        gauge.labels(state).set(count)
    Gauge("wg_rendezvous_fresh_ports", "Fresh ports taken since start", registry=registry).set(fresh_ports)
    Gauge("wg_rendezvous_hub_up", "Whether the hub answered last", registry=registry).set(hub_up)
    signals = Counter(
        "wg_rendezvous_refused_signals", "Signals that were not acted on", ["reason"], registry=registry
    )
    for reason, count in refused.items():
        signals.labels(reason).inc(count)
    return generate_latest(registry), CONTENT_TYPE_LATEST
