# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""Curve25519 keys: generate, derive, check. Works on a node that has no `wg` yet.

No error message contains the text it is about, since it may be a private key.
"""

from __future__ import annotations

import base64
import binascii
import os

KEY_BYTES = 32

_P = 2**255 - 19
_A24 = 121665
_BASE_POINT = 9


def generate_private_key() -> str:
    """A fresh private key in base64, clamped as `wg genkey` does (RFC 7748 §5)."""
    return _encode(_clamp(os.urandom(KEY_BYTES)).to_bytes(KEY_BYTES, "little"))


def public_key(private_key: str) -> str:
    """The public key of a private key, both in base64, as `wg pubkey` does. ValueError if it is not a key."""
    scalar = base64.b64decode(check_key(private_key))
    return _encode(x25519(scalar, _BASE_POINT.to_bytes(KEY_BYTES, "little")))


def check_key(text: str) -> str:
    """Return `text` if it is a key as WireGuard writes it: 32 bytes, standard base64. Else ValueError."""
    canonical = parse_key(text)
    if text != canonical:
        raise ValueError("not standard base64 with padding: WireGuard's keys use + and /, and end in =")
    return canonical


def parse_key(text: str) -> str:
    """Return a key as standard base64; it may be URL-safe and without padding (RFC 4648 §4, §5).

    ValueError, which says what is wrong but not the text, if it is not 32 bytes of canonical base64.
    """
    unpadded = text.translate(_TO_STANDARD).removesuffix("=")
    if len(unpadded) != 43:
        raise ValueError(f"a key is 32 bytes in base64: 44 characters that end in =, not {len(text)}")
    try:
        raw = base64.b64decode(unpadded + "=", validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("a key is 32 bytes in base64; this has characters that are not base64") from None
    if _encode(raw) != unpadded + "=":
        raise ValueError("not canonical base64: the last character before = carries bits beyond 32 bytes")
    return unpadded + "="


def x25519(scalar: bytes, u: bytes) -> bytes:
    """X25519(k, u) of RFC 7748 §5, a Montgomery ladder on 32-byte strings.

    Not constant-time: only for keys that the own machine makes once in a while, never for a handshake.
    """
    k = _clamp(scalar)
    x_1 = (int.from_bytes(u, "little") & (2**255 - 1)) % _P
    x_2, z_2, x_3, z_3 = 1, 0, x_1, 1
    swap = 0
    for t in reversed(range(255)):
        k_t = (k >> t) & 1
        if swap ^ k_t:
            x_2, x_3 = x_3, x_2
            z_2, z_3 = z_3, z_2
        swap = k_t
        a, b = x_2 + z_2, x_2 - z_2
        aa, bb = a * a % _P, b * b % _P
        e = aa - bb
        da, cb = (x_3 - z_3) * a % _P, (x_3 + z_3) * b % _P
        x_3 = (da + cb) ** 2 % _P
        z_3 = x_1 * (da - cb) ** 2 % _P
        x_2 = aa * bb % _P
        z_2 = e * (aa + _A24 * e) % _P
    if swap:
        x_2, z_2 = x_3, z_3
    return (x_2 * pow(z_2, _P - 2, _P) % _P).to_bytes(KEY_BYTES, "little")


_TO_STANDARD = str.maketrans("-_", "+/")


def _clamp(scalar: bytes) -> int:
    """decodeScalar25519 of RFC 7748 §5."""
    return int.from_bytes(scalar, "little") & ~(7 | 1 << 255) | 1 << 254


def _encode(raw: bytes) -> str:
    return base64.b64encode(raw).decode("ascii")
