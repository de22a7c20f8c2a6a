# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""How long something may take, and two things at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")
Other = TypeVar("Other")


async def within(timeout_s: float, work: Coroutine[Any, Any, Result]) -> Result:
    """The result of `work`. Raises asyncio.TimeoutError after `timeout_s`.

    asyncio.wait_for loses a cancellation that comes together with the result, before Python 3.12.
    """
    task = asyncio.ensure_future(work)
    try:
        done, _pending = await asyncio.wait({task}, timeout=timeout_s)
    except asyncio.CancelledError:
        task.cancel()
        raise
    if not done:
        task.cancel()
        raise asyncio.TimeoutError
    return task.result()


async def both(
    first: Coroutine[Any, Any, Result], second: Coroutine[Any, Any, Other]
) -> tuple[Result, Other]:
    """The results of two, which run side by side; when this returns or raises, neither runs any more."""
    one, other = asyncio.ensure_future(first), asyncio.ensure_future(second)
    try:
        await asyncio.wait({one, other})
    except asyncio.CancelledError:
        one.cancel()
        other.cancel()
        await asyncio.wait({one, other})
        raise
    other.exception()  # seen, also if it is the first one's that is raised
    return one.result(), other.result()
