"""When a batch is made, and which tokens it takes: what a server has to do for a guarantee to hold.

A *law* says when an idle replica takes a batch. Each has its theorem in [theory, section 11][11-dispatch-laws], and a
page that says which one a server needs.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from enum import StrEnum
from functools import partial
from typing import Final, TypeAlias, TypeVar

from mipplan.core import Fault, Faults, InputError, format_duration, listed, shown, suggestion, to_ns


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

#: The outputs of a batch are at most 1 s apart, because more is surely mistaken.
MAX_STAGGER_NS: Final = 1_000_000_000

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


def read_stagger(stagger_s: Stagger, stages: Collection[str]) -> dict[str, int]:
    """Return the stagger of every stage that one is given for, in nanoseconds.

    Raises `InputError` listing every stage that there is not, and all that is no time from 0 to one second.
    """
    return by_stage("stagger_s", stagger_s, stages, check_stagger)


def check_law(law: object, place: str = "dispatch") -> DispatchLaw:
    """Return a dispatch law by its word; raises `InputError` if it is none."""
    if law not in list(DispatchLaw):
        raise InputError.one(place, f"expected {_LAWS}, found {shown(law)}")
    return DispatchLaw(str(law))


def check_stagger(stagger_s: object, place: str = "stagger_s") -> int:
    """Return a stagger in nanoseconds; raises `InputError` if it is no time from 0 to one second."""
    stagger_ns = to_ns(stagger_s)
    if stagger_ns is None or not 0 <= stagger_ns <= MAX_STAGGER_NS:
        message = f"expected seconds from 0 to 1, such as 1e-6, found {shown(stagger_s)}"
        raise InputError.one(place, message)
    return stagger_ns


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


def stagger_text(staggers_ns: Mapping[str, int]) -> str:
    """Say how far apart the outputs of a batch go on, at the stages where they do not go on at once."""
    stages: dict[int, list[str]] = {}
    for stage, stagger_ns in staggers_ns.items():
        if stagger_ns:
            stages.setdefault(stagger_ns, []).append(stage)
    return "; ".join(f"{format_duration(ns)} apart at {', '.join(named)}" for ns, named in stages.items())


def are_timed(laws: Laws) -> bool:
    """Whether all stages are timed, so that every run is the replay."""
    return all(law is DispatchLaw.TIMED for law in laws.values())


def duties_text(laws: Laws) -> str:
    """Say what voids a guarantee under these laws, in one sentence."""
    kept = "; ".join(DUTIES[law] for law in DispatchLaw if law in laws.values())
    return f"void unless {kept}, and no batch takes longer than its table says"
