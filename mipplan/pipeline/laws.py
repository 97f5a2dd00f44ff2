"""When a batch is made, and which tokens it takes: what a server has to do for a guarantee to hold.

A *law* says when an idle replica takes a batch. Each has its theorem in [theory, section 11][11-dispatch-laws], and a
page that says which one a server needs.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, TypeAlias


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
    """Token order: by ingress time of the query (longest in system). Eager and paced dispatch are planned for this."""
    FIFO = "fifo"
    """By arrival at the stage, ties by token order. Plans are made for it under timed dispatch only; any can be
    certified ([theorem (fifo)][theorem-fifo])."""


#: The law of every stage.
Laws: TypeAlias = Mapping[str, DispatchLaw]
#: A law for every stage by its word, laws for some of them by name, or None: as was said elsewhere.
Dispatch: TypeAlias = str | Mapping[str, str] | None

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


def are_timed(laws: Laws) -> bool:
    """Whether all stages are timed, so that every run is the replay."""
    return all(law is DispatchLaw.TIMED for law in laws.values())


def duties_text(laws: Laws) -> str:
    """Say what voids a guarantee under these laws, in one sentence."""
    kept = "; ".join(DUTIES[law] for law in DispatchLaw if law in laws.values())
    return f"void unless {kept}, and no batch takes longer than its table says"
