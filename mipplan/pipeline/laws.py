"""When a batch is made, and which tokens it takes: what a server has to do for a guarantee to hold.

A *law* says when an idle replica takes a batch. Each has its theorem in [theory, section 11][11-dispatch-laws], and a
page that says which one a server needs. Servers take times beside their batches: one between outputs (stagger), and one
for collecting a batch (window). Of each, a pipeline says one for its eager stages, and a stage one of its own.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

import networkx as nx

from mipplan.core import (
    Fault,
    Faults,
    InputError,
    duration_text,
    format_duration,
    listed,
    shown,
    suggestion,
    to_ns,
)

if TYPE_CHECKING:
    from mipplan.pipeline.model import Pipeline


class DispatchLaw(StrEnum):
    """When a batch is made."""

    EAGER = "eager"
    """An idle replica takes what waits, up to its cap, at once. What Triton and mosec do."""
    PACED = "paced"
    """The same, but dispatches are spread over the time of a batch (rule P), so that a replica is never far."""
    TIMED = "timed"
    """Eager, and a batch hands out its results, and its replica, exactly when its table says: a run is the replay."""


class Discipline(StrEnum):
    """Which waiting tokens a batch takes first."""

    OLDEST_FIRST = "oldest_first"
    """Token order: by ingress time of the query (longest in system)."""
    FIFO = "fifo"
    """By arrival at the stage, ties by token order, as Triton and mosec do ([theorem (fifo)][theorem-fifo])."""


_Read = TypeVar("_Read")

#: The law of every stage.
Laws: TypeAlias = Mapping[str, DispatchLaw]
#: A law for every stage by its word, laws for some of them by name, or None: as was said elsewhere.
Dispatch: TypeAlias = str | Mapping[str, str] | None

#: Seconds between the outputs of a batch: at all stages, at some of them by name, or None: as was said elsewhere.
Stagger: TypeAlias = float | Mapping[str, float] | None

#: Seconds of collecting at all stages, at some of them by name, or None: as was said elsewhere.
CollectionWindow: TypeAlias = float | Mapping[str, float] | None

_LAWS = "eager, paced or timed"
#: What a plan says where its stages do not have one law.
MIXED: Final = "mixed"

#: What the server of a stage has to keep, beside batches within their table, delays within theirs and the discipline.
DUTIES: Mapping[DispatchLaw, str] = {
    DispatchLaw.EAGER: "an idle replica takes a batch at once",
    DispatchLaw.PACED: "a batch is dispatched as soon as rule P allows it, and not before",
    DispatchLaw.TIMED: "results and replica of a batch are released exactly when its table says, messages after "
    "exactly their delay",
}


def common_law(laws: Laws) -> str:
    """Return the word for the laws of all stages: the law itself if there is one, else ``mixed``."""
    words = set(laws.values())
    return words.pop().value if len(words) == 1 else MIXED


def read_laws(dispatch: Dispatch, stages: Collection[str]) -> dict[str, DispatchLaw]:
    """Return the law of every stage that one is said for.

    Raises `InputError` listing every stage that there is not, and every word that is no law.
    """
    if dispatch is not None and not isinstance(dispatch, str | Mapping):
        message = f"expected {_LAWS}, or stage names to such, found {shown(dispatch)}"
        raise InputError.one("dispatch", message)
    return by_stage("dispatch", dispatch, stages, check_law)


def check_law(law: object, place: str = "dispatch") -> DispatchLaw:
    """Return a dispatch law by its word; raises `InputError` if it is none."""
    if law not in list(DispatchLaw):
        raise InputError.one(place, f"expected {_LAWS}, found {shown(law)}")
    return DispatchLaw(str(law))


def check_collecting(window_s: CollectionWindow, laws: Laws, place: str = "window_s") -> None:
    """Find out whether a window is of any account under these laws: other stages' dispatchers make the batches.

    Raises `InputError` with every stage that is named and not eager, or if none is eager; what is no time is left to
    `ServerTime.read`.
    """
    faults = Faults()
    if isinstance(window_s, Mapping):
        for name, given_s in window_s.items():
            law = laws.get(name, DispatchLaw.EAGER)
            if to_ns(given_s) and law is not DispatchLaw.EAGER:
                faults.add(Fault(f"{place}.{name}", f"is for eager stages, and this one is {law}"))
    elif to_ns(window_s) and DispatchLaw.EAGER not in laws.values():
        found = common_law(laws)
        faults.add(
            Fault(place, f"is for eager stages, and all are {'paced or timed' if found == MIXED else found}")
        )
    faults.check()


def by_stage(
    what: str, given: object, stages: Collection[str], check: Callable[[object, str], _Read]
) -> dict[str, _Read]:
    """Read what is said of some stages by name, or of all alike; None says nothing. Raises `InputError`."""
    if not isinstance(given, Mapping):
        return {} if given is None else dict.fromkeys(stages, check(given, what))
    faults, found = Faults(), {}
    for name, one in given.items():
        place = f"{what}.{name}"
        if name not in stages:
            hint = suggestion(name, stages) or f"; the stages are {listed(stages)}"
            faults.add(Fault(place, f"there is no such stage{hint}"))
        elif taken := faults.take(partial(check, one, place)):
            found[name] = taken.value
    faults.check()
    return found


def are_timed(laws: Laws) -> bool:
    """Whether all stages are timed, so that every run is the replay."""
    return all(law is DispatchLaw.TIMED for law in laws.values())


def duties_text(laws: Laws, *, collects: bool = False) -> str:
    """Say what voids a guarantee under these laws, in one sentence; eager stages may collect batches."""
    duties = dict(DUTIES)
    if collects:
        duties[DispatchLaw.EAGER] = "an idle replica takes what comes at once, and begins within its window"
    kept = "; ".join(duties[law] for law in DispatchLaw if law in laws.values())
    return f"void unless {kept}, and no batch takes longer than its table says"


# --- times of servers beside their batches ---------------------------------------------------------------------------


@dataclass(frozen=True)
class ServerTime:
    """A time of the servers of stages, as files and arguments say it."""

    key: str
    """Of stages and pipelines in files, and of the nodes of a graph."""
    argument: str
    """Of functions, and of a pipeline, in seconds."""
    field: str
    """Of a stage, in nanoseconds."""
    most_ns: int
    """More is surely mistaken."""
    example: str
    of_eager_stages: bool = False
    """Whether others take none, whatever is said: their dispatcher makes the batches."""

    def check(self, given_s: object, place: str | None = None) -> int:
        """Return a time in nanoseconds; raises `InputError` if it is none, or too long."""
        given_ns = to_ns(given_s)
        if given_ns is None or not 0 <= given_ns <= self.most_ns:
            most = f"expected seconds from 0 to {self.most_ns // 10**9}, such as {self.example}"
            raise InputError.one(place or self.argument, f"{most}, found {shown(given_s)}")
        return given_ns

    def read(self, given_s: float | Mapping[str, float] | None, stages: Collection[str]) -> dict[str, int]:
        """Return the time of every stage that one is given for, in nanoseconds.

        Raises `InputError` listing every stage that there is not, and all that is no such time.
        """
        return by_stage(self.argument, given_s, stages, self.check)

    def put(self, pipeline: Pipeline, given_s: float | Mapping[str, float] | None) -> Pipeline:
        """Return the same pipeline with this time at all stages, or at those named. Raises `InputError` as `read`."""
        if given_s is None:
            return pipeline
        given = self.read(given_s, pipeline.stages)
        graph, made, stages = nx.DiGraph(pipeline.graph), copy.copy(pipeline), dict(pipeline.stages)
        if len(given) == len(stages):  # what eager stages had is of no account any more
            object.__setattr__(made, self.argument, 0.0)
        for name, given_ns in given.items():
            own_ns = given_ns if given_ns or getattr(made, self.argument) else None
            changed: dict[str, Any] = {self.field: own_ns}
            stages[name] = replace(stages[name], **changed)
            graph.nodes[name][self.key] = duration_text(given_ns)
        object.__setattr__(made, "graph", nx.freeze(graph))
        object.__setattr__(made, "_stages", stages)
        return made


#: Between the outputs of a batch, one after another on their way to other stages.
STAGGER: Final = ServerTime("stagger", "stagger_s", "stagger_ns", 1_000_000_000, "1e-6")
#: A replica that took a token takes more that come, for at most so long before the batch begins.
WINDOW: Final = ServerTime("window", "window_s", "window_ns", 60_000_000_000, "0.01", of_eager_stages=True)
SERVER_TIMES: Final = (STAGGER, WINDOW)


def server_habits(staggers_ns: Mapping[str, int], windows_ns: Mapping[str, int]) -> list[str]:
    """Say what servers are planned to take beside their batches, in sentences."""
    apart = times_text(staggers_ns, "up to {} apart")
    collected = times_text(windows_ns, "up to {}")
    said = {
        "idle replicas are planned to collect a batch for": collected,
        "outputs of a batch are planned to go on": apart,
    }
    return [f"{what} {how}" for what, how in said.items() if how]


def times_text(times_ns: Mapping[str, int], how: str) -> str:
    """Say which stages have a time that is not 0, the same ones together: ``200 us apart at a, b``."""
    stages: dict[int, list[str]] = {}
    for stage, time_ns in times_ns.items():
        if time_ns:
            stages.setdefault(time_ns, []).append(stage)
    return "; ".join(
        how.format(format_duration(ns)) + f" at {', '.join(named)}" for ns, named in stages.items()
    )
