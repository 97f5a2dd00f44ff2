"""From an objective to the best choice: prices, then whole numbers, then the proof; and the checkpoint of all that.

A checkpoint holds all that decides how the search goes on: the known plans of every pipeline in the order in which they
were found, what pricing has learnt of it, the prices and the bound they prove, and the best choice. It is written
beside and renamed, so that there is always a whole one.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from mipplan.core import InputError, LimitReachedError, SearchLimits
from mipplan.documents import write_text_atomically
from mipplan.fleet.master import ColumnGeneration, Pool, Progress, choose_by_rounding, choose_exactly
from mipplan.fleet.pricing import PricingState
from mipplan.fleet.problem import Column, Fleet, FleetChoice, FleetObjective, FleetSolution
from mipplan.fleet.workers import WorkerPool
from mipplan.pipeline import Discipline
from mipplan.result import Choice, RunClass

_FORMAT = 2
_NO_CHECKPOINT = "is no checkpoint of a fleet; remove it or name another file"


@dataclass(frozen=True)
class SolveParams:
    """When column generation has done enough, and how hard the proof is tried."""

    #: The relaxed master may stay above the bound by this share of the gap asked for.
    relaxed_share: float = 0.25
    #: Where the gap asked for is wider than this, the share is one of this gap.
    relaxed_gap: float = 0.01
    #: Who asks for no smaller gap than this wants any choice, and no proof.
    any_gap: float = 0.05
    #: Whether all fits at all is asked once excess was made dearer this many times and is still needed.
    doubts: int = 2
    #: Choosing among known plans takes at most this many seconds.
    choice_s: float = 20.0
    #: Even late it is given this many seconds.
    least_choice_s: float = 0.3
    #: To prove a choice best, plans within these parts of what they may cost are looked up in turn: the better the
    #: best choice, the fewer there are in the end.
    close_shares: tuple[float, ...] = (0.1, 0.25, 0.5, 1.0)
    #: Fleets of at most this many pipelines are proven so: in larger ones too many plans are within the spare cost.
    most_closed: int = 200


@dataclass(eq=False)
class ColumnSearch:
    """Searches the best choice for one objective by column generation."""

    objective: FleetObjective
    pool: Pool
    workers: WorkerPool
    gap: float
    search: SearchLimits
    checkpoint: CheckpointFile | None = None
    start: Checkpoint | None = None
    params: SolveParams = field(default_factory=SolveParams)

    def __post_init__(self) -> None:
        progress = None if self.start is None else self.start.progress
        self._best = None if self.start is None else self.start.best
        self._generation = ColumnGeneration(
            self.objective, self.pool, self.workers, self.search, self._after_round, progress
        )
        self._progress = self._generation.progress

    def run(self) -> FleetSolution:
        """Generate, round, choose; Ctrl-C stops as a time limit does."""
        interrupted = False
        try:
            if self._progress.rounds == 0 or not self._has_enough():
                self._generation.run()
            if self._is_doubtful() and not self.search.deadline.is_over:
                if self._cannot_fit():
                    return self._solution(infeasible=True)
                self._generation.run()
            self._choose()
            self._close()
        except KeyboardInterrupt:
            interrupted = True
        hopeless = bool(self.pool.hopeless) and self.objective.forgone is None
        return replace(self._solution(infeasible=hopeless), interrupted=interrupted)

    def _after_round(self, generation: ColumnGeneration) -> bool:
        progress = generation.progress
        if generation.master is not None and not progress.excess:
            self._offer(choose_by_rounding(self.objective, self.pool.columns, generation.shares()))
        elif generation.master is None and not self.pool.hopeless:
            self._offer_cheapest()
        self.search.report(self._line(progress))
        if self.checkpoint is not None:
            self.checkpoint.write(Checkpoint(self.pool, self.workers.states, progress, self._best))
        return self._has_enough()

    def _has_enough(self) -> bool:
        """Whether generating more plans is not what helps now; it depends on nothing but what a checkpoint holds."""
        progress = self._progress
        if self._solution().within(self.gap):
            return True
        if progress.excess:
            return self._is_doubtful() and not progress.converged
        if progress.lower_bound is None or not math.isfinite(progress.relaxation):
            return False
        return progress.relaxation - progress.lower_bound <= self._tail * progress.relaxation

    def _is_doubtful(self) -> bool:
        """Whether it is time to ask if all fits at all."""
        progress = self._progress
        return progress.excess and progress.raises >= self.params.doubts and not progress.doubted

    @property
    def _tail(self) -> float:
        """Relative gap between the relaxed master and the bound that is small enough."""
        return self.params.relaxed_share * min(self.gap, self.params.relaxed_gap)

    @property
    def _choice_s(self) -> float:
        return min(self.params.choice_s, self.search.deadline.left_s(self.params.least_choice_s))

    def _cannot_fit(self) -> bool:
        """Whether it is proven that the plans of all pipelines need more devices than there are (claim 2)."""
        self._progress.doubted = True
        if self.objective.forgone is not None:
            return False

        def is_decided(fitting: ColumnGeneration) -> bool:
            self.search.report(f"whether it fits at all, round {fitting.progress.rounds}")
            fits = fitting.master is not None and fitting.master.objective < 0.5
            return fits or (fitting.progress.lower_bound or 0) > 0

        fitting = ColumnGeneration(self.objective.of_fit(), self.pool, self.workers, self.search, is_decided)
        fitting.run()
        return (fitting.progress.lower_bound or 0) > 0

    def _offer_cheapest(self) -> None:
        """Where nothing is scarce, every pipeline has its cheapest plan."""
        objective = self.objective
        if not all(self.pool.columns):
            return  # one has no known plan

        def cost(column: Column) -> int:
            return column.cost(objective.prices)

        columns = tuple(min(known, key=cost) for known in self.pool.columns)
        devices = np.sum([column.devices for column in columns], axis=0)
        if np.all(objective.usage @ devices <= objective.capacity):
            self._offer(FleetChoice(columns, sum(map(cost, columns))))

    def _choose(self) -> None:
        """Choose among all known plans, unless what there is is good enough."""
        if self.pool.hopeless and self.objective.forgone is None:
            return
        if self._solution().within(self.gap) or self._progress.lower_bound is None:
            return
        if not self._generation.has_choice:
            return
        self.search.report("choosing among all known plans")
        columns = self.pool.columns
        chosen, _ = choose_exactly(self.objective, columns, self._best, self._choice_s, self._tail)
        self._offer(chosen)

    def _close(self) -> None:
        """Look up every plan that could be part of a better choice, and choose among them: that is then the best.

        A better choice costs at most `spare` more than the bound. At the prices that prove it, so does, more than it
        costs at least, each of its plans: otherwise all of them together cost too much.
        """
        progress = self._progress
        bound = progress.lower_bound  # what the prices prove; what is looked up may prove more
        if self._best is None or bound is None or self._solution().within(0.0):
            return
        if self.gap >= self.params.any_gap or len(self.pool.columns) > self.params.most_closed:
            return
        if self.search.deadline.is_over:
            return
        self.search.report("looking up every plan that could be part of a better choice")
        for share in self.params.close_shares:
            spare = math.ceil(share * (self._best.cost - 1 - bound))
            complete = self._look_up(spare)
            chosen, least = choose_exactly(self.objective, self.pool.columns, self._best, self._choice_s, 0.0)
            self._offer(chosen)
            if not complete:
                return
            # A choice either takes known plans only, or one that costs more than `spare` above its pipeline's least.
            known = math.ceil(least) if math.isfinite(least) else bound
            progress.lower_bound = max(bound, min(self._best.cost, known, bound + spare + 1))
            if self._solution().within(0.0) or self.search.deadline.is_over:
                return

    def _look_up(self, spare: int) -> bool:
        """Take in all plans that cost at most `spare` more than their pipeline's least; False if these are too many."""
        most = {
            index: least + spare
            for index, least in enumerate(self._progress.least)
            if index not in self.pool.hopeless
        }
        prices = self.objective.device_prices(self._progress.duals)
        asked = iter(most.items())
        # Few at once, because an answer may make the others needless.
        while part := dict(itertools.islice(asked, 4 * self.workers.count)):
            try:
                answers = self.workers.price(prices, part, self.search.deadline, wants_all=True)
            except LimitReachedError:
                return False
            self.pool.add(answers)
            if self.search.deadline.is_over or not all(a.complete for a in answers.values()):
                return False
        return True

    def _offer(self, chosen: FleetChoice | None) -> None:
        if chosen is not None and (self._best is None or chosen.cost < self._best.cost):
            self._best = chosen

    def _solution(self, *, infeasible: bool = False) -> FleetSolution:
        bound = self._progress.lower_bound
        if bound is not None and self._best is not None:
            bound = min(self.objective.raised_to_step(bound), self._best.cost)
        saved = dict(zip(self.objective.rows, self._progress.duals.tolist(), strict=True))
        best = None if infeasible else self._best
        return FleetSolution(best, bound, infeasible, saved, self._progress.rounds)

    def _line(self, progress: Progress) -> str:
        name, unit = self.objective.name, self.objective.unit
        bound = "none yet" if progress.lower_bound is None else f"{progress.lower_bound / unit:,.4f}"
        best = "none yet" if self._best is None else f"{self._best.cost / unit:,.4f}"
        gap = ""
        if self._best is not None and progress.lower_bound is not None:
            gap = f", gap {100 * max(0.0, 1 - progress.lower_bound / max(self._best.cost, 1)):.2f} %"
        return f"{name}, round {progress.rounds}: bound {bound}, best {best}{gap}"


@dataclass(frozen=True)
class Checkpoint:
    """Where the search for the cheapest fleet stands."""

    pool: Pool
    states: Sequence[PricingState]
    progress: Progress
    best: FleetChoice | None


@dataclass(frozen=True)
class CheckpointFile:
    """The file of checkpoints of one fleet's search, which its fingerprint tells from others."""

    path: str | Path
    fingerprint: str

    @classmethod
    def of(cls, path: str | Path, fleet: Fleet, gap: float) -> CheckpointFile:
        """Return the file with the SHA-256 of everything that decides how a search goes."""
        parts: list[Any] = [fleet.profiles.to_document(), fleet.quantile, fleet.seed, fleet.budget, gap]
        for member in fleet.members:
            pipeline, trace = member.pipeline.to_document(), member.trace.sha256
            parts += [member.name, pipeline, trace, member.slo_ns, member.weight]
            if member.laws is not None and member.laws != member.pipeline.laws():
                parts.append({stage: str(law) for stage, law in member.laws.items()})
            if member.discipline is not Discipline.OLDEST_FIRST:
                parts.append({"discipline": member.discipline, "runs": asdict(member.runs or RunClass())})
            if member.min_accuracy is not None:
                parts.append({"min_accuracy": member.min_accuracy})
        text = "".join(json.dumps(part, sort_keys=True) for part in parts)
        return cls(path, hashlib.sha256(text.encode()).hexdigest())

    def write(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint, whole or not at all."""
        pool, progress, best = checkpoint.pool, checkpoint.progress, checkpoint.best
        document = {
            "format": _FORMAT,
            "fleet": self.fingerprint,
            "columns": [
                [([astuple(c) for c in own.choices], own.devices) for own in known] for known in pool.columns
            ],
            "hopeless": sorted(pool.hopeless),
            "alone": sorted(pool.alone.items()),
            "memories": [[state.refused, state.multipliers, dict(state.caps)] for state in checkpoint.states],
            "progress": {**asdict(progress), "duals": progress.duals.tolist()},
            "best": None if best is None else best.places(pool.columns),
            "cost": None if best is None else best.cost,
        }
        write_text_atomically(self.path, json.dumps(document, separators=(",", ":")))

    def read(self) -> Checkpoint | None:
        """Read the last checkpoint; None if there is no such file.

        Raises `InputError` if the file is no checkpoint, or one of another fleet.
        """
        try:
            text = Path(self.path).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise InputError.one(str(self.path), f"cannot be read: {error}") from error
        try:
            document = json.loads(text)
            # Plans have a format, too: which file it is comes before how old it is.
            if not {"fleet", "columns"} <= document.keys():
                problem = _NO_CHECKPOINT
            elif document["format"] != _FORMAT:
                problem = f"is a checkpoint of format {document['format']!r}, not {_FORMAT}"
            elif document["fleet"] != self.fingerprint:
                problem = "is the checkpoint of another fleet, or of this one with other settings; name another file"
            else:
                return _checkpoint(document)
        except (ValueError, KeyError, TypeError, IndexError, AttributeError):
            problem = _NO_CHECKPOINT
        raise InputError.one(str(self.path), problem)


def _checkpoint(document: dict[str, Any]) -> Checkpoint:
    columns = [
        [Column(tuple(Choice(*choice) for choice in choices), tuple(devices)) for choices, devices in known]
        for known in document["columns"]
    ]
    states = [
        PricingState(
            tuple(
                tuple((s, int(t), int(p), int(n), tuple(map(int, passing))) for s, t, p, n, passing in cut)
                for cut in refused
            ),
            tuple(multipliers),
            {stage: tuple(most) for stage, most in caps.items()},
        )
        for refused, multipliers, caps in document["memories"]
    ]
    duals = np.array(document["progress"]["duals"], dtype=np.int64)
    places = document["best"]
    best = None if places is None else FleetChoice.at(columns, places, document["cost"])
    pool = Pool(columns, set(document["hopeless"]), dict(document.get("alone", ())))
    return Checkpoint(pool, states, Progress(**{**document["progress"], "duals": duals}), best)
