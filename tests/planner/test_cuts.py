"""Cuts: what they forbid is refused, what they name is as strong as it can be."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest

from campaigns import campaign_size
from mipplan.calculus import StageService
from mipplan.options import StageOptions, expand, undominated
from mipplan.planner import Cut, Instance, cover_of, strengthen, trace_instance
from mipplan.result import RunClass
from planning_instances import planning_instance

#: Options per stage in these tests: all combinations are judged.
MOST_OPTIONS = 6


@pytest.mark.parametrize("speed_first", [True, False])
@pytest.mark.parametrize("number", range(4000, 4000 + campaign_size(4, 20)))
@pytest.mark.parametrize(
    "overtaking", [None, RunClass(0.9), RunClass(0.5, 0.5)], ids=["oldest", "fifo", "any delay"]
)
def test_cut_excludes_the_refused_and_nothing_certified(
    number: int, speed_first: bool, overtaking: RunClass | None
) -> None:
    instance, options = small(number, overtaking)
    ideal = {stage: table.ideal() for stage, table in options.items()}
    if not options or not instance.keeps_slo(ideal):
        pytest.skip("nothing to cut: all stages ideal are refused")

    def is_refused(services: Mapping[str, StageService]) -> bool:
        return not instance.keeps_slo(services)

    combinations = list(itertools.product(*(range(table.count) for table in options.values())))
    services = {c: services_of(options, c) for c in combinations}
    refused = [c for c in combinations if not instance.keeps_slo(services[c])]
    certified = [c for c in combinations if instance.keeps_slo(services[c])]
    for selection in refused[:: max(1, len(refused) // 5)]:
        for order in (tuple(options), tuple(options)[::-1]):
            cut = strengthen(services[selection], options, lambda _: is_refused, order, speed_first)
            cover = cover_of(cut, options)
            assert cut
            assert not cover.is_met(selection)
            assert all(cover.is_met(c) for c in certified)
            check_maximal(cut, options, instance)


def check_maximal(cut: Cut, options: Mapping[str, StageOptions], instance: Instance) -> None:
    """At the cut's corner the certificate fails; one step better in any T, R or overtaking of it, and it holds."""
    corner = {stage: table.ideal() for stage, table in options.items()}
    for stage, latency_ns, rank, passing in cut:
        corner[stage] = replace(service(options[stage], latency_ns, rank), passing=passing)
    assert not instance.keeps_slo(corner)
    for stage, latency_ns, rank, passing in cut:
        table = options[stage]
        assert instance.keeps_slo({**corner, stage: table.ideal()}), "the stage does not belong in the cut"
        better = [service(table, int(t), rank) for t in table.latency_ns if t < latency_ns]
        better += [service(table, latency_ns, int(r)) for r in table.speed if r > rank]
        for other in better:
            assert instance.keeps_slo({**corner, stage: replace(other, passing=passing)})
        for row in table.passing.tolist():
            for place, own in enumerate(row):
                if own < passing[place]:
                    fewer = (*passing[:place], own, *passing[place + 1 :])
                    assert instance.keeps_slo({**corner, stage: replace(corner[stage], passing=fewer)})


def service(table: StageOptions, latency_ns: int, rank: int) -> StageService:
    row = table.speed.tolist().index(rank)
    return StageService(latency_ns, int(table.period_ns[row]), int(table.tokens[row]))


def services_of(options: Mapping[str, StageOptions], selection: tuple[int, ...]) -> dict[str, StageService]:
    return {
        stage: table.service(option)
        for (stage, table), option in zip(options.items(), selection, strict=True)
    }


def small(number: int, overtaking: RunClass | None = None) -> tuple[Instance, dict[str, StageOptions]]:
    drawn = planning_instance(number, limited=False)
    slo_ns = drawn.slo_ns if overtaking is None else 3 * drawn.slo_ns // 2
    given = (drawn.pipeline, drawn.profiles, drawn.trace, slo_ns, drawn.quantile, drawn.seed)
    instance = trace_instance(*given, overtaking=overtaking)
    options: dict[str, StageOptions] = {}
    for stage, found in instance.families.items():
        dearest = max(f.microusd_per_hour * (f.fewest + 1) for f in found.families)
        table = undominated(expand(found, dearest))
        keep = table.cost <= sorted(table.cost.tolist())[:MOST_OPTIONS][-1]
        options[stage] = table.keep(keep)
    return instance, options


def test_some_of_these_instances_have_cuts() -> None:
    # The test above skips where there is nothing to cut; most instances must not be of that kind.
    kept = 0
    for number in range(4000, 4020):
        instance, options = small(number)
        kept += instance.keeps_slo({stage: table.ideal() for stage, table in options.items()})
    assert kept >= 10


class OneStage(NamedTuple):
    """A stage that has several latencies and rates, all options, and services of which it alone has the worst."""

    stage: str
    options: dict[str, StageOptions]
    services: dict[str, StageService]
    ideal: StageService
    latencies: list[int]
    ranks: list[int]


def problems_of_one_stage() -> Iterator[OneStage]:
    """Those of some small instances in which there is such a stage."""
    found = [problem for number in range(4000, 4020) if (problem := of_one_stage(number)) is not None]
    assert len(found) > 5
    return iter(found)


def of_one_stage(number: int) -> OneStage | None:
    """The first such stage of an instance."""
    _, options = small(number)
    stage = next(
        (
            name
            for name, table in options.items()
            if min(len({*table.latency_ns.tolist()}), len({*table.speed.tolist()})) > 1
        ),
        None,
    )
    if stage is None:
        return None
    table = options[stage]
    services = {name: each.ideal() for name, each in options.items()}
    ranks, latencies = sorted({*table.speed.tolist()}), sorted({*table.latency_ns.tolist()})
    services[stage] = service(table, latencies[-1], ranks[0])
    return OneStage(stage, options, services, table.ideal(), latencies, ranks)


@pytest.mark.parametrize("speed_first", [True, False])
def test_a_cut_asks_for_nothing_that_does_not_matter(speed_first: bool) -> None:
    """Where only the rate of a stage decides, any latency is allowed, and the other way round."""
    for stage, options, services, ideal, latencies, ranks in problems_of_one_stage():

        def is_slow(
            others: Mapping[str, StageService], stage: str = stage, best: StageService = ideal
        ) -> bool:
            return others[stage].ns_per_token > best.ns_per_token

        def is_late(
            others: Mapping[str, StageService], stage: str = stage, best: StageService = ideal
        ) -> bool:
            return others[stage].latency_ns > best.latency_ns

        order = tuple(options)
        assert strengthen(services, options, lambda _, test=is_slow: test, order, speed_first) == (
            (stage, latencies[0], ranks[-2], ()),
        )
        assert strengthen(services, options, lambda _, test=is_late: test, order, speed_first) == (
            (stage, latencies[1], ranks[-1], ()),
        )


def test_what_may_overtake_is_lowered_one_count_by_itself() -> None:
    """Refused while both counts are too large: the least of each that is refused beside the other one's."""
    stage, options, services, *_ = next(problems_of_one_stage())
    alike = options[stage].keep(np.zeros(4, dtype=np.int64))
    table = replace(alike, passing=np.repeat(np.arange(4), 2).reshape(4, 2))
    services[stage] = worst = table.service(3)

    def is_refused(others: Mapping[str, StageService]) -> bool:
        first, second = others[stage].passing
        return first > 0 and second > 2

    cut = strengthen(services, {**options, stage: table}, lambda _: is_refused, tuple(options), True)
    assert cut == ((stage, worst.latency_ns, int(table.speed[0]), (1, 3)),)


def test_what_is_raised_first_is_raised_furthest() -> None:
    """Latency for rate: where either would do, the one that comes first takes it all."""
    for stage, options, services, ideal, latencies, ranks in problems_of_one_stage():

        def is_neither(
            others: Mapping[str, StageService], stage: str = stage, best: StageService = ideal
        ) -> bool:
            mine = others[stage]
            return mine.ns_per_token > best.ns_per_token or mine.latency_ns > best.latency_ns

        found = [
            strengthen(services, options, lambda _, test=is_neither: test, tuple(options), speed_first)
            for speed_first in (True, False)
        ]
        assert found == [((stage, latencies[1], ranks[-1], ()),), ((stage, latencies[0], ranks[-2], ()),)]


def test_a_test_is_made_anew_wherever_one_has_led_to() -> None:
    """Each sees one latency ahead; where one sees nothing, the cut stays at what was refused."""
    farther = 0
    for stage, options, services, _, latencies, ranks in problems_of_one_stage():
        made = list[int]()

        def sees_one_ahead(
            at: Mapping[str, StageService],
            stage: str = stage,
            latencies: list[int] = latencies,
            made: list[int] = made,
        ) -> Callable[[Mapping[str, StageService]], bool]:
            ahead = max(1, latencies.index(at[stage].latency_ns) - 1)
            made.append(ahead)
            return lambda asked: asked[stage].latency_ns >= latencies[ahead]

        order = tuple(options)
        cut = strengthen(services, options, sees_one_ahead, order, False)
        assert cut == ((stage, latencies[1], ranks[-1], ()),)
        assert made == [*range(len(latencies) - 2, 1, -1), 1, 1]
        farther += len(made) > 2
        stays = strengthen(services, options, lambda _: lambda _: False, order, False)
        tops = {name: max(table.speed.tolist()) for name, table in options.items()}
        others = [(name, services[name].latency_ns, tops[name], ()) for name in order if name != stage]
        assert stays == tuple(sorted([*others, (stage, latencies[-1], ranks[0], ())]))
    assert farther > 0
