# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""Structured logs on stderr: `logger.info("message", extra={"fields": {"peer": key}})`.

Text is `LEVEL message key=value …` (with the time in front, unless the journal adds its own); JSON is one
object a line.
"""

from __future__ import annotations

import json
import logging
import os
import time
from typing import Any

FORMATS = ("text", "json")
LEVELS = ("debug", "info", "warning", "error")


def configure(log_format: str, level: str) -> None:
    """Send what `wg_rendezvous` logs to stderr. `log_format` is one of FORMATS, `level` one of LEVELS."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    for name in ("wg_rendezvous", "aiohttp", "asyncio"):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.propagate = False
        logger.setLevel(level.upper() if name == "wg_rendezvous" else logging.WARNING)


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    fields: dict[str, Any] = getattr(record, "fields", {})
    return fields


def _value(value: Any) -> str:
    """A value as one word; what is not a plain word is quoted, so that nobody can forge a line or a field."""
    if isinstance(value, float):
        return f"{value:.3f}".rstrip("0").rstrip(".")
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    plain = text != "" and text.isprintable() and not any(mark in text for mark in ' "')
    return text if plain else json.dumps(text)


class TextFormatter(logging.Formatter):
    """`LEVEL message key=value …`."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, and the traceback below it if there is one."""
        words = [] if "JOURNAL_STREAM" in os.environ else [self.formatTime(record)]
        words += [record.levelname, record.getMessage().replace("\n", "\\n")]
        words += [f"{key}={_value(value)}" for key, value in _fields(record).items()]
        if record.exc_info:
            words.append("\n" + self.formatException(record.exc_info))
        return " ".join(words)


class JsonFormatter(logging.Formatter):
    """`{"time", "level", "logger", "message", …fields}`, the time in UTC (RFC 3339)."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = {
            **_fields(record),
            "time": f"{seconds}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)
