# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""HTTP as hub and agent both serve it: errors as JSON that help, on listeners inside the VPN."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import socket
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from typing import Any, Callable

from aiohttp import web

from .listeners import (
    SO_BINDTODEVICE,
    ListenError,
    listen_hosts,
    listener,
    make_directory,
    unix_listener,
)

__all__ = [
    "SO_BINDTODEVICE",
    "Handler",
    "ListenError",
    "application",
    "error_response",
    "is_local",
    "listen_hosts",
    "listener",
    "make_directory",
    "readable_path",
    "start",
    "stop",
    "unix_listener",
]

logger = logging.getLogger("wg_rendezvous.web")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

# Bodies of requests, DESIGN §5 "Limits".
MAX_BODY_BYTES = 16 * 1024
SHUTDOWN_S = 1.0
DEFECT = "this program has a defect: its log says more"
MAX_REASON = 200
"""Characters of what aiohttp says about a request that it cannot read."""


def is_local(request: web.Request) -> bool:
    """Whether the node itself asks: over the unix socket, or from the very address that it asks.

    No peer can do the latter: the kernel drops packets that come in from one of its own addresses.
    """
    if request.transport is None:  # gone already
        return False
    connection: socket.socket = request.transport.get_extra_info("socket")
    if connection.family == socket.AF_UNIX:
        return True
    # As they were when it was accepted: the socket of one that was reset since knows no names any more.
    peer_name, own_name = (request.transport.get_extra_info(end) for end in ("peername", "sockname"))
    return bool(peer_name and own_name and peer_name[0] == own_name[0])


# --- applications ---


def _refused(
    self: web.RequestHandler,
    request: web.BaseRequest,
    status: int = 500,
    exc: BaseException | None = None,
    message: str | None = None,
) -> web.StreamResponse:
    """What no application sees, such as a method that HTTP does not have, or a line that is too long.

    aiohttp answers that in plain text, and logs a traceback for each.
    """
    if request.writer.output_size > 0:
        raise ConnectionError("a part of another answer is sent already")
    if status >= 500:
        self.log_exception("a request failed", exc_info=exc)
        sentence = DEFECT
    else:
        why = " ".join((message or str(exc or "")).split())[:MAX_REASON]
        sentence = f"this is no request that can be read: {why}: write e.g. GET /healthz HTTP/1.1"
    answer = error_response(status, sentence)
    answer.force_close()
    return answer


web.RequestHandler.handle_error = _refused  # type: ignore[method-assign]  # aiohttp has no other way in


class _NotOfClients(logging.Filter):
    """Without the tracebacks that aiohttp logs for every body that breaks off or cannot be decoded."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        return not isinstance(error, web.RequestPayloadError)


logging.getLogger("aiohttp.server").addFilter(_NotOfClients())


def application(routes: Mapping[str, Handler], middlewares: Sequence[Any] = ()) -> web.Application:
    """An application with these `routes`, whose every error is JSON.

    A route is `"/path"` (GET, and HEAD with it) or `"METHOD /path"`.
    """
    targets = [(*_method_and_path(route), handler) for route, handler in routes.items()]
    known = sorted({readable_path(path) for _method, path, _handler in targets})

    @web.middleware
    async def json_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except web.HTTPMethodNotAllowed as error:
            allowed = ", ".join(sorted(error.allowed_methods))
            answer = error_response(405, f"{request.method} is not allowed here: use {allowed}")
            answer.headers["Allow"] = allowed
            return answer
        except web.HTTPNotFound:
            return error_response(404, f"there is nothing at {request.path}: ask for {', '.join(known)}")
        except web.HTTPException as error:
            if error.status < 400:
                raise
            return error_response(error.status, error.text or error.reason)
        except asyncio.CancelledError:
            raise
        except Exception:
            logger.exception(
                "a request failed", extra={"fields": {"method": request.method, "path": request.path}}
            )
            return error_response(500, DEFECT)

    app = web.Application(middlewares=[json_errors, *middlewares], client_max_size=MAX_BODY_BYTES)
    for method, path, handler in targets:
        if method == "GET":
            app.router.add_get(path, handler)
        else:
            app.router.add_route(method, path, handler)
    return app


def _method_and_path(route: str) -> tuple[str, str]:
    method, _blank, path = route.rpartition(" ")
    return method or "GET", path


def readable_path(route: str) -> str:
    """`/peer/{key}` for the route `/peer/{key:.*}`."""
    return re.sub(r":[^}]*}", "}", route)


def error_response(status: int, sentence: str) -> web.Response:
    """`{"error": sentence}`."""
    return web.json_response({"error": sentence}, status=status)


async def start(app: web.Application, sockets: Iterable[socket.socket]) -> web.AppRunner:
    """Serve `app` on `sockets`; `await stop(runner)` ends it and closes them."""
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    for listening in sockets:
        await web.SockSite(runner, listening).start()
    return runner


async def stop(runner: web.AppRunner) -> None:
    """Stop serving; requests that are under way get up to SHUTDOWN_S. Removes the files of unix sockets."""
    files = [address for address in runner.addresses if isinstance(address, str)]
    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(runner.cleanup(), SHUTDOWN_S)
    for path in files:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
