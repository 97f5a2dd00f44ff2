"""The plan file, format 1, or 2 with dispatch laws: its fields, its text, and checksums that show alterations."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from enum import StrEnum
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, PrivateAttr, ValidationError, model_validator

from mipplan.core import Fault, Faults, InputError, QuantileLimit, shown
from mipplan.documents import Document, StrictEntry, decode_text, read_bytes, schema_findings
from mipplan.pipeline import Discipline, DispatchLaw, Pipeline
from mipplan.profiles import EnergyTerms
from mipplan.result.record import Figures, Guarantee, Objective, Provenance
from mipplan.result.reliability import MOST_COUNT, ReliabilityDocument, SampleDocument, SampleFigure
from mipplan.result.runs import CertificateKind, RunsDocument
from mipplan.tokens import MOST_SEEDS
from mipplan.trace import TraceReference

if TYPE_CHECKING:
    from mipplan.result.plan import Plan

#: Plans carry their latency tables; the largest shipped problem takes a few hundred kilobytes. JSON made for the
#: purpose takes twenty times its size in memory.
MAX_PLAN_BYTES = 8 * 1024 * 1024
#: A plan file nests six levels deep and holds int64 at most; more is refused before anything else reads it.
MAX_DEPTH = 32
MAX_DIGITS = 100

#: Fields of an objective that is not of one quantile over all queries, and those of a plan for several samples.
WINDOWED = {"per_ns", "share", "others"}
SAMPLED = {"seeds", "other_traces", "samples"}

_Count = Field(ge=1, le=MOST_COUNT)
#: Nanoseconds or micro-dollars in a plan file; sums of them stay inside int64.
AMOUNT = Field(ge=0, le=2**62)
#: Burst and rate are both finite and not negative, or no arrival curve could be made of them.
_Bucket = Annotated[
    list[Annotated[float, Field(ge=0, allow_inf_nan=False)]], Field(min_length=2, max_length=2)
]


class LimitDocument(StrictEntry):
    """A further quantile and its limit."""

    quantile: float = Field(gt=0, le=1)
    limit_ns: int = Field(ge=1, le=2**62)


class EnergyDocument(StrictEntry):
    """What is asked of energy, as `EnergyTerms` checks it."""

    max_power_w: float | None
    usd_per_kwh: float | list[float]
    gco2_per_kwh: float | list[float] | None
    usd_per_tonne: float


class ObjectiveDocument(StrictEntry):
    """The objective in a plan file."""

    slo_ns: int = Field(ge=1, le=2**62)
    quantile: float = Field(gt=0, le=1)
    guarantee: Literal["trace", "envelope", "replay", "reliable"]
    headroom: float = Field(ge=1, le=1000)
    margin_ns: int = AMOUNT
    envelope: Annotated[list[_Bucket], Field(min_length=1)] | None
    budget_microusd_per_hour: int | None = AMOUNT
    seed: int = Field(ge=0)
    # Of format 2; format 1 is oldest first and eager everywhere.
    discipline: Literal["oldest_first", "fifo"] = "oldest_first"
    dispatch: dict[str, Literal["eager", "paced", "timed"]] = Field(default_factory=dict)
    # Files had neither before there was a second certificate, and have neither where it is not used.
    certificate: Literal["classic", "sharp"] = "classic"
    runs: RunsDocument | None = None
    # Of format 2, where the quantile is not over all queries, or others are asked for.
    per_ns: int | None = Field(default=None, ge=1, le=2**62)
    share: float = Field(default=1.0, gt=0, le=1)
    others: list[LimitDocument] = Field(default_factory=list)
    # Of format 2, where every trace has several draws.
    seeds: int = Field(default=1, ge=1, le=MOST_SEEDS)
    min_accuracy: float | None = Field(default=None, gt=0, le=1)  # files had none before stages had variants
    energy: EnergyDocument | None = None  # files had none before energy could be asked for

    def objective(self) -> Objective:
        """Return what it says."""
        held = {name: getattr(self, name) for name in ObjectiveDocument.model_fields}
        envelope = None if self.envelope is None else tuple((burst, rate) for burst, rate in self.envelope)
        held |= {
            "guarantee": Guarantee(self.guarantee),
            "envelope": envelope,
            "dispatch": (),
            "certificate": CertificateKind(self.certificate),
            "runs": None if self.runs is None else self.runs.runs(),
            "others": tuple(QuantileLimit(one.quantile, one.limit_ns) for one in self.others),
            "energy": None if self.energy is None else EnergyTerms(**self.energy.model_dump()),
        }
        laws = {stage: DispatchLaw(law) for stage, law in self.dispatch.items()}
        return Objective(**held).under(laws, self.discipline)


class ChoiceDocument(StrictEntry):
    """One stage's choice."""

    hardware: str
    batch: int = _Count
    replicas: int = _Count
    variant: str | None = None  # where the stage lists variants


class FiguresDocument(StrictEntry):
    """Exact figures; null where there is none."""

    microusd_per_hour: int | None = AMOUNT
    lower_bound_microusd_per_hour: int | None = AMOUNT
    bound_ns: int | None = AMOUNT
    certificate_ns: int | None = AMOUNT
    # Files had neither before energy could be asked for.
    power_mw: int | None = Field(default=None, ge=0, le=2**62)
    least_power_mw: int | None = Field(default=None, ge=0, le=2**62)


class TraceDocument(StrictEntry):
    """The trace planned for."""

    name: str
    note: str
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    queries: int = Field(ge=2)
    span_ns: int = AMOUNT

    def reference(self) -> TraceReference:
        """Return what it says."""
        return TraceReference(**self.model_dump())


class HashesDocument(StrictEntry):
    """SHA-256 of the two inputs as they stand in this file."""

    pipeline: str
    profiles: str


class _Outcome(StrictEntry):
    """What a plan file begins with; then come the objective and all else."""

    format: Literal[1, 2]
    status: Literal["optimal", "feasible", "infeasible", "unknown", "given"]
    reason: str | None
    limit: Literal["time", "interrupt"] | None = None
    choices: dict[str, ChoiceDocument]
    figures: FiguresDocument


class PlanDocument(ObjectiveDocument, _Outcome):
    """A plan file; `pipeline` and `profiles` are checked by their own readers."""

    formulation: str | None
    solver: str | None
    trace: TraceDocument | None
    # Of format 2: further traces, and what the plan does on each sample where there are several.
    other_traces: list[TraceDocument] = Field(default_factory=list)
    samples: list[SampleDocument] = Field(default_factory=list)
    # Files had none before there were tests, and have none where there was none.
    reliability: ReliabilityDocument | None = None
    pipeline: dict[str, Any]
    profiles: dict[str, Any]
    hashes: HashesDocument
    checksum: str
    _origin: str = PrivateAttr("plan")

    @property
    def origin(self) -> str:
        """The file that it was read from, where faults of it are told."""
        return self._origin

    @model_validator(mode="after")
    def _laws_have_their_format(self) -> PlanDocument:
        laws = {"dispatch", "discipline"} & self.model_fields_set
        if len(laws) != (0 if self.format == 1 else 2):
            raise ValueError("format: dispatch and discipline are of format 2, which has both of them")
        if self.format == 1 and WINDOWED & self.model_fields_set:
            raise ValueError("format: windows and further quantiles are of format 2")
        if self.format == 1 and SAMPLED & self.model_fields_set:
            raise ValueError("format: several traces or seeds are of format 2")
        traces = (self.trace is not None) + len(self.other_traces)
        if any(sample.trace >= traces for sample in self.samples):
            raise ValueError(f"samples: there are {traces} traces, counted from 0")
        return self

    def stated(self) -> Figures:
        """Return the figures that it states."""
        samples = tuple(SampleFigure(**sample.model_dump()) for sample in self.samples)
        return Figures(**self.figures.model_dump(), samples=samples)

    def provenance(self) -> Provenance:
        """Return where it says that the plan comes from."""
        tested = None if self.reliability is None else self.reliability.reliability()
        others = tuple(trace.reference() for trace in self.other_traces)
        made_for = None if self.trace is None else self.trace.reference()
        return Provenance(made_for, self.formulation, self.solver, reliability=tested, others=others)

    def check_laws(self, pipeline: Pipeline) -> None:
        """Raise `InputError` listing what is no law or no stage, and stages without a law where files have laws."""
        faults = Faults()
        faults.take(lambda: pipeline.laws(self.dispatch))
        # Left out, one would count as eager here and as what the pipeline says elsewhere: nobody should have to guess.
        unstated = (
            [] if self.format == 1 else [stage for stage in pipeline.stages if stage not in self.dispatch]
        )
        faults.add(
            *(Fault(f"dispatch.{stage}", "missing: format 2 has a law for every stage") for stage in unstated)
        )
        faults.check()


def plan_document(plan: Plan) -> dict[str, Any]:
    """JSON-able form of a plan, in the oldest format that can hold it: in format 1 all is eager and oldest first."""
    inputs = {"pipeline": plan.pipeline.to_document(), "profiles": plan.profiles.to_document()}
    made = {"format": 1, **inputs, "hashes": {part: fingerprint(held) for part, held in inputs.items()}}
    # A limit is written only where one was hit, a certificate only if it is a sharp one: files had neither before. Runs
    # are those of a sharp one or of fifo queues.
    left_out = {"checksum"} if plan.limit else {"checksum", "limit"}
    if plan.certificate is not CertificateKind.SHARP:
        left_out |= {"certificate"} if plan.runs else {"certificate", "runs"}
    left_out |= {name for name in ("reliability", "min_accuracy", "energy") if getattr(plan, name) is None}
    held = ((stage, asdict(choice)) for stage, choice in plan.choices.items())
    made["choices"] = {stage: {k: v for k, v in own.items() if v is not None} for stage, own in held}
    named = any(stage.dispatch is not DispatchLaw.EAGER for stage in plan.pipeline.stages.values())
    plain = (plan.objective.per_ns, plan.objective.others) == (None, ())
    if plain:
        left_out |= WINDOWED
    if alone := plan.objective.seeds == 1 and not plan.provenance.others:
        left_out |= SAMPLED
    spread = named or bool(plan.objective.dispatch) or plan.discipline is not Discipline.OLDEST_FIRST
    if spread or not (plain and alone):
        made |= {"format": 2, "dispatch": {stage: str(law) for stage, law in plan.laws.items()}}
    else:
        left_out |= {"dispatch", "discipline"}
    own = [name for name in PlanDocument.model_fields if name not in left_out]
    made |= {name: json_form(getattr(plan.objective, name)) for name in (*WINDOWED, "seeds")}
    made |= {"other_traces": json_form(plan.provenance.others), "samples": json_form(plan.figures.samples)}
    figures = {name: getattr(plan.figures, name) for name in FiguresDocument.model_fields}
    made["figures"] = {k: v for k, v in figures.items() if v is not None or not k.endswith("_mw")}
    return {name: made[name] if name in made else json_form(getattr(plan, name)) for name in own}


def json_form(value: Any) -> Any:
    """Write a part of a plan as a plan file does: enumerations as words, dataclasses by their fields."""
    if isinstance(value, StrEnum):
        return value.value
    if isinstance(value, Mapping):
        return {key: json_form(held) for key, held in value.items()}
    if isinstance(value, tuple):
        return [json_form(held) for held in value]
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value


def fingerprint(document: dict[str, Any]) -> str:
    """SHA-256 (hex) of a JSON-able document in canonical form."""
    canonical = json.dumps(
        document, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    )
    return hashlib.sha256(canonical.encode()).hexdigest()


def document_text(document: dict[str, Any]) -> str:
    """JSON text of a plan document, its checksum appended; raises `InputError` if it is too large to be read again."""
    whole = {**document, "checksum": fingerprint(document)}
    text = json.dumps(whole, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    if len(text.encode(errors="replace")) > MAX_PLAN_BYTES:
        message = f"takes more than the {MAX_PLAN_BYTES // 2**20} MiB that are read of a plan file"
        raise InputError.one("plan", f"{message}: give it smaller tables, or a curve of fewer pieces")
    return text


def read_document(path: str | Path) -> PlanDocument:
    """Read and validate a plan file.

    Raises `InputError` listing every fault; one of them may be that the file is not what mipplan wrote.
    """
    raw = _parse(path)
    if not isinstance(raw, dict) or "format" not in raw:
        raise InputError.one(str(path), "is not a plan file: write one with `mipplan plan … --out FILE`")
    try:
        read = PlanDocument.model_validate(raw)
    except ValidationError as error:
        document = Document(raw, str(path))
        raise InputError(document.faults(schema_findings(error, PlanDocument))) from None
    read._origin = str(path)
    return read


def altered_parts(document: PlanDocument) -> tuple[str, ...]:
    """Which parts of a plan file no longer match their checksums; empty if it is as it was written."""
    parts = [
        part
        for part, content in (("pipeline", document.pipeline), ("profiles", document.profiles))
        if fingerprint(content) != getattr(document.hashes, part)
    ]
    # A limit is written only where one was hit, as files had none before: a field that is not there is no part.
    body = document.model_dump(exclude={"checksum"}, exclude_unset=True)
    if not parts and fingerprint(body) != document.checksum:
        parts.append("choices or figures")
    return tuple(parts)


def _parse(path: str | Path) -> Any:
    text = decode_text(read_bytes(path, limit=MAX_PLAN_BYTES), str(path))
    try:
        raw = json.loads(
            text, parse_constant=_refuse, parse_float=_finite, parse_int=_short, object_pairs_hook=_unique
        )
    except json.JSONDecodeError as error:
        place = f"{path}:{error.lineno}"
        raise InputError.one(
            place, f"is not a plan file: not JSON ({error.msg}, column {error.colno})"
        ) from error
    except _RefusedError as error:
        token, what = error.args
        raise InputError.one(_place_of(path, text, token), f"is not a plan file: {what}") from None
    except RecursionError as error:
        raise InputError.one(str(path), "is not a plan file: nested too deeply") from error
    # Later steps walk the document again, some with more stack per level than the parser needs.
    if _depth(raw) > MAX_DEPTH:
        raise InputError.one(str(path), "is not a plan file: nested too deeply")
    return raw


class _RefusedError(ValueError):
    """JSON that Python would read, but that no plan file holds: which token, and what is wrong with it."""


def _refuse(name: str) -> None:
    raise _RefusedError(name, f"{name} is not a number")


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise _RefusedError(digits, f"the number {digits[:40]} is out of range")
    return value


def _short(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise _RefusedError(digits, f"a number has {len(digits)} digits")
    return int(digits)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse duplicate keys: readers disagree on which of them counts, so two people could see two plans."""
    made: dict[str, Any] = {}
    for key, value in pairs:
        if key in made:
            token = json.dumps(key, ensure_ascii=False)
            raise _RefusedError(token, f"the key {shown(key)} is given twice in one place")
        made[key] = value
    return made


def _depth(value: Any) -> int:
    """Levels of nesting, without recursion."""
    levels, here = 0, [value]
    while here:
        mappings = [inner.values() for inner in here if isinstance(inner, dict)]
        lists = [inner for inner in here if isinstance(inner, list)]
        here = list(chain.from_iterable((*mappings, *lists)))
        levels += 1
    return levels


def _place_of(path: str | Path, text: str, token: str) -> str:
    """Line of the only occurrence of a token; just the file if there are several or none."""
    if text.count(token) != 1:
        return str(path)
    return f"{path}:{text.count(chr(10), 0, text.index(token)) + 1}"
