"""What plans are made on and judged on: the frozen comparison instances, and parts in a row of every real recording.

Plans see one sample. They are judged on *parts* of tomorrow, one at a time: where arrivals are gamma the frozen
held-out half and fresh draws of the same process; of a frozen instance on a recording its held-out half; of a real
recording the parts of the same length that follow the sample.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from benchmarks.compare import shared_data
from benchmarks.compare.instances import GRID_NS, build, fastest_service_s
from benchmarks.compare.specs import Spec, read_frozen
from mipplan import Pipeline, Profiles, Trace
from mipplan.core import NS_PER_S
from mipplan.documents import shipped_folder
from mipplan.result import relevant_profiles

#: Parts to judge every plan on, and to compare the stated interval of ours with: a share has a standard error of 2 %
#: at 95 % of a hundred parts.
PARTS, CALIBRATION_PARTS = 20, 100
#: Seeds of fresh draws begin here; the frozen instances have theirs below.
_FRESH = 10_000_000
#: Fewer queries are no sample.
_FEWEST = 500
#: Whole instances of a hundred thousand queries are there to time planning.
_LEFT_OUT = "large"
GAMMA, RECORDED, REAL = "gamma", "recorded half", "real"


@dataclass(frozen=True)
class Case:
    """A planning problem with its parts of tomorrow.

    Attributes
    ----------
    name, group : str
        Group as of the frozen instance, or `REAL`.
    kind : str
        `GAMMA` (stationary, as many parts as wanted), `RECORDED` (one half) or `REAL` (parts in a row).
    pipeline : Pipeline
    profiles : Profiles
    sample : Trace
    slo_s : float
    parts : sequence of Trace
        To judge on; the frozen held-out half first, where there is one.
    """

    name: str
    group: str
    kind: str
    pipeline: Pipeline
    profiles: Profiles
    sample: Trace
    slo_s: float
    parts: Sequence[Trace]

    @property
    def fingerprint(self) -> str:
        """Of what was planned on and judged on."""
        digests = [trace.sha256 for trace in (self.sample, *self.parts)]
        return hashlib.sha256(repr((digests, self.slo_s)).encode()).hexdigest()[:16]


# --- frozen instances ------------------------------------------------------------------------------------------------


def frozen_specs() -> list[Spec]:
    """The frozen instances that plans are compared on."""
    return [spec for spec in read_frozen() if spec.group != _LEFT_OUT]


def _frozen_case(spec: Spec, parts: int) -> Case:
    instance = build(spec)
    kind = GAMMA if spec.arrivals == "gamma" else RECORDED
    fresh = [_fresh(spec, number) for number in range(1, parts)] if kind == GAMMA else []
    return Case(
        spec.name,
        spec.group,
        kind,
        instance.pipeline,
        instance.profiles,
        instance.planned_on,
        instance.slo_s,
        [instance.held_out, *fresh],
    )


def _fresh(spec: Spec, number: int) -> Trace:
    """Another draw of the process of a frozen instance, with as many queries."""
    if spec.rate_rps is None or spec.cv is None:
        raise AssertionError("gamma arrivals have a rate and a CV")
    # Enough for so many arrivals but for once in a million traces.
    expected = spec.queries + 6.0 * spec.cv * spec.queries**0.5 + 100.0
    seed = _FRESH + 1_000 * spec.traffic_seed + number
    drawn = Trace.gamma(spec.rate_rps, spec.cv, expected / spec.rate_rps, seed).arrival_ns[: spec.queries]
    return Trace.from_ns((drawn - drawn[0]) // GRID_NS * GRID_NS, name=spec.name)


# --- real recordings -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Recording:
    """A shared recording, and where its samples begin.

    Attributes
    ----------
    file : str
        In the folder of traces.
    starts_s : tuple of float
        Each begins a sample, with the parts after it.
    part_s : float
        Length of the sample and of each part.
    factor : float
        What the rate is multiplied by, so that plans have a few replicas.
    is_counted : bool
        Whether it holds counts per second, which are placed uniformly within it.
    is_coarse : bool
        Whether its time stamps are on a coarse grid, within whose steps queries are spread.
    """

    file: str
    starts_s: tuple[float, ...]
    part_s: float
    factor: float = 1.0
    is_counted: bool = False
    is_coarse: bool = False


#: Every shared trace that holds arrivals, or counts per second; the others hold rates over ten minutes, or days of less
#: than a query a second. Twitter's samples are the steady, bursty, fluctuating and busy hours that IPA plans against.
RECORDINGS: dict[str, Recording] = {
    "twitter": Recording(
        shared_data.TRACES["twitter"],
        (694_800.0, 696_360.0, 703_800.0, 1_164_000.0),
        part_s=60.0,
        is_counted=True,
    ),
    "nasa": Recording(
        "nasa_http_per_second_peakday12.csv.gz",
        (28_800.0, 43_200.0, 61_200.0),
        part_s=1_500.0,
        factor=30.0,
        is_counted=True,
    ),
    "azure": Recording(shared_data.TRACES["azure"], (0.0, 1_400.0), part_s=300.0, factor=20.0),
    "mooncake": Recording(
        "mooncake_conversation_arrivals.csv", (0.0, 1_400.0), part_s=300.0, factor=30.0, is_coarse=True
    ),
    "proteus-bursty": Recording(shared_data.TRACES["proteus-bursty"], (0.0, 100.0), part_s=20.0),
    "proteus-normal": Recording(shared_data.TRACES["proteus-normal"], (0.0, 100.0), part_s=20.0),
}
#: Parts that follow a sample, at most.
REAL_PARTS = 10
#: Pipelines and objectives (as multiples of the fastest service time) in turn.
_PIPELINES = (
    "video-monitoring",
    "glet-traffic",
    "cascade",
    "proteus-video",
    "social-media",
    "glet-moderation",
)
_SLO_FACTORS = (2.0, 3.0, 4.0)


@dataclass(frozen=True)
class RealSpec:
    """A sample of a recording for a pipeline; `name` says which."""

    recording: str
    start_s: float
    pipeline: str
    slo_factor: float

    @property
    def name(self) -> str:
        """What it is known by in the rows."""
        return f"{self.recording} at {self.start_s:.0f} s, {self.pipeline}"


def real_specs() -> list[RealSpec]:
    """Every start of every recording, each with two pipelines."""
    starts = [(name, start_s) for name, recording in RECORDINGS.items() for start_s in recording.starts_s]
    return [
        RealSpec(name, start_s, _PIPELINES[number % len(_PIPELINES)], _SLO_FACTORS[number % 3])
        for turn in range(2)
        for number, (name, start_s) in enumerate(starts, 3 * turn)
    ]


def real_parts(spec: RealSpec) -> Iterator[Trace]:
    """The sample, then the parts that follow, each from time 0; those with too few queries are left out."""
    recording = RECORDINGS[spec.recording]
    for number in range(1 + REAL_PARTS):
        begin_s = spec.start_s + number * recording.part_s
        arrival_ns = _window(spec.recording, begin_s)
        if arrival_ns.size >= _FEWEST:
            scaled = (arrival_ns - arrival_ns[0]) / recording.factor
            on_grid = scaled.astype(np.int64) // GRID_NS * GRID_NS
            yield Trace.from_ns(on_grid, name=f"{spec.recording} at {begin_s:.0f} s")


def _window(name: str, begin_s: float) -> np.ndarray:
    recording = RECORDINGS[name]
    path, end_s = shared_data.FOLDER / "traces" / recording.file, begin_s + recording.part_s
    if recording.is_counted:
        counts = Trace.read(path, expand="uniform", seed=int(begin_s), start_s=begin_s, end_s=end_s)
        return counts.arrival_ns
    arrival_ns = _arrivals(path, recording.is_coarse)
    low, high = np.searchsorted(arrival_ns, [int(begin_s * NS_PER_S), int(end_s * NS_PER_S)])
    return arrival_ns[low:high]


@cache
def _arrivals(path: Path, is_coarse: bool) -> np.ndarray:
    trace = Trace.read(path)
    return (trace.spread() if is_coarse else trace).arrival_ns


def _real_case(spec: RealSpec) -> Case:
    if spec.pipeline in shared_data.PIPELINES:
        pipeline = shared_data.measured_pipeline(spec.pipeline)
        profiles = shared_data.measured_profiles(spec.pipeline)
    else:
        pipeline = Pipeline.read(shipped_folder() / "pipelines" / f"{spec.pipeline}.yaml")
        profiles = relevant_profiles(pipeline, Profiles.default())
    slo_s = round(spec.slo_factor * fastest_service_s(pipeline, profiles), 6)
    sample, *parts = real_parts(spec)
    return Case(spec.name, REAL, REAL, pipeline, profiles, sample, slo_s, parts)


# --- all of them -----------------------------------------------------------------------------------------------------


def case_names() -> list[str]:
    """Names of all cases that can be made here, in their order; without the shared data fewer."""
    specs: list[Spec | RealSpec] = [*frozen_specs(), *real_specs()]
    present = shared_data.is_present()
    return [spec.name for spec in specs if present or not _needs_shared_data(spec)]


def all_names() -> list[str]:
    """The same as if the shared data were here."""
    return [spec.name for spec in (*frozen_specs(), *real_specs())]


def _needs_shared_data(spec: Spec | RealSpec) -> bool:
    return isinstance(spec, RealSpec) or spec.needs_shared_data


def make_case(name: str, parts: int = CALIBRATION_PARTS) -> Case:
    """Make a case by its name, with so many parts where they are drawn."""
    frozen = {spec.name: spec for spec in frozen_specs()}
    if name in frozen:
        return _frozen_case(frozen[name], parts)
    return _real_case(next(spec for spec in real_specs() if spec.name == name))
