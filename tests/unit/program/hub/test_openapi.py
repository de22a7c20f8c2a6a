# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""openapi.json is what the hub does: the same calls, every status that it names, and its answers."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import jsonschema
import pytest

from wg_rendezvous import web
from wg_rendezvous.hub.observation import Observation
from wg_rendezvous.hub.v1_api import openapi

from .fake import FakeDevice, key, peer
from .served import RUN, Hub, Peer, running

DOCUMENT = json.loads(openapi())
REPORT = {
    "state": "direct",
    "strategy": "host",
    "endpoint": "10.0.0.6:5",
    "rtt_s": 0.01,
    "since_at": 1.5,
    "why": "",
}
CLAIM = {"instance": RUN, "version": "1", "candidates": ["10.0.0.5:5"], "links": {key(6): REPORT}}
SIGNAL = {"type": "offer", "session": RUN}


@dataclass
class Example:
    """A request, by a peer with a stream (5), one that is registered (6), the node (1), or nobody (99)."""

    method: str
    route: str
    status: int
    by: int = 5
    path: str = ""
    options: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.method} {self.path or self.route} {self.status} by {self.by}"


def body(**options: Any) -> dict[str, Any]:
    return {"headers": {"Content-Type": "application/json"}, **options}


TOO_LARGE = body(data=b" " * (web.MAX_BODY_BYTES + 1))
SIGNAL_PATH = "/v1/signal/{key}"
EXAMPLES = [
    Example("get", "/online-peers", 200),
    Example("get", "/peer/{key}", 200, path="/peer/" + key(6)),
    Example("get", "/peer/{key}", 400, path="/peer/nonsense"),
    Example("get", "/peer/{key}", 404, path="/peer/" + key(9)),
    Example("get", "/statusz", 200),
    Example("get", "/healthz", 200),
    Example("get", "/metrics", 200),
    Example("put", "/v1/self", 200, options={"json": CLAIM}),
    Example("put", "/v1/self", 400, options={"json": {**CLAIM, "instance": 5}}),
    Example("put", "/v1/self", 403, by=1, options={"json": CLAIM}),
    Example("put", "/v1/self", 413, options=TOO_LARGE),
    Example("put", "/v1/self", 415, options={"data": "text"}),
    Example("get", "/v1/peers", 200),
    Example("get", "/v1/peers", 200, by=1),
    Example("get", "/v1/peers", 304, options={"headers": {"If-None-Match": "*"}}),
    Example("get", "/v1/peers", 400, path="/v1/peers?wait=61"),
    Example("get", "/v1/stream", 403, by=1),
    Example("get", "/v1/stream", 409, by=7),
    Example("get", "/v1/links", 200),
    Example("get", "/v1/links", 200, by=1),
    Example("get", "/v1/openapi.json", 200),
    Example("post", SIGNAL_PATH, 204, 6, "/v1/signal/" + key(5), {"json": SIGNAL}),
    Example("post", SIGNAL_PATH, 400, 6, "/v1/signal/nonsense", {"json": SIGNAL}),
    Example("post", SIGNAL_PATH, 400, 6, "/v1/signal/" + key(5), {"json": {}}),
    Example("post", SIGNAL_PATH, 403, 1, "/v1/signal/" + key(5), {"json": SIGNAL}),
    Example("post", SIGNAL_PATH, 404, 5, "/v1/signal/" + key(6), {"json": SIGNAL}),
    Example("post", SIGNAL_PATH, 413, 6, "/v1/signal/" + key(5), TOO_LARGE),
    Example("post", SIGNAL_PATH, 415, 6, "/v1/signal/" + key(5), {"data": "text"}),
    *(
        Example("get", path, 403, by=99)
        for path in [
            *("/online-peers", "/statusz", "/healthz", "/metrics"),
            *("/v1/peers", "/v1/stream", "/v1/links", "/v1/openapi.json"),
        ]
    ),
    Example("get", "/peer/{key}", 403, by=99, path="/peer/" + key(6)),
]
# Shown by tests of their own, here and in test_v1_api.
ELSEWHERE = {
    ("get", "/healthz", 503),
    ("get", "/v1/stream", 200),
    ("get", "/v1/stream", 429),
    ("post", SIGNAL_PATH, 429),
    ("put", "/v1/self", 429),
}


def resolved(node: dict[str, Any]) -> dict[str, Any]:
    """`node`, or what its $ref names."""
    while "$ref" in node:
        name = node["$ref"].removeprefix("#/").split("/")
        node = DOCUMENT
        for part in name:
            node = node[part]
    return node


def operations() -> dict[tuple[str, str], dict[str, Any]]:
    return {
        (method, path): operation
        for path, item in DOCUMENT["paths"].items()
        for method, operation in item.items()
    }


def validate(value: Any, schema: dict[str, Any]) -> None:
    """AssertionError-like if `value` is not as `schema`, whose references are those of the document."""
    jsonschema.Draft202012Validator({**schema, "components": DOCUMENT["components"]}).validate(value)


def validate_named(value: Any, name: str) -> None:
    validate(value, {"$ref": f"#/components/schemas/{name}"})


@pytest.fixture
async def hub() -> AsyncIterator[Hub]:
    async with running(FakeDevice(peer(5), peer(6), peer(7))) as made:
        yield made


def test_the_document_is_well_formed() -> None:
    assert DOCUMENT["openapi"] == "3.1.0"
    for schema in DOCUMENT["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)


async def test_it_has_exactly_the_calls_that_there_are(hub: Hub) -> None:
    routes = hub.api.application().router.routes()
    calls = {
        (route.method.lower(), web.readable_path(route.resource.canonical))
        for route in routes
        if route.resource is not None and route.method != "HEAD"
    }
    assert set(operations()) == calls


def test_every_status_that_it_names_has_an_example() -> None:
    named = {
        (method, path, int(status))
        for (method, path), operation in operations().items()
        for status in operation["responses"]
    }
    assert {(example.method, example.route, example.status) for example in EXAMPLES} | ELSEWHERE == named


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
async def test_answers_are_as_it_says(hub: Hub, example: Example) -> None:
    async with Peer(hub, 5) as streaming, Peer(hub, 6) as registered, Peer(hub, example.by) as asking:
        await streaming.join(links={key(6): REPORT})
        await registered.register()
        answer = await asking.call(example.method.upper(), example.path or example.route, **example.options)

    assert answer.status == example.status, answer.body
    operation = operations()[example.method, example.route]
    described = resolved(operation["responses"][str(example.status)])
    for name, header in described.get("headers", {}).items():
        validate(answer.headers[name], header["schema"])
    if "content" not in described:
        assert answer.body == b""
        return
    [(content_type, content)] = described["content"].items()
    assert answer.headers["Content-Type"].split(";")[0] == content_type
    if content_type == "application/json":
        validate(answer.json, content["schema"])


@pytest.mark.parametrize(
    ("method", "route"), [("put", "/v1/self"), ("post", SIGNAL_PATH)], ids=["PUT /v1/self", "POST /v1/signal"]
)
def test_the_examples_of_bodies_are_as_it_says(method: str, route: str) -> None:
    schema = operations()[method, route]["requestBody"]["content"]["application/json"]["schema"]
    for example in EXAMPLES:
        if (example.method, example.route) == (method, route) and "json" in example.options:
            if example.status == 400 and "nonsense" not in example.path:
                with pytest.raises(jsonschema.ValidationError):
                    validate(example.options["json"], schema)
            else:
                validate(example.options["json"], schema)


async def test_a_hub_that_cannot_read_its_device_is_503(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Observation, "is_healthy", lambda _: False)
    async with Peer(hub, 5) as alice:
        answer = await alice.call("GET", "/healthz")
    assert answer.status == 503
    validate_named(answer.json, "Error")


async def test_events_are_as_it_says(hub: Hub) -> None:
    async with Peer(hub, 5) as alice, Peer(hub, 6) as bob:
        await alice.register(links={key(6): REPORT})
        events = await alice.stream()
        assert events.response.content_type == "text/event-stream"
        name, data = await events.next()
        assert name == "snapshot"
        validate_named(data, "Snapshot")
        await bob.register(version="2")
        validate_named(await events.until("peer"), "PeerEvent")
        await bob.signal(alice, session=RUN)
        validate_named(await events.until("signal"), "SignalEvent")
        hub.fake.peers = hub.fake.peers[:1] + hub.fake.peers[2:]
        await alice.register()
        validate_named(await events.until("gone"), "GoneEvent")
