# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
from __future__ import annotations

import logging
import os
from base64 import b64encode
from pathlib import Path

import pytest

from wg_rendezvous._wireguard import mesh_secret
from wg_rendezvous.agent.mesh_secrets import MeshSecrets

OLD, NEW, OWN, PEER, OTHER = (b64encode(bytes([number]) * 32).decode() for number in range(5))
OLD_ID, NEW_ID = mesh_secret.secret_id(OLD), mesh_secret.secret_id(NEW)


def write(directory: Path, *secrets: str, at_s: float) -> None:
    path = directory / "wg0.mesh-secret"
    path.touch(mode=0o600)
    path.write_text(mesh_secret.render(secrets))
    os.utime(path, (at_s, at_s))


def test_the_file_is_read_again_when_it_changed(tmp_path: Path) -> None:
    secrets = MeshSecrets("wg0", tmp_path)
    assert not secrets.ids
    assert not secrets.changed()
    write(tmp_path, OLD, at_s=1.0)
    assert secrets.changed()
    write(tmp_path, OLD, at_s=2.0)
    assert not secrets.changed(), "touched, and the same"
    write(tmp_path, NEW, OLD, at_s=3.0)
    assert secrets.changed()
    assert secrets.ids == (NEW_ID, OLD_ID)
    (tmp_path / "wg0.mesh-secret").unlink()
    assert secrets.changed()
    assert not secrets.ids


def test_the_keys_are_the_derived_ones_and_that_of_a_secret_which_has_just_gone_can_be_made(
    tmp_path: Path,
) -> None:
    write(tmp_path, OLD, at_s=1.0)
    secrets = MeshSecrets("wg0", tmp_path)
    write(tmp_path, NEW, at_s=2.0)
    assert secrets.changed()
    for secret, its_id in ((OLD, OLD_ID), (NEW, NEW_ID)):
        assert secrets.preshared_key(its_id, OWN, PEER) == mesh_secret.preshared_key(secret, PEER, OWN)
    assert secrets.preshared_key("", OWN, PEER) is None


def test_the_secret_of_a_running_key_is_found(tmp_path: Path) -> None:
    write(tmp_path, NEW, OLD, at_s=1.0)
    secrets = MeshSecrets("wg0", tmp_path)
    running = {PEER: mesh_secret.preshared_key(OLD, OWN, PEER), OTHER: OLD}
    assert secrets.used(running, OWN) == {PEER: OLD_ID, OTHER: "unknown"}


def test_a_file_that_is_damaged_later_is_logged_and_the_one_before_counts(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, OLD, at_s=1.0)
    secrets = MeshSecrets("wg0", tmp_path)
    write(tmp_path, OLD[:-4], at_s=2.0)
    with caplog.at_level(logging.WARNING):
        assert not secrets.changed()
    assert "those from before count" in caplog.text
    assert OLD[:-4] not in caplog.text
    assert secrets.ids == (OLD_ID,)
    with pytest.raises(ValueError, match="is damaged"):
        MeshSecrets("wg0", tmp_path)
