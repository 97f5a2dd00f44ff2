"""Replica counts of pipelines that share devices and money, against trying all of them; and what is said to bind."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np

from campaigns import campaign_size
from mipplan.tuner import Conditions
from mipplan.tuner.scaling import PipelineShape, Requirement, Scaler, ScalingResult
from mipplan.tuner.stages import StageScale

#: No stage needs more, and none has more to begin with.
PLENTY = 6


@dataclass(frozen=True)
class Scaling:
    """Pipelines, what they need, and what limits them."""

    shapes: list[PipelineShape]
    requirements: list[Requirement]
    conditions: Conditions

    @property
    def stages(self) -> list[StageScale]:
        return [stage for shape in self.shapes for stage in shape.stages]

    @property
    def needs(self) -> list[int]:
        return [need for needed in self.requirements for need in needed.needs]

    @property
    def present(self) -> list[int]:
        return [n for needed in self.requirements for n in needed.present]

    def allowed(self) -> list[range]:
        """Counts of each stage that pace and limits of their own admit."""
        found = []
        for stage, now in zip(self.stages, self.present, strict=True):
            low, high = stage.least, PLENTY if stage.most is None else stage.most
            if self.conditions.most_removed is not None:
                low = min(high, max(low, now - self.conditions.most_removed))
            if self.conditions.most_added is not None:
                high = max(low, min(high, now + self.conditions.most_added))
            found.append(range(low, high + 1))
        return found

    def used(self, counts: tuple[int, ...]) -> dict[str, int]:
        used = dict.fromkeys(self.conditions.limits, 0)
        for stage, n in zip(self.stages, counts, strict=True):
            if stage.hardware in used:
                used[stage.hardware] += n
        if self.conditions.budget_microusd is not None:
            used["the budget"] = sum(
                n * s.microusd_per_hour for n, s in zip(counts, self.stages, strict=True)
            )
        return used

    def capacity(self, name: str) -> int:
        budget = self.conditions.budget_microusd
        return budget if name == "the budget" and budget is not None else self.conditions.limits[name]

    def is_within(self, counts: tuple[int, ...]) -> bool:
        return all(used <= self.capacity(name) for name, used in self.used(counts).items())

    def cost(self, counts: tuple[int, ...]) -> int:
        """Replicas and changes, micro-dollars per hour."""
        added, removed = self.conditions.added_microusd, self.conditions.removed_microusd
        return sum(
            n * stage.microusd_per_hour + added * max(0, n - now) + removed * max(0, now - n)
            for n, stage, now in zip(counts, self.stages, self.present, strict=True)
        )

    def shed(self, counts: tuple[int, ...]) -> list[int]:
        """Thousandths of each pipeline's traffic that these counts cannot serve."""
        numbers, found = iter(counts), []
        for needed in self.requirements:
            served = [n * 10**6 // need for need in needed.needs if (n := next(numbers)) * 1000 < need]
            found.append(1000 - min(served, default=1000))
        return found

    def losses(self, counts: tuple[int, ...]) -> int:
        """What is lost by shedding, where each pipeline has a price."""
        return sum(
            -(-(shape.loss_microusd or 0) // 1000) * shed
            for shape, shed in zip(self.shapes, self.shed(counts), strict=True)
        )


def random_scaling(rng: np.random.Generator, *, losses: bool) -> Scaling:
    shapes, requirements = [], []
    for m in range(int(rng.integers(1, 3))):
        stages = []
        for v in range(int(rng.integers(1, 3))):
            least = int(rng.choice([1, 1, 2]))
            most = None if rng.random() < 0.5 else least + int(rng.integers(0, 4))
            price, hardware = int(rng.integers(2, 10)), str(rng.choice(["x", "y"]))
            stages.append(StageScale(f"s{m}{v}", hardware, price, 10, 1, 10, 1, least, most, 1))
        shapes.append(PipelineShape(tuple(stages), (), 100, int(rng.integers(0, 20_000)) if losses else None))
        needs = rng.choice([0, 800, 1000, 1001, 1500, 2600, 4200], len(stages)).tolist()
        requirements.append(Requirement(tuple(needs), tuple(rng.integers(1, 5, len(stages)).tolist())))
    limits = {name: int(rng.integers(1, 9)) for name in "xyz" if rng.random() < 0.4}
    return Scaling(
        shapes,
        requirements,
        Conditions(
            limits,
            int(rng.integers(8, 60)) / 1e6 if rng.random() < 0.3 else None,
            *(int(rng.integers(0, 3)) if rng.random() < 0.3 else None for _ in range(2)),
            # What removing costs is less than any price, so that nothing is kept for it.
            *(float(rng.choice(choices)) / 1e6 for choices in ([0, 0, 3], [0, 0, 1])),
        ),
    )


def cases(stream: int, *, losses: bool) -> Iterator[tuple[int, Scaling, Scaler, ScalingResult]]:
    together = 1903  # two stages of a pipeline give up replicas together, or not at all
    for number in {*range(campaign_size(quick=150, deep=3_000)), together}:
        asked = random_scaling(np.random.default_rng([stream, number]), losses=losses)
        scaler = Scaler(asked.shapes, asked.conditions)
        scaler.scale([Requirement((0,) * len(s.stages), (1,) * len(s.stages)) for s in asked.shapes])
        yield number, asked, scaler, scaler.scale(asked.requirements)


def test_as_much_as_possible_is_served_for_the_least_cost() -> None:
    shedding = refused = 0
    for number, asked, scaler, result in cases(51, losses=False):
        counts = tuple(n for part in result.replicas for n in part)
        possible = [each for each in product(*asked.allowed()) if asked.is_within(each)]
        assert result.needs == tuple(needed.needs for needed in asked.requirements)
        if not possible:
            assert (result.objective, result.bound) == (None, None), f"case {number}"
            assert counts == tuple(min(each) for each in asked.allowed()), f"case {number}"
            assert result.is_slow == asked.is_within(tuple(stage.least for stage in asked.stages))
            assert list(result.shed) == (asked.shed(counts) if result.is_slow else [1000] * len(asked.shapes))
            refused += 1
            continue
        best = min((max(asked.shed(each)), asked.cost(each)) for each in possible)
        assert counts in possible, f"case {number}"
        assert (max(asked.shed(counts)), asked.cost(counts)) == best, f"case {number}"
        assert list(result.shed) == asked.shed(counts), f"case {number}"
        assert result.objective is not None
        assert result.bound is not None
        assert result.bound <= result.objective
        if best[0] == 0:
            assert result.objective == best[1], f"case {number}"
        assert scaler.builds <= 1
        shedding += best[0] > 0
    assert min(shedding, refused) > 10


def test_what_is_lost_is_weighed_against_what_serving_costs() -> None:
    shedding = 0
    for number, asked, _, result in cases(52, losses=True):
        possible = [each for each in product(*asked.allowed()) if asked.is_within(each)]
        if not possible:
            assert result.objective is None
            continue
        counts = tuple(n for part in result.replicas for n in part)
        best = min(asked.cost(each) + asked.losses(each) for each in possible)
        assert counts in possible, f"case {number}"
        assert asked.cost(counts) + asked.losses(counts) == best, f"case {number}"
        assert result.objective == best, f"case {number}"
        assert list(result.shed) == asked.shed(counts), f"case {number}"
        shedding += any(result.shed)
    assert shedding > 10


def test_what_binds_is_what_a_thousandth_more_would_take() -> None:
    seen = {"limits": 0, "stages": 0, "pace": 0}
    for stream, losses in ((51, False), (52, True)):
        for number, asked, scaler, result in cases(stream, losses=losses):
            if result.objective is None:
                continue
            counts = tuple(n for part in result.replicas for n in part)
            lacking = [need > 1000 * n for need, n in zip(asked.needs, counts, strict=True)]
            first = 0
            for m, shape in enumerate(asked.shapes):
                own = range(first, first + len(shape.stages))
                first += len(shape.stages)
                # All pipelines shed together, or each by itself.
                concerned = range(len(counts)) if not losses else own
                more = tuple(n + (lacking[v] and v in concerned) for v, n in enumerate(counts))
                before, after = asked.used(counts), asked.used(more)
                limits = [
                    name
                    for name in after
                    if after[name] > before[name] and after[name] > asked.capacity(name)
                ]
                short = [v for v in own if lacking[v]]
                full = [v for v in short if counts[v] + 1 > asked.allowed()[v][-1]]
                expected = [f"{name} is used up" for name in limits]
                expected += [
                    f"{asked.stages[v].stage} has the most replicas allowed ({asked.allowed()[v][-1]})"
                    for v in full
                ]
                found = scaler.binding(asked.requirements[m], result, m)
                assert sorted(found) == sorted(expected), f"case {number}"
                paced = asked.conditions.most_added is not None and bool(short)
                for v in short:
                    most = asked.stages[v].most
                    lasting = most is None or asked.allowed()[v][-1] < most
                    paced &= v in full and lasting
                assert scaler.is_rate_limited(asked.requirements[m], result, m) == paced, f"case {number}"
                seen["limits"] += bool(limits)
                seen["stages"] += bool(full)
                seen["pace"] += paced
    assert min(seen.values()) > 5, seen


def test_counts_move_from_those_ordered_by_as_many_as_may_change() -> None:
    shapes = [PipelineShape((StageScale(f"s{m}", "x", 1, 10, 1, 10, 1, 1, 9, 1),), (), 100) for m in range(2)]
    scaler = Scaler(shapes, Conditions(most_added=2, most_removed=1))
    for present, ends in ((1, (1, 3)), (2, (1, 4)), (5, (4, 7)), (9, (8, 9))):
        assert scaler.allowed(1, Requirement((0,), (present,))) == [ends]
    assert scaler.is_admitted(np.array([9, 9]))
    assert not Scaler(shapes, Conditions({"x": 17})).is_admitted(np.array([9, 9]))


def test_own_times_lack_replicas_where_a_stage_has_fewer_than_they_assume() -> None:
    result = ScalingResult(
        replicas=((2, 3), (2, 3), (4, 4)),
        needs=((0, 0),) * 3,
        shed=(0, 0, 0),
        objective=1,
        bound=1,
        reused=True,
        unreachable=(False,) * 3,
        owned=((2, 3), (1, 4), None),
    )
    assert [result.lacks_owned(m) for m in range(3)] == [False, True, False]
