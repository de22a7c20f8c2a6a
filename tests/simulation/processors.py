# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""Nodes that share processors: what agents do takes time, and what others want done waits for it."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

from tests.simulation.agents import Agent
from tests.simulation.engine import Engine

from wg_rendezvous.core import actions, events

WORK_S = {actions.SetPeers: 0.04, actions.ReadDevice: 0.04}
"""The processor time of running `wg`, with what WireGuard and the agent have to do for it: about ten times
what was measured, as if there were so many more nodes."""
EVENT_WORK_S = 0.001
"""That of an event."""


class Processors:
    """So many processors, which work off what they are given in its order."""

    def __init__(self, engine: Engine, count: int) -> None:
        self._engine = engine
        self._free_ats = [0.0] * count

    def done_in_s(self, work_s: float) -> float:
        """In how many seconds this piece of work will be done."""
        begins_at = max(self._engine.now, min(self._free_ats))
        self._free_ats.remove(min(self._free_ats))
        self._free_ats.append(begins_at + work_s)
        return begins_at + work_s - self._engine.now


class SharingAgent(Agent):
    """An agent of a node that shares `processors`: it handles what came meanwhile together, when it has done
    what there was to do before (agent/runner.py)."""

    def __init__(self, processors: Processors, *args: Any) -> None:
        super().__init__(*args)
        self._processors = processors
        self._waiting: list[events.Event] = []
        self._works = False

    def start(self) -> None:
        """Run.  What an earlier run was about to do would be done by this one."""
        assert not self._works, f"{self.name} is started anew, which this model does not have"
        super().start()

    def _handle(self, event: events.Event) -> None:
        self._waiting.append(event)
        if not self._works:
            self._works = True
            self._work()

    def _work(self) -> None:
        batch, self._waiting = self._waiting, []
        wait_s = self._processors.done_in_s(EVENT_WORK_S * len(batch))
        self.engine.call_in(wait_s, lambda: self._take(batch, []))

    def _take(self, batch: list[events.Event], follows: list[events.Event]) -> None:
        self._carry_out(self.mesh.handle_all(batch, self.now_s), follows)

    def _carry_out(self, todo: list[actions.Action], follows: list[events.Event]) -> None:
        for nth, action in enumerate(todo):
            work_s = WORK_S.get(type(action))
            if work_s is not None:
                after_s = self._processors.done_in_s(work_s)
                go_on = partial(self._done, action, after_s, todo[nth + 1 :], follows)
                self.engine.call_in(after_s, go_on)
                return
            self._do(action, follows)
        if follows:
            self._take([follows[0]], follows[1:])
        else:
            self._rest()

    def _done(
        self, action: actions.Action, took_s: float, todo: list[actions.Action], follows: list[events.Event]
    ) -> None:
        self._do(action, follows)
        if follows and isinstance(follows[-1], events.DeviceSeen):
            follows[-1] = dataclasses.replace(follows[-1], took_s=took_s)
        self._carry_out(todo, follows)

    def _do(self, action: actions.Action, follows: list[events.Event]) -> None:
        outcome = self._doers[type(action)](action)
        if outcome is not None:
            follows.append(outcome)

    def _rest(self) -> None:
        """Nothing is left to do: go on with what came meanwhile, or wait."""
        if self.mesh.wakeup_at <= self.now_s:
            self._waiting.append(events.Tick())
        if self._waiting:
            self._work()
        else:
            self._works = False
            self._wait()
