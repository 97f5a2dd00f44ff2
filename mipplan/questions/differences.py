"""What differs between two plans: choices, costs and bounds, and what was asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np

from mipplan.core import (
    MICRODOLLARS_PER_DOLLAR,
    FieldOf,
    Printable,
    Summary,
    check_kinds,
    counted,
    format_duration,
    usd_text,
)
from mipplan.profiles import EnergyTerms, Hardware, LatencyTable
from mipplan.result import Choice, Objective, Plan, choice_text

if TYPE_CHECKING:
    import pandas as pd

#: What else an objective asks for, by field.
_FURTHER = {
    "budget_microusd_per_hour": "budget (10⁻⁶ $/h)",
    "envelope": "arrival curve",
    "runs": "runs certified",
    "seeds": "draws",
    "min_accuracy": "least accuracy",
    "energy": "energy",
}


@dataclass(frozen=True)
class StageDifference:
    """A stage that runs on something else; None where a plan has no such stage, or no choices at all."""

    stage: str
    before: Choice | None
    after: Choice | None
    microusd_before: int
    microusd_after: int

    usd_before = FieldOf[float]("microusd_before", MICRODOLLARS_PER_DOLLAR)
    """What the stage costs in the first plan, $/h; 0 where it is not there."""
    usd_after = FieldOf[float]("microusd_after", MICRODOLLARS_PER_DOLLAR)
    """What it costs in the second, $/h."""

    @property
    def text(self) -> str:
        """Write it in a line: ``detect 1 × a100 (4) → 2 × v100 (8)``."""
        return f"{self.stage} {_text(self.before)} → {_text(self.after)}"


@dataclass(frozen=True)
class RequestDifference:
    """Something that was asked for, or measured, otherwise."""

    what: str
    before: str
    after: str


#: Of the table of stages that run on something else; one that begins with ``>`` stands above numbers.
STAGE_HEADINGS = ("stage", "before (batch)", "after (batch)", ">$/h")


@dataclass(frozen=True, eq=False, repr=False)
class PlanDifference(Printable):
    """What differs between two plans.

    Attributes
    ----------
    before, after : Plan
    stages : tuple of StageDifference
        Those whose choices differ, in the order of the files.
    requests : tuple of RequestDifference
        What was asked for otherwise: objective, guarantee, laws, trace, prices, limits, profiles.
    """

    before: Plan
    after: Plan
    stages: tuple[StageDifference, ...]
    requests: tuple[RequestDifference, ...]

    @property
    def usd_per_hour(self) -> float | None:
        """How much dearer the second plan is; None if one has no cost."""
        costs = self.before.microusd_per_hour, self.after.microusd_per_hour
        if costs[0] is None or costs[1] is None:
            return None
        return (costs[1] - costs[0]) / MICRODOLLARS_PER_DOLLAR

    @property
    def is_empty(self) -> bool:
        """Whether nothing that was asked for or chosen differs."""
        return not (self.stages or self.requests)

    def to_pandas(self) -> pd.DataFrame:
        """Return one row per stage that runs on something else: its choices in words, and its costs in $/h."""
        import pandas as pd

        return pd.DataFrame(
            {
                "stage": one.stage,
                "before": _text(one.before),
                "after": _text(one.after),
                "usd_before": one.usd_before,
                "usd_after": one.usd_after,
            }
            for one in self.stages
        )

    @property
    def title(self) -> str:
        """Between which plans this is, and how many stages differ."""
        names = f"From the plan for {self.before.pipeline.name} to that for {self.after.pipeline.name}"
        return f"{names}: {counted(len(self.stages), 'stage')} on something else"

    def figures(self) -> list[tuple[str, str]]:
        """Return cost, status, certificate and all that was asked for otherwise, each with both values in words."""
        plans = self.before, self.after
        costs = " → ".join(cost_or_status(plan) for plan in plans)
        more = "" if self.usd_per_hour is None else f" ({usd_text(self.usd_per_hour, sign=True)} $/h)"
        certified = ("none" if p.certificate_ns is None else format_duration(p.certificate_ns) for p in plans)
        states = [str(plan.status) for plan in plans]
        told = [] if states[0] == states[1] or not more else [("status", " → ".join(states))]
        asked = [(one.what, f"{one.before} → {one.after}") for one in self.requests]
        return [("cost", f"{costs}{more}"), *told, ("certificate", " → ".join(certified)), *asked]

    def rows(self) -> Iterator[tuple[str, str, str, str]]:
        """Each stage that runs on something else: its choices in words, and how much dearer the second is."""
        for one in self.stages:
            dearer = usd_text(one.usd_after - one.usd_before, sign=True)
            yield one.stage, _text(one.before), _text(one.after), dearer

    def _summary(self) -> Summary:
        return Summary(
            self.title,
            figures=self.figures(),
            headings=STAGE_HEADINGS,
            rows=self.rows(),
            count=len(self.stages),
            what="stages",
        )

    def _line(self) -> str:
        return f": {cost_or_status(self.before)} → {cost_or_status(self.after)}, {len(self.stages)} stages differ"


def _text(choice: Choice | None) -> str:
    return "nothing" if choice is None else choice_text(choice)


def cost_or_status(plan: Plan) -> str:
    """Write what a plan costs, or that there is none."""
    return plan.status if plan.usd_per_hour is None else f"{usd_text(plan.usd_per_hour)} $/h"


def diff(before: Plan, after: Plan) -> PlanDifference:
    """Say what differs between two plans.

    Parameters
    ----------
    before, after : Plan
        Of the same pipeline or not; with choices or without.

    Raises
    ------
    InputError
        If one of them is no plan.
    """
    check_kinds(before=(before, Plan), after=(after, Plan))
    stages = dict.fromkeys([*before.pipeline.stages, *after.pipeline.stages])
    return PlanDifference(
        before,
        after,
        tuple(
            StageDifference(
                stage,
                before.choices.get(stage),
                after.choices.get(stage),
                _microusd(before, stage),
                _microusd(after, stage),
            )
            for stage in stages
            if before.choices.get(stage) != after.choices.get(stage)
        ),
        tuple(_requests(before, after)),
    )


def _microusd(plan: Plan, stage: str) -> int:
    choice = plan.choices.get(stage)
    return (
        0 if choice is None else choice.replicas * plan.profiles.hardware[choice.hardware].microusd_per_hour
    )


def _requests(before: Plan, after: Plan) -> Iterator[RequestDifference]:
    """What was asked for otherwise: each thing as people read it, and where two read alike and still differ, so."""
    told: list[tuple[str, list[str]]] = [
        ("objective", _apart([(o.text, _exact_text(o)) for o in (before.objective, after.objective)])),
        ("guarantee", [plan.guarantee.value for plan in (before, after)]),
        ("share of scenarios", [_confidence_text(plan) for plan in (before, after)]),
        (
            "dispatch",
            [f"{_laws_text(plan)}, {plan.discipline.replace('_', ' ')}" for plan in (before, after)],
        ),
        ("certified by", [plan.certificate.value for plan in (before, after)]),
        ("headroom", _apart([(f"{plan.headroom:g}", f"{plan.headroom!r}") for plan in (before, after)])),
        (
            "margin",
            _apart([(format_duration(plan.margin_ns), f"{plan.margin_ns:,} ns") for plan in (before, after)]),
        ),
        ("seed", [str(plan.seed) for plan in (before, after)]),
        ("trace", [_trace_text(plan) for plan in (before, after)]),
    ]
    objectives = before.objective, after.objective
    told += [
        (what, [_value_text(getattr(one, field)) for one in objectives]) for field, what in _FURTHER.items()
    ]
    told.append(("rule of accuracy", [str(plan.pipeline.accuracy.to_document()) for plan in (before, after)]))
    hardware = dict.fromkeys([*before.profiles.hardware, *after.profiles.hardware])
    for name in hardware:
        devices = [plan.profiles.hardware.get(name) for plan in (before, after)]
        prices = ["none" if d is None else f"{d.usd_per_hour:.10g} $/h" for d in devices]
        limits = ["none" if d is None or d.limit is None else str(d.limit) for d in devices]
        memory = [
            "none" if d is None or d.memory_gib is None else f"{d.memory_gib:.10g} GiB" for d in devices
        ]
        watts = ["none" if d is None else _power_text(d) for d in devices]
        told += [(f"price of {name}", prices), (f"limit on {name}", limits)]
        if None not in devices:  # where there is none, its price says so
            told.append((f"memory of {name}", memory))
            # A plan holds what devices draw only if energy is asked of it.
            told += [(f"power of {name}", watts)] if None not in (before.energy, after.energy) else []
    for what, (first, second) in told:
        if first != second:
            yield RequestDifference(what, first, second)
    for model, name in dict.fromkeys([*before.profiles.tables, *after.profiles.tables]):
        tables = [plan.profiles.table(model, name) for plan in (before, after)]
        if tables[0] != tables[1]:
            yield RequestDifference(f"{model} on {name}", *_table_texts(*tables))
    if before.pipeline != after.pipeline:
        for key, what in (
            ("stagger", "outputs apart"),
            ("window", "collected for"),
            ("discipline", "queues of the file"),
        ):
            texts = [str(plan.pipeline.to_document().get(key, "as usual")) for plan in (before, after)]
            if texts[0] != texts[1]:
                yield RequestDifference(what, *texts)
        yield from _stage_requests(before, after)


def _apart(texts: list[tuple[str, str]]) -> list[str]:
    """The texts that people read, of two things; their exact ones where these read alike."""
    short, exact = ([text[place] for text in texts] for place in (0, 1))
    return exact if len(set(short)) == 1 else short


def _exact_text(objective: Objective) -> str:
    limits = [(objective.quantile, objective.slo_ns), *((o.quantile, o.limit_ns) for o in objective.others)]
    over = "" if objective.per_ns is None else f" in {objective.share!r} of all {objective.per_ns:,} ns"
    return ", ".join(f"quantile {quantile!r}{over} ≤ {limit_ns:,} ns" for quantile, limit_ns in limits)


def _confidence_text(plan: Plan) -> str:
    return "none" if plan.reliability is None else f"{plan.reliability.confidence:.10g}"


def _power_text(device: Hardware) -> str:
    known = (("idle", device.idle_w), ("at most", device.tdp_w))
    return ", ".join(f"{what} {watts:.10g} W" for what, watts in known if watts is not None) or "none"


def _trace_text(plan: Plan) -> str:
    texts = (f"{one.name} ({one.queries:,} queries, {one.sha256[:8]})" for one in plan.traces)
    return ", ".join(texts) or "none"


def _laws_text(plan: Plan) -> str:
    own = ", ".join(f"{stage} {law}" for stage, law in plan.objective.dispatch)
    return f"{plan.dispatch} ({own})" if len(set(plan.laws.values())) > 1 else plan.dispatch


def _value_text(value: object) -> str:
    if isinstance(value, EnergyTerms):
        return (
            ", ".join(f"{f.name} {own}" for f in fields(value) if (own := getattr(value, f.name))) or "told"
        )
    return "none" if value is None else str(getattr(value, "text", value))


def _table_texts(first: LatencyTable | None, second: LatencyTable | None) -> tuple[str, str]:
    if first is None or second is None:
        return tuple("not measured" if table is None else "measured" for table in (first, second))  # type: ignore[return-value]
    if first.batch.tolist() != second.batch.tolist():
        return f"{first.batch.size} batch sizes", f"{second.batch.size} batch sizes"
    changed = np.flatnonzero(first.served_ms != second.served_ms)
    if not changed.size:
        return "measured", "the same latencies, other columns"
    place = int(changed[0])
    more = f" and {changed.size - 1} more" if changed.size > 1 else ""
    texts = [
        f"{table.served_ms[place]:.6g} ms at batch {table.batch[place]}{more}" for table in (first, second)
    ]
    return texts[0], texts[1]


def _stage_requests(before: Plan, after: Plan) -> Iterator[RequestDifference]:
    """Where the files of two pipelines differ, stage by stage and edge by edge."""
    files = before.pipeline.to_document(), after.pipeline.to_document()
    for stage in dict.fromkeys([*files[0]["stages"], *files[1]["stages"]]):
        # Of several variants the file of a plan says which one runs, which is its choice.
        entries = [file["stages"].get(stage) for file in files]
        texts = [
            _entry_text(entry and {k: v for k, v in entry.items() if k != "model" or "variants" not in entry})
            for entry in entries
        ]
        if texts[0] != texts[1]:
            yield RequestDifference(f"stage {stage}", *texts)
    ways = [{(edge["from"], edge["to"]): edge for edge in file["edges"]} for file in files]
    for way in dict.fromkeys([*ways[0], *ways[1]]):
        edges = [edge.get(way) for edge in ways]
        texts = [
            _entry_text(edge and {k: v for k, v in edge.items() if k not in ("from", "to")}) for edge in edges
        ]
        if texts[0] != texts[1]:
            yield RequestDifference(f"edge {way[0]} → {way[1]}", *texts)


def _entry_text(entry: dict[str, object] | None) -> str:
    if entry is None:
        return "none"
    return ", ".join(f"{key} {value}" for key, value in entry.items()) or "plain"
