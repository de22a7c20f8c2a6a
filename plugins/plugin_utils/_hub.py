# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The hub's view of the mesh, asked over HTTP: by `/v1`, or by the three calls of the original protocol."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Any
from urllib.parse import quote, urlsplit

from ansible_collections.rendezvous.wireguard.plugins.module_utils._wireguard import keys

try:
    import requests
except ImportError:
    HAS_REQUESTS = False
else:
    HAS_REQUESTS = True

EXAMPLE = "http://192.168.7.1:8080"
NOT_FOUND = 404

_LOOK_AFTER = (
    "is this machine in the VPN, is url the hub's address in it, and does the hub run "
    "(systemctl status 'wg-rendezvous-hub@*' there)?"
)

# Fields of a record and what they may be.
_RECORD: dict[str, tuple[type, ...]] = {
    "address": (str, type(None)),
    "endpoint": (str, type(None)),
    "online": (bool,),
    "hands_shaken_at": (int,),
    "signals": (bool,),
    "candidates": (list,),
    "version": (str, type(None)),
    "polls": (bool,),
}


class HubError(Exception):
    """There is no view; the text names the URL, says why and what to do."""


class _NotFoundError(HubError):
    """The hub answers, and has nothing there."""


def check_url(url: str) -> str:
    """The URL of a hub without a slash at its end. HubError if it is none."""
    parts = urlsplit(url)
    try:
        port_is_good = parts.port != 0
    except ValueError:
        port_is_good = False
    if parts.scheme not in ("http", "https") or not parts.hostname or not port_is_good or "@" in parts.netloc:
        raise HubError(f"url {url!r}: write where the hub serves inside the VPN, such as {EXAMPLE}")
    return url.rstrip("/")


def read_view(url: str, timeout_s: float, known: Iterable[str] = ()) -> dict[str, Any]:
    """All peers as `{"url", "api": "v1" or "origin", "peers": {key: record}, "links": {key: {key: report}}}`.

    Nothing but JSON, so that it can be cached. `known` are keys that may be missing in the lists of the hub:
    those of the original protocol leave out who is offline, those of `/v1` the one who asks. Raises HubError.
    """
    if not HAS_REQUESTS:
        raise HubError("the Python package requests is missing on this machine: pip install requests")
    with requests.Session() as session:
        # What is inside the VPN is not behind the proxy of the environment.
        session.trust_env = False
        hub = _Hub(session, check_url(url), timeout_s)
        with suppress(_NotFoundError):
            return hub.view_v1(known)
        try:
            return hub.view_origin(known)
        except _NotFoundError:
            raise HubError(
                f"{hub.url} answers, but not as a hub does: is that the port of wg-rendezvous-hub "
                "(8080 by default)?"
            ) from None


class _Hub:
    def __init__(self, session: requests.Session, url: str, timeout_s: float) -> None:
        self.session = session
        self.url = url
        self.timeout_s = timeout_s

    def view_v1(self, known: Iterable[str]) -> dict[str, Any]:
        peers = self._field("/v1/peers", "peers")
        records = {key: self._record("/v1/peers", key, told) for key, told in peers.items()}
        links = self._field("/v1/links", "links")
        for told in links.values():
            if not isinstance(told, dict) or not all(isinstance(report, dict) for report in told.values()):
                raise self._nonsense("/v1/links", "reports that are no objects")
        # The list is without the one who asks; but the agents report their links to it.
        mentioned = {*known, *links, *(to for told in links.values() for to in told)}
        for key in sorted(mentioned - set(records)):
            own = self._peer(key)
            if own is not None:
                signals = bool(links.get(key))
                records[key] = {**own, "online": True, "signals": signals}
        return {"url": self.url, "api": "v1", "peers": records, "links": links}

    def view_origin(self, known: Iterable[str]) -> dict[str, Any]:
        online = self._json("/online-peers")
        if not isinstance(online, list) or not all(isinstance(key, str) for key in online):
            raise self._nonsense("/online-peers", "something that is no list of keys")
        records = {}
        for key in dict.fromkeys([*online, *known]):
            record = self._peer(key)
            if record is not None:  # else removed since
                records[key] = {**record, "online": key in online}
        return {"url": self.url, "api": "origin", "peers": records, "links": {}}

    def _peer(self, key: str) -> dict[str, Any] | None:
        """A record from the original protocol's call, None if the hub does not know the peer."""
        try:
            told = self._json(f"/peer/{quote(key, safe='')}")
        except _NotFoundError:
            return None
        if not isinstance(told, dict):
            raise self._nonsense("/peer/KEY", "something that is no object")
        try:
            handshake_at = int(told["hands_shaken_at"])
            record = {
                "address": told["allowed_ips"],
                "endpoint": told["endpoint"],
                "online": True,
                "hands_shaken_at": handshake_at,
                "signals": False,
                "candidates": [],
                "version": None,
                "polls": False,
            }
        except (KeyError, TypeError, ValueError):
            raise self._nonsense("/peer/KEY", "no endpoint, allowed_ips and hands_shaken_at") from None
        return self._record("/peer/KEY", key, record)

    def _record(self, target: str, key: str, told: Any) -> dict[str, Any]:
        try:
            keys.check_key(key)
        except ValueError as error:
            raise self._nonsense(target, f"{key!r} where a public key should be ({error})") from None
        if not isinstance(told, dict):
            raise self._nonsense(target, f"a peer {key} that is no object")
        for name, types in _RECORD.items():
            if not isinstance(told.get(name), types):
                raise self._nonsense(target, f"a peer {key} whose {name} is {told.get(name)!r}")
        return {name: told[name] for name in _RECORD}

    def _field(self, target: str, name: str) -> dict[str, Any]:
        answer = self._json(target)
        found = answer.get(name) if isinstance(answer, dict) else None
        if not isinstance(found, dict):
            raise self._nonsense(target, f"something without {name}")
        return found

    def _json(self, target: str) -> Any:
        response = self._get(target)
        if response.status_code == NOT_FOUND:
            raise _NotFoundError(f"{self.url}{target} does not exist")
        if response.status_code != requests.codes.ok:
            raise HubError(self._refusal(target, response))
        try:
            return response.json()
        except ValueError:
            raise self._nonsense(target, "something that is no JSON") from None

    def _get(self, target: str) -> requests.Response:
        try:
            return self.session.get(self.url + target, timeout=self.timeout_s, allow_redirects=False)
        except requests.Timeout:
            raise HubError(
                f"the hub at {self.url} did not answer within {self.timeout_s:g} s: {_LOOK_AFTER} "
                "If it is only slow, write a larger timeout_s"
            ) from None
        except (requests.RequestException, UnicodeError) as error:
            raise HubError(
                f"the hub at {self.url} cannot be asked ({_reason(error)}): {_LOOK_AFTER}"
            ) from None

    def _refusal(self, target: str, response: requests.Response) -> str:
        try:
            sentence = str(response.json()["error"])
        except (ValueError, KeyError, TypeError):
            sentence = response.reason or "no reason given"
        remedy = "see the log of the hub (journalctl -u 'wg-rendezvous-hub@*')"
        if response.status_code in (requests.codes.forbidden, requests.codes.unauthorized):
            remedy = "ask from a peer of the VPN or from the hub itself"
        return f"{self.url}{target} was answered with {response.status_code}: {sentence}: {remedy}"

    def _nonsense(self, target: str, what: str) -> HubError:
        return HubError(
            f"{self.url}{target} was answered with {what}: "
            "is that the port of wg-rendezvous-hub (8080 by default)?"
        )


def _reason(error: BaseException) -> str:
    """The innermost reason, which is what the system has said."""
    while error.__context__ is not None:
        error = error.__context__
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
