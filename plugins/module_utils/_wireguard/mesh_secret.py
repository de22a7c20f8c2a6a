# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""Preshared keys from one mesh secret: HKDF-SHA256 (RFC 5869) over the two public keys of a pair.

Both ends of a pair derive the same key, and no two pairs have one in common, so n nodes need one secret
and not n². docs/preshared-keys.md says what that protects against.

    PRK            = HKDF-Extract(salt = "rendezvous.wireguard mesh secret v1", IKM = secret)
    preshared key  = HKDF-Expand(PRK, "preshared key" || 0x00 || smaller key || larger key, 32)
    id of a secret = HKDF-Expand(PRK, "id", 8)

Public keys are their 32 raw bytes, compared as such. No error message contains the text it is about.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import stat
from collections.abc import Iterable, Sequence

from .keys import check_key

HASH_BYTES = 32
ID_BYTES = 8
_SECRET_SALT = b"rendezvous.wireguard mesh secret v1"
_PRESHARED_KEY_SALT = b"rendezvous.wireguard preshared key v1"
_ID = b"id"
_PRESHARED_KEY = b"preshared key\x00"


def hkdf_extract(salt: bytes, input_key: bytes) -> bytes:
    """HKDF-Extract of RFC 5869, section 2.2, with SHA-256."""
    return hmac.digest(salt or bytes(HASH_BYTES), input_key, hashlib.sha256)


def hkdf_expand(pseudorandom_key: bytes, info: bytes, length_bytes: int) -> bytes:
    """HKDF-Expand of RFC 5869, section 2.3, with SHA-256. ValueError beyond 255 blocks."""
    if length_bytes > 255 * HASH_BYTES:
        raise ValueError(f"HKDF-SHA256 gives at most {255 * HASH_BYTES} bytes, not {length_bytes}")
    blocks = [b""]
    while sum(map(len, blocks)) < length_bytes:
        message = blocks[-1] + info + bytes([len(blocks)])
        blocks.append(hmac.digest(pseudorandom_key, message, hashlib.sha256))
    return b"".join(blocks)[:length_bytes]


def preshared_key(secret: str, one: str, other: str) -> str:
    """The preshared key of two public keys, in whichever order. All in base64; ValueError if one is none."""
    pair = sorted(base64.b64decode(check_key(key)) for key in (one, other))
    derived = hkdf_expand(_pseudorandom(secret), _PRESHARED_KEY + b"".join(pair), HASH_BYTES)
    return base64.b64encode(derived).decode("ascii")


def secret_id(secret: str) -> str:
    """What a mesh secret is called in public, 16 hexadecimal digits; the secret cannot be found from it."""
    return hkdf_expand(_pseudorandom(secret), _ID, ID_BYTES).hex()


def preshared_key_id(key: str) -> str:
    """The same for a preshared key: it tells two ends whether they have the same one."""
    pseudorandom = hkdf_extract(_PRESHARED_KEY_SALT, base64.b64decode(check_key(key)))
    return hkdf_expand(pseudorandom, _ID, ID_BYTES).hex()


def path(interface: str, directory: str) -> str:
    """Where the mesh secrets of an interface are: one in each line, the newest first."""
    return os.path.join(directory, f"{interface}.mesh-secret")


def read(file_path: str) -> tuple[str, ...]:
    """The secrets in a file, the newest first; none if there is no file.

    ValueError names the file if it is damaged, or if others than its owner can read it.
    """
    try:
        with open(file_path, "rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            content = file.read(4096)
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise ValueError(f"{file_path} cannot be read: {error.strerror}") from None
    if mode & 0o077:
        raise ValueError(
            f"{file_path} has mode {mode:04o}, so others may have read the mesh secret: take a new one, or "
            f"chmod 600 {file_path}"
        )
    try:
        return check_secrets(line for line in content.decode("ascii", "replace").split("\n") if line.strip())
    except ValueError as error:
        raise ValueError(f"{file_path} is damaged ({error}): remove it, or write it anew") from None


def render(secrets: Iterable[str]) -> str:
    """The text of that file."""
    return "".join(f"{secret}\n" for secret in secrets)


def check_secrets(texts: Iterable[str]) -> tuple[str, ...]:
    """Mesh secrets, as `wg genpsk` prints them. ValueError says which is none, and why."""
    secrets: list[str] = []
    for text in texts:
        try:
            secret = check_key(text.strip())
        except ValueError as error:
            of_several = f" {len(secrets) + 1}" if secrets else ""
            raise ValueError(f"mesh secret{of_several}: {error}") from None
        if secret in secrets:
            raise ValueError(f"mesh secret {len(secrets) + 1} is one of those before it")
        secrets.append(secret)
    return tuple(secrets)


def describe(secrets: Sequence[str]) -> str:
    """For a diff: what they are called."""
    return "".join(f"mesh secret: {secret_id(secret)}\n" for secret in secrets)


def _pseudorandom(secret: str) -> bytes:
    return hkdf_extract(_SECRET_SALT, base64.b64decode(check_key(secret)))
