# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""The hub's figures for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric


def render(
    figures: Mapping[str, int], requests: Mapping[tuple[str, int], int], read_s: float
) -> tuple[bytes, str]:
    """The page and its content type, from `SeedApi.figures`, {(call, status): number}, and a duration."""
    registry = CollectorRegistry()
    registry.register(_Figures(figures, requests, read_s))
    return generate_latest(registry), CONTENT_TYPE_LATEST


class _Figures:
    """A collector, as prometheus_client calls what has `collect`."""

    def __init__(
        self, figures: Mapping[str, int], requests: Mapping[tuple[str, int], int], read_s: float
    ) -> None:
        self._figures = figures
        self._requests = requests
        self._read_s = read_s

    def collect(self) -> Iterator[Metric]:
        """The series."""
        prefix = "wg_rendezvous_hub"
        yield GaugeMetricFamily(f"{prefix}_peers", "Peers of the interface.", value=self._figures["peers"])
        yield GaugeMetricFamily(
            f"{prefix}_peers_online",
            "Peers heard within 2.5 keepalives.",
            value=self._figures["peers_online"],
        )
        answers = CounterMetricFamily(f"{prefix}_requests", "Answers.", labels=["call", "status"])
        for (call, status), number in sorted(self._requests.items()):
            answers.add_metric([call, str(status)], number)
        yield answers
        yield CounterMetricFamily(
            f"{prefix}_device_reads", "Times that the device was read.", value=self._figures["device_reads"]
        )
        yield GaugeMetricFamily(
            f"{prefix}_device_read_seconds", "Duration of the latest reading.", value=self._read_s
        )
