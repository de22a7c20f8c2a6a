# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""Requests made up from openapi.json, valid and invalid ones: the hub answers each as the document says.

Never with 5xx; and whoever asks changes nothing of what is said of the others.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import hypothesis
import pytest
import requests
import schemathesis
from requests.adapters import HTTPAdapter
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi import checks

from wg_rendezvous.hub.v1_api import openapi

from .fake import FakeDevice, key, peer
from .served import Hub, Peer, running

# What cannot be said in a schema, e.g. "printable", may be refused although the schema allows it: so there is
# no check that every valid request is accepted. The stream has its own test, since it does not end.
CHECKS = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
    checks.negative_data_rejection,
    checks.unsupported_method,
]
# Invalid and too large is 413, which schemathesis by itself does not take for a refusal.
REFUSED = {"checks": {"negative_data_rejection": {"expected-statuses": ["4xx"]}}}
CONFIG = schemathesis.Config.from_dict(REFUSED)
SCHEMA = schemathesis.openapi.from_dict(json.loads(openapi()), config=CONFIG).exclude(path="/v1/stream")
BOUNDED = hypothesis.settings(
    max_examples=40, deadline=None, suppress_health_check=list(hypothesis.HealthCheck), database=None
)


class From(HTTPAdapter):
    """Connections from one address."""

    def __init__(self, address: str) -> None:
        self._address = address
        super().__init__()

    def init_poolmanager(self, *words: Any, **names: Any) -> None:
        super().init_poolmanager(*words, source_address=(self._address, 0), **names)


@contextmanager
def in_a_thread() -> Iterator[Hub]:
    """A hub in a thread with a loop of its own, since the requests here block."""
    started, stop = threading.Event(), threading.Event()
    hubs: list[Hub] = []

    async def serve() -> None:
        async with running(FakeDevice(peer(5), peer(6), peer(7))) as hub, Peer(hub, 6) as bob:
            await bob.join(candidates=["10.0.0.6:51820"], version="bob", links={key(5): {"state": "relayed"}})
            hubs.append(hub)
            started.set()
            await asyncio.to_thread(stop.wait)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert started.wait(10)
    try:
        yield hubs[0]
    finally:
        stop.set()
        thread.join(10)


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    with in_a_thread() as made:
        yield made


@pytest.fixture(scope="module")
def session() -> Iterator[requests.Session]:
    with requests.Session() as made:
        made.mount("http://", From("127.7.0.5"))
        yield made


def of_the_others(hub: Hub) -> Any:
    """What the hub says of everybody but the fuzzing peer."""
    rendezvous = hub.api.rendezvous
    links = {by: reports for by, reports in rendezvous.registrations.links().items() if by != key(5)}
    return rendezvous.records.all_but(key(5)), links


@SCHEMA.parametrize()
@BOUNDED
def test_whatever_is_asked_is_answered_as_described(
    case: schemathesis.Case[Any], hub: Hub, session: requests.Session
) -> None:
    if case.headers:
        case.headers.pop("If-None-Match", None)  # else it waits, as it was asked to
    is_valid = case.meta is not None and case.meta.generation.mode.is_positive
    if case.operation.path == "/v1/signal/{key}" and is_valid:
        case.path_parameters["key"] = quote(key(6), safe="")  # who has a stream
    before = of_the_others(hub)
    case.call_and_validate(base_url=f"http://127.7.0.1:{hub.port}", session=session, checks=CHECKS, timeout=5)
    assert of_the_others(hub) == before
