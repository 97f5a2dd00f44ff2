"""One long stage under one plan, cut into pieces that are served side by side, each from an empty stage.

A stage forgets: two runs of it that start differently soon dispatch the same batches at the same instants, unless
it is busy almost always. So each piece runs on into the next one until both have met, and what is true of the
first piece is then true of all. Pieces that have not met are done again, one after the other.

References
----------
A. G. Greenberg, B. D. Lubachevsky, I. Mitrani, "Algorithms for unboundedly parallel simulations", ACM TOCS 9(3),
1991, doi:10.1145/128738.128739 (the idea of cutting time, and of repairing).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from mipplan.core import Int64
from mipplan.replayer.engines import lanes
from mipplan.replayer.engines.batches import Batches, NumpyParams, SortedArrivals, find_in_loop
from mipplan.replayer.stage_task import ALWAYS, NEVER, StageTask, no_times


@dataclass(frozen=True)
class Run:
    """Some consecutive batches, all certain given the tokens that were seen.

    `first` is the position in the queue of the first token. Batches that start up to `new_ns` are not to be handed
    out: they tell what was under way.
    """

    start_ns: Int64
    size: Int64
    end_ns: Int64
    first: int
    new_ns: int = ALWAYS

    @property
    def next(self) -> int:
        """Position in the queue of the token after the last one."""
        return self.first + int(self.size.sum())

    @property
    def last_ns(self) -> int:
        """The start of the last batch."""
        return int(self.start_ns[-1]) if self.start_ns.size else ALWAYS

    def within(self, after_ns: int = ALWAYS, upto_ns: int = NEVER) -> Run:
        """Only what starts after the one instant, and not after the other."""
        low, high = np.searchsorted(self.start_ns, (after_ns, upto_ns), side="right").tolist()
        return replace(
            self,
            start_ns=self.start_ns[low:high],
            size=self.size[low:high],
            end_ns=self.end_ns[low:high],
            first=self.first + int(self.size[:low].sum()),
        )


class Pieces:
    """A task that fits a lane, to be cut."""

    def __init__(self, task: StageTask, arrivals: SortedArrivals, params: NumpyParams) -> None:
        self._task, self._arrivals, self._params = task, arrivals, params
        self._longest_ns = int(task.service_ns.max())

    def find_batches(self) -> Batches | None:
        """Find its batches; None if the stage forgets too slowly for this to pay."""
        tokens, params = self._task.tokens, self._params
        length = -(-tokens // min(max(tokens // params.shortest_piece, 1), params.most_pieces))
        overlap = max(int(length * params.overlap), params.shortest_overlap)
        if not self._forgets(overlap):
            return None
        spans = [(low, min(low + length + overlap, tokens)) for low in range(0, tokens, length)]
        queues = [SortedArrivals(self._arrivals.at_ns[low:high], None) for low, high in spans]
        tasks = [replace(self._task, arrival_ns=queue.at_ns) for queue in queues]
        found = lanes.find_batches(tasks, queues, params)
        runs = [
            _certain(batches, low, self._decided_until_ns(high))
            for batches, (low, high) in zip(found, spans, strict=True)
        ]
        return _joined(self._stitched(runs, [high for _, high in spans]))

    def meeting(self, earlier: Run, later: Run) -> int | None:
        """Return an instant from which on the two are one, if they are at the end of what both know.

        They are if they have dispatched the same tokens, and the same batches at the same instants for as long as a
        batch may take: then the same replicas' worth of work is under way.
        """
        instant_ns = min(earlier.last_ns, later.last_ns)
        if instant_ns == ALWAYS or instant_ns < earlier.new_ns:
            return None
        earlier, later = earlier.within(upto_ns=instant_ns), later.within(upto_ns=instant_ns)
        if earlier.next != later.next:
            return None
        ours, theirs = (run.within(instant_ns - self._longest_ns) for run in (earlier, later))
        same_starts = np.array_equal(ours.start_ns, theirs.start_ns)
        return instant_ns if same_starts and np.array_equal(ours.size, theirs.size) else None

    def _forgets(self, overlap: int) -> bool:
        """Whether runs from an empty stage, one started before the other, meet soon, at most places tried."""
        tokens = self._task.tokens
        met = 0
        for place in np.linspace(overlap, tokens - overlap, self._params.trials, dtype=np.int64).tolist():
            high = min(place + overlap, tokens)
            earlier, later = (self._by_itself(low, high, no_times()) for low in (place - overlap, place))
            met += self.meeting(earlier, later) is not None
        return met >= self._params.enough_meet

    def _by_itself(self, low: int, high: int, busy_until_ns: Int64) -> Run:
        """Serve the tokens at these positions as far as later ones make no difference."""
        until_ns = self._decided_until_ns(high)
        queue = SortedArrivals(self._arrivals.at_ns[low:high], None)
        alone = replace(self._task, arrival_ns=queue.at_ns, busy_until_ns=busy_until_ns, until_ns=until_ns)
        return _certain(find_in_loop(alone, queue, self._params), low, until_ns)

    def _decided_until_ns(self, high: int) -> int:
        """The last instant before tokens from this position on arrive."""
        at_ns = self._arrivals.at_ns
        return int(at_ns[high]) - 1 if high < at_ns.size else NEVER

    def _stitched(self, runs: list[Run], highs: list[int]) -> list[Run]:
        """The true run, in parts; the first of `runs` is true, and the others are from where they meet a true one."""
        parts: list[Run] = []
        true = runs[0]
        for following, high in zip(runs[1:], highs[1:], strict=True):
            met_ns = self.meeting(true, following)
            if met_ns is None:
                parts.append(true.within(true.new_ns))
                true = self._continued(true, high)
            else:
                parts.append(true.within(true.new_ns, met_ns))
                true = replace(following, new_ns=met_ns)
        return [*parts, true.within(true.new_ns)]

    def _continued(self, true: Run, high: int) -> Run:
        """What follows a true run, as far as tokens up to a position decide it."""
        last_ns = true.last_ns
        recent = true.within(last_ns - self._longest_ns) if true.start_ns.size else true
        if true.next >= high:
            return replace(recent, new_ns=last_ns)
        more = self._by_itself(true.next, high, recent.end_ns[recent.end_ns > last_ns])
        return Run(
            np.concatenate([recent.start_ns, more.start_ns]),
            np.concatenate([recent.size, more.size]),
            np.concatenate([recent.end_ns, more.end_ns]),
            recent.first,
            last_ns,
        )


def _certain(batches: Batches, low: int, until_ns: int) -> Run:
    """Batches from position `low` on that start while no token that was not seen can have come."""
    end_ns = batches.start_ns + batches.service_ns
    return Run(batches.start_ns, batches.size, end_ns, low).within(upto_ns=until_ns)


def _joined(parts: list[Run]) -> Batches:
    start_ns = np.concatenate([part.start_ns for part in parts])
    end_ns = np.concatenate([part.end_ns for part in parts])
    return Batches(start_ns, np.concatenate([part.size for part in parts]), end_ns - start_ns)
