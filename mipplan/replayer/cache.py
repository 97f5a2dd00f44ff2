"""Exact replays of single stages for searches, each made once for all plans that agree on the stage and on all above.

What happens at a stage depends on nothing but the choices of the stage and of all stages above it. A run of a stage
has a number, and is remembered by its own choice and the numbers of the runs above it, which stand for theirs.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mipplan.core import Int64
from mipplan.pipeline import DispatchLaw, collecting_for
from mipplan.replayer.stage_task import Capacity, Engine, StageTask
from mipplan.tokens import Workload


@dataclass(frozen=True)
class CacheParams:
    """What a cache of stage replays may hold."""

    most_bytes: int = 1 << 29
    """At most so much memory for exits, because those of a long trace would fill it; the longest unused go first."""


class _Family(Protocol):
    @property
    def service_ns(self) -> Int64: ...
    @property
    def law(self) -> DispatchLaw: ...
    @property
    def stagger_ns(self) -> int: ...
    @property
    def window_ns(self) -> int: ...


class _Option(Protocol):
    """A choice for one stage, as `mipplan.options.Option` is: `choice` tells it from others for the stage."""

    @property
    def choice(self) -> Hashable: ...
    @property
    def family(self) -> _Family: ...
    @property
    def replicas(self) -> int: ...


#: Of a stage under a choice: its service times by level, shape (levels, b), and the level of every token; None where a
#: batch of k takes ℓ(k).
DrawnService: TypeAlias = Callable[[str, Any], tuple[Int64, NDArray[np.uint16]] | None]


@dataclass(frozen=True, eq=False)
class StageRun:
    """A stage replayed under one option, below given runs of the stages above it.

    Two runs with one number are the same. If no token waits, more replicas with the same service times change nothing;
    `waits` is always said of a paced stage, as more of them spread its dispatches otherwise, and of one that collects
    batches, as more of them spread its tokens.
    """

    number: int
    exit_ns: Int64
    sent_ns: Int64  # When what each token makes is sent on; the same array if that is at its exit.
    waits: bool


class StageReplays:
    """Serves stages of a workload under options, by arrival or by token number, and remembers the latest."""

    def __init__(
        self,
        workload: Workload,
        engine: Engine,
        *,
        fifo: bool,
        params: CacheParams = CacheParams(),
        drawn: DrawnService | None = None,
    ) -> None:
        self.workload = workload
        self._engine = engine
        self._fifo = fifo
        self._drawn = drawn
        self._runs: OrderedDict[tuple[Hashable, ...], StageRun] = OrderedDict()
        self._free = params.most_bytes
        self._numbers = itertools.count(1)

    @property
    def together(self) -> int:
        """How many stage replays are best asked for at once."""
        return self._engine.together

    def serve(
        self,
        stage: str,
        options: Sequence[_Option],
        above: Mapping[str, StageRun],
        spend: Callable[[int], None] = lambda _: None,
    ) -> list[StageRun]:
        """Replay a stage under each of these options, where `above` happened at the stage's parents.

        `spend` is told how many stage replays are to be made, before they are; it may refuse by raising.
        """
        parents = [edge.parent for edge in self.workload.pipeline.incoming(stage)]
        numbers = tuple(above[parent].number for parent in parents)
        keys = [(stage, option.choice, numbers) for option in options]
        runs: dict[tuple[Hashable, ...], StageRun] = {
            key: self._runs.pop(key) for key in keys if key in self._runs
        }
        self._runs |= runs  # behind all others: they are the latest
        missing = [(key, option) for key, option in zip(keys, options, strict=True) if key not in runs]
        spend(len(missing))
        if missing:
            sent_ns = {parent: above[parent].sent_ns for parent in parents}
            arrival_ns = self.workload.arrival_ns(stage, sent_ns)
            made = self._serve(stage, arrival_ns, [option for _, option in missing])
            for (key, _), run in zip(missing, made, strict=True):
                runs[key] = run
                self._remember(key, run)
        return [runs[key] for key in keys]

    def serve_alone(
        self, arrival_ns: Int64, options: Sequence[_Option], spend: Callable[[int], None] = lambda _: None
    ) -> list[StageRun]:
        """Serve tokens that arrive at these times, under each option, as measured; nothing is remembered."""
        spend(len(options))
        return self._serve(None, arrival_ns, options)

    def _serve(self, stage: str | None, arrival_ns: Int64, options: Sequence[_Option]) -> list[StageRun]:
        tasks = [self._task(stage, arrival_ns, option) for option in options]
        runs = []
        for option, task, served in zip(options, tasks, self._engine.serve_many(tasks), strict=True):
            sent_ns = served.sent_ns(option.family.stagger_ns, fifo=self._fifo)
            spreads = task.pace_ns is not None or task.system is not None
            waits = spreads or not np.array_equal(served.dispatch_ns, arrival_ns)
            runs.append(StageRun(next(self._numbers), served.exit_ns, sent_ns, waits))
        return runs

    def _task(self, stage: str | None, arrival_ns: Int64, option: _Option) -> StageTask:
        """What is asked of the engine; service times are drawn only where the stage is known."""
        table_ns, window_ns = option.family.service_ns, option.family.window_ns
        drawn = None if stage is None or self._drawn is None else self._drawn(stage, option.choice)
        service_ns, level = (table_ns[np.newaxis], None) if drawn is None else drawn
        if (
            drawn is not None and option.family.law is DispatchLaw.TIMED
        ):  # what is done too early is held back
            service_ns = np.maximum(service_ns, table_ns)
        return StageTask(
            arrival_ns,
            service_ns,
            Capacity.constant(option.replicas),
            self._fifo,
            level,
            pace_ns=table_ns if option.family.law is DispatchLaw.PACED else None,
            system=collecting_for(window_ns) if window_ns and table_ns.size > 1 else None,
        )

    def _remember(self, key: tuple[Hashable, ...], run: StageRun) -> None:
        self._runs[key] = run
        self._free -= _bytes(run)
        while self._free < 0 and len(self._runs) > 1:
            _, oldest = self._runs.popitem(last=False)
            self._free += _bytes(oldest)


def _bytes(run: StageRun) -> int:
    return run.exit_ns.nbytes * (1 if run.sent_ns is run.exit_ns else 2)
