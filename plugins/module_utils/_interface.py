# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""An interface in its file and running, without dropping a session (DESIGN §4)."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from . import _firewall
from ._keypair import change_of_key, read_private_key, warn_of_stand_in, write_private_key
from ._mesh_secret import SecretsFile
from ._node import Node, NodeError, change_of_steps, changed, write_private
from ._peers import ensure_peers
from ._wireguard import check, conf, diff, keys, mesh_secret


def read_interface(given: Mapping[str, Any]) -> conf.Interface:
    """The settings that the options of the module `interface` name, as they are given, without a key."""
    return conf.Interface(
        addresses=tuple(given["address"]),
        listen_port=given["listen_port"],
        mtu=given["mtu"],
        fwmark=given["fwmark"],
        table=given["table"],
        pre_up=tuple(given["pre_up"]),
        post_up=tuple(given["post_up"]),
        pre_down=tuple(given["pre_down"]),
        post_down=tuple(given["post_down"]),
    )


def check_interface(wanted: conf.Interface) -> conf.Interface:
    """The settings in canonical form. ValueError names the first that cannot be."""
    addresses = tuple(check.interface_address(address) for address in wanted.addresses)
    hosts = [ipaddress.ip_interface(address).ip for address in addresses]
    twice = next((address for index, address in enumerate(hosts) if address in hosts[:index]), None)
    if twice is not None:
        raise ValueError(f"address {twice} is given twice: write it once")
    for what, value, checked in (
        ("listen_port", wanted.listen_port, check.port),
        ("mtu", wanted.mtu, check.mtu),
        ("fwmark", wanted.fwmark, check.fwmark),
    ):
        if value is not None:
            checked(value, what)
    return replace(
        wanted,
        addresses=addresses,
        table=None if wanted.table is None else check.table(wanted.table, "table"),
        pre_up=_check_hooks(wanted.pre_up, "pre_up"),
        post_up=_check_hooks(wanted.post_up, "post_up"),
        pre_down=_check_hooks(wanted.pre_down, "pre_down"),
        post_down=_check_hooks(wanted.post_down, "post_down"),
    )


def _check_hooks(hooks: tuple[str, ...], what: str) -> tuple[str, ...]:
    return tuple(check.conf_text(hook, what) for hook in hooks)


def ensure_interface(
    node: Node,
    wanted: conf.Interface,
    private_key_path: str,
    make_key: bool = False,
    mesh_secrets: Sequence[str] = (),
    agent: str | None = None,
    former_ports: Sequence[int] = (),
) -> dict[str, Any]:
    """Write the interface's part of IF.conf and bring the running interface, if it is up, to the same state.

    `wanted` comes without its private key; with `make_key` one is made if there is none. `mesh_secrets` are
    those that there are to be, the newest first. Whatever fails, file and interface are put back as they
    were; a key that was made stays for the next run. `agent` is a unit that is stopped before an address
    goes. A running port that changes and is one of `former_ports` goes on to be answered.
    """
    check.interface_name(node.name)
    wanted = check_interface(wanted)
    secrets = mesh_secret.check_secrets(mesh_secrets)
    with node.locked():
        key_on_disk = read_private_key(private_key_path)
        found = key_on_disk or _key_made_by_hand(node)
        if key_on_disk is None and not (make_key or node.module.check_mode):
            raise NodeError(
                f"{private_key_path} does not exist: let it be made with make_key=true, "
                f"or run the module keypair first"
            )
        private_key = found or keys.generate_private_key()
        node.hide([private_key])
        if found is None and node.module.check_mode:
            warn_of_stand_in(node.module, private_key_path)
        update = _Update(node, replace(wanted, private_key=private_key), secrets, agent, former_ports)
        if key_on_disk is None and make_key:
            update.changes.insert(0, change_of_key(private_key_path, None, keys.public_key(private_key)))
        if not node.module.check_mode:
            if key_on_disk is None:
                write_private_key(private_key_path, private_key)
            update.commit()
        return update.result()


def with_peers(
    node: Node, of_interface: dict[str, Any], peers: Sequence[Mapping[str, Any]], one_key_a_name: bool
) -> dict[str, Any]:
    """What `ensure_interface` returned, and peers of the interface beside it, as `_peers.ensure_peers`.

    NodeError if they cannot be; then the interface without them is as it is to be.
    """
    if not peers:
        return of_interface
    try:
        of_peers = ensure_peers(node, peers, exclusive=False, one_key_a_name=one_key_a_name)
    except (NodeError, ValueError) as error:
        done = "" if node.module.check_mode else f"{node.name} itself is as it is to be, its peers are not: "
        raise NodeError(f"{done}{error}") from None
    return {**of_interface, **changed([*of_interface["diff"], *of_peers["diff"]])}


def _key_made_by_hand(node: Node) -> str | None:
    """That of an interface from before: of its file, else the one that runs. The other peers know it."""
    in_conf = node.parse_conf(node.read_conf() or "").interface().private_key
    if in_conf is None and node.runtime():
        return node.private_key()
    return None if in_conf is None else check.private_key(in_conf, f"PrivateKey in {node.conf_path}")


def _client(endpoint: str) -> tuple[str, int]:
    """("198.51.100.2", 40000) of "198.51.100.2:40000"."""
    host, _colon, port = endpoint.rpartition(":")
    return host.strip("[]"), int(port)


class _Update:
    """From the state that is found to the wanted one, and back if it cannot be reached."""

    def __init__(
        self,
        node: Node,
        wanted: conf.Interface,
        secrets: Sequence[str],
        agent: str | None,
        former_ports: Sequence[int],
    ) -> None:
        self.node = node
        self.agent = agent
        self.former_ports = former_ports
        self.wanted = wanted
        self.text = node.read_conf()
        self.before = node.parse_conf(self.text or "")
        self.after = self.before.with_interface(wanted)
        self.previous = self.before.interface()
        self.runtime = node.runtime()
        self.peers = list(self.before.peers().values())
        self.fwmark_routes = any(set(diff.DEFAULT_ROUTES) & set(peer.allowed_ips) for peer in self.peers)
        self.steps = self._steps(wanted, self.previous)
        self.secrets, self.secrets_file = secrets, SecretsFile(node)
        self.changes = [
            *node.conf_changes(self.before, self.after),
            self.secrets_file.change_to(secrets),
            change_of_steps(node.name, self.steps),
        ]

    def result(self) -> dict[str, Any]:
        """What the module returns."""
        restart: list[str] = []
        port = self.wanted.listen_port
        if self.runtime:
            restart = diff.restart_required(self.wanted, self.previous, self.runtime, self.fwmark_routes)
            port = port or self.runtime.device.listen_port
        if restart:
            self._warn_of_what_waits(restart)
        return {
            "interface": self.node.name,
            "public_key": keys.public_key(self.wanted.private_key or ""),
            "listen_port": port,
            "restart_required": restart,
            **changed(self.changes),
        }

    def commit(self) -> None:
        """Write the file and take the steps, or leave everything as it was."""
        if not changed(self.changes)["changed"]:
            return
        self._warn_of_another_key()
        changes_key = any(step.thing == "public key" for step in self.steps)
        running_key = self.node.private_key() if changes_key else None
        self._stop_agent()
        try:
            # The file last: the one of before says what has to go, also to the run after a killed one.
            if self.runtime:
                self.node.apply(self.steps)
                self._verify()
            write_private(self.node.conf_path, self.after.render())
            self.secrets_file.write(self.secrets)
        except BaseException as error:
            problem = self._restore(running_key)
            if isinstance(error, (NodeError, OSError)):
                raise NodeError(f"{error}; {problem or 'file and interface are as they were'}") from None
            raise

    def _stop_agent(self) -> None:
        """Its links are known by the address that goes, so it gives them back to the hub first."""
        goes = any(step.argv[2:4] == ("address", "del") for step in self.steps)
        systemctl = self.node.module.get_bin_path("systemctl") if self.agent and goes else None
        if systemctl and self.agent:
            self.node.try_run((systemctl, "stop", self.agent))  # there may be no such unit yet

    def _steps(self, wanted: conf.Interface, previous: conf.Interface) -> list[diff.Step]:
        """What is left to do on the running interface; `previous` says which addresses and routes may go."""
        runtime = self.node.runtime()
        if runtime is None:
            return []
        name = self.node.name
        steps = diff.interface_steps(name, wanted, previous, runtime, self.fwmark_routes)
        if wanted is self.wanted:
            steps = [one for step in steps for one in (*self._before_port(step, runtime), step)]
        if self.wanted.table == self.previous.table:
            routes, stale = diff.routes(wanted, self.peers), diff.routes(previous, self.peers)
            running = self.node.routes(wanted.table, routes | stale)
            steps += diff.route_steps(name, wanted.table, routes, stale, running)
        return steps

    def _before_port(self, step: diff.Step, runtime: diff.Runtime) -> Iterator[diff.Step]:
        """In the moment in which the port changes, packets to the old one begin to be passed on to it."""
        old, new = runtime.device.listen_port, self.wanted.listen_port
        if step.thing != "listen port" or old not in self.former_ports:
            return
        openings = _firewall.Openings(
            self.node.name, (), new, former_ports=tuple(port for port in self.former_ports if port != new)
        )
        listing = self.node.try_run(("nft", "-j", "list", "table", "inet", _firewall.former_table(openings)))
        elsewhere = _firewall.former_clients(_firewall.Ruleset(json.loads(listing or "{}")), openings)
        endpoints = (peer.endpoint for peer in runtime.device.peers.values() if peer.endpoint)
        # Who has not sent to `old` yet is answered from the port before that, which may be `new` again.
        clients = {client: elsewhere.get(client, old) for client in map(_client, endpoints)}
        commands = _firewall.former_port_commands(_firewall.Ruleset({}), openings, clients)
        if commands:
            yield diff.Step(
                f"port {old}", "the present one", f"passed on to {new}", ("nft", "-f", "-"), commands
            )

    def _verify(self) -> None:
        """Asked again, nothing may be left. Removing an address may take others of its network along."""
        steps = self._steps(self.wanted, self.wanted)
        self.node.apply(step for step in steps if step.argv[0] == "ip")
        left = self._steps(self.wanted, self.wanted)
        if left:
            things = ", ".join(f"{step.thing} is {step.before} instead of {step.after}" for step in left)
            raise NodeError(f"{self.node.name} did not become what was asked for: {things}")

    def _restore(self, running_key: str | None) -> str:
        """Put file and interface back; what could not be is returned as a sentence."""
        problems = []
        try:
            self.node.restore_conf(self.text)
        except OSError as error:
            problems.append(f"{self.node.conf_path} could not be restored: {error.strerror}")
        if self.runtime:
            old = conf.Interface(
                addresses=self.runtime.addresses,
                private_key=running_key,
                listen_port=self.runtime.device.listen_port,
                mtu=self.runtime.mtu,
                fwmark=self.runtime.device.fwmark,
                table=self.previous.table,
            )
            self.node.try_apply(self._steps(old, self.wanted))
            # Again, since the removal of an address may have taken others of its network along.
            problems += self.node.try_apply(self._steps(old, self.wanted))
        return "; ".join(problems)

    def _warn_of_what_waits(self, options: list[str]) -> None:
        """Said once: the next run finds the file as it is to be."""
        unit = f"wg-quick@{self.node.name}"
        self.node.module.warn(
            f"{', '.join(options)} of {self.node.name} changes in the file now, and while it runs only with "
            f"`systemctl restart {unit}`, which interrupts its links for a moment: do that when it suits you"
        )

    def _warn_of_another_key(self) -> None:
        old, new = self.previous.private_key, self.wanted.private_key
        if not old or not new or old == new:
            return
        try:
            was = keys.public_key(old)
        except ValueError:
            return
        self.node.module.warn(
            f"{self.node.conf_path} had the key of public key {was}; now it is that of "
            f"{keys.public_key(new)}: the other peers have to be told"
        )
