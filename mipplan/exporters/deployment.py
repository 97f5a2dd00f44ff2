"""A plan as whoever deploys it sees it: names that servers accept, devices, rates, and the shape of the flow."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

import numpy as np

from mipplan.core import Fault, Int64, format_duration, listed, suggestion
from mipplan.pipeline import Edge, Join, Stage
from mipplan.result import Choice, Plan
from mipplan.tokens import realise_queries

#: Tokens per query are counted on at most this many queries, because more change them by less than 1 % and take long.
_MOST_QUERIES = 100_000
#: Kubernetes allows 63 characters in a name, and KServe puts ``-predictor`` behind pipeline and stage.
_PIPELINE_LENGTH, _STAGE_LENGTH = 24, 28
#: What YAML takes for something else than text.
_YAML_WORDS = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}
#: Comments in exported files are wrapped at this column.
_COLUMNS = 100
#: Of exported files whose models only sleep: how long before its end a sleep goes over into a loop, and the sleep.
WATCH = """\
# A sleep ends late: the last 0.3 ms are waited for in a loop.
WATCHED_NS = 300_000
"""
SLEEP = f'''{WATCH}

def sleep_until(end_ns):
    """Wait for an instant of the monotonic clock."""
    time.sleep(max(0, end_ns - WATCHED_NS - time.monotonic_ns()) / 1e9)
    while time.monotonic_ns() < end_ns:
        continue
'''


class FlowShape(StrEnum):
    """What a server has to be able to do with the queries of a pipeline."""

    CHAIN = "chain"
    """Every query visits every stage once, one after the other."""
    FIXED = "fixed"
    """Every query visits every stage once, some of them at the same time."""
    DRAWN = "drawn"
    """Branches, fan-outs or joins of each token: how often a query visits a stage depends on the query."""


@dataclass(frozen=True)
class DeployedStage:
    """One stage with its choice."""

    stage: Stage
    choice: Choice
    #: Lower-case letters, digits and hyphens, unique in the pipeline.
    label: str
    is_gpu: bool
    #: Numbers of its GPUs on a machine that holds those of all stages; empty for a CPU.
    gpus: tuple[int, ...]
    #: ℓ(1), …, ℓ(b) in ns.
    service_ns: Int64
    incoming: tuple[Edge, ...]
    #: Mean tokens of a query, as drawn for the plan's trace; None where the plan has none.
    tokens_per_query: float | None
    #: Tokens per second that were planned for; None where the plan has no trace.
    rate_rps: float | None

    @property
    def name(self) -> str:
        """The stage in the pipeline."""
        return self.stage.name

    @property
    def python_name(self) -> str:
        """The label as part of a Python name."""
        return self.label.replace("-", "_")

    @property
    def texts(self) -> dict[str, str]:
        """Its names as they stand in templates of Python: its class, and what docstrings say of it."""
        named = {"stage": self.name, "model": self.stage.model, "text": self.text}
        return {"name": f"Stage_{self.python_name}"} | {what: quoted(text) for what, text in named.items()}

    @property
    def replica_rps(self) -> float:
        """b/ℓ(b): tokens per second of one replica whose batches are full."""
        return float(self.choice.batch * 1e9 / self.service_ns[-1])

    @property
    def text(self) -> str:
        """Its choice for people."""
        choice = self.choice
        return f"{choice.replicas} × {choice.hardware}, batch cap {choice.batch}"

    @property
    def table_text(self) -> str:
        """Say what a batch takes."""
        sizes = dict.fromkeys((1, self.choice.batch))
        return ", ".join(f"ℓ({size}) = {format_duration(int(self.service_ns[size - 1]))}" for size in sizes)


@dataclass(frozen=True)
class Deployment:
    """A plan ready to be written down for a serving system.

    Parameters
    ----------
    plan : Plan
        With choices.
    emulate : bool
        Whether models are replaced by ones that sleep.
    cpu : collection of str
        Hardware types that are no GPUs, besides those whose names begin with ``cpu``.
    allowance_s : float
        What a batch may take beyond its table, for our dispatcher's own time.
    """

    plan: Plan
    emulate: bool = False
    cpu: Collection[str] = ()
    allowance_s: float = 0.0

    @cached_property
    def name(self) -> str:
        """Label of the pipeline, distinct from those of its stages."""
        taken = [stage.label for stage in self.stages]
        return labels([*taken, self.plan.pipeline.name], _PIPELINE_LENGTH, "pipeline", kept=len(taken))[-1]

    @cached_property
    def stages(self) -> tuple[DeployedStage, ...]:
        """Every stage, parents before children."""
        plan, order = self.plan, self.plan.pipeline.topological_order
        counts, rate_rps = self._tokens_per_query(), self.rate_rps
        made, next_gpu = [], 0
        for name, label in zip(order, labels(order, _STAGE_LENGTH, "stage"), strict=True):
            choice = plan.choices[name]
            is_gpu = not self._is_cpu(choice.hardware)
            gpus = tuple(range(next_gpu, next_gpu + choice.replicas)) if is_gpu else ()
            next_gpu += len(gpus)
            made.append(
                DeployedStage(
                    plan.pipeline.stages[name],
                    choice,
                    label,
                    is_gpu,
                    gpus,
                    plan.service_ns(name),
                    plan.pipeline.incoming(name),
                    counts.get(name),
                    None if rate_rps is None else rate_rps * counts[name],
                )
            )
        return tuple(made)

    @cached_property
    def by_name(self) -> Mapping[str, DeployedStage]:
        """Stages by their names in the pipeline."""
        return {stage.name: stage for stage in self.stages}

    @cached_property
    def shape(self) -> FlowShape:
        """What kind of flow the pipeline has."""
        pipeline = self.plan.pipeline
        each = [name for name, stage in pipeline.stages.items() if stage.join is Join.EACH]
        if not all(map(is_certain, pipeline.edges)) or any(len(pipeline.incoming(name)) > 1 for name in each):
            return FlowShape.DRAWN
        ways = [len(way(name)) for name in pipeline.stages for way in (pipeline.incoming, pipeline.outgoing)]
        is_chain = len(pipeline.sources) == 1 and max(ways) <= 1
        return FlowShape.CHAIN if is_chain else FlowShape.FIXED

    @property
    def sinks(self) -> tuple[DeployedStage, ...]:
        """Stages from which nothing goes on."""
        return tuple(stage for stage in self.stages if not self.plan.pipeline.outgoing(stage.name))

    @property
    def rate_rps(self) -> float | None:
        """Queries per second that were planned for, of several traces the most."""
        spread = [trace for trace in self.plan.traces if trace.span_ns]
        rates = (self.plan.headroom * trace.queries * 1e9 / trace.span_ns for trace in spread)
        return max(rates, default=None)

    def devices(self) -> dict[str, int]:
        """Devices that are needed, by hardware type."""
        needed: dict[str, int] = {}
        for stage in self.stages:
            needed[stage.choice.hardware] = needed.get(stage.choice.hardware, 0) + stage.choice.replicas
        return needed

    def hardware_names(self, accepted: Callable[[str], str]) -> dict[str, str]:
        """Make names of hardware types that a system accepts, each once; those that it accepts as they are stay so."""
        made: dict[str, str] = {}
        for name in sorted(self.devices(), key=lambda name: accepted(name) != name):
            made[name] = _unique(accepted(name), made.values())
        return made

    def faults(self) -> list[Fault]:
        """Name hardware types that are said to be CPUs and that the plan does not use."""
        used = dict.fromkeys(choice.hardware for choice in self.plan.choices.values())
        return [
            Fault("cpu", f"the plan uses no {name!r}{suggestion(name, used) or f'; it uses {listed(used)}'}")
            for name in self.cpu
            if name not in used
        ]

    def _is_cpu(self, hardware: str) -> bool:
        return hardware in self.cpu or hardware.lower().startswith("cpu")

    def _tokens_per_query(self) -> dict[str, float]:
        """Count tokens: draws depend on query and seed alone, so those of the plan's trace are drawn again."""
        if self.plan.trace is None:
            return {}
        queries = min(self.plan.trace.queries, _MOST_QUERIES)
        workload = realise_queries(self.plan.pipeline, np.zeros(queries, np.int64), self.plan.seed)
        return {name: tokens.count / queries for name, tokens in workload.stages.items()}


def service_name(deployment: Deployment, stage: DeployedStage) -> str:
    """Name of a stage's InferenceService, at most 53 characters."""
    return f"{deployment.name}-{stage.label}"


def exported_names(plan: Plan) -> dict[str, dict[str, str]]:
    """What models of Triton are called by stage: in one server (``triton``), and in the pods of ``kserve``."""
    deployment = Deployment(plan)
    return {
        "triton": {stage.name: stage.label for stage in deployment.stages},
        "kserve": {stage.name: service_name(deployment, stage) for stage in deployment.stages},
    }


def names_among(plan: Plan, found: Iterable[str]) -> dict[str, str]:
    """What models are called by stage where there are these: as exported, or as the stages, whichever has most."""
    there = set(found)
    ways = [*exported_names(plan).values(), {stage: stage for stage in plan.choices}]
    return max(ways, key=lambda names: len(there.intersection(names.values())))


def is_certain(edge: Edge) -> bool:
    """Whether every token of the parent makes exactly one of the child."""
    return edge.probability == 1.0 and edge.fanout.is_constant_integer and edge.fanout.values == (1,)


def labels(names: Iterable[str], length: int, otherwise: str, kept: int = 0) -> list[str]:
    """Make names that file systems, Python, YAML, Triton and Kubernetes accept, each once; the first `kept` are such.

    What is left of a name without letters of the alphabet is ``otherwise`` with a number.
    """
    made: list[str] = []
    for number, name in enumerate(names):
        if number < kept:
            made.append(name)
            continue
        label = re.sub(r"[^a-z0-9]+", "-", name.lower())[:length].strip("-")
        if not label or label[0].isdigit() or label in _YAML_WORDS:
            label = f"{otherwise}-{label}".strip("-")[:length].strip("-")
        # Of a service KServe makes a deployment and a service with `-predictor`, which are to be no other's.
        forms = [form for one in made for form in (one, f"{one}-predictor", one.removesuffix("-predictor"))]
        made.append(_unique(label, forms, length))
    return made


def _unique(label: str, taken: Collection[str], length: int = 63) -> str:
    """Number a name that is taken."""
    unique, copy = label, 1
    while unique in taken:
        copy += 1
        unique = f"{label[: length - len(str(copy)) - 1].strip('-')}-{copy}"
    return unique


def remark(text: str, indent: str = "", mark: str = "# ") -> str:
    """Write a comment in whole lines, wrapped."""
    lines = textwrap.wrap(
        text, _COLUMNS - len(indent) - len(mark), break_long_words=False, break_on_hyphens=False
    )
    return "".join(f"{indent}{mark}{line}\n" for line in lines)


def quoted(name: str) -> str:
    """Write a name so that it can stand in a docstring of Python."""
    return name.replace("\\", "\\\\").replace('"', "'")
