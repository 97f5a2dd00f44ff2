"""The certificate: a proven bound on every query's latency, for this trace, seed and plan.

It needs the tokens and what serves each stage, nothing else: neither the options a planner considered nor a solver.
`mipplan verify` re-checks a plan file through this room alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mipplan.calculus import StageService, analyse_paths
from mipplan.certificate.classic import (
    CertificateEvaluator,
    FifoEvaluator,
    check_by_arrival,
    critical_path,
    plan_services,
)
from mipplan.certificate.sharp import SharpEvaluator, StageSetting
from mipplan.core import (
    NS_PER_S,
    Criterion,
    Fault,
    Faults,
    InputError,
    Int64,
    Printable,
    Summary,
    check_one_of,
    format_duration,
)
from mipplan.pipeline import Discipline, are_timed
from mipplan.result import CertificateKind, CriticalStage, Figures, Plan, RunClass, SampleFigure, worst_sample
from mipplan.tokens import Sample, Workload, realise
from mipplan.trace import Trace

if TYPE_CHECKING:
    import pandas as pd

#: The sharp certificate where it is affordable.
AUTO = "auto"


@dataclass(frozen=True)
class CertifyParams:
    """What "auto" goes by."""

    most_tokens: int = 100_000
    """Of workloads with more tokens than 100,000 "auto" takes the classic certificate, because for so many the sharp
    one takes a second or two compiled, and minutes without numba, and the answer must not depend on which it is."""


@dataclass(frozen=True, eq=False, repr=False)
class Certificate(Printable):
    """What is guaranteed."""

    latency_ns: Int64
    """Shape (n,). Proven bound on each query's latency."""
    quantile: float
    bound_ns: int
    """Its quantile over queries (``method="higher"``), or over the queries of the window where it is greatest."""
    critical_path: tuple[CriticalStage, ...]
    """How a query at the quantile comes to its bound, from source to last exit."""
    runs: RunClass | None = None
    """The runs that a sharp certificate, or one of ``fifo`` queues, holds for; None for the classic one."""
    over: str = ""
    """Over which queries the quantile is taken, in words; empty for all of them."""
    samples: tuple[SampleFigure, ...] = ()
    """What each of several samples is bounded by: all else is of the worst one. Empty for one sample."""

    @property
    def bound_s(self) -> float:
        """`bound_ns` in seconds."""
        return self.bound_ns / NS_PER_S

    @property
    def longest_stage(self) -> str:
        """The stage of the critical path that adds most to the bound."""
        return max(self.critical_path, key=lambda step: step.latency_ns + step.wait_ns).stage

    def to_pandas(self) -> pd.DataFrame:
        """Return one row per query: the bound on its latency, in seconds."""
        import pandas as pd

        return pd.DataFrame({"latency_s": self.latency_ns / NS_PER_S})

    def _summary(self) -> Summary:
        worst = worst_sample(self.samples)
        return Summary(
            f"Certificate: P{100 * self.quantile:g}{self.over} ≤ {format_duration(self.bound_ns)} "
            f"for {self.latency_ns.size:,} queries",
            figures=(
                ("any query", f"≤ {format_duration(int(self.latency_ns.max()))}"),
                ("on", None if worst is None else f"{worst.name}, the worst of {len(self.samples)} samples"),
            ),
            headings=("critical path", ">T", ">wait", ">delay before"),
            rows=(
                (step.stage, *map(format_duration, (step.latency_ns, step.wait_ns, step.delay_ns)))
                for step in self.critical_path
            ),
            count=len(self.critical_path),
            what="stages",
        )

    def _line(self) -> str:
        bound = f"P{100 * self.quantile:g}{self.over} ≤ {format_duration(self.bound_ns)}"
        return f": {bound} for {self.latency_ns.size} queries, {len(self.critical_path)} stages on the critical path"


def certify_stages(
    plan: Plan,
    trace: Trace,
    *,
    seed: int | None = None,
    certificate: str | None = None,
    runs: RunClass | None = None,
) -> Certificate:
    """Bound the latency of every query of `trace` under `plan` by what serves its stages; arguments as for `certify`.

    References
    ----------
    [Theorem (sample path)][theorem-sample-path] and [theorem (paced)][theorem-paced], or
    [theorem (latest dispatch)][theorem-latest-dispatch] and that of [paced stages][paced-stages]. They cover queues
    that serve the oldest first (``discipline="oldest_first"``). Under ``fifo``: [theorem (fifo)][theorem-fifo].
    """
    plan.require()
    workload = realise(plan.pipeline, trace, plan.seed if seed is None else seed)
    criterion, covered = plan.objective.criterion(workload.ingress_ns), runs or plan.runs or RunClass()
    if plan.discipline is Discipline.FIFO:
        check_by_arrival(certificate or CertificateKind.CLASSIC, covered)
        return certify_fifo(workload, plan_services(plan, covered), criterion, covered)
    asked = plan.certificate if certificate is None else certificate
    kind = resolve_certificate(asked, [workload], runs, collects=plan.collects)
    if kind is CertificateKind.CLASSIC:
        return certify_services(workload, plan_services(plan), criterion)
    return certify_sharply(workload, plan_settings(plan), criterion, covered)


def certify_fifo(
    workload: Workload, services: Mapping[str, StageService], asked: float | Criterion, runs: RunClass
) -> Certificate:
    """Evaluate the theorem for queues in order of arrival, for services that say how many tokens may pass."""
    exits = FifoEvaluator(workload, runs).exits_ns(services)
    found = state_certificate(workload, exits, lambda stage, _: services[stage].latency_ns, asked)
    return replace(found, runs=runs)


def check_certificate(certificate: str) -> None:
    """Raise `InputError` unless there is such a certificate."""
    check_one_of("certificate", certificate, [AUTO, *CertificateKind], repr)


def check_timed(certificate: str | None, runs: RunClass | None) -> None:
    """Raise `InputError` if a certificate is asked for by name, or runs are, although all stages are timed."""
    faults = Faults()
    if certificate is not None and certificate != AUTO:
        message = (
            "does not go with timed dispatch: where all stages are timed the replay is the certificate; for another "
            "one judge the choices under eager dispatch"
        )
        faults.add(Fault("certificate", message))
    if runs is not None:
        message = "do not go with timed dispatch: where all stages are timed every run is the replay"
        faults.add(Fault("runs", message))
    faults.check()


def resolve_certificate(
    certificate: str,
    workloads: Iterable[Workload],
    runs: RunClass | None = None,
    params: CertifyParams = CertifyParams(),
    *,
    collects: bool = False,
) -> CertificateKind:
    """Say which certificate is meant, on these workloads and for this class of runs, if one is named.

    Where some stage `collects` batches before they begin there is no sharp one.

    Raises `InputError` if there is no such certificate, or none for a class of runs.
    """
    check_certificate(certificate)
    if certificate == CertificateKind.SHARP:
        if collects:
            message = (
                "the sharp one is about batches that begin at once, and here they are collected (window): "
            )
            raise InputError.one("certificate", f"{message}ask for the classic one")
        return CertificateKind.SHARP
    tokens = sum(stage.count for workload in workloads for stage in workload.stages.values())
    if certificate == AUTO and tokens <= params.most_tokens and not collects:
        return CertificateKind.SHARP
    if runs is not None:
        # Not dropped in silence: the classic one does not hold for all of them (sources of single tokens, any ties).
        which = (
            f"auto takes the classic one {'where batches are collected' if collects else f'for {tokens:,} tokens'}"
            if certificate == AUTO
            else "this is classic"
        )
        raise InputError.one(
            "runs", f"go with a sharp certificate, and {which}: ask for sharp, or leave them out"
        )
    return CertificateKind.CLASSIC


def plan_settings(plan: Plan) -> dict[str, StageSetting]:
    """What serves each stage under the plan's choices."""
    laws = plan.require().laws
    staggers_ns = plan.pipeline.staggers_ns(laws)
    return {
        stage: StageSetting(plan.service_ns(stage), choice.replicas, staggers_ns[stage], laws[stage])
        for stage, choice in plan.choices.items()
    }


def certify_services(
    workload: Workload,
    services: Mapping[str, StageService],
    asked: float | Criterion,
    evaluator: CertificateEvaluator | None = None,
) -> Certificate:
    """Evaluate the classic theorem for given services, with the critical path of a query at the quantile.

    An `evaluator` of the workload may know the exits already.
    """
    exits = (evaluator or CertificateEvaluator(workload)).exits_ns(services)
    return state_certificate(workload, exits, lambda stage, _: services[stage].latency_ns, asked)


def state_certificate(
    workload: Workload,
    exits: Mapping[str, Int64],
    own_ns: Callable[[str, int], int],
    asked: float | Criterion,
    sent: Mapping[str, Int64] | None = None,
) -> Certificate:
    """Say what bounds on the exits of all tokens amount to, given how much of each, by stage and token, is no wait.

    `sent` bounds when what tokens make is sent on, if that is later.
    """
    latency_ns = workload.latency_ns(exits)
    latency_ns.flags.writeable = False
    criterion = Criterion.of(asked, workload.ingress_ns)
    path = critical_path(workload, own_ns, exits, criterion.query_at(latency_ns), sent)
    return _stated(latency_ns, criterion, path)


def certify_sharply(
    workload: Workload, settings: Mapping[str, StageSetting], asked: float | Criterion, runs: RunClass
) -> Certificate:
    """Evaluate the sharp theorem for given settings, with the critical path of a query at the quantile."""
    evaluator = SharpEvaluator(workload, runs)
    bounds = evaluator.bound(settings)
    latency_ns = workload.latency_ns({stage: bound.tokens.latest_exit_ns for stage, bound in bounds.items()})
    latency_ns.flags.writeable = False
    criterion = Criterion.of(asked, workload.ingress_ns)
    path = evaluator.critical_path(bounds, criterion.query_at(latency_ns))
    return replace(_stated(latency_ns, criterion, path), runs=runs)


def _stated(latency_ns: Int64, criterion: Criterion, path: tuple[CriticalStage, ...]) -> Certificate:
    main, bound_ns = criterion.main, criterion.figure_ns(latency_ns)
    return Certificate(latency_ns, main.quantile, bound_ns, path, over=main.over)


def worst_of(samples: Sequence[Sample], certify: Callable[[Sample], Certificate]) -> Certificate:
    """Certify samples one after the other, and return the worst with the figures of all; of one sample, its own."""
    worst, figures = certify(samples[0]), []
    for sample in samples:
        found = worst if sample is samples[0] else certify(sample)
        figures.append(SampleFigure(sample.name, sample.number, sample.seed, found.bound_ns))
        worst = found if found.bound_ns > worst.bound_ns else worst
    return replace(worst, samples=tuple(figures)) if len(samples) > 1 else worst


def certified_on(
    plan: Plan, samples: Sequence[Sample], workloads: Iterable[Workload] | None = None
) -> Figures:
    """Add what `certified_figures` adds, on every sample by itself: the greatest bound and the greatest certificate.

    The `workloads` of the samples are realised one by one if they are not at hand.
    """
    one_by_one = (realise(plan.pipeline, sample.trace, sample.seed) for sample in samples)
    loads = one_by_one if workloads is None else workloads
    found = [certified_figures(plan, workload) for workload in loads]
    return join_figures(samples, found)


def join_figures(samples: Sequence[Sample], found: Sequence[Figures]) -> Figures:
    """Return the figures of a plan whose figures on one or several samples are these."""
    if len(found) == 1:
        return found[0]
    figures = [
        SampleFigure(sample.name, sample.number, sample.seed, own.certificate_ns)
        for sample, own in zip(samples, found, strict=True)
    ]
    certified = tuple(sorted(figures, key=lambda figure: (figure.trace, figure.seed)))
    bounds_ns = [own.bound_ns for own in found if own.bound_ns is not None]
    worst = worst_sample(certified)
    certificate_ns = None if worst is None else worst.certificate_ns
    bound_ns = max(bounds_ns, default=None)
    return replace(found[0], bound_ns=bound_ns, certificate_ns=certificate_ns, samples=certified)


def certified_figures(plan: Plan, workload: Workload) -> Figures:
    """Add bound and certificate, by the plan's own theorem, to the figures of a plan with choices.

    A sharp certificate has no bound: that of the program is no relaxation of it. Of fifo queues there are figures if
    the plan says for which runs, and where all stages are timed the replay is the certificate.
    """
    by_arrival = plan.discipline is Discipline.FIFO
    if are_timed(plan.laws) or (by_arrival and plan.runs is None):
        return plan.figures
    asked = plan.objective.criterion(workload.ingress_ns)
    if plan.certificate is CertificateKind.SHARP:
        sharp = certify_sharply(workload, plan_settings(plan), asked, plan.runs or RunClass())
        return replace(plan.figures, bound_ns=None, certificate_ns=sharp.bound_ns)
    services = plan_services(plan, plan.runs if by_arrival else None)
    if plan.runs is not None and by_arrival:
        certified = certify_fifo(workload, services, asked, plan.runs)
    else:
        certified = certify_services(workload, services, asked)
    bound_ns = analyse_paths(workload, asked).bound_ns(services)
    return replace(plan.figures, bound_ns=bound_ns, certificate_ns=certified.bound_ns)
