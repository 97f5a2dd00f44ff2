"""What plans are made for: the options that all commands have that make plans of a pipeline, and how they are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mipplan as mp
from mipplan.cli import flags, inputs, traces
from mipplan.core import Fault, Faults, InputError

#: For the greatest accuracy that a budget pays for.
GREATEST = "max"


def accuracy_of(text: str | None, budget: float | None) -> Any:
    """Read a least accuracy, or ``max``, which goes with a budget."""
    if text == GREATEST and budget is None:
        raise InputError.one("--accuracy", "max goes with --budget: the most accuracy that it pays for")
    return text if text == GREATEST else least_accuracy(text)


def least_accuracy(text: str | None) -> float | None:
    """Read a least accuracy of commands that have no budget."""
    from mipplan.pipeline import check_accuracy

    return None if text is None else check_accuracy(inputs.share_of("--accuracy", text), "--accuracy")


def check_one_quantile(quantile: float | None, slo: str | None) -> None:
    """Refuse a quantile that is none, and one beside those that ``--slo`` states; raises `InputError`."""
    from mipplan.core import check_quantile

    if quantile is not None:
        check_quantile(quantile)
    if quantile is not None and "=" in (slo or ""):
        raise InputError.one(
            "--quantile", "--slo states quantiles already: name them there, or here with one limit"
        )


def energy_of(
    told: bool, most_w: float | None, usd: str | None, gco2: str | None, tonne: float | None
) -> mp.EnergyTerms | None:
    """Read what is asked of energy; None if nothing is."""
    faults, given = Faults(), dict[str, Any](max_power_w=most_w)
    for name, text in (("usd_per_kwh", usd), ("gco2_per_kwh", gco2)):
        try:
            values = tuple(map(float, text.split(","))) if text is not None else ()
        except ValueError:
            message = f"expected a number, or one for each hour with commas between, found {text!r}"
            faults.add(Fault(f"--{name.replace('_', '-')}", message))
        else:
            given |= {} if text is None else {name: values if len(values) > 1 else values[0]}
    if tonne and gco2 is None:
        faults.add(Fault("--usd-per-tonne", "needs --gco2-per-kwh: how much CO₂ a kWh makes"))
    elif tonne is not None and "gco2_per_kwh" in given:
        given["usd_per_tonne"] = tonne
    terms = faults.take(lambda: mp.EnergyTerms(**given))
    faults.check()
    return terms.value if told or (most_w, usd, gco2, tonne) != (None,) * 4 else None


def read(
    faults: Faults,
    pipeline: flags.PipelineFile,
    trace: flags.TraceFiles,
    slo: flags.Slo = None,
    profiles: flags.ProfilesDir = None,
    quantile: flags.Quantile = None,
    per: flags.Per = None,
    share: flags.Share = None,
    headroom: flags.Headroom = 1.0,
    margin: flags.Margin = "0ms",
    guarantee: flags.Guarantee = "trace",
    envelope: flags.Envelope = None,
    seeds: flags.Seeds = 1,
    dispatch: flags.Dispatch = None,
    stagger: flags.Stagger = None,
    window: flags.Window = None,
    discipline: flags.Discipline = None,
    runs: flags.Runs = None,
    energy: flags.Energy = False,
    max_power: flags.MaxPower = None,
    usd_per_kwh: flags.UsdPerKwh = None,
    gco2_per_kwh: flags.Gco2PerKwh = None,
    usd_per_tonne: flags.UsdPerTonne = None,
    formulation: flags.Solver = "auto",
    solver: flags.Solver = "auto",
    time_limit: flags.PlanTimeLimit = "60s",
    seed: flags.Seed = 0,
    latency: flags.Latency = None,
    *,
    out: Path | None = None,
    budget: float | None = None,
    certificate: str = "classic",
    confidence: float | None = None,
    drift: str | None = None,
    **placed: Any,
) -> tuple[Any, dict[str, Any]]:
    """Read and check them: pipeline, profiles and traces, and the library's settings but for the budget.

    What only some commands have stands behind the star. Raises `InputError` with every fault, those found before
    among them.
    """
    from mipplan.core import check_one_of, check_seed
    from mipplan.pipeline import Discipline, check_collecting
    from mipplan.planner import check_search, check_theorem, check_tomorrow
    from mipplan.result import check_laws

    def queues() -> str:
        """The discipline that is meant."""
        own = asked.value.discipline if asked else Discipline.OLDEST_FIRST
        return discipline or own

    def check_proof() -> None:
        """Find out with everything else whether anything is proven of what is asked for."""
        told = check_laws(asked.value, dispatch, discipline)
        faults.take(lambda: check_collecting(window_s.or_else(None), told, "--window"))
        how = told, queues(), guarantee, certificate, covered.or_else(None), headroom, budget
        check_theorem(*how, terms.or_else(None))

    limits = faults.take(lambda: inputs.slo_of(slo))
    per_s = faults.take(lambda: inputs.optional_seconds("--per", per))
    margin_s = faults.take(lambda: inputs.seconds_of("--margin", margin))
    stagger_s = faults.take(lambda: inputs.stagger_of(stagger))
    window_s = faults.take(lambda: inputs.window_of(window))
    curve = faults.take(lambda: inputs.arrival_curve(envelope or ()))
    time_limit_s = faults.take(lambda: inputs.seconds_of("--time-limit", time_limit))
    asked = faults.take(lambda: inputs.read_pipeline(pipeline))
    measured = faults.take(lambda: inputs.read_profiles(profiles, latency, asked.value if asked else None))
    arrivals = faults.take(lambda: traces.read_traces(trace, seed, **placed))
    drifting = faults.take(lambda: inputs.share_of("--drift", drift))
    covered = faults.take(lambda: None if runs is None else inputs.run_class(runs))
    terms = faults.take(lambda: energy_of(energy, max_power, usd_per_kwh, gco2_per_kwh, usd_per_tonne))
    faults.take(lambda: check_one_quantile(quantile, slo))
    faults.take(lambda: check_seed(seed))
    faults.take(
        lambda: check_search(
            formulation=formulation,
            guarantee=guarantee,
            envelope=curve.or_else(None),
            time_limit_s=time_limit_s.value if time_limit_s else None,
            headroom=headroom,
            budget_usd_per_hour=budget,
            certificate=certificate,
            runs=covered.or_else(None),
            discipline=queues(),
        )
    )
    faults.take(lambda: check_tomorrow(guarantee, confidence, drifting.or_else(None), seeds))
    faults.take(lambda: inputs.check_dispatch(dispatch))
    faults.take(lambda: check_one_of("discipline", queues(), Discipline, repr))
    faults.take(lambda: check_proof() if asked else None)
    given = {"pipeline": pipeline, **traces.by_place(trace)}
    faults.take(lambda: inputs.check_files(given, {"--out": out}, profiles))
    if asked and limits and per_s:
        faults.take(lambda: inputs.asked_of(asked.value, limits.value, per_s.value, share))
    faults.check()
    stated, slo_s = inputs.asked_of(asked.value, limits.value, per_s.value, share)
    stated = stated.staggered(stagger_s.value).collecting(window_s.value)
    return (stated, measured.value, arrivals.value), {
        "slo_s": slo_s,
        "quantile": quantile,
        "formulation": formulation,
        "solver": solver,
        "time_limit_s": time_limit_s.value,
        "seed": seed,
        "guarantee": guarantee,
        "headroom": headroom,
        "margin_s": margin_s.value,
        "envelope": curve.value,
        "dispatch": dispatch,
        "discipline": discipline,
        "certificate": certificate,
        "runs": covered.value,
        "confidence": confidence,
        "drift": drifting.value,
        "seeds": seeds,
        "energy": terms.value,
    }


asking = flags.options_of(read, traces.reading)
