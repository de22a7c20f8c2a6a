# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""One stream of the hub, from the registration to its end: `PUT /v1/self`, then `GET /v1/stream`, over one
connection where the hub permits.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import time
from collections.abc import Coroutine, Iterator
from typing import Any, Callable, TypeVar

from .. import __version__
from ..core import actions, events
from .http_client import Answer, Connection, Head, HttpError, Request, connect
from .messages import MessageError, event_of, json_object, registration_bodies
from .stream import Parser, StreamError
from .timing import within

logger = logging.getLogger(__name__)

SILENCE_S = 25.0
"""The hub says something every 10 s: a stream that is silent for so long is dead."""
REFUSALS = (403, 408, 409, 413, 415, 429)
"""What a hub that knows the call may answer; any other 4xx is a hub that does not (docs/protocol.md)."""

Result = TypeVar("Result")


class UnsupportedError(HttpError):
    """The hub knows no such call."""


async def run(
    base: str,
    action: actions.OpenStream,
    registered: Callable[[], None],
    deliver: Callable[[events.Event], None],
) -> None:
    """Register with the hub at `base`, call `registered`, deliver what its stream says, and at last
    `StreamClosed`.
    """
    try:
        with contextlib.ExitStack() as ending:
            hub = _Hub(base, action.patience_s, ending)
            started_s = time.monotonic()
            connection = await hub.connected()
            connected_s = time.monotonic()
            for body in registration_bodies(action.registration, __version__):
                await hub.register(connection, body)
                if not connection.reusable:
                    connection = await hub.connected()
            registered()
            asked_s = time.monotonic()
            head = await hub.open(connection)
            # TCP's handshake and this request took a round trip each, and whatever kept one of them back.
            rtt_s = min(connected_s - started_s, time.monotonic() - asked_s)
            await _Reader(connection, head, lambda event: deliver(_timed(event, rtt_s))).run()
        closed = events.StreamClosed("the hub closed the stream")
    except UnsupportedError as error:
        closed = events.StreamClosed(str(error), unsupported=True)
    except (HttpError, MessageError, StreamError) as error:
        closed = events.StreamClosed(str(error))
    except Exception as error:  # a defect must not be the end of all streams
        logger.exception("the stream failed")
        closed = events.StreamClosed(repr(error))
    deliver(closed)


def _timed(event: events.Event, rtt_s: float) -> events.Event:
    return dataclasses.replace(event, rtt_s=rtt_s) if isinstance(event, events.Snapshot) else event


def sentence(request: str, answer: Answer) -> str:
    """What the hub answered to `request`, for people."""
    try:
        why = str(json_object(answer.body, request)["error"])
    except (MessageError, KeyError):
        why = " ".join(answer.body.decode("latin-1").split())[:100]
    return f"{request} was answered {answer.status}" + (f": {why}" if why else "")


class _Hub:
    """The hub at `base`, whose connections end with `ending`; each step may take `patience_s`."""

    def __init__(self, base: str, patience_s: float, ending: contextlib.ExitStack) -> None:
        self._base = base
        self._patience_s = patience_s
        self._ending = ending

    async def connected(self) -> Connection:
        """A new connection. Raises HttpError."""

        async def connected() -> Connection:
            connection = await connect(self._base)
            self._ending.callback(connection.close)
            return connection

        return await self._in_time(connected(), f"no connection to {self._base}")

    async def register(self, connection: Connection, body: bytes) -> None:
        """Raises UnsupportedError, HttpError."""
        request = "PUT /v1/self"
        connection.send(Request("PUT", "/v1/self", body))
        answer = await self._in_time(connection.answer(), f"{request}: no answer")
        _check(request, answer)
        try:
            json_object(answer.body, request)
        except MessageError as error:  # it answers the same to everything
            raise UnsupportedError(str(error)) from None

    async def open(self, connection: Connection) -> Head:
        """What precedes the events. Raises UnsupportedError, HttpError."""
        request = "GET /v1/stream"
        connection.send(Request("GET", "/v1/stream"))
        head = await self._in_time(connection.head(), f"{request}: no answer")
        if head.status != 200:
            _check(request, await self._in_time(connection.answer(head), f"{request}: half an answer"))
        kind = head.fields.get("content-type", "")
        if not kind.startswith("text/event-stream"):
            # It answers the same to everything.
            raise UnsupportedError(f"{request} is no event stream, but {kind or 'of no type'}")
        return head

    async def _in_time(self, step: Coroutine[Any, Any, Result], what: str) -> Result:
        try:
            return await within(self._patience_s, step)
        except asyncio.TimeoutError:
            raise HttpError(f"{what} within {self._patience_s:g} s") from None
        except UnsupportedError:
            raise
        except HttpError as error:
            raise type(error)(f"{what}: {error}") from None


def _check(request: str, answer: Answer) -> None:
    """Raises UnsupportedError, HttpError unless the answer is a good one."""
    if 200 <= answer.status < 300:
        return
    unknown = answer.status == 501 or (400 <= answer.status < 500 and answer.status not in REFUSALS)
    raise (UnsupportedError if unknown else HttpError)(sentence(request, answer))


class _Reader:
    """Reads the open stream, and ends it when it is silent for too long."""

    def __init__(self, connection: Connection, head: Head, deliver: Callable[[events.Event], None]) -> None:
        self._connection = connection
        self._head = head
        self._deliver = deliver
        self._timer: asyncio.TimerHandle | None = None
        self._silent = False

    async def run(self) -> None:
        """Until the hub closes it. Raises HttpError, MessageError, StreamError."""
        parser = Parser()
        with self._watched():
            async for piece in self._connection.pieces(self._head):
                self._heard()
                known = [event for sent in parser.feed(piece) if (event := event_of(sent)) is not None]
                for event in known:
                    self._deliver(event)
                # What the hub says of ourselves it also says beside the stream.
                if all(isinstance(event, events.Registered) for event in known):
                    self._deliver(events.StreamHeard())
        self._raise_if_silent()

    @contextlib.contextmanager
    def _watched(self) -> Iterator[None]:
        self._heard()
        try:
            yield
        except HttpError:
            self._raise_if_silent()
            raise
        finally:
            if self._timer is not None:
                self._timer.cancel()

    def _heard(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(SILENCE_S, self._end)

    def _end(self) -> None:
        self._silent = True
        self._connection.close()

    def _raise_if_silent(self) -> None:
        if self._silent:
            raise HttpError(f"the stream was silent for {SILENCE_S:g} s")
