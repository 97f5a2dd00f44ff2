"""From situations to steps: what each stage needs, replica counts for all, and what is proven about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property

import numpy as np

from mipplan.calculus import Envelope, EnvelopeCurve, rate_needed
from mipplan.core import UNLIMITED_NS, LongestPaths, first_true, format_duration
from mipplan.tuner.scaling import Requirement, Scaler, ScalingResult, make_demand
from mipplan.tuner.stages import StageScale, Tokens
from mipplan.tuner.steps import TuningStep
from mipplan.tuner.traffic import Situation, Traffic, as_envelope
from mipplan.tuner.transients import Transient
from mipplan_formulations.scaling import WHOLE

_NOT_KEPT = "a query's own tokens alone take too long with these replicas: see the latency bound"


@dataclass(eq=False)
class DelayBudget:
    """How long each stage of a pipeline may make queries wait, and how long its replicas do."""

    stages: Mapping[str, StageScale]
    paths: LongestPaths[str]
    deadline_ns: int
    """The objective less any margin."""
    tokens: Tokens
    """How they were counted: only with the most of them are latencies proven."""
    activation_delay_ns: int
    """New replicas serve from then on."""
    recovery_ns: int
    """Queries that arrive from then on must keep their wait, whatever is there now."""
    merged: Mapping[str, int]
    """Stages with several tokens per query that are merged again, on the paths through each stage."""
    fixed_ns: dict[str, int] | None = None
    """Waits that do not depend on the replicas; by default they are what own times leave of the deadline."""
    notes: tuple[str, ...] = ()
    """What every step says."""

    @property
    def service_time_ns(self) -> int:
        """Largest sum of T and delays along a path: what a query takes that waits for no other."""
        own = {stage: scale.latency_ns for stage, scale in self.stages.items()}
        return max(self.paths.through(own).values())

    @property
    def lasting_time_ns(self) -> int:
        """The same with any number of replicas: T of paced stages falls with them."""
        return max(self._through_ns(dict.fromkeys(self.stages, 0)).values())

    @property
    def is_shared_out(self) -> bool:
        """Whether waits depend on replica counts: on how long queries wait for their own tokens, or for a pace."""
        return self.fixed_ns is None and any(stage.divided_ns for stage in self.stages.values())

    @cached_property
    def waits_ns(self) -> dict[str, int]:
        """Longest wait of each stage, with own times as the plan's replicas leave them; perhaps negative."""
        return self.waits_with({stage: scale.planned for stage, scale in self.stages.items()})

    def waits_with(self, replicas: Mapping[str, int]) -> dict[str, int]:
        """Longest wait of each stage, with own times as these replicas leave them; perhaps negative."""
        return self.left_ns(replicas) if self.fixed_ns is None else self.fixed_ns

    def left_ns(self, replicas: Mapping[str, int]) -> dict[str, int]:
        """What the deadline leaves each stage for waiting, with own times as these replicas leave them."""
        through = self._through_ns({s: _own_ns(scale, replicas[s]) for s, scale in self.stages.items()})
        return {stage: self.deadline_ns - through[stage] for stage in self.stages}

    def bound_ns(self, replicas: Mapping[str, int], traffic: Traffic) -> int:
        """Bound on the latency of any query of traffic inside an envelope that meets an empty system, ns.

        `UNLIMITED_NS` if there is none.
        """
        return (
            self.reckoned_ns(replicas, as_envelope(traffic)) if self.tokens is Tokens.MOST else UNLIMITED_NS
        )

    def least_shed(self, replicas: Mapping[str, int], envelope: Envelope, shed: int) -> int:
        """Fewest thousandths of the traffic, at least `shed`, without which these replicas keep the objective.

        All of them where they keep it for no query.
        """

        def is_kept(less: int) -> bool:
            admitted = envelope.thinned(Fraction(WHOLE - less, WHOLE))
            return less == WHOLE or self.reckoned_ns(replicas, admitted) <= self.deadline_ns

        return first_true(shed, WHOLE, is_kept)

    def reckoned_ns(self, replicas: Mapping[str, int], envelope: Envelope) -> int:
        """The same as `bound_ns`, with tokens as they were counted."""
        curves = {f: EnvelopeCurve(envelope, f) for f in {s.tokens_per_query for s in self.stages.values()}}
        waits, own = {}, {}
        for stage, scale in self.stages.items():
            curve, count = curves[scale.tokens_per_query], replicas[stage]
            waits[stage] = curve.exact(*scale.rate_at(count))
            own[stage] = scale.latency_at(count) - scale.lasting_ns - (-scale.own_load_ns // count)
        return self._longest_ns(own, waits)

    def transient_bound_ns(self, replicas: Mapping[str, int], situation: Situation) -> int:
        """Bound on the latency of any query from now on, ns ([Theorem (transient)][theorem-transient]).

        `UNLIMITED_NS` if there is none: so where a stage is paced, as nothing is proven of counts that change.
        """
        if any(scale.slowest_ns is not None for scale in self.stages.values()):
            return UNLIMITED_NS
        active = situation.active
        rises = any(replicas[stage] > active[stage] for stage in self.stages)
        delay_ns = self.activation_delay_ns if rises else 0
        remaining = {s: min(replicas[s], active[s]) * scale.pace for s, scale in self.stages.items()}
        slowest = self.paths.least_along(remaining)
        waits, own = {}, {}
        for stage, scale in self.stages.items():
            rate = replicas[stage] * scale.pace
            way = Transient(situation.outstanding[stage], slowest[stage] if delay_ns else rate, delay_ns, 0)
            waits[stage] = way.wait_ns(situation.envelope, rate)
            # A query's other tokens are served by whoever serves then: until the delay is over by those active now.
            own[stage] = _own_ns(scale, replicas[stage], min(replicas[stage], active[stage]), delay_ns)
        return self._longest_ns(own, waits)

    def transient_needs(
        self, waits_ns: Mapping[str, int], situation: Situation, *, rises: bool = False
    ) -> dict[str, Fraction | None]:
        """Replicas, as real numbers, that a backlog and the activation delay ask for, given the waits.

        Of all stages or of none; None where no number is enough.

        If what is active is enough at once, the delay does not matter, except for a query's own tokens, if counts rise
        (`rises`). Otherwise it counts for all stages.
        """
        if not any(situation.outstanding.values()) and self.activation_delay_ns == 0:
            return {}
        delay_ns, recovery_ns, active = self.activation_delay_ns, self.recovery_ns, situation.active

        def needed(stage: str, *ways: Transient) -> Fraction | None:
            wait_ns, rates = waits_ns[stage], [Fraction(0)]
            for way in ways:
                rate = way.rate_needed(situation.envelope, wait_ns) if wait_ns >= 0 else None
                if rate is None:
                    return None
                rates.append(rate)
            return max(rates) / self.stages[stage].pace

        at_once: dict[str, Fraction | None] = {}
        for stage in self.stages:
            merged = self.merged[stage] if rises else 0
            ways = [Transient(situation.outstanding[stage] + merged, Fraction(0), 0, recovery_ns)]
            if merged:  # after an idle moment before δ, too
                ways.append(Transient(merged, Fraction(0), 0, recovery_ns - delay_ns))
            at_once[stage] = needed(stage, *ways)
        enough = all(need is None or need <= active[stage] for stage, need in at_once.items())
        if delay_ns == 0 or enough:
            return at_once
        slowest = self.paths.least_along({s: active[s] * scale.pace for s, scale in self.stages.items()})
        return {
            s: needed(s, Transient(situation.outstanding[s], m, delay_ns, recovery_ns, self.merged[s]))
            for s, m in slowest.items()
        }

    def _through_ns(self, own_ns: Mapping[str, int]) -> dict[str, int]:
        """Longest path through each stage, ns: T, the time for a query's other tokens, and delays."""
        return self.paths.through({s: scale.lasting_ns + own_ns[s] for s, scale in self.stages.items()})

    def _longest_ns(self, own_ns: Mapping[str, int], waits_ns: Mapping[str, int]) -> int:
        """Longest path, ns: T, own times, delays, and once the largest wait on it."""
        return max(length + waits_ns[stage] for stage, length in self._through_ns(own_ns).items())


def decide(
    budgets: Sequence[DelayBudget], scaler: Scaler, situations: Sequence[Situation]
) -> list[TuningStep]:
    """Replica counts of all pipelines, one step each."""
    pairs = list(zip(budgets, situations, strict=True))
    needed = [_required(budget, situation) for budget, situation in pairs]
    result = scaler.scale(needed)
    floors = [
        needed[m] if result.unreachable[m] else _with_transients(budget, needed[m], situation, counts)
        for m, ((budget, situation), counts) in enumerate(zip(pairs, result.replicas, strict=True))
    ]
    if floors != needed:
        # Waits were shared out first; what the backlog needs on top is decided for those waits.
        again = scaler.scale(floors)
        # Nothing was shed to find the first bound; to shed may cost less than that, if losses are small.
        bound = again.bound if any(again.shed) else result.bound
        result = replace(again, bound=bound, reused=result.reused and again.reused)
    for m, (budget, situation) in enumerate(pairs):
        result = _given_back(budget, needed[m], situation, scaler, result, m)
    return [
        _step(budget, needed[m], situation, scaler, result, m) for m, (budget, situation) in enumerate(pairs)
    ]


def _given_back(
    budget: DelayBudget,
    needed: Requirement,
    situation: Situation,
    scaler: Scaler,
    result: ScalingResult,
    m: int,
) -> ScalingResult:
    """Give back what paced stages have too many of, since the linear condition rounds δ up; never more than the plan's.

    Only where nothing else asks for them: no backlog or delay, and no price on changes.
    """
    if all(scale.slowest_ns is None for scale in budget.stages.values()):
        return result
    if budget.fixed_ns is not None or not scaler.is_plain:
        return result
    if budget.activation_delay_ns or any(situation.outstanding.values()):
        return result
    if result.objective is None or result.bound is None:
        return result
    is_short = bool(result.shed[m]) or result.unreachable[m]
    if is_short and len(result.replicas) > 1:
        return result  # What the others shed is decided with this.
    allowed = scaler.allowed(m, needed)
    stages, found = list(budget.stages.values()), list(result.replicas[m])

    def cost_of(counts: Sequence[int]) -> int:
        return sum(n * stage.microusd_per_hour for n, stage in zip(counts, stages, strict=True))

    def is_kept(counts: Sequence[int]) -> bool:
        named = dict(zip(budget.stages, counts, strict=True))
        return budget.reckoned_ns(named, situation.envelope) <= budget.deadline_ns

    counts, planned = found, [stage.planned for stage in stages]
    is_allowed = all(low <= n <= high for n, (low, high) in zip(planned, allowed, strict=True))
    together = [n for k, own in enumerate(result.replicas) for n in (planned if k == m else own)]
    is_better = is_short or cost_of(planned) < cost_of(found)
    if is_better and is_allowed and scaler.is_admitted(np.array(together)) and is_kept(planned):
        counts = planned
    elif is_short:
        return result
    for k in sorted(range(len(stages)), key=lambda k: -stages[k].microusd_per_hour):
        if stages[k].slowest_ns is not None:
            before, after = counts[:k], counts[k + 1 :]
            fewest = first_true(allowed[k][0], counts[k], lambda n: is_kept([*before, n, *after]))  # noqa: B023
            counts = [*before, fewest, *after]
    if counts == found and not is_short:
        return result
    objective = cost_of(counts) if is_short else result.objective - cost_of(found) + cost_of(counts)
    return replace(
        result,
        replicas=(*result.replicas[:m], tuple(counts), *result.replicas[m + 1 :]),
        shed=(*result.shed[:m], 0, *result.shed[m + 1 :]),
        unreachable=(*result.unreachable[:m], False, *result.unreachable[m + 1 :]),
        objective=objective,
        bound=min(result.bound, objective),
    )


def _required(budget: DelayBudget, situation: Situation) -> Requirement:
    """What the pipeline needs; with demands where waits are to be shared out."""
    stages, envelope = budget.stages, situation.envelope
    present = tuple(max(1, situation.ordered[stage]) for stage in stages)
    if budget.is_shared_out:
        rates = tuple(_thousandths(envelope.rate / scale.pace) for scale in stages.values())
        return Requirement(rates, present, tuple(make_demand(s, envelope) for s in stages.values()))
    waits = budget.waits_ns
    extra = budget.transient_needs(waits, situation)
    needs = []
    for stage, scale in stages.items():
        rate = rate_needed(envelope, waits[stage])
        if rate is None:  # no count is enough: keep up with the rate, and give up nothing
            needs.append(max(_thousandths(envelope.rate / scale.pace), WHOLE * situation.ordered[stage]))
        else:
            # Thousandths, rounded up: rate / pace.
            up, down = WHOLE * rate[0] * scale.pace.denominator, rate[1] * scale.pace.numerator
            needs.append(max(-(-up // down), _thousandths(extra.get(stage))))
    return Requirement(tuple(needs), present)


def _with_transients(
    budget: DelayBudget, needed: Requirement, situation: Situation, counts: Sequence[int]
) -> Requirement:
    """Raise the needs of a pipeline whose waits were shared out to what a backlog or a delay asks for.

    The waits are those that the counts found leave. With as many or more replicas everywhere they only grow, so
    what is asked for stays right.
    """
    if needed.demands is None:
        return needed
    stages = budget.stages
    waits = budget.waits_with(dict(zip(stages, counts, strict=True)))
    rises = any(n > situation.active[stage] for n, stage in zip(counts, stages, strict=True))
    extra = budget.transient_needs(waits, situation, rises=rises)
    needs = [max(n * WHOLE, _thousandths(extra.get(stage))) for n, stage in zip(counts, stages, strict=True)]
    if all(need == n * WHOLE for need, n in zip(needs, counts, strict=True)):
        return needed
    owned = [n if scale.divided_ns else 1 for n, scale in zip(counts, stages.values(), strict=True)]
    return Requirement(tuple(needs), needed.present, owned=tuple(owned))


def _step(
    budget: DelayBudget,
    needed: Requirement,
    situation: Situation,
    scaler: Scaler,
    result: ScalingResult,
    m: int,
) -> TuningStep:
    """State what was found for a pipeline, the m-th of the scaler's, and what binds."""
    envelope, shed = situation.envelope, result.shed[m]
    replicas = dict(zip(budget.stages, result.replicas[m], strict=True))
    notes = list[str]()
    if budget.is_shared_out and not result.unreachable[m] and (shed or result.lacks_owned(m)):
        # With fewer replicas a query's own tokens take longer, too: less of the rest keeps the objective, or nothing.
        shed = budget.least_shed(replicas, envelope, shed)
    share = 1 - shed / WHOLE
    # Where waits are fixed, a stage may have none left although queries may come together.
    replan = result.unreachable[m] or (
        not budget.is_shared_out
        and any(rate_needed(envelope, wait) is None for wait in budget.waits_ns.values())
    )
    if replan:
        spent, allowed = format_duration(budget.lasting_time_ns), format_duration(budget.deadline_ns)
        taken = f"service times and delays alone take {spent} of {allowed}"
        notes.append(f"no number of replicas keeps the objective: {taken}")
    if result.is_slow:
        notes.append(
            "more replicas than the conditions admit stay for now: most_removed lets no more of them go"
        )
    elif result.objective is None:
        notes.append("the conditions admit not even the fewest replicas")
        replan = True
    elif shed:
        served = f"{share:.1%} of the traffic"
        binding = scaler.binding(needed, result, m)
        if not binding and scaler.pipelines[m].loss_microusd is not None:
            notes.append(
                f"{served} is served: to serve more would cost more than is lost (loss_usd_per_hour)"
            )
        else:
            served += " can be served" + ("" if replan else " within the objective")
            notes.append(f"{served}: {', '.join(binding)}" if binding else served)
            replan = replan or not scaler.is_rate_limited(needed, result, m)
        if shed == WHOLE:
            notes.append(_NOT_KEPT)
    bound = transient = budget.bound_ns(replicas, envelope)
    moving = budget.activation_delay_ns or any(situation.outstanding.values())
    if moving and budget.tokens is Tokens.MOST:
        transient = budget.transient_bound_ns(replicas, situation)
        rises = any(n > situation.active[stage] for stage, n in replicas.items())
        needs = budget.transient_needs(budget.waits_with(replicas), situation, rises=rises)
        late = [stage for stage, need in needs.items() if need is None or need > replicas[stage]]
        if late and budget.fixed_ns is None and share == 1 and not replan:
            after = f"queries may be late even after {format_duration(budget.recovery_ns)}"
            notes.append(f"{after}: {', '.join(late)} cannot make up for what is there")
    return TuningStep(
        replicas=replicas,
        microusd_per_hour=sum(replicas[s] * x.microusd_per_hour for s, x in budget.stages.items()),
        objective_microusd_per_hour=result.objective,
        lower_bound_microusd_per_hour=result.bound,
        latency_bound_ns=bound,
        transient_bound_ns=transient,
        share=share,
        reused=result.reused,
        replan=replan,
        notes=(*notes, *budget.notes),
        envelope=envelope,
        now_ns=situation.now_ns,
    )


def _own_ns(scale: StageScale, replicas: int, active: int = 0, delay_ns: int = 0) -> int:
    """What replicas divide of a query's time, ns, rounded up; before the delay is over only those active serve."""
    left = scale.divided_ns - active * delay_ns
    return -(-scale.divided_ns // max(1, active)) if left <= 0 < delay_ns else delay_ns - (-left // replicas)


def _thousandths(need: Fraction | None) -> int:
    return 0 if need is None else -(-need.numerator * WHOLE // need.denominator)
