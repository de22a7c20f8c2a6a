# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""The hub as a process: start, serve, end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal

from .. import heartbeat, notify, web
from ..config import RUN_DIRECTORY, STATE_DIRECTORY, HubOptions, OptionError
from ..wg import Device, DeviceError
from .application import HubApi
from .observation import Observation
from .registry import Registry

logger = logging.getLogger("wg_rendezvous.hub")


def run(options: HubOptions) -> int:
    """Serve until SIGTERM or SIGINT (0), or until it cannot go on (1, with the reason in the log).

    Raises OptionError if it cannot start with these options.
    """
    try:
        asyncio.run(_serve(options))
    except web.ListenError as error:
        raise OptionError(str(error)) from None
    except DeviceError as error:
        logger.error(str(error))
        return 1
    return 0


async def _serve(options: HubOptions) -> None:
    """Raises DeviceError, web.ListenError."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)

    device = Device(options.interface)
    observation = Observation(device, Registry())
    try:
        await observation.read()
    except DeviceError as error:
        raise OptionError(f"option --interface: {error}") from None
    hosts = web.listen_hosts(options.listen_host, await device.addresses(), options.interface)
    api = HubApi(observation, options.interface)
    web.make_directory(STATE_DIRECTORY, 0o700)
    async with contextlib.AsyncExitStack() as ending:
        inside = [web.listener(host, options.listen_port, options.interface) for host in hosts]
        ending.push_async_callback(web.stop, await web.start(api.application(), inside))
        own = web.unix_listener(f"{RUN_DIRECTORY}/{options.interface}.sock")
        ending.push_async_callback(web.stop, await web.start(api.local_application(), [own]))
        ending.callback(api.stop)  # before these two, which would wait for streams
        pong = api.rendezvous.pong
        beats = await heartbeat.listen(hosts, options.listen_port, options.interface, pong)
        ending.callback(beats.close)
        api.rendezvous.challenge_by(beats.ping_back)

        tasks = [asyncio.ensure_future(work) for work in (observation.run(), stop.wait())]
        tasks.append(asyncio.ensure_future(notify.keep_alive(observation.goes_on)))
        fields = {"interface": options.interface, "listen": hosts, "port": options.listen_port}
        logger.info("hub started", extra={"fields": fields})
        notify.ready()
        notify.status(f"serving {options.interface} on {', '.join(hosts)} port {options.listen_port}")
        try:
            await asyncio.wait(tasks[:2], return_when=asyncio.FIRST_COMPLETED)
            notify.stopping()
            if tasks[0].done():
                tasks[0].result()  # raises why it cannot go on
            logger.info("hub stopped")
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
