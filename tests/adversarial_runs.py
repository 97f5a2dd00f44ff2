"""Runs that a sharp certificate must hold for: services, delays and the order of events of an instant at will.

One stage after another, tokens and batches one by one. What a stage does depends on nothing below it, so this plays a
whole run exactly; that with everything as stated it is the replay is tested.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import numpy as np

from mipplan.core import Int64
from mipplan.result import RunClass
from mipplan.tokens import Workload
from oracle_paced import is_spread

#: Least and stated time, and now, to the time that is taken.
Taking = Callable[[int, int, int], int]


@dataclass(frozen=True)
class AdversarialRun:
    """When each token of every stage arrived, was dispatched, left and was sent on, ns, shape (k,) per stage."""

    arrival: dict[str, Int64]
    dispatch: dict[str, Int64]
    exit: dict[str, Int64]
    sent: dict[str, Int64]


def random_taking(rng: np.random.Generator, scale_ns: int) -> Taking:
    """Draw a way to choose times: any, one of two, by the time of day, so that ends coincide, or as stated."""
    kind = rng.choice(["any", "two", "blocks", "grid", "stated"], p=[0.25, 0.25, 0.2, 0.2, 0.1])
    share = float(rng.choice([0.1, 0.5, 0.9]))
    grid = int(rng.choice([1, 2, 3, max(1, scale_ns // 3), max(1, scale_ns), 3 * scale_ns]))
    offset = int(rng.integers(grid))

    def take(least: int, stated: int, now: int) -> int:
        if kind == "any":
            return int(rng.integers(least, stated + 1))
        if kind == "two":
            return least if rng.random() < share else stated
        if kind == "blocks":
            return least if ((now + offset) // grid) * 2_654_435_761 % 1000 < 1000 * share else stated
        if kind == "grid":
            end = -(-(now + least + offset) // grid) * grid - offset
            return min(end - now, stated)
        return stated

    return take


def adversarial_run(
    workload: Workload,
    service_ns: Mapping[str, list[int]],
    replicas: Mapping[str, int],
    runs: RunClass,
    service: Taking,
    delay: Taking,
    rng: np.random.Generator,
    stagger_ns: Mapping[str, int] | None = None,
    paced: Collection[str] = (),
) -> AdversarialRun:
    """Play one run of the class; the outputs of a batch are sent on at most so far apart. Paced stages keep rule P."""
    made = AdversarialRun({}, {}, {}, {})
    stagger_ns = stagger_ns or {}
    for stage, tokens in workload.stages.items():
        if tokens.messages:
            arrival = np.full(tokens.count, -1, dtype=np.int64)
            for messages in tokens.messages:
                stated = messages.edge.delay_ns
                least = runs.least_delay_ns(stated)
                for parent, child in zip(messages.parent.tolist(), messages.child.tolist(), strict=True):
                    left = int(made.sent[messages.edge.parent][parent])
                    took = stated if least == stated else delay(least, stated, left)
                    arrival[child] = max(arrival[child], left + took)
        else:
            arrival = workload.ingress_ns[tokens.query]
        made.arrival[stage] = arrival
        least_ns = [int(time) for time in runs.least_service_ns(np.array(service_ns[stage]))]
        made.dispatch[stage], made.exit[stage], made.sent[stage] = _serve(
            arrival,
            service_ns[stage],
            least_ns,
            replicas[stage],
            runs,
            service,
            rng,
            stagger_ns.get(stage, 0),
            stage in paced,
        )
    return made


def _serve(
    arrival: Int64,
    service_ns: list[int],
    least_ns: list[int],
    replicas: int,
    runs: RunClass,
    service: Taking,
    rng: np.random.Generator,
    stagger_ns: int,
    paced: bool,
) -> tuple[Int64, Int64, Int64]:
    """Serve one stage, oldest first.

    Where even its shortest batch takes as long as all gaps, a replica sends on the outputs of a batch before the next
    one ends.
    """
    coming = arrival.argsort(kind="stable").tolist()
    times = arrival.tolist()
    coming.reverse()
    dispatch, exits, sent = np.zeros_like(arrival), np.zeros_like(arrival), np.zeros_like(arrival)
    queue: list[int] = []
    # Of batches, with when their last output is sent on, and when they should end by the table.
    ends: list[tuple[int, int, int]] = []
    leaving: list[tuple[int, int, int]] = []  # Those that end at this instant, and have not yet.
    idle = [0] * replicas  # Of idle replicas: when their last output is sent on.
    in_order = (len(service_ns) - 1) * stagger_ns <= min(service_ns)
    largest_gap = int(rng.choice([0, stagger_ns, stagger_ns])) if stagger_ns else 0
    least_gap = int(rng.choice([0, largest_gap])) if stagger_ns else 0

    def may(now: int) -> bool:
        if not idle or not queue:
            return False
        own = now + service_ns[min(len(service_ns), len(queue)) - 1]
        free = [*(due for _, _, due in ends + leaving), own, *[now] * (len(idle) - 1)]
        return not paced or is_spread(free, now, max(service_ns))

    def serve(now: int) -> None:
        while may(now):
            batch = [heapq.heappop(queue) for _ in range(min(len(service_ns), len(queue)))]
            size = len(batch) - 1
            took = service(least_ns[size], service_ns[size], now)
            sent_by = idle.pop(int(rng.integers(len(idle))) if stagger_ns else -1)
            if in_order:
                took = max(took, sent_by - now)
            dispatch[batch], exits[batch] = now, now + took
            sent[batch] = now + took
            if stagger_ns:
                sent[batch[1:]] += np.cumsum(rng.integers(least_gap, largest_gap + 1, size))
            heapq.heappush(ends, (now + took, int(sent[batch[-1]]), now + service_ns[size]))

    now, pace = -1, -(-max(service_ns) // replicas)
    while coming or ends:
        instants = [times[token] for token in coming[-1:]] + [end for end, *_ in ends[:1]]
        if paced and queue and idle:  # Time alone may make the rule allow a dispatch.
            instants += [
                due - j * pace for *_, due in ends for j in range(1, replicas) if due - j * pace > now
            ]
        now = min(instants)
        events: list[int] = []  # Tokens that arrive, −1 for a batch that ends.
        while coming and times[coming[-1]] == now:
            events.append(coming.pop())
        while ends and ends[0][0] == now:
            leaving.append(heapq.heappop(ends))
            events.append(-1)
        if not runs.is_settled:
            rng.shuffle(events)
        for event in events:
            if event < 0:
                idle.append(leaving.pop()[1])
            else:
                heapq.heappush(queue, event)
            if not runs.is_settled and rng.random() < 0.6:
                serve(now)
        serve(now)
    return dispatch, exits, sent
