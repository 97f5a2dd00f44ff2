"""The commands that ask: why this plan, what if, what differs, what the objective costs along an axis, what matters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer

import mipplan as mp
from mipplan import reporting
from mipplan.cli import config, flags, inputs, traces
from mipplan.cli.session import Session
from mipplan.core import Fault, Faults, InputError

_Asked = Annotated[
    str,
    typer.Argument(
        metavar="PLAN|PIPELINE",
        help="Plan file (JSON), pipeline file (YAML), or the name of a shipped pipeline.",
    ),
]
_TimeLimit = Annotated[str, flags.option("TIME", "Stop searching after this long, with what was found.")]
_ForPipelines = "goes with a pipeline; what was asked for stands in the plan file"


@dataclass(frozen=True)
class _Source:
    """What is asked about, as far as it could be read."""

    plan: mp.Plan | None
    pipeline: mp.Pipeline | None
    profiles: mp.Profiles | None
    traces: list[mp.Trace]
    slo_s: float | None
    seed: int
    seeds: int
    limit_s: float
    name: str
    out: Path | None

    def planned(self, progress: Callable[[str], None]) -> mp.Plan:
        """The plan asked about: that of the file, or the cheapest one of the pipeline.

        Raises `KeyboardInterrupt` at Ctrl-C: nothing is asked of what its search had.
        """
        from mipplan.planner import uninterrupted

        if self.plan is not None:
            return self.plan
        if self.pipeline is None or self.profiles is None:
            raise AssertionError("read before")
        made = mp.plan(
            self.pipeline,
            self.profiles,
            self.traces,
            slo_s=self.slo_s,
            seed=self.seed,
            seeds=self.seeds,
            time_limit_s=self.limit_s,
            progress=progress,
        )
        return uninterrupted(made)


def _read(
    context: typer.Context,
    faults: Faults,
    asked: _Asked,
    trace: flags.TraceFiles,
    slo: flags.Slo = None,
    profiles: flags.ProfilesDir = None,
    time_limit: _TimeLimit = "60s",
    seeds: flags.Draws = 1,
    seed: flags.AskedSeed = None,
    out: flags.Document = None,
    *,
    plot: Path | None = None,
    **placed: Any,
) -> _Source:
    """Read a plan or a pipeline, its traffic and what is asked for; raises `InputError` with all faults so far."""
    from mipplan.core import check_seed, check_time_limit
    from mipplan.tokens import check_seeds

    is_plan = inputs.is_plan(asked)
    plan = faults.take(lambda: mp.Plan.load(asked)) if is_plan else None
    if is_plan:
        given = (flag for flag in ("slo", "profiles", "seeds") if config.is_typed(context, flag))
        faults.add(*(Fault(f"--{flag}", _ForPipelines) for flag in given))
        slo = None
    limit_s = faults.take(lambda: inputs.seconds_of("--time-limit", time_limit))
    faults.take(lambda: check_time_limit(limit_s.value) if limit_s else None)
    read = {"plan or pipeline": asked, **traces.by_place(trace)}
    faults.take(lambda: inputs.check_files(read, {"--out": out, "--plot": plot}, profiles))
    limits = faults.take(lambda: inputs.slo_of(slo))
    pipeline = None if is_plan else faults.take(lambda: inputs.read_pipeline(asked))
    measured = None if is_plan else faults.take(lambda: inputs.read_profiles(profiles))
    drawn = traces.seed_of(plan, seed)
    arrivals = faults.take(lambda: traces.read_traces(trace, drawn, **placed))
    faults.take(lambda: check_seeds(seeds, "--seeds"))
    faults.take(lambda: check_seed(drawn))
    faults.check()
    how = drawn, seeds, limit_s.value, asked, out
    if plan is not None or pipeline is None or measured is None:
        return _Source(None if plan is None else plan.value.require(), None, None, arrivals.value, None, *how)
    stated, slo_s = inputs.asked_of(pipeline.value, limits.value, None, None)
    return _Source(None, stated, measured.value, arrivals.value, slo_s, *how)


_asking = flags.options_of(_read, traces.reading)


@_asking
def whatif(
    context: typer.Context,
    changes: Annotated[
        list[str],
        flags.option(
            "WHAT=VALUE",
            "What is different: ocr.batch=8, ocr.latency=+10%, price.l4=-20%, hardware.a100.limit=4, slo=300ms, "
            "rate=2x …; repeat for several.",
            "--set",
        ),
    ],
    jobs: Annotated[int, flags.option("N", "Cases that are worked on at once.")] = 1,
    json: flags.Json = False,
    **asked: Any,
) -> None:
    """Say what would be if something were different: planned anew, and the same plan judged."""
    with Session(context, json) as session:
        from mipplan.core import check_jobs

        faults = Faults()
        wanted = faults.take(lambda: inputs.pairs_of("--set", "WHAT=VALUE such as slo=300ms", changes))
        faults.take(lambda: check_jobs(jobs))
        source = _read(context, faults, **asked)
        with session.progress() as progress:
            plan = source.planned(progress).require()
            try:
                answer = mp.whatif(
                    plan,
                    source.traces,
                    wanted.value,
                    time_limit_s=source.limit_s,
                    n_jobs=jobs,
                    progress=progress,
                )
            except InputError as error:
                raise InputError(
                    Fault(f"--set {f.place}" if "=" in f.place else f.place, f.message) for f in error.faults
                ) from None
        report = reporting.whatif_report(answer, source.name)
        session.show(
            report, lambda console, made: reporting.show_whatif(console, answer, made.notes), source.out
        )
        session.answer_in_part()


@_asking
def frontier(
    context: typer.Context,
    over: Annotated[
        str,
        flags.option(
            "AXIS", "slo, rate, burstiness, price:HARDWARE, accuracy, or reliability (of a reliable plan)."
        ),
    ] = "slo",
    low: Annotated[
        str | None, flags.option("VALUE", "Where the axis begins: 100ms, 0.5x, 0.3 ($/h), 90%.", "--start")
    ] = None,
    high: Annotated[str | None, flags.option("VALUE", "Where it ends.", "--end")] = None,
    last: Annotated[
        str | None,
        flags.option("VALUE", "Say what the last so much costs: 10ms of the objective, by default."),
    ] = None,
    jobs: Annotated[int, flags.option("N", "Parts of the axis that are walked at once.")] = 1,
    plot: Annotated[Path | None, flags.picture("the stairs")] = None,
    json: flags.Json = False,
    **asked: Any,
) -> None:
    """Find what the objective costs along an axis: every step, and the plan on each."""
    with Session(context, json) as session:
        from mipplan.core import Deadline, SearchLimits, check_jobs
        from mipplan.questions import MOST_STEPS, Problem, axis_of, frontier_of

        faults = Faults()
        axis = faults.take(lambda: axis_of(over))
        unit = axis.value[0].unit if axis else "x"
        ends = [
            faults.take(lambda flag=flag, text=text: inputs.axis_value(flag, text, unit))  # type: ignore[misc]
            for flag, text in (("--start", low), ("--end", high), ("--last", last))
        ]
        if ends[2].value is not None and not ends[2].value > 0:
            faults.add(Fault("--last", f"expected more than 0, found {last}"))
        faults.take(lambda: check_jobs(jobs))
        source = _read(context, faults, **asked, plot=plot)
        first, final, by = (value.value for value in ends)
        if by is None and over == "slo":
            by = 0.010
        deadline = Deadline.after(source.limit_s)
        with session.progress() as progress:
            plan = source.planned(progress)
            problem, limits = Problem(plan, source.traces), SearchLimits(deadline, progress)
            try:
                answer = frontier_of(problem, over, (first, final), None, MOST_STEPS, jobs, limits)
            except InputError as error:
                flag = {"start": "--start", "end": "--end"}
                raise InputError(replace(f, place=flag.get(f.place, f.place)) for f in error.faults) from None
            # Where time was up before the first plan there is nothing to draw, which is no fault of what was given.
            drawn = plot if answer.steps else None
            session.draw(answer.plot, drawn, progress)
        report = reporting.frontier_report(answer, source.name, source.traces, by)
        session.show(report, lambda console, _: reporting.show_frontier(console, answer, by), source.out)
        session.answer(is_found=any(step.plan for step in answer.steps), is_proven=answer.complete)
        session.answer_in_part()


@_asking
def sensitivity(
    context: typer.Context,
    share: Annotated[str, flags.option("SHARE", "By which each measurement is varied, up and down.")] = "10%",
    plot: Annotated[Path | None, flags.picture("measurements that matter as bars")] = None,
    json: flags.Json = False,
    **asked: Any,
) -> None:
    """Say what the cost depends on: prices, speeds of models, and which measurement matters most."""
    with Session(context, json) as session:
        from mipplan.core import Deadline, SearchLimits
        from mipplan.questions import Problem, check_share, sensitivity_of

        faults = Faults()
        varied = faults.take(lambda: check_share(inputs.share_of("--share", share), "--share"))
        source = _read(context, faults, **asked, plot=plot)
        deadline = Deadline.after(source.limit_s)
        with session.progress() as progress:
            problem = Problem(source.planned(progress).require(), source.traces)
            answer = sensitivity_of(problem, varied.value, SearchLimits(deadline, progress))
            session.draw(answer.plot, plot, progress)
        report = reporting.sensitivity_report(answer, source.name, source.traces)
        session.show(report, lambda console, _: reporting.show_sensitivity(console, answer), source.out)
        session.answer_in_part()


@_asking
def explain(context: typer.Context, json: flags.Json = False, **asked: Any) -> None:
    """Say why a plan is what it is: what binds, and what every stage would cost on anything else."""
    with Session(context, json) as session:
        source = _read(context, Faults(), **asked)
        with session.progress() as progress:
            plan = source.planned(progress).require()
            progress("explaining the plan")
            answer = mp.explain(plan, source.traces, time_limit_s=source.limit_s)
        report = reporting.explain_report(answer, plan, source.name, source.traces)
        session.show(report, lambda console, _: reporting.show_explanation(console, answer, plan), source.out)
        session.answer_in_part()


def diff(
    context: typer.Context,
    before: Annotated[Path, typer.Argument(metavar="PLAN", help="Plan file.")],
    after: Annotated[Path, typer.Argument(metavar="PLAN", help="Plan file to compare it with.")],
    json: flags.Json = False,
) -> None:
    """Say what differs between two plans: choices, cost, certificate, and what was asked for."""
    with Session(context, json) as session:
        faults = Faults()
        plans = [faults.take(lambda file=file: mp.Plan.load(file)) for file in (before, after)]  # type: ignore[misc]
        faults.check()
        answer = mp.diff(*(plan.value for plan in plans))
        report = reporting.diff_report(answer, str(before), str(after))
        session.show(report, lambda console, _: reporting.show_diff(console, answer))


@_asking
def refine(
    context: typer.Context,
    discipline: flags.PlanDiscipline = None,
    dispatch: flags.Dispatch = None,
    out: flags.PlanOut = None,
    json: flags.Json = False,
    **asked: Any,
) -> None:
    """Go below a certified plan: the cheapest one found whose replay keeps the objective."""
    with Session(context, json) as session:
        from mipplan.core import check_one_of
        from mipplan.pipeline import Discipline

        faults = Faults()
        faults.take(lambda: inputs.check_dispatch(dispatch))
        faults.take(
            lambda: None if discipline is None else check_one_of("--discipline", discipline, Discipline, repr)
        )
        source = _read(context, faults, **asked, out=out)
        with session.progress() as progress:
            first = source.planned(progress)
            made = mp.refine(
                first,
                source.traces,
                dispatch=dispatch,
                discipline=discipline,
                margin_s=first.margin_ns / 1e9,
                time_limit_s=source.limit_s,
                progress=progress,
            )
            out = session.save(made.save, out)
            replayed, each_ns = inputs.replay_samples(made, source.traces)
        remarks = reporting.sample_notes(made, source.traces)
        if first.usd_per_hour is not None and made.usd_per_hour is not None:
            remarks.insert(0, f"the plan that it began with costs {first.usd_per_hour:.4f} $/h")
        report = reporting.plan_report(made, source.traces, replayed, None, remarks, out, replayed_ns=each_ns)
        session.show(report, reporting.show_plan)
        session.answer(is_found=bool(made.choices), is_proven=made.status is mp.PlanStatus.INFEASIBLE)
