"""The certificate of any plan on any traffic, by the theorem that covers its laws, or by its replay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from mipplan.certificate import (
    AUTO,
    Certificate,
    certify_stages,
    check_certificate,
    check_timed,
    resolve_certificate,
    state_certificate,
    worst_of,
)
from mipplan.core import Faults, check_kinds, check_seed
from mipplan.pipeline import CollectionWindow, Discipline, Dispatch, Stagger, are_timed, check_collecting
from mipplan.replayer import replay
from mipplan.result import Plan, RunClass, check_laws, check_runs
from mipplan.tokens import Sample, find_samples, realise
from mipplan.trace import Trace


def certify(
    plan: Plan,
    trace: Trace | Sequence[Trace],
    *,
    dispatch: Dispatch = None,
    discipline: str | None = None,
    stagger_s: Stagger = None,
    window_s: CollectionWindow = None,
    certificate: str | None = None,
    runs: RunClass | None = None,
    seed: int | None = None,
) -> Certificate:
    """Bound the latency of every query of `trace` under `plan`; of several traces and seeds, of each by itself.

    Parameters
    ----------
    plan : Plan
        With choices; where they came from does not matter.
    trace : Trace, or sequence of Trace
    dispatch : str or mapping of str to str, optional
        Law of all stages, or of those named; others as the plan says.
    discipline : {"oldest_first", "fifo"}, optional
        As the plan says by default.
    stagger_s : float or mapping of str to float, optional
        Seconds between the outputs of a batch on their way to other stages, at most, as for `mipplan.replay`.
    window_s : float or mapping of str to float, optional
        Seconds for which a replica of an eager stage collects a batch, at most; as the pipeline says by default.
    certificate : {"auto", "classic", "sharp"}, optional
        By which theorem; the plan's own by default. The sharp one is never above the classic one, and takes longer;
        ``"auto"`` takes it where the workload is not too large for it. Where all stages are timed
        the replay is the certificate, and none is asked for by name.
    runs : RunClass, optional
        The runs that a sharp certificate, or one of ``fifo`` queues, is to hold for; by default the plan's own, or else
        those of the serving model in which batches may finish early. Less is known of overtaking, the earlier they may.
        It goes with these only: the classic one holds for what its theorem says.
    seed : int, optional
        Seed of the token draws; the plan's own by default, which may be several.

    Returns
    -------
    Certificate
        Of several samples the one with the greatest bound, with the bounds of all (`Certificate.samples`).

    Raises
    ------
    NoPlanError
        If the plan holds no choices.
    InputError
        If there is no such certificate under this discipline and these laws, or none of a class of runs.

    References
    ----------
    [Theorem (sample path)][theorem-sample-path] and [theorem (paced)][theorem-paced], by the law of each stage;
    [theorem (latest dispatch)][theorem-latest-dispatch]; under ``fifo`` [theorem (fifo)][theorem-fifo]; where all
    stages are timed, the replay itself by [theorem (timed)][theorem-timed].
    """
    check_kinds(plan=(plan, Plan))
    wanted = plan.discipline if discipline is None else discipline
    faults = Faults()
    told = faults.take(lambda: check_laws(plan.pipeline, dispatch, wanted, plan.laws))
    faults.take(lambda: None if certificate is None else check_certificate(certificate))
    faults.take(lambda: check_runs(runs))
    apart = faults.take(lambda: plan.pipeline.staggered(stagger_s))
    faults.take(lambda: plan.pipeline.collecting(window_s))
    faults.take(lambda: check_collecting(window_s, told.value) if told else None)
    drawn = faults.take(lambda: (plan.seed, plan.seeds) if seed is None else (check_seed(seed), 1))
    found = faults.take(lambda: find_samples(plan.pipeline, trace, *(drawn.value if drawn else (0, 1))))
    faults.check()
    pipeline = apart.value.collecting(window_s)
    plan = replace(plan, pipeline=pipeline, objective=plan.objective.under(told.value, wanted))
    return certify_samples(plan, found.value, certificate, runs)


def certify_samples(
    plan: Plan, samples: Sequence[Sample], certificate: str | None, runs: RunClass | None
) -> Certificate:
    """Certify a plan on each sample by itself, and return the worst certificate with the bounds of all."""
    if are_timed(plan.laws):
        check_timed(certificate, runs)
        return worst_of(samples, partial(replayed_certificate, plan))
    if certificate == AUTO and len(samples) > 1 and plan.discipline is Discipline.OLDEST_FIRST:
        # The same theorem for all of them, as for a plan.
        workloads = (realise(plan.pipeline, sample.trace, sample.seed) for sample in samples)
        certificate = resolve_certificate(AUTO, workloads, runs, collects=plan.collects)
    return worst_of(
        samples,
        lambda one: certify_stages(plan, one.trace, seed=one.seed, certificate=certificate, runs=runs),
    )


def replayed_certificate(plan: Plan, sample: Sample) -> Certificate:
    """State the replay as what is guaranteed: where all stages are timed it is, and elsewhere it is that of one run."""
    laws = plan.laws
    replayed = replay(plan, sample.trace, seed=sample.seed)
    workload = realise(plan.pipeline, sample.trace, sample.seed)
    exits = {stage: seen.exit_ns for stage, seen in replayed.stages.items()}
    took = {stage: seen.exit_ns - seen.dispatch_ns for stage, seen in replayed.stages.items()}
    staggers_ns = plan.pipeline.staggers_ns(laws)
    fifo = plan.discipline is Discipline.FIFO
    sent = {
        stage: seen.assignment.sent_ns(staggers_ns[stage], fifo=fifo)
        for stage, seen in replayed.stages.items()
    }
    return state_certificate(
        workload,
        exits,
        lambda stage, token: int(took[stage][token]),
        plan.objective.criterion(workload.ingress_ns),
        sent,
    )
