# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""The I/O around `core`: the hub, the WireGuard device, openers, heartbeats, probes, files, the local API."""

from __future__ import annotations

import asyncio
import logging

from ..config import AgentOptions, OptionError
from ..listeners import ListenError
from ..wg.device import DeviceError
from .runner import Agent, StartError

logger = logging.getLogger(__name__)


def run(options: AgentOptions) -> int:
    """Run the agent until it is asked to end.

    Returns the exit code: 0, or 1 after a logged reason.  Raises OptionError if it cannot start so.
    """
    try:
        asyncio.run(Agent(options).run())
    except (StartError, ListenError) as error:
        raise OptionError(str(error)) from None
    except DeviceError as error:
        logger.error(str(error))
        return 1
    return 0
