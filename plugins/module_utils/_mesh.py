# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""What the hub or agent of this node says of the mesh, as data. It is asked over its unix socket."""

from __future__ import annotations

import http.client
import json
import os
import socket
import time
from collections.abc import Mapping
from typing import Any

from ._node import Node, NodeError
from ._wireguard import check

RUN_DIRECTORY = "/run/wg-rendezvous"

_PEER = ("address", "endpoint", "online", "signals", "version", "polls", "why")
_LINK = ("state", "strategy", "endpoint", "rtt_s", "since_at", "online", "why")


def mesh_info(node: Node, timeout_s: float) -> dict[str, Any]:
    """What the hub or the agent of this node says of itself, of the peers and of their links."""
    program = _Program(check.interface_name(node.name), timeout_s)
    status = program.get("/status")
    try:
        about = {name: status["node"].get(name) for name in ("hub", "hub_silent", "version")}
        role, own_key = str(status["node"]["role"]), str(status["node"]["public_key"])
        told = status["links"] if role == "agent" else status["peers"]
        names = _names(node)
        if role == "agent":
            peers = [_peer(entry["peer"], _of_agent(entry), names) for entry in told]
            links = [_link(own_key, entry["peer"], entry) for entry in told]
        else:
            more = _get_optional(program, "/v1/peers", "peers")
            reports = _get_optional(program, "/v1/links", "links")
            peers = [_peer(e["peer"], {**more.get(e["peer"], {}), **e}, names) for e in told]
            links = [_link(key, to, told) for key in reports for to, told in reports[key].items()]
    except (KeyError, TypeError, AttributeError, ValueError):
        raise program.unusable("is not what a hub or an agent says") from None
    mesh = {"interface": node.name, "role": role, "public_key": own_key, **about, "asked_at": time.time()}
    return {"changed": False, "mesh": {**mesh, "peers": peers, "links": links}}


def _of_agent(entry: Mapping[str, Any]) -> dict[str, Any]:
    """What an agent knows of a peer, beside the link to it."""
    return {"address": entry.get("address"), "online": entry.get("online")}


def _peer(key: str, told: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    fields = {name: told.get(name) for name in _PEER}
    candidates, handshake_at = told.get("candidates"), told.get("hands_shaken_at")
    return {
        "public_key": key,
        "name": names.get(key),
        **fields,
        "candidates": list(candidates) if candidates is not None else None,
        "latest_handshake_at": handshake_at,
    }


def _link(key: str, to: str, told: Mapping[str, Any]) -> dict[str, Any]:
    return {"from": key, "to": to, **{name: told.get(name) for name in _LINK}}


def _get_optional(program: _Program, target: str, field: str) -> dict[str, Any]:
    """One field of an answer of `/v1`, which the program of an older release does not have."""
    try:
        found: dict[str, Any] = program.get(target)[field]
    except _NotThereError:
        return {}
    return found


def _names(node: Node) -> dict[str, str]:
    """The names of the peers by key, from IF.conf."""
    try:
        peers = node.parse_conf(node.read_conf() or "").peers()
    except (OSError, NodeError) as error:
        node.module.warn(f"without the names of peers: {error}")
        return {}
    return {key: peer.name for key, peer in peers.items() if peer.name}


class _NotThereError(NodeError):
    """The program does not know this call."""


class _Program:
    """The hub or the agent of an interface."""

    def __init__(self, interface: str, timeout_s: float) -> None:
        self.interface = interface
        self.path = f"{RUN_DIRECTORY}/{interface}.sock"
        self.timeout_s = timeout_s

    def get(self, target: str) -> dict[str, Any]:
        """The object that it answers. NodeError says why there is none, and what to do."""
        connection = _UnixConnection(self.path, self.timeout_s)
        try:
            connection.request("GET", target)
            response = connection.getresponse()
            body = response.read()
            if response.status == 404:
                raise _NotThereError(
                    f"{self.path} does not know {target}: install the current program (site.yml)"
                )
            if response.status != 200:
                raise self.unusable(f"to {target} has status {response.status}")
            answer: dict[str, Any] = json.loads(body)
        except FileNotFoundError:
            raise NodeError(self._nobody()) from None
        except ConnectionRefusedError:
            raise NodeError(
                f"{self.interface}: nobody answers at {self.path}, whose program has died: "
                f"`systemctl restart 'wg-rendezvous-*@{self.interface}'`"
            ) from None
        except PermissionError:
            raise NodeError(f"{self.interface}: only root may ask at {self.path}: use become") from None
        except socket.timeout:
            raise NodeError(
                f"{self.interface}: no answer at {self.path} within {self.timeout_s:g} s: {self._log()}, "
                "or give it more time (option timeout_s)"
            ) from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise self.unusable(f"to {target} cannot be read ({error})") from None
        finally:
            connection.close()
        if not isinstance(answer, dict):
            raise self.unusable(f"to {target} is no object")
        return answer

    def unusable(self, what: str) -> NodeError:
        """The error for an answer that cannot be used."""
        return NodeError(f"{self.interface}: the answer at {self.path} {what}: {self._log()}")

    def _log(self) -> str:
        return f"`journalctl -u 'wg-rendezvous-*@{self.interface}'` says more"

    def _nobody(self) -> str:
        served = sorted(name[:-5] for name in _listed(RUN_DIRECTORY) if name.endswith(".sock"))
        if served:
            remedy = f"those that have one are {', '.join(served)} (option interface)"
        else:
            remedy = f"run site.yml, or `systemctl start wg-quick@{self.interface}`"
        return f"{self.interface}: no hub and no agent runs for it, {self.path} does not exist: {remedy}"


def _listed(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except OSError:
        return []


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket in place of a host."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)
