# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""HTTP as hub and agent both serve it: listeners inside the VPN only, and errors as JSON that help."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import re
import socket
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from typing import Any, Callable

from aiohttp import web

from .wg import IPInterface

logger = logging.getLogger("wg_rendezvous.web")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

# Bodies of requests, DESIGN §5 "Limits".
MAX_BODY_BYTES = 16 * 1024
SHUTDOWN_S = 1.0

# socket.SO_BINDTODEVICE is missing in some builds of Python 3.9; the number is Linux's (socket(7)).
SO_BINDTODEVICE: int = getattr(socket, "SO_BINDTODEVICE", 25)


class ListenError(Exception):
    """A listening socket cannot be made; the text says why and what to do."""


# --- listeners ---


def listen_host(wanted: str | None, addresses: Sequence[IPInterface], interface: str) -> str:
    """The address to listen on: `wanted`, or the first of the interface's own `addresses`, IPv4 before IPv6.

    Raises ListenError if the interface does not have it.
    """
    global_first = sorted(addresses, key=lambda address: address.version)
    own = [str(address.ip) for address in global_first if not address.is_link_local]
    if not own:
        raise ListenError(
            f"{interface} has no address: give it one, e.g. ip addr add 192.168.7.1/24 dev {interface}"
        )
    if wanted is not None and wanted not in own:
        raise ListenError(f"option --listen: {wanted} is no address of {interface}: use {' or '.join(own)}")
    return wanted or own[0]


def listener(host: str, port: int, interface: str) -> socket.socket:
    """A listening socket on `host`:`port` that hears `interface` only. Raises ListenError.

    So a neighbour on the LAN who routes to `host` is not heard: without SO_BINDTODEVICE Linux accepts packets
    for any own address on any interface (DESIGN fact 17). The node itself is heard: what it sends to `host`
    counts as received on the interface that has this address, though it passes `lo`.
    """
    made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.setsockopt(socket.SOL_SOCKET, SO_BINDTODEVICE, interface.encode())
        if made.family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind((host, port))
        made.listen(128)
        made.setblocking(False)
        return made
    except OSError as error:
        made.close()
        remedy = {
            errno.EADDRNOTAVAIL: "give --listen an address that the interface has",
            errno.EADDRINUSE: "something else listens there: stop it, or choose another port with --listen",
            errno.EPERM: "run as root",
            errno.EACCES: "run as root",
            errno.ENODEV: f"bring {interface} up",
        }.get(error.errno or 0, "see --listen")
        raise ListenError(f"cannot listen on {host} port {port}: {error.strerror}: {remedy}") from None


def unix_listener(path: str) -> socket.socket:
    """A listening socket at `path`, for root only (0600); the directory is made if it is missing (0755).

    A file that a dead process left is replaced. Raises ListenError, also if a living process listens there.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        make_directory(os.path.dirname(path), 0o755)
        if _is_alive(path):
            raise ListenError(f"another wg-rendezvous serves {path}: stop that one first")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        umask = os.umask(0o177)
        try:
            listener.bind(path)
        finally:
            os.umask(umask)
        listener.listen(16)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise ListenError(f"cannot listen on {path}: {error.strerror or error}: run as root") from None
    except ListenError:
        listener.close()
        raise
    return listener


def _is_alive(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(1.0)
        try:
            connection.connect(path)
        except (FileNotFoundError, ConnectionRefusedError):
            return False
    return True


def make_directory(path: str, mode: int) -> None:
    """Make the directory `path` with exactly `mode` unless it exists. Raises OSError."""
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.mkdir(path)
    except FileExistsError:
        return
    os.chmod(path, mode)


def is_local(request: web.Request) -> bool:
    """Whether the node itself asks: over the unix socket, or from the very address that it asks.

    No peer can do the latter: the kernel drops packets that come in from one of its own addresses.
    """
    if request.transport is None:  # gone already
        return False
    connection: socket.socket = request.transport.get_extra_info("socket")
    if connection.family == socket.AF_UNIX:
        return True
    peer_name, own_name = connection.getpeername(), connection.getsockname()
    return bool(peer_name[0] == own_name[0])


# --- applications ---


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
            return error_response(500, "this program has a defect: its log says more")

    app = web.Application(middlewares=[json_errors, *middlewares], client_max_size=MAX_BODY_BYTES)
    for method, path, handler in targets:
        if method == "GET":
            app.router.add_get(path, handler)
        else:
            app.router.add_route(method, path, handler)
    return app


def _method_and_path(route: str) -> tuple[str, str]:
    method, _, path = route.rpartition(" ")
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
    for listener in sockets:
        await web.SockSite(runner, listener).start()
    return runner


async def stop(runner: web.AppRunner) -> None:
    """Stop serving; requests that are under way get up to SHUTDOWN_S. Removes the files of unix sockets."""
    files = [address for address in runner.addresses if isinstance(address, str)]
    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(runner.cleanup(), SHUTDOWN_S)
    for path in files:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
