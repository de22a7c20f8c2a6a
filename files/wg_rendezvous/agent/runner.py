# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""The agent's loop: events go to `core.mesh.Mesh`, and what it answers is carried out."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import importlib.util
import ipaddress
import logging
import secrets
import signal
import socket
import time
from collections.abc import Awaitable, Coroutine
from pathlib import Path
from typing import Any, Callable
from urllib.parse import urlsplit

from .. import heartbeat, notify
from .._wireguard import dump
from ..clock import boottime_s
from ..config import RUN_DIRECTORY, AgentOptions
from ..core import actions, events
from ..core.candidates import Place, hub_peer
from ..core.mesh import Mesh, Settings
from ..core.refresh import Budget, Policy
from ..listeners import listen_hosts, listener, unix_listener
from ..wg.device import Device, DeviceError, DeviceGone, IPInterface, PeerCommand
from .addresses import Watch
from .beats import Pings
from .configuration import Configuration, named
from .hub_client import HubClient, HubError
from .mesh_secrets import MeshSecrets
from .opener import send_openers
from .probe import UnansweredError, probe
from .signalling import OF_STREAMS, Signalling
from .storage import Storage
from .timing import both

logger = logging.getLogger(__name__)

STOP_S = 5.0
LAST_ASK_S = 1.5
"""How long a hub may take to answer an agent that is about to end: TCP sends a lost SYN again after
one second (RFC 6298, section 2)."""
WITHDRAW_S = 3.0
"""How long it may take to give all links back: the hub takes the withdrawals of 100 in 2 s, and the core
waits 1 s for the last of them to be confirmed."""
LAST_WORDS_S = 0.2
SERVE_AFTER_S = 1.0
"""The local API is loaded when a new agent's links had the time to become direct, or as soon as it shows that
others ask for /statusz before they trust a link."""
SECRETS_EVERY_S = 2.0
"""How often the file with the mesh secrets is looked at."""
STALL_S = 30.0
"""The loop is stuck if it handled nothing for so long: then the watchdog is not fed."""


class StartError(Exception):
    """The agent cannot work here; the text says what is missing and what to do."""


class Agent:
    """One agent, for one interface.  `run` returns when it was asked to end."""

    def __init__(self, options: AgentOptions) -> None:
        self.options = options
        self.device = Device(options.interface)
        self.hub = HubClient(options.hub)
        self.signalling = Signalling(options.hub, self._deliver)
        self.storage = Storage(options.interface)
        self.mesh: Mesh
        self.started_at = time.time()
        self._hub_key = ""
        self._hub_endpoint: str | None = None
        self._hub_port = urlsplit(options.hub).port or 80
        self.configuration: Configuration
        self.secrets: MeshSecrets
        self._port = 0
        self._fwmark = 0
        self._beats: heartbeat.Beats
        self._pings = Pings()
        self._events: asyncio.Queue[events.Event]
        self._asked_for: asyncio.Event
        self._stop: asyncio.Event
        self._tasks: set[asyncio.Task[None]] = set()
        self._alive_s = boottime_s()
        self._doers: dict[type, Callable[[Any], Awaitable[events.Event | None]]] = {
            actions.ReadDevice: self._read_device,
            actions.SetPeers: self._set_peers,
            actions.SendOpeners: self._send_openers,
            actions.RecordOwned: self._record_owned,
            actions.SaveState: self._save_state,
            actions.TakeFreshPort: self._take_fresh_port,
            actions.RestartClient: self._restart_client,
            actions.Say: self._say,
            actions.AskHub: self._ask_hub,
            actions.GreetHub: self._greet_hub,
            actions.ResolveHub: self._resolve_hub,
            actions.Probe: self._probe,
            actions.OpenStream: self._open_stream,
            actions.Register: self._register,
            actions.SendSignal: self._send_signal,
            actions.SendBeat: self._send_beat,
        }

    async def run(self) -> None:
        """Start, loop, and withdraw.  Raises StartError, DeviceError, ListenError, ModuleNotFoundError."""
        self._events = asyncio.Queue()  # before Python 3.10 it belongs to the loop that runs now
        self._asked_for = asyncio.Event()
        self._stop = asyncio.Event()
        if importlib.util.find_spec("aiohttp") is None:  # which is imported when all else runs
            raise ModuleNotFoundError("aiohttp is not installed", name="aiohttp")
        device, addresses = await self._read_node()
        self.mesh = self._mesh(device, addresses)
        hosts = listen_hosts(self.options.listen_host, addresses, self.options.interface)
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._stop.set)
        async with contextlib.AsyncExitStack() as ending:
            ending.push_async_callback(self._end_tasks)
            await self._listen(hosts, ending)
            watch = Watch(self.options.interface, self._where, self._addresses_changed)
            ending.push_async_callback(watch.stop)
            ending.push_async_callback(self.signalling.close)
            keep_alive = asyncio.ensure_future(notify.keep_alive(self._healthy))
            ending.callback(keep_alive.cancel)
            await self._handle(events.AddressesSeen(await watch.start()))
            await self._handle(events.SecretsSeen(self.secrets.ids))
            logger.info(
                "agent started",
                extra={"fields": {"interface": self.options.interface, "public_key": self.mesh.own_key}},
            )
            await self._handle(await self._taken_over(device))
            secrets_watch = asyncio.ensure_future(self._watch_secrets())
            ending.push_async_callback(_end, secrets_watch)
            notify.ready()
            await self._loop(self._stop)
            notify.stopping()
            await asyncio.wait_for(self._withdraw(), STOP_S)
            logger.info("agent stopped")

    async def _read_node(self) -> tuple[dump.Device, list[IPInterface]]:
        try:
            device, addresses = await both(self.device.read(), self.device.addresses())
            self.configuration = Configuration(self.options.interface)
            self.secrets = MeshSecrets(self.options.interface)
        except DeviceError as error:
            raise StartError(f"option --interface: {error}") from None
        except ValueError as error:
            raise StartError(str(error)) from None
        return device, addresses

    async def _listen(self, hosts: list[str], ending: contextlib.AsyncExitStack) -> None:
        """Listen for heartbeats now, and for HTTP, which is answered a little later: aiohttp takes longer to
        import than a link takes to become direct (DESIGN fact 19).
        """
        interface, port = self.options.interface, self.options.listen_port
        self._beats = await heartbeat.listen(hosts, port, interface, self._on_pong)
        ending.callback(self._beats.close)
        inside = [ending.enter_context(listener(host, port, interface)) for host in hosts]
        path = f"{RUN_DIRECTORY}/{interface}.sock"
        own = ending.enter_context(unix_listener(path))
        ending.callback(Path(path).unlink, missing_ok=True)
        serving = asyncio.ensure_future(self._serve(inside, own))
        ending.push_async_callback(_end, serving)

    async def _serve(self, inside: list[socket.socket], own: socket.socket) -> None:
        """The local API, until this is cancelled."""
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._asked_for.wait(), SERVE_AFTER_S)
        try:
            loop = asyncio.get_running_loop()
            module = await loop.run_in_executor(None, importlib.import_module, f"{__package__}.local_api")
            api = module.LocalApi(self)
        except Exception:  # the links matter more
            logger.exception("nothing answers to status and /statusz: the local API cannot be loaded")
            return
        try:
            await api.start(inside, own)
            await asyncio.Event().wait()
        finally:
            await api.stop()

    async def _end_tasks(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _mesh(self, device: dump.Device, addresses: list[IPInterface]) -> Mesh:
        if device.public_key is None:
            raise StartError(f"{self.options.interface} has no private key: set one, e.g. with wg-quick up")
        policy = Policy(self.options.refresh)
        pinned = self.configuration.pinned_port
        if pinned is not None and policy is not Policy.OFF:
            logger.info(
                "no fresh ports: the listen port is pinned",
                extra={"fields": {"listen_port": pinned, "file": str(self.configuration.path)}},
            )
            policy = Policy.OFF
        budget = Budget(self.options.refresh_per_minute, self.options.refresh_per_hour)
        settings = Settings(self.options.interval_s, policy, budget)
        self._hub_key, place = find_place(self.options.hub, device, addresses)
        self._see(device)
        mesh = Mesh(device.public_key, place, settings, secrets.token_hex(8))
        try:
            saved = self.storage.read_state()
            if saved is not None:
                state, age_s = saved
                mesh.restore(state, boottime_s() - age_s)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            logger.warning(
                "the saved state is of no use; starting without it", extra={"fields": {"error": str(error)}}
            )
        return mesh

    def _owned(self) -> dict[str, str]:
        try:
            return self.storage.read_owned()
        except ValueError as error:
            raise StartError(str(error)) from None

    async def _taken_over(self, device: dump.Device) -> events.Started:
        """The start, with what an earlier run has left. Raises StartError, DeviceError."""
        owned = self._owned()
        keys = await self.device.preshared_keys() if owned else {}
        return events.Started(device, owned, self.secrets.used(keys, self.mesh.own_key))

    def _see(self, device: dump.Device) -> None:
        """Remember what actions need of the device."""
        self._port, self._fwmark = device.listen_port, device.fwmark
        hub = hub_peer(ipaddress.ip_address(urlsplit(self.options.hub).hostname or ""), device.peers.values())
        if hub is not None:  # it may have got a new key
            self._hub_key = hub.public_key
        self._hub_endpoint = None if hub is None else hub.endpoint

    def _healthy(self) -> bool:
        return boottime_s() - self._alive_s < STALL_S

    # -- the loop ---------------------------------------------------------------------------

    async def _loop(self, stop: asyncio.Event) -> None:
        """Until `stop`."""
        stopping = asyncio.ensure_future(stop.wait())
        try:
            while not stop.is_set():
                await self._step(None, stopping)
        finally:
            stopping.cancel()

    async def _withdraw(self) -> None:
        """Take the links back together with the other ends, as far as they answer in time."""
        await self._handle(events.Stopping(await self._hub_answers()))
        latest_at = boottime_s() + WITHDRAW_S
        while not self.mesh.quiet and boottime_s() < (ends_at := min(latest_at, self.mesh.give_up_at)):
            await self._step(ends_at)
        await self._handle(events.Stopped())
        await self.signalling.finish(LAST_WORDS_S)

    async def _step(self, until_s: float | None, *stopping: asyncio.Future[Any]) -> None:
        """Handle what comes next, or the core's next time; return without any event at `until_s`, or when one
        of `stopping` is done.
        """
        wakeup_at = self.mesh.wakeup_at
        ends_at = wakeup_at if until_s is None else min(wakeup_at, until_s)
        batch = await self._next_events(max(0.0, ends_at - boottime_s()), *stopping)
        if batch:
            await self._handle(*batch)
        # Also after events: any number of them must not keep the time from passing.
        if boottime_s() >= wakeup_at and not any(future.done() for future in stopping):
            await self._handle(events.Tick())

    async def _next_events(self, wait_s: float, *stopping: asyncio.Future[Any]) -> list[events.Event]:
        """The next event and all that wait behind it: more than one where this node is slower than they
        come."""
        first = []
        if self._events.empty():
            arrival = asyncio.ensure_future(self._events.get())
            await asyncio.wait({arrival, *stopping}, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
            if not arrival.done():
                arrival.cancel()
                return []
            first.append(arrival.result())
        return first + [self._events.get_nowait() for _event in range(self._events.qsize())]

    async def _handle(self, *batch: events.Event) -> None:
        """Give events to the core and carry out what it answers, and what follows from that."""
        pending: list[tuple[events.Event, ...]] = [batch]
        while pending:
            self._alive_s = boottime_s()
            for action in self.mesh.handle_all(pending.pop(0), self._alive_s):
                outcome = await self._doers[type(action)](action)
                self._alive_s = boottime_s()
                if outcome is not None:
                    pending.append((outcome,))

    def _beside(self, work: Coroutine[Any, Any, events.Event | None]) -> None:
        """Let `work` run beside the loop; its event comes back through the queue."""

        async def deliver() -> None:
            event = await work
            if event is not None:
                self._deliver(event)

        task = asyncio.ensure_future(deliver())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _deliver(self, event: events.Event) -> None:
        if asks_for_statusz(event):
            self._asked_for.set()
        self._events.put_nowait(event)

    async def _hub_answers(self) -> bool:
        """Whether the hub, which has to carry the traffic of the withdrawn links, is there."""
        try:
            await asyncio.wait_for(self.hub.greet(), LAST_ASK_S)
        except (HubError, asyncio.TimeoutError):
            return False
        return True

    # -- actions ----------------------------------------------------------------------------

    async def _read_device(self, _action: actions.ReadDevice) -> events.Event | None:
        began_s = time.monotonic()
        try:
            device = await self.device.read()
        except DeviceGone:
            raise
        except DeviceError as error:
            logger.warning("the device could not be read", extra={"fields": {"error": str(error)}})
            return None
        self._see(device)
        if device.public_key not in (None, self.mesh.own_key) and not self._stop.is_set():
            # All that is known of links and rivals belongs to the old key. The unit starts the agent again.
            fields = {"was": self.mesh.own_key, "is": device.public_key}
            logger.warning("the interface has another key: the agent ends", extra={"fields": fields})
            self._stop.set()
        return events.DeviceSeen(
            device,
            frozenset(self.configuration.peers()),
            self._beats.bytes_by_address(),
            self._beats.mtu_bytes(),
            time.monotonic() - began_s,
        )

    async def _set_peers(self, action: actions.SetPeers) -> None:
        own_key = self.mesh.own_key
        keyed = [(one, self.secrets.preshared_key(one.secret, own_key, one.peer)) for one in action.changes]
        await self.device.set(*(command for change, key in keyed for command in commands(change, key)))

    async def _send_openers(self, action: actions.SendOpeners) -> None:
        ttls = self.options.opener_ttls
        all_of_them = [endpoint for endpoint in action.endpoints if endpoint not in action.single]
        send_openers(self._port, self._fwmark, all_of_them, ttls)
        send_openers(self._port, self._fwmark, action.single, [ttls[len(ttls) // 2]])

    async def _record_owned(self, action: actions.RecordOwned) -> None:
        self.storage.write_owned(action.owned)

    async def _save_state(self, action: actions.SaveState) -> None:
        try:
            self.storage.write_state(action.state)
        except OSError as error:  # a full disk is no reason to lose the mesh
            logger.warning("the state could not be saved", extra={"fields": {"error": str(error)}})

    async def _take_fresh_port(self, _action: actions.TakeFreshPort) -> events.Event:
        await self.device.set_listen_port(0)  # WireGuard takes a free one, which it has not had
        device = await self.device.read()
        self._port = device.listen_port
        return events.PortTaken(device.listen_port)

    async def _restart_client(self, _action: actions.RestartClient) -> events.Event | None:
        unit = f"wg-quick@{self.options.interface}.service"
        try:
            process = await asyncio.create_subprocess_exec("systemctl", "--no-block", "restart", unit)
            failed = await process.wait() != 0
        except OSError:
            failed = True
        if not failed:
            return None
        logger.error(
            "the VPN client is no unit that can be restarted here; only the port is changed",
            extra={"fields": {"unit": unit}},
        )
        return await self._take_fresh_port(actions.TakeFreshPort())

    async def _say(self, action: actions.Say) -> None:
        logger.log(
            logging.getLevelName(action.level.upper()), action.message, extra={"fields": dict(action.fields)}
        )

    async def _ask_hub(self, _action: actions.AskHub) -> None:
        async def ask() -> events.Event:
            try:
                return events.HubAnswered(await self.hub.peers(self.mesh.own_key))
            except HubError as error:
                return events.HubSilent(str(error))
            except Exception as error:  # a defect must not stop the passes for good
                logger.exception("asking the hub failed")
                return events.HubSilent(repr(error))

        self._beside(ask())

    async def _greet_hub(self, _action: actions.GreetHub) -> None:
        async def greet() -> None:
            try:
                await self.hub.greet()
            except HubError as error:
                logger.info("the hub did not see the fresh port", extra={"fields": {"error": str(error)}})

        self._beside(greet())

    async def _resolve_hub(self, _action: actions.ResolveHub) -> None:
        async def resolve() -> None:
            hub = self.configuration.peers().get(self._hub_key)
            if hub is None or hub.endpoint is None or not named(hub.endpoint):
                return
            try:  # wg looks the name up
                await self.device.set(PeerCommand(hub.public_key, endpoint=hub.endpoint))
            except DeviceError as error:
                logger.warning(
                    "the hub's name could not be looked up", extra={"fields": {"error": str(error)}}
                )

        self._beside(resolve())

    async def _probe(self, action: actions.Probe) -> None:
        async def ask() -> events.Event:
            interface, port = self.options.interface, self.options.listen_port
            try:
                rtt_s = await probe(interface, action.address, port, action.timeout_s)
            except UnansweredError as error:
                return events.ProbeMissed(action.peer, action.attempt, str(error))
            return events.ProbeAnswered(action.peer, action.attempt, rtt_s)

        self._beside(ask())

    async def _open_stream(self, action: actions.OpenStream) -> None:
        # What the older stream left here is not to be delivered any more.
        waiting = [self._events.get_nowait() for _event in range(self._events.qsize())]
        for event in waiting:
            if not isinstance(event, OF_STREAMS):
                self._events.put_nowait(event)
        self.signalling.open_stream(action)

    async def _register(self, action: actions.Register) -> None:
        self.signalling.register(action)

    async def _send_signal(self, action: actions.SendSignal) -> None:
        self.signalling.send_signal(action)

    async def _send_beat(self, action: actions.SendBeat) -> None:
        size_bytes = self._beats.largest_bytes(action.address) if action.padded else None
        nonce = self._pings.sent(action, time.monotonic())
        port = self._hub_port if action.peer is None else None  # peers have ours
        self._beats.ping(action.address, nonce, size_bytes, port)

    # -- what comes by itself ---------------------------------------------------------------

    def _on_pong(self, address: str, nonce: int) -> None:
        event = self._pings.answered(address, nonce, time.monotonic())
        if event is not None:
            self._deliver(event)

    async def _watch_secrets(self) -> None:
        while True:
            await asyncio.sleep(SECRETS_EVERY_S)
            if self.secrets.changed():
                self._deliver(events.SecretsSeen(self.secrets.ids))

    def _addresses_changed(self, addresses: tuple[str, ...]) -> None:
        """wireguard-go goes on to send from the interface and address that it sent from before, also when
        they are gone, until it is told the endpoint again.
        """

        async def seen() -> events.Event:
            with contextlib.suppress(DeviceError):
                hub = (await self.device.read()).peers.get(self._hub_key)
                if hub is not None and hub.endpoint is not None:
                    await self.device.set(PeerCommand(hub.public_key, endpoint=hub.endpoint))
            return events.AddressesSeen(addresses)

        self._beside(seen())

    def _where(self) -> tuple[str | None, int]:
        """The way that WireGuard's packets to the hub take: where to, and their mark."""
        return self._hub_endpoint, self._fwmark


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def asks_for_statusz(event: events.Event) -> bool:
    """Whether it shows that others probe links as the origin does, by `GET /statusz` and no heartbeats."""
    if isinstance(event, events.Snapshot):
        return any(_probes(view) for view in event.peers.values())
    if isinstance(event, events.PeerChanged):
        return _probes(event.view)
    return isinstance(event, events.StreamClosed) and event.unsupported


def _probes(view: events.PeerView) -> bool:
    return view.polls and view.instance is None


def commands(change: actions.PeerChange, preshared_key: str | None) -> list[PeerCommand]:
    """The clauses of `wg set` for one change of the core."""
    if change.remove:
        return [PeerCommand(change.peer, remove=True)]
    setting = PeerCommand(
        change.peer,
        endpoint=change.endpoint,
        persistent_keepalive_s=change.persistent_keepalive_s,
        allowed_ips=change.allowed_ips,
        preshared_key=preshared_key,
    )
    return [PeerCommand(change.peer, remove=True), setting] if change.fresh else [setting]


def find_place(hub_url: str, device: dump.Device, addresses: list[IPInterface]) -> tuple[str, Place]:
    """The hub's public key, and where this node is in the VPN.  The hub peer is the one whose AllowedIPs
    cover the hub's address.

    Raises StartError.
    """
    host = urlsplit(hub_url).hostname or ""
    try:
        hub = ipaddress.ip_address(host)
    except ValueError:
        raise StartError(f"option --hub: {hub_url}: write the hub's address in the VPN, not a name") from None
    if not addresses:
        raise StartError("the interface has no address: bring it up, e.g. with wg-quick up")
    if any(hub == address.ip for address in addresses):
        raise StartError(f"option --hub: {hub_url} is this node itself: write the hub's address in the VPN")
    peer = hub_peer(hub, device.peers.values())
    if peer is None:
        raise StartError(f"option --hub: {hub_url}: no peer of the interface has {hub} in its AllowedIPs")
    return peer.public_key, Place(tuple(addresses), hub, ()).seen([peer])
