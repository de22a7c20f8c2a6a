# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""The hub's figures for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from .figures import Figures

PREFIX = "wg_rendezvous_hub"


def render(figures: Figures) -> tuple[bytes, str]:
    """The page and its content type."""
    registry = CollectorRegistry()
    registry.register(_Series(figures))
    return generate_latest(registry), CONTENT_TYPE_LATEST


class _Series:
    """A collector, as prometheus_client calls what has `collect`."""

    def __init__(self, figures: Figures) -> None:
        self._figures = figures

    def collect(self) -> Iterator[Metric]:
        """The series."""
        figures, rendezvous = self._figures, self._figures.rendezvous
        now = figures.statusz()
        yield _gauge("peers", "Peers of the interface.", now["peers"])
        yield _gauge(
            "peers_online", "Peers heard within 2.5 keepalives, or with a stream.", now["peers_online"]
        )
        yield _gauge("streams", "Open streams of events.", now["streams"])
        answers = CounterMetricFamily(f"{PREFIX}_requests", "Answers.", labels=["call", "status"])
        for (call, status), number in sorted(figures.callers.requests.items()):
            answers.add_metric([call, str(status)], number)
        yield answers
        refused = CounterMetricFamily(f"{PREFIX}_refused", "Requests that were refused.", labels=["reason"])
        for reason, number in sorted(figures.refusals.counts.items()):
            refused.add_metric([reason], number)
        yield refused
        yield _counter("signals", "Signals that were forwarded.", now["signals"])
        yield _counter("events", "Events of peers, to each stream.", rendezvous.events_sent)
        yield _counter("streams_too_slow", "Streams that were cut off.", rendezvous.streams_too_slow)
        yield _counter("device_reads", "Times that the device was read.", now["device_reads"])
        yield _gauge("device_read_seconds", "Duration of the latest reading.", figures.observation.read_s)


def _gauge(name: str, help_text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"{PREFIX}_{name}", help_text, value=value)


def _counter(name: str, help_text: str, value: float) -> Metric:
    return CounterMetricFamily(f"{PREFIX}_{name}", help_text, value=value)
