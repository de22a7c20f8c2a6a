# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
from __future__ import annotations

import base64
import shutil
import subprocess
import time

import pytest
from ansible_collections.rendezvous.wireguard.plugins.module_utils._wireguard import keys
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.plugins.module_utils import strategies

KEY = "zcUx7+vGCSLBVH8K1UPjOVAb+KvyzgGFzLFsDLBqVCM="


@pytest.mark.parametrize(
    ("scalar", "u", "result"),
    [
        (
            "a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
            "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c",
            "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552",
        ),
        (
            "4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d",
            "e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493",
            "95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957",
        ),
    ],
)
def test_x25519_is_that_of_rfc_7748_section_5_2(scalar: str, u: str, result: str) -> None:
    assert keys.x25519(bytes.fromhex(scalar), bytes.fromhex(u)).hex() == result


def test_x25519_iterated_a_thousand_times_is_that_of_rfc_7748_section_5_2() -> None:
    k = u = (9).to_bytes(32, "little")
    for _ in range(1000):
        k, u = keys.x25519(k, u), k
    assert k.hex() == "684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51"


@pytest.mark.parametrize(
    ("private_key", "public_key"),
    [
        (
            "77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a",
            "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a",
        ),
        (
            "5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb",
            "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f",
        ),
    ],
)
def test_public_keys_are_those_of_rfc_7748_section_6_1(private_key: str, public_key: str) -> None:
    assert keys.public_key(_base64(private_key)) == _base64(public_key)


@pytest.mark.skipif(shutil.which("wg") is None, reason="wg is not installed")
def test_public_keys_are_those_of_wg() -> None:
    for _ in range(10):
        private_key = keys.generate_private_key()
        answer = subprocess.run(
            ["wg", "pubkey"], input=private_key, capture_output=True, text=True, check=True
        )
        assert keys.public_key(private_key) == answer.stdout.strip()


def test_a_public_key_takes_less_than_50_ms() -> None:
    private_key = keys.generate_private_key()
    durations_s = []
    for _ in range(5):
        start = time.perf_counter()
        keys.public_key(private_key)
        durations_s.append(time.perf_counter() - start)
    assert min(durations_s) < 0.05


def test_generated_keys_differ_and_are_clamped() -> None:
    generated = {keys.generate_private_key() for _ in range(20)}
    assert len(generated) == 20
    for key in generated:
        raw = base64.b64decode(key)
        assert raw[0] & 7 == 0
        assert raw[31] & 0xC0 == 0x40


@given(strategies.keys)
def test_every_way_to_write_a_key_is_read(key: str) -> None:
    url_safe = key.translate(str.maketrans("+/", "-_"))
    for text in (key, key.rstrip("="), url_safe, url_safe.rstrip("=")):
        assert keys.parse_key(text) == key
    assert keys.check_key(key) == key


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "44 characters"),
        (KEY[:-2], "44 characters"),
        (KEY + "=", "44 characters"),
        (KEY[:-1] + "A=", "44 characters"),
        (" " + KEY[1:], "not base64"),
        ("é" + KEY[1:], "not base64"),
        ("=" + KEY[1:], "base64"),
        (KEY[:-2] + "N=", "not canonical"),
    ],
)
def test_what_is_no_key_is_refused(text: str, message: str) -> None:
    for read in (keys.parse_key, keys.check_key):
        with pytest.raises(ValueError, match=message) as caught:
            read(text)
        assert not text.strip() or text.strip() not in str(caught.value)


@settings(max_examples=200)
@given(st.text(max_size=50))
def test_any_text_is_a_key_or_a_value_error(text: str) -> None:
    try:
        key = keys.parse_key(text)
    except ValueError:
        return
    assert keys.check_key(key) == key


def test_check_key_wants_the_standard_form() -> None:
    for text in (KEY.rstrip("="), KEY.replace("+", "-")):
        with pytest.raises(ValueError, match="not standard base64"):
            keys.check_key(text)


def _base64(hexadecimal: str) -> str:
    return base64.b64encode(bytes.fromhex(hexadecimal)).decode()
