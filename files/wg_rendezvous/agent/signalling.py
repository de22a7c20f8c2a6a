# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""The agent's side of `/v1` (docs/protocol.md): its stream, its registrations, its signals to others."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Sequence
from typing import Callable, Union
from urllib.parse import quote

from .. import __version__
from ..core import actions, events
from . import hub_stream
from .http_client import Answer, Connection, HttpError, Request
from .messages import MessageError, body, json_object, peer_view, registration_bodies
from .pool import Pool
from .timing import within

logger = logging.getLogger(__name__)

SIGNAL_S = 1.0
"""So long the hub may take to pass a signal on."""
UNDELIVERABLE = (404, 410)
TOO_MANY = 429
LATER = (408, TOO_MANY)
"""After one of these refusals the same registration is sent again.  After any other it is dropped; with a 403
the hub also ends the stream, and everything is reported after the next one."""
RETRY_AFTER_S, RETRY_AFTER_MAX_S = 1.0, 5.0
"""When the hub says nothing about when to ask again, and what is believed at most."""
REGISTRATIONS = ""
"""The lane of registrations; those of signals are called by the peer's key."""
OF_STREAMS = (
    events.Snapshot,
    events.PeerChanged,
    events.PeerGone,
    events.SignalReceived,
    events.StreamHeard,
    events.StreamClosed,
)
"""What only a stream delivers."""


Outcome = Callable[[Union[Answer, str]], Union[events.Event, None]]
"""The event for an answer of the hub, or for the reason why there is none."""


class Signalling:
    """Talks to the hub at `base`; whatever comes of it is given to `deliver`, in order.

    What goes to one peer goes through one *lane*, one request after the other; different lanes do not wait
    for one another.
    """

    def __init__(self, base: str, deliver: Callable[[events.Event], None]) -> None:
        self._base = base
        self._deliver = deliver
        self._pool = Pool(base)
        self._lanes: dict[str, asyncio.Task[None]] = {}
        self._stream: asyncio.Task[None] | None = None

    def open_stream(self, action: actions.OpenStream) -> None:
        """Register and open a stream; an older one is closed, and delivers nothing any more."""
        if self._stream is not None:
            self._stream.cancel()
        # A hub of the origin may serve one connection at a time: no other one before it knows `/v1`.
        stream = hub_stream.run(self._base, action, self._pool.renew, self._deliver)
        self._stream = asyncio.ensure_future(stream)

    def register(self, action: actions.Register) -> None:
        """Register beside the stream; `Registered` or `RegistrationFailed` follows."""
        bodies = registration_bodies(action.registration, __version__)
        requests = [Request("PUT", "/v1/self", part) for part in bodies]
        earlier = self._lanes.pop(REGISTRATIONS, None)
        if earlier is not None:
            earlier.cancel()
        outcome = functools.partial(_registered, action.registration.number)
        self._go(REGISTRATIONS, requests, outcome, action.patience_s)

    def send_signal(self, action: actions.SendSignal) -> None:
        """Send a signal; `SignalFailed` follows if it did not get there."""
        request = Request("POST", f"/v1/signal/{quote(action.peer, safe='')}", body(action.signal))
        self._go(action.peer, [request], functools.partial(_signalled, action), SIGNAL_S)

    async def finish(self, timeout_s: float) -> None:
        """Wait until all that was sent is answered, but no longer than `timeout_s`."""
        if self._lanes:
            await asyncio.wait(set(self._lanes.values()), timeout=timeout_s)

    async def close(self) -> None:
        """End everything that is under way."""
        tasks = [*self._lanes.values(), *([self._stream] if self._stream else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._pool.close()
        await asyncio.sleep(0)  # sockets are closed by the loop

    def _go(
        self,
        lane: str,
        requests: Sequence[Request],
        outcome: Outcome,
        patience_s: float,
    ) -> None:
        previous = self._lanes.get(lane)
        # Written here and now if nothing is in the way, not when the loop comes to it.
        sent_on = None if previous else self._pool.send_at_once(requests[0])
        task = asyncio.ensure_future(self._follow(previous, requests, sent_on, outcome, patience_s))
        self._lanes[lane] = task
        task.add_done_callback(lambda done: self._ended(lane, done, sent_on))

    async def _follow(
        self,
        previous: asyncio.Task[None] | None,
        requests: Sequence[Request],
        sent_on: Connection | None,
        outcome: Outcome,
        patience_s: float,
    ) -> None:
        answer: Answer | str
        try:
            answer = await within(patience_s, self._exchange(previous, requests, sent_on))
        except asyncio.TimeoutError:
            answer = f"no answer within {patience_s:.1f} s"
        except HttpError as error:
            answer = str(error)
        except Exception as error:  # a defect must not keep the core waiting for ever
            logger.exception("asking the hub failed")
            answer = repr(error)
        event = outcome(answer)
        if event is not None:
            self._deliver(event)

    async def _exchange(
        self, previous: asyncio.Task[None] | None, requests: Sequence[Request], sent_on: Connection | None
    ) -> Answer:
        if previous is not None:
            await asyncio.wait({previous})
        for request in requests:
            answer = await self._pool.exchange(request, sent_on)
            sent_on = None
            if answer.status >= 300:
                break
        return answer

    def _ended(self, lane: str, task: asyncio.Task[None], sent_on: Connection | None) -> None:
        if self._lanes.get(lane) is task:
            del self._lanes[lane]
        if task.cancelled() and sent_on is not None:  # perhaps before it began
            self._pool.give_up(sent_on)


def _registered(number: int, answer: Answer | str) -> events.Event:
    request = "PUT /v1/self"
    try:
        if isinstance(answer, str):
            raise MessageError(answer)
        if not 200 <= answer.status < 300:
            raise MessageError(hub_stream.sentence(request, answer))
        return events.Registered(peer_view(json_object(answer.body, request), request), number)
    except MessageError as error:
        final = isinstance(answer, Answer) and 400 <= answer.status < 500 and answer.status not in LATER
        return events.RegistrationFailed(number, str(error), again=not final)


def _signalled(action: actions.SendSignal, answer: Answer | str) -> events.Event | None:
    if isinstance(answer, str):
        return events.SignalFailed(action.peer, action.signal, undeliverable=False, reason=answer)
    if 200 <= answer.status < 300:
        return None
    return events.SignalFailed(
        action.peer,
        action.signal,
        undeliverable=answer.status in UNDELIVERABLE,
        reason=hub_stream.sentence("the signal", answer),
        retry_in_s=_retry_in_s(answer) if answer.status == TOO_MANY else None,
    )


def _retry_in_s(answer: Answer) -> float:
    return min(RETRY_AFTER_MAX_S, RETRY_AFTER_S if answer.retry_after_s is None else answer.retry_after_s)
