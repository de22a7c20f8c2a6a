# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The forms in which a WireGuard key is written. No error contains the text, which may be a private key."""

from __future__ import annotations

import base64
import re

from ansible_collections.rendezvous.wireguard.plugins.module_utils._wireguard import keys

FORMS = ("base64", "urlsafe", "hex")


def read(text: str) -> bytes:
    """The 32 bytes of a key in any of the forms. ValueError if it is none."""
    if not isinstance(text, str):
        raise ValueError(f"a key is text, not {type(text).__name__}")
    if re.fullmatch(r"[0-9a-fA-F]{64}", text):
        return bytes.fromhex(text)
    return base64.b64decode(keys.parse_key(text))


def write(raw: bytes, form: str) -> str:
    """The key in this form. ValueError if there is no such form."""
    if form == "base64":
        return base64.b64encode(raw).decode("ascii")
    if form == "urlsafe":
        return base64.urlsafe_b64encode(raw).decode("ascii").rstrip("=")
    if form == "hex":
        return raw.hex()
    raise ValueError(f"form {form!r}: write one of {', '.join(FORMS)}")
