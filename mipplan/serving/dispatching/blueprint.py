"""What a dispatcher has to know of a plan: stages, their laws and tables, and the edges between them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from mipplan.core import Fault, InputError, check_allowance, check_kinds, shown
from mipplan.pipeline import Discipline, DispatchLaw, Edge, Join, are_timed
from mipplan.profiles import Profiles
from mipplan.result import CertificateKind, Plan, RunClass


@dataclass(frozen=True)
class BlueprintEdge:
    """An edge as the dispatcher follows it."""

    number: int
    """Place among the edges of the file, which is the order of tokens of one query where edges meet."""
    parent: str
    child: str
    delay_ns: int
    copies: int | None
    """Tokens that it makes of every token; None if that is decided for each."""


@dataclass(frozen=True)
class StageBlueprint:
    """A stage as the dispatcher serves it."""

    name: str
    law: DispatchLaw
    service_ns: tuple[int, ...]
    """ℓ(1), …, ℓ(b)."""
    least_ns: tuple[int, ...]
    """A batch of k that is done before this is held back until then: ℓ(k) if timed, else what the plan's runs take."""
    bears_more: bool
    """Whether the guarantee stays with more replicas than planned: eager, oldest first, by the classic certificate."""
    sends_in_order: bool
    """Whether a replica sends a batch's outputs before those of its next one, as classes of runs ask."""
    replicas: int
    merges: bool
    """Whether the tokens of one query that reach it become one (``join: all``)."""
    stagger_ns: int
    incoming: tuple[BlueprintEdge, ...]
    outgoing: tuple[BlueprintEdge, ...]

    @property
    def batch(self) -> int:
        """Batch cap b."""
        return len(self.service_ns)


@dataclass(frozen=True)
class Blueprint:
    """A plan as the dispatcher serves it, without what only planning needs.

    Attributes
    ----------
    stages : mapping of str to StageBlueprint
        In topological order.
    edges : tuple of BlueprintEdge
        In the order of the file.
    fifo : bool
        Whether batches take tokens by arrival at the stage; else by ingress.
    """

    stages: Mapping[str, StageBlueprint]
    edges: tuple[BlueprintEdge, ...]
    fifo: bool

    @classmethod
    def of(cls, plan: Plan, *, hold_delays: bool = True) -> Blueprint:
        """Make the blueprint of a plan, with its laws, its discipline, and the staggers of its pipeline.

        Parameters
        ----------
        plan : Plan
        hold_delays : bool
            Whether a token is handed on exactly an edge's delay after its parent's exit. Else as soon as the guarantee
            allows: from a timed stage after the delay, elsewhere after the least one of the plan's class of runs.

        Raises
        ------
        NoPlanError
            If the plan holds no choices.
        """
        plan.require()
        pipeline, laws = plan.pipeline, plan.laws
        staggers_ns = pipeline.staggers_ns(laws)
        exactly, is_fifo = RunClass(least_service=1.0), plan.discipline is Discipline.FIFO
        # The classic certificate of oldest first is about all runs; others are about those stated.
        has_class = is_fifo or plan.runs is not None or plan.certificate is CertificateKind.SHARP
        runs = plan.runs or RunClass(least_delay=float(has_class))
        kept = {name: exactly if law is DispatchLaw.TIMED else runs for name, law in laws.items()}
        edges = tuple(
            _edge(number, edge, exactly if hold_delays else kept[edge.parent])
            for number, edge in enumerate(pipeline.edges)
        )
        stages = {
            name: StageBlueprint(
                name,
                laws[name],
                tuple(int(time) for time in plan.service_ns(name)),
                tuple(int(time) for time in kept[name].least_service_ns(plan.service_ns(name))),
                laws[name] is DispatchLaw.EAGER and not has_class,
                # The next batch takes as long as the last one's outputs need, or else nobody counts on their order.
                has_class and (choice.batch - 1) * staggers_ns[name] <= int(plan.service_ns(name).min()),
                choice.replicas,
                pipeline.stages[name].join is Join.ALL and bool(pipeline.incoming(name)),
                staggers_ns[name],
                tuple(edge for edge in edges if edge.child == name),
                tuple(edge for edge in edges if edge.parent == name),
            )
            for name in pipeline.topological_order
            for choice in [plan.choices[name]]
        }
        return cls(MappingProxyType(stages), edges, is_fifo)

    @property
    def sources(self) -> Iterator[str]:
        """Stages where queries enter."""
        return (name for name, stage in self.stages.items() if not stage.incoming)

    @property
    def is_timed(self) -> bool:
        """Whether all stages are timed, so that every run is the replay."""
        return are_timed({name: stage.law for name, stage in self.stages.items()})

    @property
    def decides(self) -> bool:
        """Whether some edge needs a decision for every token."""
        return any(edge.copies is None for edge in self.edges)

    def ancestors(self) -> dict[str, frozenset[str]]:
        """Return the stages from which a token can reach each stage."""
        found: dict[str, frozenset[str]] = {}
        for name, stage in self.stages.items():
            parents = {edge.parent for edge in stage.incoming}
            found[name] = frozenset(parents.union(*(found[parent] for parent in parents)))
        return found


@dataclass(frozen=True)
class AdmissionParams:
    """When a query is turned away at the door, because a late answer costs more than none."""

    most_in_flight: int | None = None
    """At most so many queries are accepted and not answered; no limit by default."""
    most_waiting: int | None = None
    """None is accepted while more tokens than this wait at some stage; no limit by default."""


def _edge(number: int, edge: Edge, runs: RunClass) -> BlueprintEdge:
    certain = edge.probability >= 1.0 and edge.fanout.is_constant_integer
    copies = edge.fanout.values[0] if certain else None
    return BlueprintEdge(number, edge.parent, edge.child, runs.least_delay_ns(edge.delay_ns), copies)


def with_allowance(plan: Plan, allowance_s: float, stages: Collection[str] | None = None) -> Plan:
    """Return a plan of the same choices whose batches may all take longer, for the dispatcher's own time.

    A dispatcher needs some time to send a batch and to take its results back, and a table that was measured on the
    device alone does not hold it. What is guaranteed of a dispatcher with an allowance is what `mipplan.certify` and
    `mipplan.replay` say of this plan.

    Parameters
    ----------
    plan : Plan
    allowance_s : float
        Seconds on top of every latency of every table, from 0 to 1.
    stages : collection of str, optional
        Only on top of tables that one of these stages uses; by default of all.

    Raises
    ------
    InputError
        If it is no plan, the allowance is no such number, or the plan has no such stage.
    NoPlanError
        If the plan holds no choices.
    """
    check_kinds(plan=(plan, Plan))
    given = tuple(plan.choices if stages is None else stages)
    strangers = [
        Fault("stages", f"the plan has no {shown(name)}") for name in given if name not in plan.choices
    ]
    allowance_ns = check_allowance(allowance_s)
    InputError.raise_if(strangers)
    if not allowance_ns:
        return plan.require()
    used = {name: plan.table(name) for name in plan.choices}
    raised = {(used[name].model, used[name].hardware) for name in given}
    tables = [
        table.with_latencies(lambda latency_ms: latency_ms + allowance_ns / 1e6) if key in raised else table
        for key, table in sorted({(table.model, table.hardware): table for table in used.values()}.items())
    ]
    profiles, asked = Profiles.from_parts(plan.profiles.hardware.values(), tables), plan.objective
    made = Plan.from_choices(
        plan.pipeline,
        profiles,
        plan.require().choices,
        slo_s=plan.slo_s,
        quantile=plan.quantile,
        seed=plan.seed,
        dispatch={name: law.value for name, law in plan.laws.items()},
        discipline=plan.discipline.value,
    )
    kept = ("per_ns", "share", "others", "runs", "certificate", "seeds")
    return replace(made, objective=replace(made.objective, **{name: getattr(asked, name) for name in kept}))
