# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""The calls of `/v1` (docs/protocol.md, openapi.json): who may do what, and what is refused."""

from __future__ import annotations

import asyncio
import functools
import pkgutil
from urllib.parse import unquote, urlsplit

import aiohttp
from aiohttp import web as aiohttp_web

from .. import web
from .._wireguard.keys import parse_key
from .callers import caller
from .claims import ClaimError, parse_claim, parse_signal
from .observation import Observation
from .refusals import Refusal, Refusals
from .rendezvous import Rendezvous
from .streams import Stream

MAX_WAIT_S = 60.0
# What reading a body raises, in one version of aiohttp or another.
_BROKEN = (
    aiohttp_web.RequestPayloadError,
    aiohttp.ClientPayloadError,
    aiohttp.http_exceptions.HttpProcessingError,
    ConnectionError,
    asyncio.IncompleteReadError,
)


class V1Api:
    """Handlers that answer from the memory of `rendezvous`."""

    def __init__(self, observation: Observation, rendezvous: Rendezvous) -> None:
        self._observation = observation
        self._rendezvous = rendezvous
        self._records = rendezvous.records
        self.refusals = Refusals()

    def routes(self) -> dict[str, web.Handler]:
        """For `web.application`."""
        return {
            route: self._refusing(handler)
            for route, handler in {
                "GET /v1/peers": self._peers,
                "GET /v1/stream": self._stream,
                "GET /v1/links": self._links,
                "GET /v1/openapi.json": self._openapi,
                "PUT /v1/self": self._self,
                "POST /v1/signal/{key:.*}": self._signal,
            }.items()
        }

    def _refusing(self, handler: web.Handler) -> web.Handler:
        @functools.wraps(handler)
        async def refusing(request: aiohttp_web.Request) -> aiohttp_web.StreamResponse:
            try:
                return await handler(request)
            except Refusal as refusal:
                return self.refusals.answer(refusal, caller())

        return refusing

    # --- reading ---

    async def _peers(self, request: aiohttp_web.Request) -> aiohttp_web.Response:
        wait_s = _wait_s(request)
        if self._is_known(request):
            await self._rendezvous.wait_for_change(self._records.revision, wait_s)
        headers = {"ETag": f'W/"{self._records.revision}"', "Cache-Control": "no-cache"}
        if self._is_known(request):
            return aiohttp_web.Response(status=304, headers=headers)
        answer = {"revision": self._records.revision, "peers": self._records.all_but(caller())}
        return aiohttp_web.json_response(answer, headers=headers)

    def _is_known(self, request: aiohttp_web.Request) -> bool:
        """Whether the caller has this revision (RFC 9110, section 13.1.2)."""
        tags = ",".join(request.headers.getall("If-None-Match", [])).split(",")
        known = {tag.strip().removeprefix("W/").strip('"') for tag in tags}
        return str(self._records.revision) in known or "*" in known

    async def _links(self, _request: aiohttp_web.Request) -> aiohttp_web.Response:
        return aiohttp_web.json_response({"links": self._rendezvous.registrations.links()})

    async def _openapi(self, _request: aiohttp_web.Request) -> aiohttp_web.Response:
        return aiohttp_web.Response(body=openapi(), content_type="application/json")

    # --- what only peers may do ---

    async def _self(self, request: aiohttp_web.Request) -> aiohttp_web.Response:
        key = _peer()
        if not self._rendezvous.may_register(key):
            raise Refusal("too_many", "more than 20 registrations in a second: wait a moment")
        try:
            claim = parse_claim(await _body(request), self._observation.registry.networks())
        except ClaimError as error:
            raise Refusal("malformed", str(error)) from None
        self._rendezvous.register(key, claim)
        await self._observation.newer()
        await self._rendezvous.confirmed(key)
        record = self._records.tell(key)
        if record is None:
            raise aiohttp_web.HTTPForbidden(text="this peer was removed from the hub a moment ago")
        return aiohttp_web.json_response(record)

    async def _stream(self, request: aiohttp_web.Request) -> aiohttp_web.StreamResponse:
        if request.method != "GET":  # HEAD
            raise aiohttp_web.HTTPMethodNotAllowed(request.method, ["GET"])
        key = _peer()
        if self._rendezvous.registrations.get(key) is None:
            raise Refusal("not_registered", "register first: PUT /v1/self")
        if not self._rendezvous.may_open(key):
            raise Refusal("too_many", "more than 10 streams at once, or one in a second: keep one open")
        stream = Stream(request)
        self._rendezvous.open_stream(key, stream)
        try:
            return await stream.serve()
        finally:
            self._rendezvous.stream_ended(key, stream)

    async def _signal(self, request: aiohttp_web.Request) -> aiohttp_web.Response:
        sender = _peer()
        if not self._rendezvous.may_signal(sender):
            raise Refusal("too_many", "too many signals in a second: wait a moment")
        # From the raw target, as the origin's /peer/{key}: raw base64 has slashes.
        text = unquote(urlsplit(request.raw_path).path[len("/v1/signal/") :])
        try:
            to = parse_key(text)
        except ValueError as error:
            raise Refusal("malformed", f"{text!r} is not a WireGuard public key: {error}") from None
        try:
            data = parse_signal(await _body(request), sender)
        except ClaimError as error:
            raise Refusal("malformed", str(error)) from None
        if not self._rendezvous.signal(to, data):
            raise Refusal(
                "no_stream", "that peer has no stream: its agent does not run, or is on its way back"
            )
        return aiohttp_web.Response(status=204)


@functools.lru_cache(maxsize=1)
def openapi() -> bytes:
    """The exact description of all calls, also out of a zipapp."""
    document = pkgutil.get_data(__package__, "openapi.json")
    if document is None:
        raise FileNotFoundError("openapi.json")
    return document


def _peer() -> str:
    """The key of the caller, who has to be a peer."""
    key = caller()
    if key is None:
        raise Refusal("own_node", "only peers may do this: the hub's own node may read and not change")
    return key


def _wait_s(request: aiohttp_web.Request) -> float:
    text = request.query.get("wait", "0")
    try:
        wait_s = float(text)
    except ValueError:
        wait_s = -1.0
    if not 0 <= wait_s <= MAX_WAIT_S:
        raise Refusal("malformed", f"wait: not a number of seconds between 0 and {MAX_WAIT_S:g}")
    return wait_s


async def _body(request: aiohttp_web.Request) -> bytes:
    # A page in a browser on a peer can post text across origins without being asked; JSON it cannot.
    if request.content_type != "application/json":
        raise Refusal("not_json", "the body has to be JSON: Content-Type: application/json")
    try:
        return await request.read()
    except aiohttp_web.HTTPRequestEntityTooLarge:
        raise Refusal("too_large", f"the body is larger than {web.MAX_BODY_BYTES} bytes") from None
    except _BROKEN:
        raise Refusal("malformed", "the body breaks off, or is not as its Content-Encoding says") from None
