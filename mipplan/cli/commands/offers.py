"""The commands that offer several plans, or the best of them all: fronts, menus, and the greatest weighted value."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

import mipplan as mp
from mipplan import plots, reporting
from mipplan.cli import flags, inputs, question
from mipplan.cli.session import Session
from mipplan.core import Faults


@question.asking
def pareto(
    context: typer.Context,
    by: Annotated[
        str, typer.Option(help="What plans are compared by beside cost: accuracy, energy, or both.")
    ] = "accuracy",
    plot: Annotated[Path | None, flags.picture("cost against what else plans are compared by")] = None,
    json: flags.Json = False,
    **asked: Any,
) -> None:
    """Find every plan that no other one beats in cost and accuracy, in cost and power, or in all three."""
    with Session(context, json) as session:
        from mipplan.core import check_one_of
        from mipplan.variants import AXES

        faults = Faults()
        faults.take(lambda: check_one_of("by", by, AXES, repr))
        faults.take(lambda: inputs.check_out("--plot", plot))
        given, settings = question.read(faults, **asked)
        with session.progress() as progress:
            found = mp.pareto(*given, by=by, **settings, progress=progress)
            title = f"{given[0].name} on {', '.join(one.name for one in given[2])}"
            plot = plot if found.plans else None  # there is nothing to draw
            session.draw(lambda: plots.draw_front(found, title=title), plot, progress)
        written = [] if plot is None else [str(plot)]
        report = reporting.offers_report(given[0], given[2], settings["seeds"], found, written)
        session.show(report, reporting.show_offers)
        session.answer(is_found=bool(found.plans), is_proven=found.complete)


@question.asking
def menu(
    context: typer.Context,
    within: Annotated[str, flags.option("SHARE", "How much dearer than the cheapest, such as 5%.")] = "5%",
    by: Annotated[
        str, typer.Option(help="What makes plans differ: both, hardware, variants, accuracy, or energy.")
    ] = "both",
    most: Annotated[int, flags.option("COUNT", "Offer at most so many.")] = 20,
    accuracy: Annotated[
        str | None, flags.option("SHARE", "Least accuracy of the pipeline, such as 0.6.")
    ] = None,
    json: flags.Json = False,
    **asked: Any,
) -> None:
    """Find the plans that cost little more than the cheapest and differ from one another in a stated way."""
    with Session(context, json) as session:
        from mipplan.variants import check_menu

        faults = Faults()
        share = faults.take(lambda: inputs.share_of("--within", within))
        least = faults.take(lambda: question.least_accuracy(accuracy))
        faults.take(lambda: check_menu(by, share.or_else(None) or 0.0, most))
        given, settings = question.read(faults, **asked)
        settings |= {"within": share.value or 0.0, "by": by, "most": most, "accuracy": least.value}
        with session.progress() as progress:
            found = mp.menu(*given, **settings, progress=progress)
        report = reporting.offers_report(given[0], given[2], settings["seeds"], found, [])
        session.show(report, reporting.show_offers)
        session.answer(is_found=bool(found.plans), is_proven=found.complete)


@question.asking
def weigh(
    context: typer.Context,
    alpha: Annotated[float, flags.option("WEIGHT", "What a whole unit of accuracy is worth.")] = 1.0,
    beta: Annotated[float, flags.option("WEIGHT", "What a dollar an hour is worth.")] = 1.0,
    delta: Annotated[float, flags.option("WEIGHT", "What every item of batch size costs.")] = 1e-6,
    out: flags.PlanOut = None,
    json: flags.Json = False,
    **asked: Any,
) -> None:
    """Find the plan with the greatest α·accuracy − β·$/h − δ·batch sizes (IPA's objective), and replay it."""
    with Session(context, json) as session:
        from mipplan.ipa import Weights, check_weights

        faults, weights = Faults(), Weights(alpha, beta, delta)
        faults.add(*check_weights(weights))
        given, settings = question.read(faults, **asked, out=out)
        with session.progress() as progress:
            found = mp.weigh(*given, weights=weights, **settings, progress=progress)
            made = found.plan
            out = session.save(made.save, out)
            progress("replaying the plan")
            replayed, each_ns = inputs.replay_samples(made, given[2])
        made = replace(
            made, limit=found.limit
        )  # The document tells what stopped the search for the greatest value.
        remarks = reporting.plan_remarks(made, asked["profiles"]) + reporting.sample_notes(made, given[2])
        told = reporting.plan_report(made, given[2], replayed, None, remarks, out, replayed_ns=each_ns)
        session.show(reporting.WeighReport.of(found, plan=told), reporting.show_weighing)
        session.answer(is_found=bool(made.choices), is_proven=made.status is mp.PlanStatus.INFEASIBLE)
