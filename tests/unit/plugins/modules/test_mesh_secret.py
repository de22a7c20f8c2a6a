# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""Mesh secrets on a node, and how hub and peer get to the same preshared key: `interface`, `peers`,
`handover`, `rotate_key`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.rendezvous.wireguard.plugins.module_utils import _rotation
from ansible_collections.rendezvous.wireguard.plugins.module_utils._wireguard import conf, keys, mesh_secret
from tests.unit.plugins.conftest import Host

ALICE, BOB, NEXT = (keys.public_key(keys.generate_private_key()) for _ in range(3))
OLD, NEW, STRANGE = (keys.generate_private_key() for _ in range(3))


def secrets_file(host: Host) -> Path:
    return host.directory / "wg0.mesh-secret"


def own(host: Host) -> str:
    return keys.public_key(host.key.read_text().strip())


def derived(host: Host, secret: str, other: str) -> str:
    return mesh_secret.preshared_key(secret, own(host), other)


def key_id(host: Host, secret: str, other: str) -> str:
    return mesh_secret.preshared_key_id(derived(host, secret, other))


def peer(key: str, network: str, **options: Any) -> dict[str, Any]:
    return {"public_key": key, "allowed_ips": [network], "from_mesh_secret": True, **options}


def in_use(host: Host, key: str) -> str | None:
    """The preshared key with a peer, which file and interface have alike."""
    in_file = conf.parse(host.conf.read_text()).peers()[key].preshared_key
    assert host.node.peers[key].preshared_key == in_file
    return in_file


@pytest.fixture
def secret(ready: Host) -> Host:
    """A host with a mesh secret."""
    ready.interface(mesh_secrets=[OLD])
    ready.node.commands.clear()
    return ready


# ---- the file ----


def test_the_secrets_are_in_a_file_of_their_own_and_nowhere_else(ready: Host) -> None:
    predicted = ready.interface(check=True, mesh_secrets=[NEW, OLD])
    assert not secrets_file(ready).exists()
    result = ready.interface(mesh_secrets=[NEW, OLD])
    assert result["diff"] == predicted["diff"]
    assert secrets_file(ready).read_text() == f"{NEW}\n{OLD}\n"
    assert secrets_file(ready).stat().st_mode & 0o777 == 0o600
    (entry,) = result["diff"]
    assert entry["before"] == ""
    assert entry["after"] == "".join(f"mesh secret: {mesh_secret.secret_id(one)}\n" for one in (NEW, OLD))
    assert not ready.interface(mesh_secrets=[NEW, OLD])["changed"]
    assert ready.interface(mesh_secrets=[])["changed"]
    assert not secrets_file(ready).exists()
    assert ready.node.changes() == []
    assert NEW not in ready.output
    assert OLD not in ready.output


@pytest.mark.parametrize(
    ("given", "said"), [([OLD[:-2]], "mesh secret: a key is 32 bytes"), ([OLD, OLD], "mesh secret 2 is one")]
)
def test_what_is_no_secret_is_refused_and_not_quoted(secret: Host, given: list[str], said: str) -> None:
    result = secret.interface(mesh_secrets=given)
    assert result["failed"]
    assert said in result["msg"]
    assert OLD[:-2] not in secret.output
    assert secrets_file(secret).read_text() == f"{OLD}\n"


def test_a_step_that_fails_leaves_the_secrets_as_they_were(secret: Host) -> None:
    secret.node.broken = ("address add",)
    assert secret.interface(mesh_secrets=[NEW], address=["192.168.7.2/24"])["failed"]
    assert secrets_file(secret).read_text() == f"{OLD}\n"


# ---- which preshared key a pair has ----


def test_a_new_peer_gets_that_of_the_newest_secret(secret: Host) -> None:
    secret.interface(mesh_secrets=[NEW, OLD])
    result = secret.peers(peer(ALICE, "192.168.7.5/32"))
    assert in_use(secret, ALICE) == derived(secret, NEW, ALICE)
    assert result["peers"][0]["preshared_key_id"] == key_id(secret, NEW, ALICE)
    assert derived(secret, NEW, ALICE) not in secret.output
    assert not any(derived(secret, NEW, ALICE) in command for command in secret.node.commands)


def test_a_peer_that_is_known_keeps_what_it_has(ready: Host) -> None:
    """Both ends would have to change at once: a rotation of keys does that."""
    ready.peers(peer(BOB, "192.168.7.6/32"))
    ready.interface(mesh_secrets=[OLD])
    ready.peers(peer(ALICE, "192.168.7.5/32"))
    ready.interface(mesh_secrets=[NEW, OLD])
    result = ready.peers(peer(ALICE, "192.168.7.5/32"), peer(BOB, "192.168.7.6/32"))
    assert not result["changed"]
    assert in_use(ready, ALICE) == derived(ready, OLD, ALICE)
    assert in_use(ready, BOB) is None
    ready.interface(mesh_secrets=[])
    assert not ready.peers(peer(ALICE, "192.168.7.5/32"))["changed"]


@pytest.mark.parametrize("chosen", [OLD, NEW], ids=["old", "new"])
def test_the_other_end_takes_the_one_that_it_is_told_the_id_of(secret: Host, chosen: str) -> None:
    secret.interface(mesh_secrets=[NEW, OLD])
    secret.peers(peer(ALICE, "192.168.7.0/24", preshared_key_id=key_id(secret, chosen, ALICE)))
    assert in_use(secret, ALICE) == derived(secret, chosen, ALICE)
    secret.peers(peer(ALICE, "192.168.7.0/24", preshared_key_id=""))
    assert in_use(secret, ALICE) is None


@pytest.mark.parametrize("chosen", [OLD, NEW], ids=["old", "new"])
def test_a_new_peer_takes_the_secret_that_the_other_end_takes(secret: Host, chosen: str) -> None:
    secret.interface(mesh_secrets=[NEW, OLD])
    secret.peers(peer(ALICE, "192.168.7.0/24", mesh_secret_id=mesh_secret.secret_id(chosen)))
    assert in_use(secret, ALICE) == derived(secret, chosen, ALICE)


def test_a_secret_that_is_not_here_is_refused_and_changes_nothing(secret: Host) -> None:
    strange = mesh_secret.secret_id(STRANGE)
    wanted = peer(ALICE, "192.168.7.0/24", mesh_secret_id=strange)
    assert not secret.peers(wanted, check=True).get("failed"), "it may have yet to be written"
    result = secret.peers(wanted)
    assert result["failed"]
    for word in (
        strange,
        mesh_secret.secret_id(OLD),
        "wg_interface_mesh_secret",
        "rendezvous.wireguard.site",
    ):
        assert word in result["msg"]
    assert ALICE not in secret.conf.read_text()


def test_one_that_it_cannot_have_is_refused_and_changes_nothing(secret: Host) -> None:
    wanted = peer(ALICE, "192.168.7.0/24", preshared_key_id=key_id(secret, STRANGE, ALICE))
    assert not secret.peers(wanted, check=True).get("failed"), "it may come with what was not written yet"
    result = secret.peers(wanted)
    assert result["failed"]
    for word in (ALICE, mesh_secret.secret_id(OLD), "wg_interface_mesh_secret", "rendezvous.wireguard.site"):
        assert word in result["msg"]
    assert ALICE not in secret.conf.read_text()


def test_a_derived_and_a_given_one_exclude_one_another(secret: Host) -> None:
    result = secret.peers(peer(ALICE, "192.168.7.5/32", name="alice", preshared_key=STRANGE))
    assert "preshared_key of peer alice: leave it out" in result["msg"]
    assert STRANGE not in secret.output


# ---- a rotation brings another one ----


def test_the_next_key_comes_with_that_of_the_newest_secret_and_the_old_key_keeps_its_own(
    secret: Host,
) -> None:
    secret.peers(peer(ALICE, "192.168.7.5/32"))
    secret.interface(mesh_secrets=[NEW, OLD])
    options = {"directory": str(secret.directory), "from_mesh_secret": True}
    announced = {"announced": [{"public_key": NEXT, "replaces": ALICE}], **options}
    predicted = secret.module("handover", True, **announced)
    result = secret.module("handover", **announced)
    (told,) = result["announced"]
    assert (told["public_key"], told["preshared_key_id"]) == (NEXT, key_id(secret, NEW, NEXT))
    assert predicted["announced"] == result["announced"]
    assert result["mesh_secrets"] == [mesh_secret.secret_id(one) for one in (NEW, OLD)]
    assert in_use(secret, NEXT) == derived(secret, NEW, NEXT)
    assert in_use(secret, ALICE) == derived(secret, OLD, ALICE)
    secret.interface(mesh_secrets=[])
    again = secret.module("handover", **announced)
    assert (again["changed"], again["announced"]) == (False, result["announced"])


@pytest.fixture
def node(secret: Host, monkeypatch: pytest.MonkeyPatch) -> Host:
    """A peer whose hub ALICE answers; their preshared key is of the old secret, and the new one is here."""
    monkeypatch.setattr(_rotation, "_answers", lambda *_: True)
    secret.peers(peer(ALICE, "192.168.7.0/24"))
    secret.interface(mesh_secrets=[NEW, OLD])
    secret.node.commands.clear()
    return secret


def rotate(host: Host, check: bool = False, /, **options: Any) -> dict[str, Any]:
    more = {"directory": str(host.directory), "hub_address": "192.168.7.1", "from_mesh_secret": True}
    return host.module("rotate_key", check, **more, **options)


def test_a_young_key_is_changed_as_well_if_its_preshared_key_is_of_an_old_secret(node: Host) -> None:
    next_key = rotate(node, state="prepared", min_age_s=3600)["next_public_key"]
    wanted = mesh_secret.preshared_key(NEW, next_key, ALICE)
    result = rotate(node, preshared_key_id=mesh_secret.preshared_key_id(wanted))
    assert (result["public_key"], own(node)) == (next_key, next_key)
    assert in_use(node, ALICE) == wanted
    (together,) = (command for command in node.node.commands if command.startswith("wg set"))
    assert f"private-key {node.directory}/wg0.key peer {ALICE} preshared-key /dev/stdin" in together
    assert not any(one in node.output for one in (NEW, OLD, wanted))
    again = rotate(node, state="prepared", min_age_s=3600)
    assert (again["changed"], again["next_public_key"]) == (False, None)


def test_without_a_secret_the_next_key_has_no_preshared_key(node: Host) -> None:
    node.interface(mesh_secrets=[])
    assert rotate(node, state="prepared", min_age_s=3600)["next_public_key"]
    rotate(node, preshared_key_id="")
    assert in_use(node, ALICE) is None


@pytest.mark.parametrize("killed", [False, True])
def test_without_an_answer_the_preshared_key_is_the_old_one_again(
    node: Host, monkeypatch: pytest.MonkeyPatch, killed: bool
) -> None:
    before, old_key = in_use(node, ALICE), own(node)
    next_key = rotate(node, state="prepared")["next_public_key"]
    told = {"preshared_key_id": mesh_secret.preshared_key_id(mesh_secret.preshared_key(NEW, next_key, ALICE))}
    if killed:  # when the file was written, and nothing of it runs yet
        node.node.broken = ("set wg0",)
        with pytest.MonkeyPatch.context() as killing:
            killing.setattr(_rotation, "_go_back", lambda *_: None)
            assert rotate(node, **told)["failed"]
        node.node.broken = ()
    monkeypatch.setattr(_rotation, "_answers", lambda *_: False)
    assert "goes on with its old key" in rotate(node, **told)["msg"]
    assert in_use(node, ALICE) == before
    assert own(node) == old_key


def test_check_mode_shows_a_rotation_and_changes_nothing(node: Host) -> None:
    text = node.conf.read_text()
    result = rotate(node, True, min_age_s=3600, preshared_key_id=key_id(node, NEW, BOB))
    assert result["changed"]
    assert "<new preshared key>" in "".join(entry["after"] for entry in result["diff"])
    assert node.conf.read_text() == text
    assert node.node.changes() == []


def test_a_secret_that_the_hub_uses_and_this_host_has_not_is_an_error_and_nothing_changes(node: Host) -> None:
    next_key = rotate(node, state="prepared")["next_public_key"]
    before = in_use(node, ALICE), own(node)
    strange = mesh_secret.preshared_key(STRANGE, next_key, ALICE)
    result = rotate(node, preshared_key_id=mesh_secret.preshared_key_id(strange))
    assert "comes from none of the mesh secrets" in result["msg"]
    assert (in_use(node, ALICE), own(node)) == before
