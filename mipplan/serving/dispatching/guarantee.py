"""Which queries lose what is guaranteed of a plan, because something was not as planned.

What is not as planned *disturbs* a stage: a batch that overran ℓ(k), one that failed, a replica that is missing, a
token that came later than it may. The disturbance ends when the stage runs empty with all its replicas there. Whoever
is at the stage meanwhile loses the guarantee; whoever left before, or comes after, does not
([theory, Disturbances][disturbances]).

- *Eager and paced stages.* A token from a disturbed stage may come late, so it disturbs the stages below.
- *Timed pipelines.* The replay goes on beside the run, in a dispatcher whose batches are all done in time. A token that
  comes to a stage in one and not in the other disturbs it, and a stage is empty if it is in both.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol, TypeAlias

from mipplan.serving.dispatching.blueprint import Blueprint
from mipplan.serving.dispatching.events import Dispatched, ServedQuery, ServedToken
from mipplan.serving.dispatching.routes import TokenKey
from mipplan.serving.dispatching.stage import StageState

if TYPE_CHECKING:
    from mipplan.serving.dispatching.dispatcher import Dispatcher

#: Number of the query and key: the same in the run and in the replay beside it.
_Identity: TypeAlias = tuple[int, TokenKey]


class TokenObserver(Protocol):
    """Is told of every token at a stage."""

    def came(self, token: ServedToken) -> None:
        """It waits at its stage."""

    def left(self, token: ServedToken) -> None:
        """It is at its stage no more."""


class TokenRecorder:
    """Notes what comes and goes at one instant."""

    def __init__(self) -> None:
        self.arrivals: list[ServedToken] = []
        self.exits: list[ServedToken] = []

    def came(self, token: ServedToken) -> None:
        """Note it."""
        self.arrivals.append(token)

    def left(self, token: ServedToken) -> None:
        """Note it."""
        self.exits.append(token)

    def taken(self) -> tuple[list[ServedToken], list[ServedToken]]:
        """Return arrivals and exits since the last time."""
        # What is answered as it comes, by a client that waits for no time, would stay for ever.
        found = [token for token in self.arrivals if not token.query.is_answered], self.exits
        self.arrivals, self.exits = [], []
        return found


class _Place:
    """A stage: who is there, in the run and in the replay beside it, and whether it is disturbed."""

    def __init__(self) -> None:
        self.present: dict[tuple[_Identity, bool], ServedToken] = {}
        self.is_disturbed = False


class GuaranteeWatch(TokenRecorder):
    """Watches a dispatcher.

    Parameters
    ----------
    blueprint : Blueprint
    stages : mapping of str to StageState
        Those of the dispatcher.
    shadow, recorder : Dispatcher and TokenRecorder, or None
        The replay beside the run of a timed pipeline, and what it notes.
    """

    def __init__(
        self,
        blueprint: Blueprint,
        stages: Mapping[str, StageState],
        shadow: Dispatcher | None = None,
        recorder: TokenRecorder | None = None,
    ) -> None:
        super().__init__()
        self._stages, self._shadow, self._recorder = stages, shadow, recorder
        self._is_timed = blueprint.is_timed
        self._places = {name: _Place() for name in blueprint.stages}
        self._entering: list[ServedQuery] = []
        self._disturbing: set[str] = set()
        self._found: list[tuple[ServedQuery, str]] = []
        self._for_good = False

    @property
    def next_ns(self) -> int | None:
        """When something happens in the replay beside the run."""
        return None if self._shadow is None else self._shadow.next_wake_ns

    def entered(self, query: ServedQuery) -> None:
        """Take note of a query."""
        if self._shadow is not None and query.routes is None:
            # Without its decisions the replay cannot go on. From now on what is disturbed stays so.
            self._shadow = None
            self._for_good = any(place.is_disturbed for place in self._places.values())
        if self._shadow is not None:
            self._entering.append(query)

    def disturb(self, stage: str) -> None:
        """Take note that something at a stage is not as planned."""
        self._disturbing.add(stage)

    def calm(self, stage: str) -> None:
        """Let the disturbance of a stage end, if nobody is there and its replicas are as planned."""
        place = self._places[stage]
        if not place.present:
            place.is_disturbed = self._stages[stage].is_off_plan or self._for_good

    def removed(self, token: ServedToken) -> None:
        """Take note that a token that waited has gone. Bounds allow for fewer tokens; a replay does not."""
        self.left(token)
        if self._is_timed:
            self.disturb(token.stage)

    def close(self, now_ns: int) -> list[tuple[ServedQuery, str]]:
        """Conclude an instant, and return the queries that have lost the guarantee by now, with a stage where."""
        if self._shadow is not None:
            while (earlier_ns := self._shadow.next_wake_ns) is not None and earlier_ns < now_ns:
                self._step(self._shadow, earlier_ns)
            for query in self._entering:
                self._shadow.arrive(query, now_ns, decisions=query.decisions)
            self._step(self._shadow, now_ns, is_shared=True)
        else:
            self._settle(self.taken(), ([], []))
        self._entering.clear()
        found, self._found = self._found, []
        return found

    def _step(self, shadow: Dispatcher, now_ns: int, *, is_shared: bool = False) -> None:
        """Let the replay go through an instant, alone or together with the run."""
        for step in shadow.wake(now_ns):
            if isinstance(step, Dispatched):
                shadow.finished(step.batch.number, now_ns)  # which a timed stage holds back until it is due
        if self._recorder is not None:
            self._settle(self.taken() if is_shared else ([], []), self._recorder.taken())

    def _settle(
        self,
        run: tuple[list[ServedToken], list[ServedToken]],
        replay: tuple[list[ServedToken], list[ServedToken]],
    ) -> None:
        """Take exits, then disturbances, then arrivals of one instant into account."""
        sides = ((True, run), (False, replay))
        for is_run, (_, exits) in sides:
            for token in exits:
                place = self._places[token.stage]
                place.present.pop((token.order, is_run), None)
                self.calm(token.stage)
        unmatched = Counter[tuple[str, _Identity]]()
        for is_run, (arrivals, _) in sides:
            for token in arrivals:
                unmatched[token.stage, token.order] += 1 if is_run else -1
        if self._shadow is not None:
            self._disturbing.update(stage for (stage, _), count in unmatched.items() if count)
        else:
            self._disturbing.update(token.stage for token in run[0] if token.is_void)
        disturbed, self._disturbing = self._disturbing, set()
        for name in disturbed:
            self._disturb_now(name)
        for is_run, (arrivals, _) in sides:
            for token in arrivals:
                place = self._places[token.stage]
                place.present[token.order, is_run] = token
                if place.is_disturbed:
                    self._void(token, is_run=is_run)
        for name in disturbed:  # a batch that failed for good may have been the last there
            self.calm(name)

    def _disturb_now(self, name: str) -> None:
        if self._is_timed and self._shadow is None:
            self._for_good = True
        for stage in self._places if self._for_good else (name,):
            place = self._places[stage]
            place.is_disturbed = True
            for (_, is_run), token in place.present.items():
                self._void(token, is_run=is_run)

    def _void(self, token: ServedToken, *, is_run: bool) -> None:
        # In the replay, queries are named by those of the run.
        query = token.query if is_run else token.query.name
        token.is_void = True
        if isinstance(query, ServedQuery) and not query.is_void:
            query.is_void = True
            self._found.append((query, token.stage))
