# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""Preshared keys from a mesh secret: RFC 5869's vectors, and what the derivation has to promise."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from ansible_collections.rendezvous.wireguard.plugins.module_utils._wireguard import mesh_secret
from hypothesis import given, settings
from hypothesis import strategies as st

KEYS = st.binary(min_size=32, max_size=32).map(lambda raw: base64.b64encode(raw).decode())


@pytest.mark.parametrize(
    ("ikm", "salt", "info", "length", "prk", "okm"),
    [
        pytest.param(
            "0b" * 22,
            "000102030405060708090a0b0c",
            "f0f1f2f3f4f5f6f7f8f9",
            42,
            "077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5",
            "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
            id="A.1",
        ),
        pytest.param(
            bytes(range(0x50)).hex(),
            bytes(range(0x60, 0xB0)).hex(),
            bytes(range(0xB0, 0x100)).hex(),
            82,
            "06a6b88c5853361a06104c9ceb35b45cef760014904671014a193f40c15fc244",
            "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c"
            "59045a99cac7827271cb41c65e590e09da3275600c2f09b8367793a9aca3db71"
            "cc30c58179ec3e87c14c01d5c1f3434f1d87",
            id="A.2",
        ),
        pytest.param(
            "0b" * 22,
            "",
            "",
            42,
            "19ef24a32c717b167f33a91d6f648bdf96596776afdb6377ac434c1c293ccb04",
            "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
            id="A.3",
        ),
    ],
)
def test_hkdf_gives_what_rfc_5869_says(
    ikm: str, salt: str, info: str, length: int, prk: str, okm: str
) -> None:
    extracted = mesh_secret.hkdf_extract(bytes.fromhex(salt), bytes.fromhex(ikm))
    assert extracted.hex() == prk
    assert mesh_secret.hkdf_expand(extracted, bytes.fromhex(info), length).hex() == okm


def test_hkdf_gives_no_more_than_255_blocks() -> None:
    assert len(mesh_secret.hkdf_expand(bytes(32), b"", 255 * 32)) == 255 * 32
    with pytest.raises(ValueError, match="at most 8160 bytes"):
        mesh_secret.hkdf_expand(bytes(32), b"", 255 * 32 + 1)


def test_the_derivation_is_that_of_the_documentation() -> None:
    """An independent implementation has to get these; another version of this one too."""
    secret, one, other = (base64.b64encode(bytes([number]) * 32).decode() for number in (1, 2, 3))
    assert mesh_secret.preshared_key(secret, one, other) == "1zB9bdil7iGAF9cBHB8Zerok0ZsO4fyiuZ3z/qdsCNg="
    assert mesh_secret.secret_id(secret) == "cd73bf5a51b43a7e"


@given(secret=KEYS, keys=st.lists(KEYS, min_size=3, max_size=5, unique=True))
@settings(deadline=None, max_examples=50)
def test_both_ends_have_the_same_key_and_no_other_pair_has(secret: str, keys: list[str]) -> None:
    pairs = {(a, b): mesh_secret.preshared_key(secret, a, b) for a in keys for b in keys if a != b}
    assert all(pairs[a, b] == pairs[b, a] for a, b in pairs)
    assert len(set(pairs.values())) == len(pairs) // 2
    assert not set(pairs.values()) & {secret, *keys}
    assert all(len(base64.b64decode(key)) == 32 for key in pairs.values())


@given(secrets=st.lists(KEYS, min_size=2, max_size=2, unique=True), one=KEYS, other=KEYS)
@settings(deadline=None, max_examples=50)
def test_another_secret_gives_another_key_and_another_id(secrets: list[str], one: str, other: str) -> None:
    assert len({mesh_secret.preshared_key(secret, one, other) for secret in secrets}) == 2
    assert len({mesh_secret.secret_id(secret) for secret in secrets}) == 2
    assert len({mesh_secret.preshared_key_id(secret) for secret in secrets}) == 2


@given(secret=KEYS)
@settings(deadline=None, max_examples=20)
def test_ids_of_a_secret_and_of_a_preshared_key_have_nothing_in_common(secret: str) -> None:
    assert mesh_secret.secret_id(secret) != mesh_secret.preshared_key_id(secret)


SECRETS = tuple(base64.b64encode(bytes([number]) * 32).decode() for number in (1, 2))


def test_a_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "wg0.mesh-secret"
    assert mesh_secret.path("wg0", str(tmp_path)) == str(path)
    assert mesh_secret.read(str(path)) == ()
    path.touch(mode=0o600)
    path.write_text(mesh_secret.render(SECRETS))
    assert mesh_secret.read(str(path)) == SECRETS


@pytest.mark.parametrize(
    ("text", "mode", "said"),
    [
        (SECRETS[0], 0o640, "others may have read the mesh secret"),
        (SECRETS[0][:-3], 0o600, "is damaged .mesh secret: a key is 32 bytes"),
        (f"{SECRETS[0]}\nxyz\n", 0o600, "mesh secret 2"),
        (f"{SECRETS[0]}\n{SECRETS[0]}\n", 0o600, "is one of those before it"),
        ("\xff", 0o600, "is damaged"),
    ],
)
def test_a_file_that_is_of_no_use_is_named_and_not_quoted(
    tmp_path: Path, text: str, mode: int, said: str
) -> None:
    path = tmp_path / "wg0.mesh-secret"
    path.write_text(text, encoding="latin-1")
    path.chmod(mode)
    with pytest.raises(ValueError, match=said) as caught:
        mesh_secret.read(str(path))
    assert str(path) in str(caught.value)
    assert SECRETS[0][:-3] not in str(caught.value)
