"""From situations to steps: what each stage needs, replica counts for all, and what is proven about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING

from mipplan.calculus import Envelope, rate_needed
from mipplan.core import UNLIMITED_NS, InputError, format_duration
from mipplan.tuner.scaler import Scaled, Scaler, Want
from mipplan.tuner.stages import StageScale, Tokens
from mipplan.tuner.step import TuningStep
from mipplan.tuner.traffic import Situation
from mipplan.tuner.transients import Transient
from mipplan_formulations import LARGEST_MAGNITUDE, Demand
from mipplan_formulations.scaling import WHOLE

if TYPE_CHECKING:
    from mipplan.tuner.tuner import Tuner


def decide(tuners: Sequence[Tuner], scaler: Scaler, situations: Sequence[Situation]) -> list[TuningStep]:
    """Replica counts of all pipelines, one step each; no tuner is changed."""
    wants = [_want(tuner, situation) for tuner, situation in zip(tuners, situations, strict=True)]
    scaled = scaler.scale(wants)
    floors = [
        _with_transients(tuner, situation, want, counts)
        for tuner, situation, want, counts in zip(tuners, situations, wants, scaled.replicas, strict=True)
    ]
    if floors != wants and not any(scaled.unreachable):
        # Waits were shared out first; what the backlog needs on top is decided for those waits.
        again = scaler.scale(floors)
        # Nothing was shed to find the first bound; to shed may cost less than that, if losses are small.
        bound = again.bound if any(again.shed) else scaled.bound
        scaled = replace(again, bound=bound, reused=scaled.reused and again.reused)
    return [
        _step(tuner, situation, want, scaled, m, scaler)
        for m, (tuner, situation, want) in enumerate(zip(tuners, situations, wants, strict=True))
    ]


def _want(tuner: Tuner, situation: Situation) -> Want:
    """What a pipeline needs, in thousandths of a replica; with demands where waits are to be shared out."""
    present = tuple(max(1, situation.ordered[stage]) for stage in tuner.stages)
    if tuner.allowances.is_shared_out:
        rates = tuple(_rate_thousandths(scale, situation.envelope) for scale in tuner.stages.values())
        demands = tuple(make_demand(scale, situation.envelope) for scale in tuner.stages.values())
        return Want(rates, present, demands)
    waits = tuner.allowances.waits_ns
    extra = transient_needs(tuner, situation, waits)
    needs = []
    for stage, scale in tuner.stages.items():
        rate = rate_needed(situation.envelope, waits[stage])
        if rate is None:  # no count is enough: keep up with the rate, and give up nothing
            needs.append(max(_rate_thousandths(scale, situation.envelope), WHOLE * situation.ordered[stage]))
        else:
            # Thousandths, rounded up: rate / pace.
            up, down = WHOLE * rate[0] * scale.pace.denominator, rate[1] * scale.pace.numerator
            needs.append(max(-(-up // down), _thousandths(extra[stage]) if stage in extra else 0))
    return Want(tuple(needs), present)


def _with_transients(tuner: Tuner, situation: Situation, want: Want, counts: Sequence[int]) -> Want:
    """Raise the needs of a pipeline whose waits were shared out to what a backlog or a delay asks for.

    The waits are those that the counts found leave. With as many or more replicas everywhere they only grow, so what is
    asked for stays right.
    """
    if want.demands is None:
        return want
    waits = tuner.allowances.waits_with(dict(zip(tuner.stages, counts, strict=True)))
    extra = transient_needs(tuner, situation, waits)
    needs = [
        max(n * WHOLE, _thousandths(extra.get(stage, Fraction(0))))
        for n, stage in zip(counts, tuner.stages, strict=True)
    ]
    if all(need == n * WHOLE for need, n in zip(needs, counts, strict=True)):
        return want
    owned = [n if scale.own_load_ns else 1 for n, scale in zip(counts, tuner.stages.values(), strict=True)]
    return Want(tuple(needs), want.present, owned=tuple(owned))


def transient_needs(tuner: Tuner, situation: Situation, waits_ns: Mapping[str, int]) -> dict[str, Fraction]:
    """Replicas, as real numbers, that a backlog and the activation delay ask for, given the waits; perhaps none.

    If what is active is enough at once, the delay does not matter. Otherwise it counts for all stages of the pipeline.
    """
    if not any(situation.outstanding.values()) and tuner.activation_delay_ns == 0:
        return {}
    stages = tuner.stages
    active = situation.active
    none = dict.fromkeys(stages, Fraction(0))
    at_once = _replicas_needed(tuner, situation, waits_ns, none, 0)
    if tuner.activation_delay_ns == 0 or all(need <= active[stage] for stage, need in at_once.items()):
        return at_once
    slowest = tuner.paths.least({stage: active[stage] * scale.pace for stage, scale in stages.items()})
    return _replicas_needed(tuner, situation, waits_ns, slowest, tuner.activation_delay_ns)


def _replicas_needed(
    tuner: Tuner,
    situation: Situation,
    waits_ns: Mapping[str, int],
    slowest: Mapping[str, Fraction],
    delay_ns: int,
) -> dict[str, Fraction]:
    needed = {}
    for stage, scale in tuner.stages.items():
        way = Transient(situation.outstanding[stage], slowest[stage], delay_ns, tuner.recovery_ns)
        rate = way.rate_needed(situation.envelope, waits_ns[stage]) if waits_ns[stage] > 0 else None
        if rate is not None:
            needed[stage] = rate / scale.pace
    return needed


def transient_bound_ns(tuner: Tuner, situation: Situation, replicas: Mapping[str, int]) -> int:
    """Bound on the latency of any query from now on, ns; `UNLIMITED_NS` if there is none."""
    stages = tuner.stages
    rises = any(replicas[stage] > situation.active[stage] for stage in stages)
    delay_ns = tuner.activation_delay_ns if rises else 0
    remaining = {s: min(replicas[s], situation.active[s]) * scale.pace for s, scale in stages.items()}
    slowest = tuner.paths.least(remaining)
    waits = {}
    for stage, scale in stages.items():
        rate = replicas[stage] * scale.pace
        way = Transient(situation.outstanding[stage], slowest[stage] if delay_ns else rate, delay_ns, 0)
        waits[stage] = way.wait_ns(situation.envelope, rate)
    own = {stage: scale.own_ns(replicas[stage]) for stage, scale in stages.items()}
    return tuner.paths.longest_ns(own, waits)


def make_demand(scale: StageScale, envelope: Envelope) -> Demand:
    """Times of a stage as functions of its replicas; windows that are no whole ns are rounded down.

    Raises
    ------
    InputError
        If the work of a window is more than can be reckoned with.
    """
    up, down = scale.pace.denominator, scale.pace.numerator
    offsets = [window // common for _, window, common in envelope.excesses]
    loads = [max(0, -(-up * excess // (down * common))) for excess, _, common in envelope.excesses]
    if max(loads, default=0) > LARGEST_MAGNITUDE:
        raise InputError.one(
            "traffic", f"holds more queries at once than stage {scale.stage!r} serves in months"
        )
    return Demand(offsets, loads, scale.own_load_ns)  # type: ignore[arg-type]  # made arrays there


def _step(
    tuner: Tuner, situation: Situation, want: Want, scaled: Scaled, m: int, scaler: Scaler
) -> TuningStep:
    replicas = dict(zip(tuner.stages, scaled.replicas[m], strict=True))
    cost = sum(replicas[stage] * scale.microusd_per_hour for stage, scale in tuner.stages.items())
    notes, replan = _judge(tuner, situation, want, scaled, m, scaler)
    bound = tuner.bound_ns(replicas, situation.envelope)
    transient = bound
    moving = tuner.activation_delay_ns or any(situation.outstanding.values())
    if moving and tuner.tokens is Tokens.MOST:
        transient = transient_bound_ns(tuner, situation, replicas)
    return TuningStep(
        replicas=replicas,
        microusd_per_hour=cost,
        objective_microusd_per_hour=scaled.objective,
        lower_bound_microusd_per_hour=scaled.bound,
        latency_bound_ns=None if bound >= UNLIMITED_NS else bound,
        transient_bound_ns=None if transient >= UNLIMITED_NS else transient,
        share=1 - scaled.shed[m] / WHOLE,
        reused=scaled.reused,
        replan=replan,
        notes=notes,
        envelope=situation.envelope,
        now_ns=situation.now_ns,
    )


def _judge(
    tuner: Tuner, situation: Situation, want: Want, scaled: Scaled, m: int, scaler: Scaler
) -> tuple[tuple[str, ...], bool]:
    """What binds, and whether other hardware or batch caps are called for."""
    notes: list[str] = []
    replan = False
    if scaled.unreachable[m] or _is_unreachable(tuner, situation):
        taken, least = tuner.service_time_ns, tuner.allowances.deadline_ns
        notes.append(
            f"no number of replicas keeps the objective: service times and delays alone take "
            f"{format_duration(taken)} of {format_duration(least)}"
        )
        replan = True
    if scaled.objective is None:
        notes.append("the conditions admit not even the fewest replicas")
        replan = True
    elif scaled.shed[m]:
        share = f"{1 - scaled.shed[m] / WHOLE:.1%} of the traffic"
        binding = scaler.binding(want, scaled, m)
        if not binding and scaler.members[m].loss_microusd is not None:
            notes.append(f"{share} is served: to serve more would cost more than is lost (loss_usd_per_hour)")
        else:
            share += " can be served within the objective"
            notes.append(f"{share}: {', '.join(binding)}" if binding else share)
            replan = replan or not scaler.is_rate_limited(want, scaled, m)
        if not scaled.keeps_own_times and tuner.allowances.is_shared_out:
            notes.append("queries wait longer for their own tokens than that assumes: see the latency bound")
    return tuple(notes), replan


def _is_unreachable(tuner: Tuner, situation: Situation) -> bool:
    """Whether waits are fixed, and a stage has none left although queries may come together."""
    if tuner.allowances.is_shared_out:
        return False
    return any(rate_needed(situation.envelope, wait) is None for wait in tuner.allowances.waits_ns.values())


def _rate_thousandths(scale: StageScale, envelope: Envelope) -> int:
    return _thousandths(Fraction(envelope.rate) / scale.pace)


def _thousandths(need: Fraction) -> int:
    return -(-need.numerator * WHOLE // need.denominator)
