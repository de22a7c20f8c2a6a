# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""Requests that are refused: answered with a sentence, counted, and logged once for each peer and reason."""

from __future__ import annotations

import collections
import logging
from collections.abc import Mapping

from aiohttp import web as aiohttp_web

from .. import web

logger = logging.getLogger("wg_rendezvous.hub")

# Why, in the words of the metric, and the status of the answer.
STATUS: Mapping[str, int] = {
    "malformed": 400,
    "own_node": 403,
    "no_stream": 404,
    "not_registered": 409,
    "too_large": 413,
    "not_json": 415,
    "too_many": 429,
}

RETRY_AFTER_S = 1


class Refusal(Exception):  # noqa: N818 - an answer like any other
    """Why a request is refused, one of STATUS, and a sentence for who asked."""

    def __init__(self, reason: str, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason
        self.sentence = sentence


class Refusals:
    """What was refused so far."""

    def __init__(self) -> None:
        self.counts: collections.Counter[str] = collections.Counter(dict.fromkeys(STATUS, 0))
        self._logged: set[tuple[str | None, str]] = set()

    def answer(self, refusal: Refusal, key: str | None) -> aiohttp_web.Response:
        """The answer to a request of the peer `key`; None is the node itself."""
        self.counts[refusal.reason] += 1
        if (key, refusal.reason) not in self._logged:
            self._logged.add((key, refusal.reason))
            fields = {"peer": key or "this node", "reason": refusal.reason, "says": refusal.sentence}
            logger.warning(
                "refused a request; the next ones like it are only counted", extra={"fields": fields}
            )
        answer = web.error_response(STATUS[refusal.reason], refusal.sentence)
        if refusal.reason == "too_many":
            answer.headers["Retry-After"] = str(RETRY_AFTER_S)  # RFC 9110, section 10.2.3: whole seconds
        return answer

    def forget(self, key: str) -> None:
        """That peer is gone."""
        self._logged = {(peer, reason) for peer, reason in self._logged if peer != key}
