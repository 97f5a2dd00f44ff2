"""Pages: of a plan on a trace (`plans`), of policies in closed loop, of a fleet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import assert_never

from mipplan.core import (
    MICRODOLLARS_PER_DOLLAR,
    InputError,
    check_time_limit,
    counted,
    format_duration,
    interrupts_seen,
    usd_text,
)
from mipplan.fleet import FleetPlan
from mipplan.html.page import Page, Section, Sheet, sheet
from mipplan.html.plans import Parts, Progress, choices_section, foot, page_of_plan, provenance_section
from mipplan.result import Plan, choice_text
from mipplan.trace import Trace
from mipplan.tuner import Tuning


def report(
    subject: Plan | Tuning | FleetPlan,
    trace: Trace | None = None,
    *,
    costs: bool = True,
    compare: bool = True,
    perturb: bool = True,
    vary: bool = True,
    title: str | None = None,
    time_limit_s: float = 30.0,
    progress: Progress | None = None,
) -> Page:
    """Write a page about a plan, a tuning or a fleet.

    Parameters
    ----------
    subject : Plan, Tuning or FleetPlan
        A plan with choices; what `mipplan.tune` or `mipplan.plan_fleet` returned.
    trace : Trace, optional
        For a plan: the traffic to judge it on. By default the trace it was made for, if that is at hand (it is not
        after the plan was read from a file).
    costs : bool
        Whether a plan's page says what other guarantees cost.
    compare : bool
        Whether it says what other planners would do.
    perturb : bool
        Whether it says what breaks the plan first.
    vary : bool
        Whether it says which prices, models and measurements the cost depends on.
    title : str, optional
        Of the page; by default it is made from the pipeline's name. A fleet itself has none.
    time_limit_s : float
        For what is searched: plans under other guarantees, on other hardware, by others. Replays come on top.
    progress : callable, optional
        Called with one line of text as the work proceeds.

    Returns
    -------
    Page
        ``page.save("report.html")`` writes it, ``page.html`` is its text.

    Raises
    ------
    InputError
        If a plan comes without a trace, or the time limit is not positive.
    NoPlanError
        If the plan has no choices.
    KeyboardInterrupt
        At Ctrl-C: a page holds all that was asked for, or is none.
    """
    check_time_limit(time_limit_s)
    from matplotlib import style

    # Figures lie on light paper: in a dark style of the reader's their words would be white on white.
    with style.context("default"):
        page = _page_of(subject, trace, Parts(costs, compare, perturb, vary), time_limit_s, progress)
    return page if title is None else replace(page, title=title)


def _page_of(
    subject: Plan | Tuning | FleetPlan,
    trace: Trace | None,
    parts: Parts,
    time_limit_s: float,
    progress: Progress | None,
) -> Page:
    match subject:
        case Plan():
            sample = trace if trace is not None else subject.provenance.sample
            if sample is None:
                raise InputError.one("trace", "is needed: the plan has none at hand")
            with interrupts_seen() as interrupts:

                def told(line: str) -> None:
                    _check_interrupts(interrupts)
                    if progress is not None:
                        progress(line)

                page = page_of_plan(subject.require(), sample, parts, time_limit_s, told)
                _check_interrupts(interrupts)
            return page
        case Tuning():
            return _of_tuning(subject)
        case FleetPlan():
            return _of_fleet(subject)
        case _:
            assert_never(subject)


def _check_interrupts(seen: list[int]) -> None:
    """Go no further after Ctrl-C: the searches that a page is made of stop at it, and return what they have."""
    if seen:
        raise KeyboardInterrupt


# --- a tuning, a fleet ------------------------------------------------------------------------------------------------


def _of_tuning(tuning: Tuning) -> Page:
    plan = tuning.plan
    rows = (
        (
            run.policy,
            f"{run.miss_rate:.3%}",
            usd_text(run.usd_per_hour, 2),
            format_duration(run.result.quantile_ns(run.quantile)),
            f"{max(run.missed_over_time):.2%}",
            f"{run.reaction_s:g}",
            f"{len(run.actions):,}",
        )
        for run in tuning.runs
    )
    quantile = f"P{100 * plan.quantile:g}"
    headings = (
        "policy",
        ">missed",
        ">$/h",
        f">{quantile}",
        ">worst window missed",
        ">reaction (s)",
        ">changes",
    )
    counts = (
        (
            run.policy,
            stage,
            f"{made.replicas.min()}",
            f"{run.mean_replicas[stage]:.4g}",
            f"{made.replicas.max()}",
        )
        for run in tuning.runs
        for stage, made in run.schedules.items()
    )
    tables = (
        sheet("What each policy costs and misses", headings, rows),
        sheet("Replicas ordered", ("policy", "stage", ">least", ">mean over time", ">most"), counts),
    )
    words = [
        "All judged by the same exact replay of the same traffic.",
        f"Control acts every {tuning.period_s:g} s; a replica serves {tuning.activation_delay_s:g} s after its order.",
        *(
            [f"Interrupted: {', '.join(tuning.left_out) or 'the last policy'} not done."]
            if tuning.is_partial
            else []
        ),
        *(f"{run.policy}: {note}." for run in tuning.runs for note in run.notes),
    ]
    caption = "Traffic, replicas of each stage, what they cost, P99 and misses of each policy over time."
    policies = Section("Policies", tuple(words), tables, ((tuning.plot(), caption),))
    cheapest = min(tuning.runs, key=lambda run: run.usd_per_hour)
    tiles = (
        ("plan", "–" if plan.usd_per_hour is None else f"{usd_text(plan.usd_per_hour, 2)} $/h"),
        ("objective", plan.objective.text),
        ("policies", str(len(tuning.runs))),
        (
            "cheapest",
            f"{cheapest.policy}: {usd_text(cheapest.usd_per_hour, 2)} $/h, {cheapest.miss_rate:.2%} missed",
        ),
    )
    lead = f"Replicas that follow {tuning.trace.name} ({len(tuning.trace):,} queries)"
    told = provenance_section(plan, {"followed": tuning.trace, "told as the sample": tuning.sample})
    return Page(
        f"Policies for {plan.pipeline.name}", lead, tiles, (policies, choices_section(plan), told), foot()
    )


def _of_fleet(fleet: FleetPlan) -> Page:
    """Of what is there: the fleet, or those of its pipelines that fit."""
    admission, relaxation = fleet.admission, fleet.relaxation
    shown = admission.fleet if admission is not None and not fleet.plans else fleet
    caption = "Devices used and their limits; cost by pipeline."
    sections = [
        Section(
            "Pipelines",
            () if fleet.reason is None else (f"{fleet.reason}.",),
            (_members(shown.plans), _devices(shown)),
            ((fleet.plot(), caption),) if shown.plans else (),
        )
    ]
    if admission is not None or relaxation is not None:
        words = []
        if admission is not None:
            count = len(admission.fleet.plans) + len(admission.left_out)
            words.append(
                f"Admit {len(admission.fleet.plans):,} of {count:,} pipelines, of weight {admission.weight:g} of "
                f"{admission.total_weight:g}, and leave out {', '.join(admission.left_out)}."
            )
        if relaxation is not None:
            words.append(f"Or relax every objective to {relaxation.factor:.4g} times what it is.")
        sections.append(Section("What would fit", tuple(words)))
    if shown.plans:
        sections.append(Section("Where it comes from", (), tuple(_sources(shown.plans))))
    cost, bound = shown.usd_per_hour, fleet.lower_bound_usd_per_hour
    proof = "–" if bound is None else f"{usd_text(bound, 2)} $/h"
    tiles = (
        ("cost", "–" if cost is None else f"{usd_text(cost, 2)} $/h"),
        ("lower bound", proof),
        ("pipelines", f"{len(shown.plans):,}"),
        ("status", str(fleet.status)),
        ("limits that bind", ", ".join(fleet.binding) or "none"),
    )
    count = len(shown.plans)
    lead = f"{counted(count, 'pipeline')} on shared hardware"
    return Page("Fleet", lead, tiles, tuple(sections), foot())


def _members(plans: Mapping[str, Plan]) -> Sheet:
    accurate = [">accuracy"] if any(plan.accuracy is not None for plan in plans.values()) else []
    rows = (
        (
            name,
            plan.objective.text,
            None if plan.certificate_ns is None else format_duration(plan.certificate_ns),
            None if plan.usd_per_hour is None else usd_text(plan.usd_per_hour),
            None if plan.lower_bound_usd_per_hour is None else usd_text(plan.lower_bound_usd_per_hour),
            *(None if plan.accuracy is None else f"{plan.accuracy:.4g}" for _ in accurate),
            ", ".join(f"{stage}: {choice_text(one)}" for stage, one in plan.choices.items()),
        )
        for name, plan in plans.items()
    )
    headings = (
        "pipeline",
        "objective",
        ">certified",
        ">$/h",
        ">alone at least",
        *accurate,
        "replicas × hardware (batch cap)",
    )
    return sheet("Pipelines", headings, rows)


def _devices(fleet: FleetPlan) -> Sheet:
    rows = (
        (
            name,
            f"{use.used:,}",
            None if use.limit is None else f"{use.limit:,}",
            usd_text(use.microusd_per_hour / MICRODOLLARS_PER_DOLLAR),
            usd_text((use.one_more_microusd_per_hour or 0) / MICRODOLLARS_PER_DOLLAR) if use.binds else None,
        )
        for name, use in fleet.devices.items()
    )
    return sheet("Devices", ("hardware", ">used", ">limit", ">$/h", ">one more saves, $/h"), rows)


def _sources(plans: Mapping[str, Plan]) -> Iterator[Sheet]:
    """What each pipeline was planned for; latencies and prices that its plans rest on, once each."""
    traces = (
        (name, one.name, f"{one.queries:,}", one.sha256)
        for name, plan in plans.items()
        for one in plan.provenance.traces
    )
    yield sheet("Traffic", ("pipeline", "trace", ">queries", "SHA-256 of its times"), traces)
    known = [sheet for plan in plans.values() for sheet in provenance_section(plan, {}).sheets[1:]]
    for caption, headings in dict.fromkeys((one.caption, one.headings) for one in known):
        # Stages are those of one pipeline: models and hardware are what several share.
        first = 1 if headings[0] == "stage" else 0
        rows = dict.fromkeys(row[first:] for one in known if one.caption == caption for row in one.rows)
        yield sheet(caption, headings[first:], rows)
