"""The dispatcher of a pipeline, without a clock and without input or output: events in, steps for the host out.

It is driven by a host that knows the time: tell it what happens at an instant (`arrive`, `finished`, …), then `wake` it
at that instant. All events of one instant are enqueued before anything is dispatched. Between two calls it goes through
all instants at which something of its own is due, such as messages on their way, one after another: it never decides
by the time at which it was woken, and so a run with exact services is the replay (`mipplan.replay`) of the same
ingress times, to the nanosecond.
"""

from __future__ import annotations

import heapq
from collections.abc import Hashable, Sequence
from typing import Any

from mipplan.core import InputError, shown
from mipplan.serving.dispatching.blueprint import AdmissionParams, Blueprint
from mipplan.serving.dispatching.events import (
    Answered,
    BatchEnded,
    Dispatched,
    Outcome,
    Overran,
    ServedBatch,
    ServedQuery,
    ServedToken,
    Step,
    Voided,
)
from mipplan.serving.dispatching.flow import TokenFlow
from mipplan.serving.dispatching.guarantee import GuaranteeWatch, TokenObserver, TokenRecorder
from mipplan.serving.dispatching.routes import Copies, Decisions, known_routes
from mipplan.serving.dispatching.stage import StageState

# What the timers are for.
_MESSAGE, _DUE, _LOOK, _DEADLINE = range(4)
_FEW_TIMERS = 64


class Dispatcher:
    """Serves queries by a blueprint: one queue per stage, batches made when a replica is free.

    Parameters
    ----------
    blueprint : Blueprint
    admission : AdmissionParams, optional
    observer : TokenObserver, optional
        Is told of every token. By default one that finds out which queries lose the guarantee (`Voided`).

    Notes
    -----
    Instants are whole nanoseconds of any clock that never goes back; an earlier one than before counts as the last.
    """

    def __init__(
        self,
        blueprint: Blueprint,
        admission: AdmissionParams | None = None,
        *,
        observer: TokenObserver | None = None,
    ) -> None:
        self.blueprint = blueprint
        self.admission = admission or AdmissionParams()
        self.stages = {
            name: StageState(stage, fifo=blueprint.fifo) for name, stage in blueprint.stages.items()
        }
        self.queries: dict[Hashable, ServedQuery] = {}
        """Those in flight, by name."""
        self.batches: dict[int, ServedBatch] = {}
        """Those under way, by number."""
        self.is_draining = False
        self._now_ns: int | None = None
        self._timers: list[tuple[int, int, int, Any]] = []
        self._entered = self._dispatched = self._set = self._live = 0
        self._touched: dict[str, None] = {}  # a set in the order of insertion, so that runs can be repeated
        self._steps: list[Step] = []
        self._always = None if blueprint.decides else known_routes(blueprint, {})
        self._flow = TokenFlow(
            blueprint, lambda at_ns, message: self._set_timer(at_ns, _MESSAGE, message), self._enqueue
        )
        self._watch = self._watch_made() if observer is None else None
        self._observer = observer or self._watch or TokenRecorder()

    def _watch_made(self) -> GuaranteeWatch:
        if not self.blueprint.is_timed:
            return GuaranteeWatch(self.blueprint, self.stages)
        recorder = TokenRecorder()
        shadow = Dispatcher(self.blueprint, observer=recorder)
        return GuaranteeWatch(self.blueprint, self.stages, shadow, recorder)

    # ------------------------------------------------------------------------------------------- what happens

    def arrive(
        self,
        query: Hashable,
        now_ns: int,
        *,
        payload: Any = None,
        decisions: Decisions | None = None,
        deadline_ns: int | None = None,
    ) -> str | None:
        """Accept a query, or say why not.

        Raises `InputError` if the decisions do not fit the pipeline, or a query of that name is in flight.

        Parameters
        ----------
        query : hashable
            A name of its own among those in flight.
        now_ns : int
        payload : object
            What the first stages get.
        decisions : mapping of (parent, child) to counts, optional
            How many tokens each edge makes of each of the query's tokens at its parent; edges that always make the
            same may be left out. Without, and where an edge needs a decision, it is asked for when a batch is done
            (`finished`), and a merging stage waits until no further message can come.
        deadline_ns : int, optional
            Instant at which the query is given up.

        Returns
        -------
        str or None
            Why it was turned away; None if it was accepted, and will be answered exactly once.
        """
        routes = self._always if decisions is None else known_routes(self.blueprint, decisions)
        if query in self.queries:
            raise InputError.one("query", f"one named {shown(query)} is in flight")
        now_ns = self._move_to(now_ns)
        if (reason := self.refusal()) is not None:
            return reason
        asked = ServedQuery(self._entered, query, now_ns, routes, decisions or {})
        self._entered += 1
        self.queries[query] = asked
        if self._watch is not None:
            self._watch.entered(asked)
        self._flow.enter(asked, payload, now_ns)
        if deadline_ns is not None:
            self._set_timer(deadline_ns, _DEADLINE, asked)
        return None

    def refusal(self) -> str | None:
        """Say why a query would be turned away now; None if it would be accepted."""
        if self.is_draining:
            return "the server is being drained"
        for name, stage in self.stages.items():
            if not stage.alive:
                return f"no replica of stage {name} is left"
            most = self.admission.most_waiting
            if most is not None and stage.waiting > most:
                return f"{stage.waiting} tokens wait at stage {name}, the limit is {most}"
        most = self.admission.most_in_flight
        if most is not None and len(self.queries) >= most:
            return f"{len(self.queries)} queries are in flight, the limit is {most}"
        return None

    def finished(
        self,
        batch: int,
        now_ns: int,
        outputs: Sequence[Any] | None = None,
        decisions: Sequence[Copies] | None = None,
    ) -> None:
        """Take the results of a batch, by its number.

        Results of a batch that was given up (its replica had gone, say) are ignored. Raises `InputError` if there are
        not as many as tokens, or a decision is missing or does not fit; the batch then has failed.

        Parameters
        ----------
        batch, now_ns : int
        outputs : sequence, optional
            One for each token, in the order of the batch.
        decisions : sequence of mappings of child stages to counts or lists, optional
            For each token how many further ones the edges make that decide, or what each of these gets (`Copies`).
        """
        now_ns = self._move_to(now_ns)
        done = self.batches.get(batch)
        if done is None or done.finished_ns is not None:
            return
        try:
            for what, given in (("outputs", outputs), ("decisions", decisions)):
                if given is not None and len(given) != len(done.tokens):
                    raise InputError.one(
                        what, f"expected {len(done.tokens)}, one for each token, found {len(given)}"
                    )
            self._flow.check(done, decisions)
        except InputError as error:
            self.failed(batch, now_ns, str(error))
            raise
        done.finished_ns, done.outputs, done.decisions = now_ns, outputs, decisions
        state = self.stages[done.stage]
        least_ns = done.dispatched_ns + state.blueprint.least_ns[len(done.tokens) - 1]
        least_ns = max(least_ns, state.sent_ns.get(done.replica, least_ns))
        if now_ns >= least_ns:
            self._complete(done, now_ns)
        else:  # it is held back
            self._set_timer(least_ns, _DUE, done)

    def failed(self, batch: int, now_ns: int, reason: str) -> None:
        """Take note that a batch failed, by its number: it is tried again, then its tokens alone, then answered so."""
        now_ns = self._move_to(now_ns)
        given_up = self.batches.get(batch)
        if given_up is None or given_up.finished_ns is not None:
            return
        stage = self._release(given_up)
        # If it failed twice and its replica is there, one token may be to blame: the others shall be served.
        alone = given_up.is_retry and len(given_up.tokens) > 1 and given_up.replica in stage.alive
        retries = bool(stage.alive) and (alone or not given_up.is_retry)
        self._steps.append(BatchEnded(given_up, now_ns, reason, retries))
        if self._watch is not None:
            self._watch.disturb(given_up.stage)
        for token in given_up.tokens:
            if not retries or token.query.is_answered:
                self._observer.left(token)
        if retries:
            stage.retry(given_up, alone=alone)
            return
        for token in given_up.tokens:
            self._answer(token.query, now_ns, Outcome.FAILED, f"stage {given_up.stage}: {reason}")

    def gone(self, stage: str, replica: int, now_ns: int, reason: str) -> None:
        """Take note that a replica has died: its batch fails, and it gets no other until it is `back`."""
        now_ns = self._move_to(now_ns)
        state = self.stages[stage]
        state.alive.discard(replica)
        self._touched[stage] = None
        if self._watch is not None:
            self._watch.disturb(stage)
        if replica in state.busy:
            under_way = state.busy[replica]
            if under_way.finished_ns is None:
                self.failed(under_way.number, now_ns, reason)
        if not state.alive:
            for token in state.abandon():
                self._answer(
                    token.query, now_ns, Outcome.FAILED, f"no replica of stage {stage} is left: {reason}"
                )

    def retire(self, stage: str, replica: int, now_ns: int) -> None:
        """Give a replica no further batch; one that is under way on it is served to its end.

        Fewer than planned lose the guarantee, as if one had died. The last replica of a stage stays.
        """
        self._move_to(now_ns)
        state = self.stages[stage]
        if state.alive == {replica}:
            raise InputError.one(f"replicas.{stage}", "the last one stays")
        state.alive.discard(replica)
        self._touched[stage] = None
        if self._watch is not None:
            (self._watch.disturb if state.is_off_plan else self._watch.calm)(stage)

    def back(self, stage: str, replica: int, now_ns: int) -> None:
        """Take note that a replica can serve again, or that there is a further one."""
        self._move_to(now_ns)
        state = self.stages[stage]
        state.alive.add(replica)
        self._touched[stage] = None
        if self._watch is not None:
            (self._watch.disturb if state.is_off_plan else self._watch.calm)(stage)

    def cancel(self, query: Hashable, now_ns: int, reason: str | None = None) -> None:
        """Give up a query, if it is in flight: its client has gone, or, for another reason, it has failed."""
        now_ns = self._move_to(now_ns)
        if query in self.queries:
            outcome = Outcome.CANCELLED if reason is None else Outcome.FAILED
            self._answer(self.queries[query], now_ns, outcome, reason or "its client has gone")

    def drain(self) -> None:
        """Accept no further query; those in flight are served."""
        self.is_draining = True

    # ------------------------------------------------------------------------------------------- what follows

    def wake(self, now_ns: int) -> list[Step]:
        """Close an instant: dispatch what may be dispatched, and return what the host has to do since the last time."""
        self._close(self._move_to(now_ns))
        steps, self._steps = self._steps, []
        return steps

    @property
    def next_wake_ns(self) -> int | None:
        """When to wake it if nothing happens before; None for never."""
        while self._timers and self._is_stale(*self._timers[0][2:]):
            heapq.heappop(self._timers)
        own = self._timers[0][0] if self._timers else None
        other = None if self._watch is None else self._watch.next_ns
        return min((time for time in (own, other) if time is not None), default=None)

    def _is_stale(self, kind: int, about: Any) -> bool:
        """Whether nothing is to be done at a timer any more."""
        return about.number not in self.batches if kind == _DUE else kind == _DEADLINE and about.is_answered

    def _set_timer(self, at_ns: int, kind: int, about: Any) -> None:
        if len(self._timers) > 2 * self._live + _FEW_TIMERS:
            # The deadline of an answered query would keep its outputs until then, which may be never.
            self._timers = [timer for timer in self._timers if not self._is_stale(*timer[2:])]
            heapq.heapify(self._timers)
            self._live = len(self._timers)
        self._set += 1
        heapq.heappush(self._timers, (at_ns, self._set, kind, about))

    def _move_to(self, now_ns: int) -> int:
        """Go through all instants before this one at which something is due; return it, or a later one reached."""
        if self._now_ns is None:
            self._now_ns = now_ns
        if now_ns <= self._now_ns:
            return self._now_ns
        self._close(self._now_ns)
        while (due_ns := self.next_wake_ns) is not None and due_ns < now_ns:
            self._now_ns = max(due_ns, self._now_ns)
            self._close(self._now_ns)
        self._now_ns = now_ns
        return now_ns

    def _close(self, now_ns: int) -> None:
        """Let everything happen that is due, then dispatch."""
        while self._timers and self._timers[0][0] <= now_ns:
            _, _, kind, about = heapq.heappop(self._timers)
            if kind == _MESSAGE:
                self._flow.receive(about, now_ns)
            elif kind == _LOOK:
                self._touched[about] = None
            elif kind == _DEADLINE:
                self._answer(about, now_ns, Outcome.TIMED_OUT, "its time is over")
            elif about.number in self.batches:
                self._fall_due(about, now_ns)
        for name in self._touched:
            self._dispatch(self.stages[name], now_ns)
        self._touched.clear()
        if self._watch is not None:
            self._steps += [Voided(query, stage) for query, stage in self._watch.close(now_ns)]

    def _dispatch(self, stage: StageState, now_ns: int) -> None:
        name, service_ns = stage.blueprint.name, stage.blueprint.service_ns
        while (taken := stage.take(now_ns)) is not None:
            replica, tokens, is_retry = taken
            due_ns = now_ns + service_ns[len(tokens) - 1]
            batch = ServedBatch(self._dispatched, name, replica, tokens, now_ns, due_ns, is_retry)
            self._dispatched += 1
            self.batches[batch.number] = stage.busy[replica] = batch
            self._set_timer(due_ns, _DUE, batch)
            self._steps.append(Dispatched(batch))
        if stage.look_again_ns is not None:
            self._set_timer(stage.look_again_ns, _LOOK, name)

    def _fall_due(self, batch: ServedBatch, now_ns: int) -> None:
        """Release a batch that was held back, or take note that it overruns."""
        if batch.finished_ns is not None:
            self._complete(batch, now_ns)
            return
        batch.overran = True
        self._steps.append(Overran(batch))
        if self._watch is not None:
            self._watch.disturb(batch.stage)

    def _release(self, batch: ServedBatch) -> StageState:
        """Free the replica of a batch."""
        stage = self.stages[batch.stage]
        del self.batches[batch.number], stage.busy[batch.replica]
        self._touched[batch.stage] = None
        return stage

    def _complete(self, batch: ServedBatch, now_ns: int) -> None:
        """Hand out the results of a batch."""
        stage = self._release(batch)
        if stage.blueprint.sends_in_order:
            stage.sent_ns[batch.replica] = now_ns + (len(batch.tokens) - 1) * stage.blueprint.stagger_ns
        self._steps.append(BatchEnded(batch, now_ns, None, False))
        for place, token in enumerate(batch.tokens):
            self._observer.left(token)
            if not token.query.is_answered:
                output = None if batch.outputs is None else batch.outputs[place]
                decided = None if batch.decisions is None else batch.decisions[place]
                sent_ns = now_ns + place * stage.blueprint.stagger_ns
                if self._flow.leave(token, output, decided, now_ns, sent_ns):
                    self._answer(token.query, now_ns, Outcome.SERVED, None)

    def _enqueue(self, token: ServedToken, now_ns: int) -> None:
        stage = self.stages[token.stage]
        if not stage.alive:
            self._answer(token.query, now_ns, Outcome.FAILED, f"no replica of stage {token.stage} is left")
            return
        stage.enqueue(token)
        self._touched[token.stage] = None
        self._observer.came(token)

    def _answer(self, query: ServedQuery, now_ns: int, outcome: Outcome, reason: str | None) -> None:
        """Answer a query, once; what else there is of it goes."""
        if query.is_answered:
            return
        for token in list(query.waiting):
            self.stages[token.stage].remove(token)
            self._touched[token.stage] = None
            if self._watch is not None:
                self._watch.removed(token)
        query.is_answered = True
        query.merging.clear()
        del self.queries[query.name]
        self._steps.append(Answered(query, now_ns, outcome, reason))
