# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
from __future__ import annotations

import os
from pathlib import Path

import pytest
from ansible_collections.rendezvous.wireguard.plugins.module_utils import _node
from ansible_collections.rendezvous.wireguard.plugins.module_utils._wireguard import keys
from tests.unit.plugins.conftest import Host


def test_a_key_is_made_once_and_kept(host: Host) -> None:
    first = host.keypair()
    private_key = host.key.read_text()
    second = host.keypair()
    assert first["changed"]
    assert not second["changed"]
    assert first["public_key"] == second["public_key"] == keys.public_key(private_key.strip())
    assert host.key.read_text() == private_key
    assert host.key.stat().st_mode & 0o777 == 0o600
    assert host.key.parent.stat().st_mode & 0o777 == 0o700


def test_it_works_before_wireguard_is_installed(host: Host) -> None:
    host.node.installed = False
    assert host.keypair()["changed"]


def test_the_private_key_is_never_printed(host: Host) -> None:
    host.keypair()
    private_key = host.key.read_text().strip()
    host.keypair(regenerate="always")
    assert private_key not in host.output
    assert host.key.read_text().strip() not in host.output


def test_check_mode_writes_nothing_and_returns_a_key_to_go_on_with(host: Host) -> None:
    result = host.keypair(check=True)
    assert result["changed"]
    assert keys.check_key(result["public_key"])
    assert "only a stand-in" in str(result["warnings"])
    assert not host.directory.exists()


def test_the_diff_names_the_public_key(host: Host) -> None:
    result = host.keypair()
    assert result["diff"][0]["before"] == ""
    assert result["diff"][0]["after"] == f"public key: {result['public_key']}\n"
    assert host.keypair()["diff"] == []


def test_always_makes_another_key_each_time(host: Host) -> None:
    first = host.keypair(regenerate="always")
    second = host.keypair(regenerate="always")
    assert second["changed"]
    assert first["public_key"] != second["public_key"]


def test_fail_wants_the_key_to_be_there(host: Host) -> None:
    assert "does not exist" in host.keypair(regenerate="fail")["msg"]
    assert not host.key.exists()
    host.keypair()
    assert not host.keypair(regenerate="fail")["changed"]


@pytest.mark.parametrize("regenerate", ["never", "fail"])
@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"too short\n", b"A" * 43 + b"\n", b"A" * 5000])
def test_a_damaged_key_is_an_error_with_its_remedy(host: Host, content: bytes, regenerate: str) -> None:
    host.keypair()
    host.key.write_bytes(content)
    result = host.keypair(regenerate=regenerate)
    assert result["failed"]
    assert str(host.key) in result["msg"]
    assert "regenerate=always" in result["msg"]
    assert host.key.read_bytes() == content


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o620])
def test_a_key_that_others_can_open_is_an_error_with_its_remedy(host: Host, mode: int) -> None:
    host.keypair()
    before = host.key.read_text()
    host.key.chmod(mode)
    result = host.keypair()
    assert f"chmod 600 {host.key}" in result["msg"]
    assert host.key.read_text() == before
    assert host.key.stat().st_mode & 0o777 == mode


@pytest.mark.parametrize("content", ["dAMAGEd", "+" * 43 + "="])
def test_always_replaces_a_damaged_or_exposed_key(host: Host, content: str) -> None:
    host.directory.mkdir()
    host.key.write_text(content)
    host.key.chmod(0o644)
    result = host.keypair(regenerate="always")
    assert result["changed"]
    assert host.key.stat().st_mode & 0o777 == 0o600
    assert content not in host.output


def test_a_symbolic_link_or_a_directory_in_place_of_the_key_is_refused(host: Host, tmp_path: Path) -> None:
    host.directory.mkdir()
    host.key.symlink_to(tmp_path / "elsewhere")
    assert "not a regular file" in host.keypair()["msg"]
    host.key.unlink()
    host.key.mkdir()
    assert "is a directory" in host.keypair()["msg"]


def test_a_file_is_private_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    replace = os.replace

    def look(source: str, target: str) -> None:
        seen.append(os.stat(source).st_mode & 0o777)
        assert os.path.dirname(source) == str(tmp_path)
        replace(source, target)

    monkeypatch.setattr(os, "replace", look)
    _node.write_private(str(tmp_path / "file"), "text")
    assert seen == [0o600]


def test_a_write_that_fails_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("old")

    def fail(_source: str, _target: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="No space"):
        _node.write_private(str(tmp_path / "file"), "new")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "old"
