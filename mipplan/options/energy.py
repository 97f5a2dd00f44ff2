"""Energy in the program: bounds on the mean power of every option, a cap on it, and what electricity costs at most.

A run of n replicas over a trace takes n·P_idle all the time, and x(k) = (P(k) − P_idle)·ℓ(k) more for a batch of k. As
every token is in one batch, that is between N·min x(k)/k and N·max x(k)/k for N tokens; and no device ever draws more
than max P(k). See [what is proven of energy][what-is-proven-of-energy].
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from fractions import Fraction

from mipplan.core import Fault, InputError, shown
from mipplan.options.families import Cap, Family, StageFamilies
from mipplan.pipeline import Pipeline
from mipplan.profiles import (
    MW_PER_W,
    EnergyTerms,
    Profiles,
    electricity,
    power_bounds,
    power_draw,
    power_problems,
)

_NONE = Fraction(0)


def charge_energy(
    pipeline: Pipeline,
    profiles: Profiles,
    families: Mapping[str, StageFamilies],
    demand: Mapping[str, Fraction],
    least_demand: Mapping[str, Fraction],
    terms: EnergyTerms,
) -> dict[str, StageFamilies]:
    """Return families that know their power, and what it costs, at a demand of tokens per ns by stage.

    So many are planned for; of how few there are at least, 0 where nothing is said, the lower bound is.
    """

    def charged(stage: str, family: Family) -> Family:
        model = family.variant or pipeline.stages[stage].model
        table, device = profiles.tables[model, family.hardware], profiles.hardware[family.hardware]
        draw = power_draw(table, device, family.batch)
        power = power_bounds(draw, family.service_ns.tolist(), demand[stage], least_demand.get(stage, _NONE))
        return replace(family, power=power, electricity=electricity(power, terms))

    return {
        stage: replace(found, families=tuple(charged(stage, family) for family in found.families))
        for stage, found in families.items()
    }


def require_power(
    families: Mapping[str, StageFamilies], most_mw: int
) -> tuple[dict[str, StageFamilies], Cap]:
    """Return families that say what they take of a cap on power, with no more replicas than it has room for.

    Where they take more whatever they are, the cap says so, and no stage has a family left.
    """
    least = {
        stage: min((f.power.most.of(f.fewest) for f in found.families if f.power), default=0)
        for stage, found in families.items()
    }
    needed = sum(least.values())
    if needed > most_mw:
        if not all(found.families for found in families.values()):
            return dict(families), Cap("power", most_mw)  # What cannot be served at all is to be told first.
        none = {stage: replace(found, families=()) for stage, found in families.items()}
        return none, Cap("power", most_mw, needed)
    capped = {}
    for stage, found in families.items():
        room, kept, rejected = most_mw - needed + least[stage], [], list(found.rejected)
        for family in found.families:
            if family.power is None:
                raise AssertionError("power is capped where it is known")
            use = family.power.most
            most = min(family.most, use.most(room))
            if most >= family.fewest:
                kept.append(replace(family, most=most, uses=(*family.uses, use)))
                continue
            rejected.append(
                f"{family.hardware} with batch {family.batch} may draw {use.of(family.fewest) / MW_PER_W:g} W on "
                f"average, and the cap leaves {room / MW_PER_W:g} W for the stage"
            )
        capped[stage] = StageFamilies(stage, tuple(kept), tuple(rejected))
    return capped, Cap("power", most_mw, needed)


def unreachable_caps(caps: Iterable[Cap]) -> list[str]:
    """Say of each cap on power below what all stages may draw how much that is."""
    return [
        f"the stages may draw {cap.least / MW_PER_W:g} W together, whatever they run on: more than the "
        f"{cap.most / MW_PER_W:g} W asked for"
        for cap in caps
        if cap.least > cap.most
    ]


def check_power(pipeline: Pipeline, profiles: Profiles, terms: object) -> None:
    """Check that the power of everything that a plan may choose is known.

    Raises `InputError` listing every place where it is not, or cannot be.
    """
    if not isinstance(terms, EnergyTerms):
        raise InputError.one("energy", f"expected mipplan.EnergyTerms, found {shown(terms)}")
    InputError.raise_if(_power_faults(pipeline, profiles))


def _power_faults(pipeline: Pipeline, profiles: Profiles) -> Iterator[Fault]:
    for name, stage in pipeline.stages.items():
        for model in stage.models:
            for hardware in stage.hardware or profiles.hardware_for(model):
                table = profiles.table(model, hardware)
                if table is not None:
                    place = pipeline.place(("stages", name, "variants" if stage.variants else "model"))
                    for problem in power_problems(table, profiles.hardware[hardware]):
                        yield Fault(place, f"{model} on {hardware}: {problem}")
