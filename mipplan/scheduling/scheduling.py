"""`mipplan.schedule`: from counts of arrivals by the hour to replica counts by the hour, at the least cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction
from math import ceil, inf

import numpy as np
from numpy.typing import ArrayLike

from mipplan.calculus import ArrivalCurve, Envelope
from mipplan.core import (
    MAX_DURATION_NS,
    NS_PER_HOUR,
    NS_PER_S,
    Bool,
    Fault,
    Faults,
    Float64,
    InputError,
    Int64,
    check_headroom,
    dollars_to_microdollars,
    is_number,
    positive_ns,
    shown,
)
from mipplan.replayer import check_plan
from mipplan.result import Plan
from mipplan.scheduling.result import DaySchedule, StageSchedule
from mipplan.trace import Trace
from mipplan.tuner import Tuner, cheapest_cover, check_delay

#: More bins than a year of five minutes each are a slip.
_MOST_BINS = 105_120
#: More queries in a bin than this are a slip, too.
_MOST_QUERIES = 1e12
#: Rates are told apart to a millionth of the sample's; counts are those of the next such step up.
_RATE_STEPS = 1_000_000
#: Above a step by less than this share of itself, a rate is that step's: by so much quotients of counts are rounded.
_ROUNDED = 1e-12
#: At most so many bins are named in a fault.
_NAMED = 5


def schedule(
    plan: Plan,
    counts: ArrayLike,
    *,
    bin_s: float = 3600.0,
    sample: Trace | ArrivalCurve | None = None,
    keep: str | None = None,
    tokens: str | None = None,
    headroom: float = 1.0,
    activation_delay_s: float = 5.0,
    switch_usd: float = 0.0,
    repeats: bool = True,
) -> DaySchedule:
    """Schedule a plan's replicas bin by bin, for the queries that are expected in each.

    **What a bin keeps.** Traffic in a bin is taken to be the sample as it comes at the bin's rate: its envelope,
    bursts and all, is ``α(k·u)``, k being the bin's rate over the sample's mean. For that envelope every stage has the
    fewest replicas with which it makes no query wait longer than it may, ``n = ⌈F·ℓ(b)/b · sup (α(k·u) − 1)/(u + S)⌉``
    ([theorem (replicas)][theorem-replicas]). How long it may is what `keep` says, as for `mipplan.Tuner`: as long as
    the plan makes its sample wait, so that a bin at the sample's rate has the plan's counts, or fewer; or what the
    objective leaves, so that every query inside the envelope that meets an empty system keeps it (a theorem with
    ``tokens="most"``). Where queries have several tokens at a stage, that depends on all counts: then they are the
    cheapest together, and nowhere below those of a bin with fewer queries. Under either, a bin stands by itself: what
    the bin before leaves in the queues is not counted.

    **What is least.** Of all counts that are nowhere below these, those of least rent and starts: a replica is paid
    from its order, one activation delay before the bin that it serves in, until one objective after the last, when the
    queries of that bin have left; and every start counts `switch_usd` beside. So one that is needed again is kept over
    a lull exactly if that is not dearer than to start it anew. Where the devices that there are do not suffice for what
    would be kept, nothing is kept over those bins, and a note says so: then nothing is proven.

    Parameters
    ----------
    plan : Plan
        With choices.
    counts : array_like, shape (bins,)
        Queries expected in each bin.
    bin_s : float
        Length of a bin; the first begins at 0.
    sample : Trace or ArrivalCurve, optional
        How traffic bursts; by default what the plan itself holds (not its trace, if it was loaded from a file).
    keep, tokens : str, optional
        As for `mipplan.Tuner`.
    headroom : float
        Multiple of the counts that is scheduled for: a forecast has an error, and traffic moves within a bin.
    activation_delay_s : float
        From ordering a replica to its first batch.
    switch_usd : float
        What a start counts beside the rent.
    repeats : bool
        Whether the first bin follows the last. Otherwise the plan's replicas are there before the first.

    Raises
    ------
    InputError
        With every fault: also where a bin needs more replicas or devices than there may be.
    NoPlanError
        If the plan holds no choices.
    """
    faults = Faults()
    faults.take(lambda: check_plan(plan))
    delay = faults.take(lambda: check_delay(activation_delay_s))
    length = faults.take(lambda: check_bin(bin_s))
    expected = faults.take(lambda: _check_counts(counts))
    faults.take(lambda: check_headroom(headroom))
    switch = faults.take(lambda: check_switch(switch_usd))
    faults.take(lambda: _check_repeats(repeats))
    made_tuner = faults.take(lambda: Tuner(plan, sample=sample, keep=keep, tokens=tokens))
    faults.check()
    tuner = made_tuner.value
    rate_rps = expected.value * (headroom * NS_PER_S / length.value)
    envelope = tuner.envelope()
    own_rps = _sample_rps(plan, sample, envelope)
    needed = _needed(tuner, envelope, np.ceil(rate_rps / own_rps * (_RATE_STEPS * (1.0 - _ROUNDED))))
    stages = {
        name: StageSchedule(
            name, scale.hardware, needed[name], needed[name], scale.planned, scale.microusd_per_hour
        )
        for name in plan.pipeline.topological_order
        for scale in [tuner.stages[name]]
    }
    _check_limits(tuner, stages)
    made, notes = _covered(plan, stages, (length.value, delay.value, switch.value), repeats)
    empty = np.flatnonzero(expected.value == 0)
    if empty.size:
        what = f"nothing is expected in {empty.size} bins, first in counts[{empty[0]}]: stages keep their least there"
        notes.append(f"{what}; if clocks skipped that hour, give it what other days have")
    return DaySchedule(
        plan,
        length.value,
        rate_rps,
        made,
        _words(tuner),
        delay.value,
        plan.slo_ns,
        bool(repeats),
        switch.value,
        tuple(notes) + tuner.budget.notes,
    )


def check_bin(bin_s: object, name: str = "bin_s") -> int:
    """Return the length of a bin in ns; raises `InputError`."""
    bin_ns = positive_ns(bin_s)
    if bin_ns is None or bin_ns < NS_PER_S:
        longest_s = MAX_DURATION_NS // NS_PER_S
        raise InputError.one(name, f"expected seconds from 1 to {longest_s:,}, found {shown(bin_s)}")
    return bin_ns


def _check_repeats(repeats: object) -> None:
    """Refuse what is no truth value, because words such as "no" would count as true; raises `InputError`."""
    if not isinstance(repeats, bool | np.bool_):
        raise InputError.one("repeats", f"expected True or False, found {shown(repeats)}")


def _check_counts(counts: ArrayLike) -> Float64:
    try:
        given: Float64 = np.asarray(counts, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError.one("counts", f"expected numbers of queries, found {shown(counts)}") from None
    if given.ndim != 1 or not 1 <= given.size <= _MOST_BINS:
        raise InputError.one("counts", f"expected 1 to {_MOST_BINS:,} numbers, found shape {given.shape}")
    wrong = np.flatnonzero(~((given >= 0) & (given <= _MOST_QUERIES)))
    InputError.raise_if(
        Fault(f"counts[{place}]", f"expected queries from 0 to {_MOST_QUERIES:g}, found {given[place]:g}")
        for place in wrong[:_NAMED].tolist()
    )
    if not given.any():
        raise InputError.one("counts", "are all 0: there is nothing to schedule")
    return given


def check_switch(usd: object) -> int:
    """Return what a start counts, micro-dollars; raises `InputError`."""
    if not is_number(usd) or not 0 <= usd <= 1e6:
        raise InputError.one("switch_usd", f"expected dollars from 0 to 1e+06, found {shown(usd)}")
    return dollars_to_microdollars(usd)


def _sample_rps(plan: Plan, sample: Trace | ArrivalCurve | None, envelope: Envelope) -> float:
    """Queries per second of the sample, of a trace on average: that is what the counts of bins are, too."""
    known = plan.provenance.sample if sample is None and plan.envelope is None else sample
    rate_rps = known.rate_rps if isinstance(known, Trace) else float(envelope.rate) * NS_PER_S
    if not 0 < rate_rps < inf:
        why = "all its queries arrive at once" if isinstance(known, Trace) else "no more come after some time"
        raise InputError.one("sample", f"{why}: it has no rate to compare bins with; give another")
    return rate_rps


def _needed(tuner: Tuner, envelope: Envelope, steps: Float64) -> dict[str, Int64]:
    """Fewest replicas of every bin, from its rate in millionths of the sample's; 0 where none are enough."""
    least = {stage: scale.least for stage, scale in tuner.stages.items()}
    levels = np.unique(steps[steps > 0]).tolist()
    rates = {level: envelope.faster(Fraction(int(level), _RATE_STEPS)) for level in levels}
    if tuner.budget.is_shared_out:
        found = _shared_out(tuner, rates, steps)
    else:
        found = {
            level: {
                stage: 0 if need is None else max(least[stage], ceil(need))
                for stage, need in tuner.needs(traffic).items()
            }
            for level, traffic in rates.items()
        }
    found[0.0] = least
    return {
        stage: np.array([found[step][stage] for step in steps.tolist()], dtype=np.int64) for stage in least
    }


def _shared_out(tuner: Tuner, rates: Mapping[float, Envelope], steps: Float64) -> dict[float, dict[str, int]]:
    """Cheapest counts at each rate where queries have several tokens; raises `InputError` where there are none.

    How long a query's own tokens take depends on the counts, so that the waits which the plan's counts leave may be
    too long with fewer of them: stages cannot be sized one by one.
    """
    found, refused = {}, dict[str, Bool]()
    counts = {stage: scale.least for stage, scale in tuner.stages.items()}
    planned = {stage: scale.planned for stage, scale in tuner.stages.items()}
    for level, traffic in rates.items():
        step = tuner.retune(traffic=traffic, ordered=planned)
        if step.replan or step.share < 1:
            what = "; ".join(note for note in step.notes if note not in tuner.budget.notes)
            refused[what] = refused.get(what, False) | (steps == level)
        # What a lower rate asks for stays: counts then rise with the rate, and the devices of a busier bin are enough
        # where its replicas and those of the next are there together.
        counts = found[level] = {stage: max(count, step.replicas[stage]) for stage, count in counts.items()}
    InputError.raise_if(fault for what, bins in refused.items() for fault in _refusals(bins, what))
    return found


def _refusals(bins: Bool, what: str) -> Iterator[Fault]:
    """One fault about these bins, if there are any."""
    places = np.flatnonzero(bins).tolist()
    more = f" and {len(places) - _NAMED} more" if len(places) > _NAMED else ""
    if places:
        yield Fault(f"counts[{', '.join(map(str, places[:_NAMED]))}]{more}", what)


def _check_limits(tuner: Tuner, stages: Mapping[str, StageSchedule]) -> None:
    """Refuse bins that cannot have what they need."""
    faults: list[Fault] = []
    for name, stage in stages.items():
        most = tuner.stages[name].most
        faults += _refusals(
            stage.needed == 0, f"no number of replicas of {name} is enough: plan for this rate anew"
        )
        if most is not None:
            faults += _refusals(
                stage.needed > most, f"{name} needs up to {stage.needed.max()} replicas, {most} are allowed"
            )
    for hardware, limit in tuner.conditions.limits.items():
        used = _devices(stages, hardware, "needed")
        faults += _refusals(used > limit, f"up to {used.max()} {hardware} are needed, there are {limit}")
    InputError.raise_if(faults)


def _devices(stages: Mapping[str, StageSchedule], hardware: str, what: str) -> Int64:
    """Devices of a kind in every bin, shape (bins,): 0 of one that a limit names and no stage runs on."""
    total: Int64 = np.sum([getattr(s, what) * (s.hardware == hardware) for s in stages.values()], axis=0)
    return total


def _covered(
    plan: Plan, stages: Mapping[str, StageSchedule], terms: tuple[int, int, int], repeats: bool
) -> tuple[dict[str, StageSchedule], list[str]]:
    """Keep replicas over lulls where that is not dearer, within the devices that there are."""
    free = np.ones(next(iter(stages.values())).needed.size, dtype=np.bool_)
    limits = {name: kind.limit for name, kind in plan.profiles.hardware.items() if kind.limit is not None}
    while True:
        made = {name: _cover(plan, stage, terms, repeats, free) for name, stage in stages.items()}
        over = [_devices(made, name, "replicas") > limit for name, limit in limits.items()]
        beyond = np.any(over, axis=0) if over else np.zeros(1, dtype=np.bool_)
        if not beyond.any():
            break
        free &= ~beyond
    if free.all():
        return made, []
    held = f"in {np.count_nonzero(~free)} bins no replica is kept beyond need, because of the devices that there are"
    return made, [f"{held}: another choice of those kept may be cheaper"]


def _cover(
    plan: Plan, stage: StageSchedule, terms: tuple[int, int, int], repeats: bool, free: Bool
) -> StageSchedule:
    """Least rent and starts of one stage: each replica decides on its own whether it stays over a lull."""
    bin_ns, delay_ns, switch = terms
    price, bins = stage.microusd_per_hour, stage.needed.size
    # A start costs its rent before the bin and after it, and the switch: as much as so many whole bins at most.
    start = price * (delay_ns + plan.slo_ns) + switch * NS_PER_HOUR
    gap = bins if price == 0 else min(bins, start // (price * bin_ns))
    if not repeats:
        # Of a lull that begins the day no rent is paid behind it: the plan's replicas go at 0.
        early = price * delay_ns + switch * NS_PER_HOUR
        first = bins if price == 0 else min(bins, early // (price * bin_ns))
        begun = cheapest_cover(stage.needed, first, stage.planned, free)
        cover = np.maximum(begun, cheapest_cover(stage.needed, gap, 0, free))
    else:
        # Around the clock from a bin of the largest count, where all replicas are needed, to the same a day later.
        top = int(stage.needed.argmax())
        around = np.roll(stage.needed, -top)
        cover = cheapest_cover(np.append(around, around[0]), gap, 0, np.append(np.roll(free, -top), True))
        cover = np.roll(cover[:-1], top)
    return StageSchedule(stage.stage, stage.hardware, stage.needed, cover, stage.planned, price)


def _words(tuner: Tuner) -> str:
    if tuner.keep == "sample":
        counted = "branches at their mean" if tuner.tokens == "mean" else "branches at their most"
        return f"no stage's bound on waits exceeds the plan's on its sample ({counted})"
    proven = (
        "every query inside the envelope" if tuner.tokens == "most" else "not proven, branches at their mean"
    )
    return f"{tuner.plan.objective.text}: {proven}"
