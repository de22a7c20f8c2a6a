# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""The origin's API, from the agent's side: `GET /online-peers`, then `GET /peer/{key}` for each."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any, Callable
from urllib.parse import quote

from ..core.events import PeerRecord
from .http_client import Answer, HttpError, Request, connect
from .timing import within

TIMEOUT_S = 5.0
AT_ONCE = 8
"""Requests under way at the same time."""


class HubError(Exception):
    """The hub could not be asked, or its answer makes no sense; the text says which and why."""


class AnswerError(HubError):
    """The hub is there, but its answer to one request is none."""


def _percent_encoded(key: str) -> str:
    return quote(key, safe="")


def _raw(key: str) -> str:
    return key


SPELLINGS: list[Callable[[str], str]] = [_percent_encoded, _raw]
"""How a key can stand in a path.  Hubs of the origin understand one or the other."""


class HubClient:
    """Asks the hub at `base` (`"http://192.168.7.1:8080"`)."""

    def __init__(self, base: str) -> None:
        self.base = base.rstrip("/")
        self._spellings = list(SPELLINGS)
        self._records: dict[str, PeerRecord] = {}

    async def greet(self) -> None:
        """Let the hub see a request from our endpoint as it is now.  Raises HubError.

        A hub of the origin need not have this call: that it says so is an answer.
        """
        with contextlib.suppress(AnswerError):
            await self._get("/statusz")

    async def peers(self, own_key: str) -> dict[str, PeerRecord]:
        """What the hub says of every online peer but ourselves, by public key.

        A peer that has gone in between is left out; of one whose record the hub cannot give right now,
        the last one counts.  Raises HubError.
        """
        keys = self._json(await self._get("/online-peers"), "/online-peers")
        if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
            raise HubError(f"{self.base}/online-peers is not a list of keys")
        others = [key for key in dict.fromkeys(keys) if key != own_key]
        gate = asyncio.Semaphore(AT_ONCE)
        records = await asyncio.gather(*(self._peer(key, gate) for key in others))
        self._records = {key: record for key, record in zip(others, records) if record is not None}
        return dict(self._records)

    async def _peer(self, key: str, gate: asyncio.Semaphore) -> PeerRecord | None:
        async with gate:
            unclear = False
            for spelling in list(self._spellings):
                try:
                    text = await self._get(f"/peer/{spelling(key)}", missing_ok=True)
                    record = None if text is None else self._record(text)
                except AnswerError:
                    unclear = True
                    continue
                if text is None:
                    continue
                self._spellings.remove(spelling)
                self._spellings.insert(0, spelling)
                return record
        return self._records.get(key) if unclear else None

    def _record(self, text: str) -> PeerRecord | None:
        answer = self._json(text, "/peer/")
        if not isinstance(answer, dict):
            return None
        endpoint, allowed_ips = answer.get("endpoint"), answer.get("allowed_ips")
        if isinstance(endpoint, str) and isinstance(allowed_ips, str) and endpoint:
            return PeerRecord(endpoint, allowed_ips)
        return None

    def _json(self, text: str | None, path: str) -> Any:
        try:
            return json.loads(text or "")
        except ValueError:
            raise AnswerError(f"{self.base}{path} did not answer with JSON") from None

    async def _get(self, path: str, missing_ok: bool = False) -> str | None:
        """The body of the answer; None for a 4xx if `missing_ok`.  Raises HubError, AnswerError."""
        url = self.base + path
        try:
            answer = await within(TIMEOUT_S, self._ask(path))
        except asyncio.TimeoutError:
            raise HubError(f"{url}: no answer within {TIMEOUT_S:g} s") from None
        except HttpError as error:
            raise HubError(f"{url}: {error}") from None
        if missing_ok and 400 <= answer.status < 500:
            return None
        text = answer.body.decode(errors="replace")
        if answer.status != 200:
            raise AnswerError(f"{url} answered {answer.status}: {text[:200].strip()}")
        return text

    async def _ask(self, path: str) -> Answer:
        connection = await connect(self.base)
        try:
            # A hub of the origin may serve one connection at a time.
            connection.send(Request("GET", path), keep=False)
            return await connection.answer()
        finally:
            connection.close()
