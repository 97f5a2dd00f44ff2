"""Reading and checking a fleet: the arguments of `plan_fleet`, and fleet files with everything that they name.

Knows the form of both; every fault is told, each with its place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from os import PathLike
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field

from mipplan.certificate import check_covered
from mipplan.core import (
    NS_PER_S,
    Fault,
    Faults,
    InputError,
    check_budget,
    check_jobs,
    check_kinds,
    check_one_of,
    check_quantile,
    check_seed,
    check_time_limit,
    is_number,
    listed,
    name_problem,
    shown,
    suggestion,
)
from mipplan.documents import (
    AnyPath,
    Document,
    Duration,
    Finding,
    PositiveDuration,
    StrictEntry,
    checked_by,
    first_faults,
    output_problem,
    parse_entry,
    read_yaml,
)
from mipplan.fleet.problem import Fleet, FleetMember
from mipplan.options import check_accuracies, check_names
from mipplan.pipeline import (
    AccuracyKind,
    Discipline,
    DispatchLaw,
    Pipeline,
    check_accuracy,
    combinations,
)
from mipplan.profiles import Profiles, limit_problem
from mipplan.result import CertificateKind, RunClass, check_runs, resolve_slo_ns
from mipplan.trace import Trace

PipelineArgument = (
    tuple[Pipeline, Trace]
    | tuple[Pipeline, Trace, float | None]
    | tuple[Pipeline, Trace, float | None, float]
    | tuple[Pipeline, Trace, float | None, float, float | None]
)
METHODS = ("auto", "columns", "joint")
#: A fleet of more pipelines than this is surely mistaken.
MAX_PIPELINES = 100_000
#: Variants that change the tokens make as many problems of a pipeline; each is priced in every round.
MAX_ALTERNATIVES = 64
#: A weight above this is surely mistaken.
MAX_WEIGHT = 1000.0

#: Finds the file that a name in a fleet file stands for, given the kind of file and the fleet file's folder.
Finder = Callable[[str, str, Path], str]
ReadT = TypeVar("ReadT")


@dataclass(frozen=True)
class FleetSettings:
    """What a fleet is planned by, whatever its pipelines: arguments of `plan_fleet`, unchecked."""

    budget: float | None
    quantile: float
    seed: int
    gap: float
    time_limit_s: float | None
    method: str
    checkpoint: str | PathLike[str] | None
    dispatch: str | None = None
    discipline: str | None = None
    runs: RunClass | None = None
    n_jobs: int | None = None

    def check(self) -> None:
        """Refuse what cannot be: `InputError` lists every fault."""
        faults = Faults()
        faults.take(lambda: check_budget(self.budget, "budget"))
        faults.take(lambda: check_time_limit(self.time_limit_s))
        faults.take(lambda: check_quantile(self.quantile))
        faults.take(lambda: check_seed(self.seed))
        if not (is_number(self.gap) and 0 <= self.gap < 1):
            faults.add(Fault("gap", f"expected a share from 0 up to 1, found {shown(self.gap)}"))
        faults.take(lambda: check_one_of("method", self.method, METHODS))
        faults.take(lambda: None if self.n_jobs is None else check_jobs(self.n_jobs))
        if self.dispatch is not None:
            faults.take(lambda: check_one_of("dispatch", self.dispatch, list(DispatchLaw), repr))
        if self.discipline is not None:
            faults.take(lambda: check_one_of("discipline", self.discipline, Discipline, repr))
        faults.take(lambda: check_runs(self.runs))
        if isinstance(self.runs, RunClass):
            runs = self.runs
            faults.take(lambda: check_covered(Discipline.FIFO, CertificateKind.CLASSIC, runs))
        if self.checkpoint is not None:
            by_columns = self.method != "joint"
            problem = output_problem(self.checkpoint) if by_columns else 'goes with method="columns" only'
            if problem is not None:
                faults.add(Fault("checkpoint", problem))
        faults.check()


def read_fleet(
    pipelines: Mapping[str, PipelineArgument],
    profiles: Profiles,
    limits: Mapping[str, int | None] | None,
    settings: FleetSettings,
) -> Fleet:
    """Make the fleet; `InputError` lists every fault."""
    faults = Faults()
    faults.take(settings.check)
    limits = {} if limits is None else limits
    if not isinstance(profiles, Profiles) or not isinstance(limits, Mapping):
        faults.take(lambda: check_kinds(profiles=(profiles, Profiles)))
        if not isinstance(limits, Mapping):
            faults.add(Fault("limits", f"expected a mapping such as {{'t4': 4}}, found {shown(limits)}"))
        faults.check()  # all else is read by what these hold
    for name, limit in limits.items():
        problem = None if limit is None else limit_problem(limit)
        problem = _unknown_hardware(name, profiles) or problem
        if problem is not None:
            faults.add(Fault(f"limits.{name}", problem))
    if not isinstance(pipelines, Mapping) or not 1 <= len(pipelines) <= MAX_PIPELINES:
        message = f"expected a mapping of 1 to {MAX_PIPELINES:,} names to (pipeline, trace, slo_s, weight)"
        faults.add(Fault("pipelines", message))
        faults.check()
    law = settings.dispatch if settings.dispatch in list(DispatchLaw) else None
    how = profiles, law, settings
    members = [faults.take(partial(_member, name, given, *how)) for name, given in pipelines.items()]
    if settings.runs is not None and all(member and member.value.overtaking is None for member in members):
        faults.add(Fault("runs", "goes with fifo queues: they say what may overtake there"))
    if settings.method == "joint":
        several = [member.value.name for member in members if member and len(member.value.alternatives) > 1]
        message = f"joint draws tokens once, and variants change them in {listed(several)}: columns can do it"
        faults.add(*([Fault("method", message)] if several else []))
        timed = [member.value.name for member in members if member and member.value.is_timed]
        message = (
            f"joint knows what stages serve, and {listed(timed)} is certified by replays: columns can do it"
        )
        faults.add(*([Fault("method", message)] if timed else []))
    faults.check()
    limited = [
        replace(device, limit=limits.get(name, device.limit)) for name, device in profiles.hardware.items()
    ]
    return Fleet(
        tuple(member.value for member in members),
        Profiles.from_parts(limited, profiles.tables.values()),
        check_quantile(settings.quantile),
        check_seed(settings.seed),
        check_budget(settings.budget, "budget"),
    )


def _unknown_hardware(name: str, profiles: Profiles) -> str | None:
    if name in profiles.hardware:
        return None
    hint = suggestion(name, profiles.hardware) or f"; there are {listed(profiles.hardware)}"
    return f"the profiles have no hardware {name!r}{hint}"


def _member(
    name: object,
    given: Any,
    profiles: Profiles,
    dispatch: str | None,
    settings: FleetSettings,
) -> FleetMember:
    place = f"pipelines.{name}"
    problem = name_problem(name) or ("may hold no slash" if "/" in str(name) else None)
    if problem is None and (not isinstance(given, tuple | list) or not 2 <= len(given) <= 5):
        problem = f"expected (pipeline, trace, slo_s, weight, accuracy), found {shown(given)}"
    if problem is not None:
        raise InputError.one(place, problem)
    pipeline, trace, *more = given
    slo_s = more[0] if more else None
    weight, accuracy = more[1] if len(more) > 1 else 1.0, more[2] if len(more) > 2 else None
    faults = Faults()
    if not isinstance(pipeline, Pipeline):
        faults.add(Fault(place, f"expected a Pipeline, found {shown(pipeline)}"))
    if not isinstance(trace, Trace):
        faults.add(Fault(place, f"expected a Trace, found {shown(trace)}"))
    if not faults and trace.span_ns == 0:
        message = "all arrivals of its trace are at one instant: it has no rate to plan for"
        faults.add(Fault(place, message))
    is_usable = not faults
    if not is_number(weight) or not 0 < weight <= MAX_WEIGHT:
        message = f"expected a weight above 0, at most {MAX_WEIGHT:g}, found {shown(weight)}"
        faults.add(Fault(f"{place}.weight", message))
    if not is_usable:
        faults.check()

    inside = Faults()
    slo_ns = inside.take(lambda: resolve_slo_ns(pipeline, slo_s))
    inside.take(lambda: check_names(pipeline, profiles))
    if slo_s is None and (pipeline.slo.per_ns, pipeline.slo.others) != (None, ()):
        message = "fleets are planned for one quantile over all queries: give the limit of that one as the objective"
        inside.add(Fault("slo", message))
    elif slo_s is None and pipeline.slo.quantile and pipeline.slo.quantile != settings.quantile:
        stated, planned = f"P{100 * pipeline.slo.quantile:g}", f"P{100 * settings.quantile:g}"
        message = (
            f"states {stated}, and the fleet is planned for {planned}: give its limit of that, or quantile"
        )
        inside.add(Fault("slo", message))
    if accuracy is not None:
        inside.take(lambda: check_accuracy(accuracy))
        inside.take(lambda: check_accuracies(pipeline, profiles))
        if pipeline.accuracy.kind is AccuracyKind.TABLE:
            message = (
                "fleets know no tables of combinations: choose the variants by mipplan plan, and write model:"
            )
            inside.add(Fault("accuracy", message))
    count = len(inside.take(lambda: combinations(pipeline)).or_else([]))
    if count > MAX_ALTERNATIVES:
        message = (
            f"its variants draw tokens in {count:,} ways; in fleets at most {MAX_ALTERNATIVES:,} are priced"
        )
        inside.add(Fault("stages", message))
    faults.take(lambda: _retold(inside.check, lambda fault: Fault(f"{place}: {fault.place}", fault.message)))
    faults.check()
    parts, least = max(1, round(1000 * float(weight))), accuracy and check_accuracy(accuracy)
    # A discipline that there is not has been told of already.
    discipline = settings.discipline
    queues = Discipline(discipline) if discipline in list(Discipline) else pipeline.discipline
    laws = pipeline.laws(dispatch)
    return FleetMember(str(name), pipeline, trace, slo_ns.value, parts, laws, least, queues, settings.runs)


def _retold(read: Callable[[], ReadT], retell: Callable[[Fault], Fault]) -> ReadT:
    """Read something; what is wrong with it is told in other words."""
    try:
        return read()
    except InputError as error:
        raise InputError(map(retell, error.faults)) from error


@dataclass(frozen=True)
class FleetFile:
    """A fleet file with everything that it names, ready for `mipplan.plan_fleet`."""

    name: str
    #: With objective in seconds, weight, and least accuracy.
    pipelines: dict[str, tuple[Pipeline, Trace, float | None, float, float | None]]
    profiles: Profiles
    profiles_folder: str | None  # where they were read from; None for the shipped ones
    limits: dict[str, int]
    budget: float | None
    quantile: float
    seed: int


def read_fleet_file(path: AnyPath, *, profiles: str | None = None, find: Finder | None = None) -> FleetFile:
    """Read a fleet file, its pipelines, traces and profiles.

    Parameters
    ----------
    path : path
    profiles : str, optional
        Profile folder to use instead of the one that the file names; without either, the shipped one.
    find : callable, optional
        Finds the file of a name; by default names are paths, relative ones from the fleet file's folder.

    Raises
    ------
    InputError
        With every fault of the file, or else of everything that it names, each with its place.
    """
    document = read_yaml(path)
    entry = parse_entry(document, FleetEntry, after=_name_findings(document.value))
    folder = Path(path).parent
    find = find or (lambda _, name, folder: str(folder / name))
    reading = _Reading(document, folder, find, entry.seed)
    profiles_folder = profiles or (None if entry.profiles is None else str(folder / entry.profiles))
    read = reading.faults.take(
        lambda: Profiles.default() if profiles_folder is None else Profiles.read(profiles_folder)
    )
    for name in entry.limits if read else ():
        if problem := _unknown_hardware(name, read.value):
            reading.faults.add(Fault(document.place(("limits", name)), problem))
    members = {name: reading.member(name, member) for name, member in entry.pipelines.items()}
    try:
        reading.faults.check()
    except InputError as error:
        raise InputError(first_faults(error.faults, document.origin)) from None
    return FleetFile(
        entry.name,
        {name: member for name, member in members.items() if member is not None},
        read.value,
        profiles_folder,
        dict(entry.limits),
        entry.budget,
        entry.quantile,
        entry.seed,
    )


class _Reading:
    """Reads the pipelines and traces that a fleet file names, every file once, and keeps all faults."""

    def __init__(self, document: Document, folder: Path, find: Finder, seed: int) -> None:
        self.faults = Faults()
        self._document = document
        self._pipeline = cache(lambda name: Pipeline.read(find("pipelines", name, folder)))
        self._trace = cache(
            lambda name, expand, start_s, end_s: Trace.read(
                find("traces", name, folder), expand=expand, seed=seed, start_s=start_s, end_s=end_s
            )
        )

    def member(
        self, name: str, member: MemberEntry
    ) -> tuple[Pipeline, Trace, float | None, float, float | None] | None:
        times = (member.slo, member.start, member.end)
        slo_s, *window = (None if ns is None else ns / NS_PER_S for ns in times)
        pipeline = self._named((name, "pipeline"), lambda: self._pipeline(member.pipeline))
        trace = self._named((name, "trace"), lambda: self._trace(member.trace, member.expand, *window))
        if pipeline is None or trace is None:
            return None
        scaled = self._named((name, "scale"), partial(trace.scale, member.scale))
        return None if scaled is None else (pipeline, scaled, slo_s, member.weight, member.accuracy)

    def _named(self, place: tuple[str, str], read: Callable[[], ReadT]) -> ReadT | None:
        """Read a file; None if it is faulty, with the faults kept, and where in the fleet file it was named."""
        named = self._document.place(("pipelines", *place))

        def retold() -> ReadT | None:
            return _retold(read, lambda f: Fault(f.place, f"{f.message} (named in {named})"))

        return self.faults.take(retold).or_else(None)


class MemberEntry(StrictEntry):
    """One pipeline of the fleet as written."""

    pipeline: str = Field(min_length=1)
    trace: str = Field(min_length=1)
    slo: PositiveDuration | None = None
    weight: float = Field(default=1.0, gt=0, le=MAX_WEIGHT)
    scale: float = Field(default=1.0, gt=0, le=1000)
    accuracy: float | None = Field(default=None, gt=0, le=1)
    expand: Literal["poisson", "uniform", "even"] | None = None
    start: Duration | None = Field(default=None, alias="from")
    end: Duration | None = Field(default=None, alias="to")


class FleetEntry(StrictEntry):
    """A whole fleet file as written."""

    name: str = "fleet"
    profiles: str | None = None
    quantile: float = Field(default=0.99, gt=0, le=1)
    seed: int = Field(default=0, ge=0)
    budget: float | None = Field(default=None, gt=0, le=1e9)
    limits: dict[str, Annotated[int, checked_by(limit_problem)]] = Field(default_factory=dict)
    pipelines: dict[str, MemberEntry] = Field(min_length=1, max_length=MAX_PIPELINES)


def _name_findings(value: Any) -> list[Finding]:
    """Names become those of files, so they may hold no slash either."""
    pipelines = value.get("pipelines") if isinstance(value, dict) else None
    problems = {
        name: name_problem(name) or ("the name may hold no slash" if "/" in name else None)
        for name in (pipelines if isinstance(pipelines, dict) else ())
    }
    return [(("pipelines", name), problem) for name, problem in problems.items() if problem is not None]
