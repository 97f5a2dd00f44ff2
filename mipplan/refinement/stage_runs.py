"""Exact replays of single stages, shared by all plans that agree on a stage and on everything above it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from mipplan.core import Int64
from mipplan.refinement.domains import Option
from mipplan.refinement.least_times import Following
from mipplan.refinement.meter import Meter
from mipplan.replayer import Capacity, Engine, StageTask
from mipplan.tokens import Workload

#: Memory for exits that may be needed again.
CACHE_BYTES = 1 << 29


@dataclass(frozen=True)
class StageRun:
    """A stage replayed under one option, below given ones.

    Attributes
    ----------
    number : int
        Two runs with one number are the same.
    exit_ns : int64, shape (tokens,)
    saturates : bool
        Whether any token waits. If none does, more replicas of the same family change nothing.
    """

    number: int
    exit_ns: Int64
    saturates: bool


Runs: TypeAlias = Mapping[str, StageRun]
_Key: TypeAlias = tuple[str, str, int, int, tuple[int, ...]]


class StageReplays:
    """Serves stages under options, and remembers the latest.

    Parameters
    ----------
    workload : Workload
    engine : Engine
    fifo : bool
        The discipline.
    cache_bytes : int
        Memory for exits that may be asked for again.

    Attributes
    ----------
    following : Following
        Of the workload.
    """

    def __init__(
        self, workload: Workload, engine: Engine, *, fifo: bool, cache_bytes: int = CACHE_BYTES
    ) -> None:
        self.workload = workload
        self.following = Following(workload)
        self._engine = engine
        self._fifo = fifo
        self._cache: OrderedDict[_Key, StageRun] = OrderedDict()
        self._free = cache_bytes
        self._made = 0
        self._parents = {
            stage: tuple(edge.parent for edge in workload.pipeline.incoming(stage))
            for stage in workload.stages
        }

    @property
    def together(self) -> int:
        """How many stage replays are best asked for at once."""
        return 1 if self._engine.name != "numpy" else 32

    def serve(self, stage: str, options: Sequence[Option], above: Runs, meter: Meter) -> list[StageRun]:
        """Replay a stage under each of these options, where `above` happened upstream."""
        parents = tuple(above[parent].number for parent in self._parents[stage])
        keys = [(stage, o.family.hardware, o.family.batch, o.replicas, parents) for o in options]
        found = [self._recalled(key) for key in keys]
        missing = [place for place, run in enumerate(found) if run is None]
        meter.spend(len(missing))
        if missing:
            exits = {parent: above[parent].exit_ns for parent in self._parents[stage]}
            arrival_ns = self.workload.arrival_ns(stage, exits)
            runs = self._replay(arrival_ns, [options[place] for place in missing])
            for place, run in zip(missing, runs, strict=True):
                found[place] = run
                self._remember(keys[place], run)
        return [run for run in found if run is not None]

    def serve_alone(self, arrival_ns: Int64, options: Sequence[Option], meter: Meter) -> list[StageRun]:
        """Serve tokens that arrive at these times, under each option; nothing is remembered."""
        meter.spend(len(options))
        return self._replay(arrival_ns, options)

    def _replay(self, arrival_ns: Int64, options: Sequence[Option]) -> list[StageRun]:
        tasks = [
            StageTask(
                arrival_ns,
                option.family.service_ns[np.newaxis],
                Capacity.constant(option.replicas),
                self._fifo,
            )
            for option in options
        ]
        runs = []
        for served in self._engine.serve_many(tasks):
            self._made += 1
            waits = not np.array_equal(served.dispatch_ns, arrival_ns)
            runs.append(StageRun(self._made, served.exit_ns, waits))
        return runs

    def _recalled(self, key: _Key) -> StageRun | None:
        run = self._cache.get(key)
        if run is not None:
            self._cache.move_to_end(key)
        return run

    def _remember(self, key: _Key, run: StageRun) -> None:
        self._cache[key] = run
        self._free -= run.exit_ns.nbytes
        while self._free < 0 and len(self._cache) > 1:
            _, oldest = self._cache.popitem(last=False)
            self._free += oldest.exit_ns.nbytes
