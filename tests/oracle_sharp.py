"""The theorem (latest dispatch) as it is written: every time tried, every set of batches tried, nothing sorted.

Plain Python integers. Nothing of `mipplan.calculus` is used. Times must be small: all of them are tried.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from oracle_tokens import SlowTokens


@dataclass(frozen=True)
class SlowRuns:
    """The class of runs."""

    least_service: float
    least_delay: float
    settled: bool


@dataclass(frozen=True)
class SlowStage:
    """One stage: arrivals between `earliest` and `latest`, ℓ(1), …, ℓ(b), and what else is known."""

    earliest: Sequence[int]
    latest: Sequence[int]
    group: Sequence[int]
    overtakers: Sequence[int | None]
    service: Sequence[int]
    replicas: int
    is_source: bool
    settled: bool
    paced: bool = False

    @property
    def delta(self) -> int | None:
        """δ of rule P; None if the stage is eager, as one of a single replica is."""
        return -(-max(self.service) // self.replicas) if self.paced and self.replicas > 1 else None

    def longest(self, size: int) -> int:
        """m(k)."""
        return max((0, *self.service[:size]))


def slow_dispatches(stage: SlowStage) -> list[int]:
    """D: today's lemma first, then the theorem applied to all tokens until none changes."""
    found = [_by_service(stage, token) for token in range(len(stage.latest))]
    while True:
        lowered = [_latest_dispatch(stage, token, found) for token in range(len(found))]
        if lowered == found:
            return found
        found = lowered


def slow_exits(stage: SlowStage, dispatches: Sequence[int]) -> tuple[list[int], list[int]]:
    """X, and the size of the largest batch: every time between earliest arrival and latest dispatch is tried."""
    exits, largest = [], []
    for first, last in zip(stage.earliest, dispatches, strict=True):
        sizes = {
            time: min(
                len(stage.service),
                sum(
                    earliest <= time <= dispatch
                    for earliest, dispatch in zip(stage.earliest, dispatches, strict=True)
                ),
            )
            for time in range(first, last + 1)
        }
        exits.append(max(time + stage.longest(size) for time, size in sizes.items()))
        largest.append(max(sizes.values()))
    return exits, largest


def _by_service(stage: SlowStage, token: int) -> int:
    """(D): the lemmas on service, the lemmas on sources with b = 1."""
    slots, full, first = stage.replicas * len(stage.service), stage.service[-1], max(stage.service)
    if stage.delta is not None:
        slots, full, first = len(stage.service), stage.delta, stage.delta
    waits = max(stage.latest[j] + full * ((token - j) // slots) for j in range(token + 1))
    in_order = stage.is_source and len(stage.service) == 1 and stage.settled
    return waits if in_order else waits + first


def _latest_dispatch(stage: SlowStage, token: int, dispatches: Sequence[int]) -> int:
    arrival, batch = stage.latest[token], len(stage.service)
    bounds = [dispatches[token]]
    # (A)
    fits = [
        time
        for time in range(arrival + 1, dispatches[token] + 1)
        if _can_wait(stage, token, time, dispatches)
    ]
    bounds.append(max([arrival, *fits]))
    # (B)
    before, older = _others(stage, token)
    left = [j for j in before if dispatches[j] >= arrival]
    late_older = [j for j in older if dispatches[j] >= arrival]
    if len(left) + len(late_older) < batch:
        ends = []
        for time in range(min(stage.earliest), arrival + (not stage.settled)):
            waiting = sum(
                stage.earliest[j] <= time <= dispatches[j] for j in range(len(dispatches)) if j != token
            )
            ends.append(time + stage.longest(min(batch, waiting)))
        bounds.append(max([arrival, *ends]))
    # (C)
    if stage.delta is None:
        behind = dispatches[: max(0, token - stage.replicas * batch + 1)]
        freed = max(behind) + stage.service[-1] if behind else 0
        bounds.append(max(arrival + max(stage.service), freed))
        return min(bounds)
    behind = dispatches[: max(0, token - batch + 1)]
    bounds.append(max([arrival, *behind]) + stage.delta)
    # (E)
    gone = sum(d < arrival for d in dispatches)
    not_gone = sum(max(dispatches[: j + 1]) >= arrival for j in range(token))
    passing = min(len(before) + len(older) - gone, not_gone)
    bounds.append(arrival + stage.delta * (1 + passing // batch))
    return min(bounds)


def _others(stage: SlowStage, token: int) -> tuple[set[int], set[int]]:
    """Tokens that can arrive before this one, and older ones that can not."""
    arrival = stage.latest[token]
    others = set(range(len(stage.latest))) - {token}
    before = {j for j in others if stage.earliest[j] < arrival + (not stage.settled)}
    return before, {j for j in others - before if j < token}


def _can_wait(stage: SlowStage, token: int, time: int, dispatches: Sequence[int]) -> bool:
    """(A): whether c disjoint batches in service just before `time` can last for (n − c)·δ more; c = n if eager."""
    if stage.delta is None:
        return _can_last(stage, token, time, time, stage.replicas, dispatches)
    return any(
        _can_last(stage, token, time, time + (stage.replicas - c) * stage.delta, c, dispatches)
        for c in range(1, stage.replicas + 1)
    )


def _can_last(
    stage: SlowStage, token: int, now: int, time: int, count: int, dispatches: Sequence[int]
) -> bool:
    """Whether so many disjoint batches dispatched before `now` can last until `time`, by (a) to (d): all sets."""
    batch = len(stage.service)
    before, older = _others(stage, token)
    groups = {stage.group[j] for j in before} - {stage.group[token]}
    overtakers = stage.overtakers[token]

    def left(among: set[int], since: int) -> int:
        gone = sum(d < since for d in dispatches)
        count = len(among) - gone
        if overtakers is None:
            return count
        not_gone = sum(max(dispatches[: j + 1]) >= since for j in range(token))
        return min(count, not_gone + overtakers)

    def clearing(since: int) -> int:
        arrive = {
            stage.group[j]
            for j in before
            if stage.group[j] in groups and stage.latest[j] + (not stage.settled) > since
        }
        not_gone = {stage.group[j] for j in range(len(dispatches)) if dispatches[j] >= since} & groups
        return min(1 + len(arrive), len(not_gone))

    def allowed(counts: Sequence[int]) -> bool:
        for size in range(1, batch):
            longest = stage.longest(size)
            if counts[size - 1] and longest < time - stage.latest[token] + stage.settled:
                return False
            held = sum(k * counts[k - 1] for k in range(1, size + 1))
            if counts[size - 1] and held > left(before, time - longest):
                return False
            if counts[size - 1] and sum(counts[:size]) > clearing(time - longest):
                return False
        if counts[-1] and time - stage.service[-1] >= now:
            return False
        full, small = counts[-1] * batch, sum(k * counts[k - 1] for k in range(1, batch))
        if counts[-1] and full > left(before | older, time - stage.service[-1]):
            return False
        least = time - max(stage.service[-1], stage.longest(batch - 1))
        return not counts[-1] or full + small <= left(before | older, least)

    return any(
        sum(counts) == count and allowed(counts)
        for counts in itertools.product(range(count + 1), repeat=batch)
    )


@dataclass
class SlowBounds:
    """Of one stage, per token."""

    earliest: list[int]
    latest: list[int]
    group: list[int]
    overtakers: list[int | None]
    dispatch: list[int]
    exit: list[int]
    largest: list[int]
    earliest_exit: list[int]


def slow_certificate(
    tokens: SlowTokens,
    ingress: Sequence[int],
    service: Mapping[str, Sequence[int]],
    replicas: Mapping[str, int],
    runs: SlowRuns,
    stagger: Mapping[str, int],
    paced: frozenset[str] = frozenset(),
) -> dict[str, SlowBounds]:
    """Bounds on all tokens of a pipeline, stage by stage; the outputs of a batch are sent up to `stagger` apart."""
    made: dict[str, SlowBounds] = {}
    for stage, own in tokens.items():
        if any(token.senders for token in own):
            earliest = [
                max(made[p].earliest_exit[i] + int(runs.least_delay * d) for p, i, d in token.senders)
                for token in own
            ]
            latest = [
                max(made[p].exit[i] + (made[p].largest[i] - 1) * stagger[p] + d for p, i, d in token.senders)
                for token in own
            ]
        else:
            earliest = latest = [ingress[token.query] for token in own]
        group = _groups(tokens, stage, ingress, runs)
        overtakers = _overtakers(tokens, stage, service, replicas, runs, made, stagger)
        given = SlowStage(
            earliest,
            latest,
            group,
            overtakers,
            service[stage],
            replicas[stage],
            not any(token.senders for token in own),
            runs.settled,
            stage in paced,
        )
        dispatch = slow_dispatches(given)
        exits, largest = slow_exits(given, dispatch)
        least = min(least_service(time, runs) for time in service[stage])
        made[stage] = SlowBounds(
            earliest, latest, group, overtakers, dispatch, exits, largest, [time + least for time in earliest]
        )
    return made


def least_service(stated: int, runs: SlowRuns) -> int:
    """Whole ns that a batch takes at least."""
    return max(1, int(runs.least_service * stated))


def _groups(tokens: SlowTokens, stage: str, ingress: Sequence[int], runs: SlowRuns) -> list[int]:
    """Neighbours that surely arrive at one instant: made by one token, or of queries that come at one instant."""
    own = tokens[stage]
    if not runs.settled or not all(len(token.senders) <= 1 for token in own):
        return list(range(len(own)))
    if any(token.senders for token in own):
        exact = runs.least_delay == 1 or all(delay == 0 for token in own for _, _, delay in token.senders)
        marks = [token.senders[0] if exact else number for number, token in enumerate(own)]
    else:
        marks = [ingress[token.query] for token in own]
    changes = [0, *(left != right for left, right in itertools.pairwise(marks))]
    return list(itertools.accumulate(changes))[: len(own)]


def _overtakers(
    tokens: SlowTokens,
    stage: str,
    service: Mapping[str, Sequence[int]],
    replicas: Mapping[str, int],
    runs: SlowRuns,
    made: Mapping[str, SlowBounds],
    stagger: Mapping[str, int],
) -> list[int | None]:
    """Lemma (overtaking)."""
    own = tokens[stage]
    unknown: list[int | None] = [None] * len(own)
    if not runs.settled:
        return unknown
    if not any(token.senders for token in own):
        return [0] * len(own)
    parents = {parent for token in own for parent, _, _ in token.senders}
    one_of_each = all(sorted(p for p, _, _ in token.senders) == sorted(parents) for token in own)
    if not one_of_each or len(parents) != len(made_by(tokens, stage)):
        return unknown
    found: list[int | None] = []
    for token in own:
        total: int | None = 0
        for parent, sender, delay in token.senders:
            copies = max(
                sum((parent, sender_) == (p, i) for other in own for p, i, _ in other.senders)
                for sender_ in range(len(tokens[parent]))
            )
            behind = _overtakers_behind(
                service[parent], replicas[parent], runs, made[parent], sender, delay, copies, stagger[parent]
            )
            total = None if total is None or behind is None else total + behind
        found.append(total)
    return found


def made_by(tokens: SlowTokens, stage: str) -> set[str]:
    """Stages that send to a stage."""
    return {parent for token in tokens[stage] for parent, _, _ in token.senders}


def _overtakers_behind(
    service: Sequence[int],
    replicas: int,
    runs: SlowRuns,
    parent: SlowBounds,
    sender: int,
    delay: int,
    copies: int,
    stagger: int,
) -> int | None:
    passed = parent.overtakers[sender]
    slack = delay - int(runs.least_delay * delay)
    if (len(service) - 1) * stagger > min(service):  # the next batch's outputs may come before the last one's
        slack += (len(service) - 1) * stagger
    late = slack + (parent.largest[sender] - 1) * stagger
    if passed is None or (runs.least_service == 0 and (replicas > 1 or slack > 0)):
        return None
    most = max(parent.largest)
    least = [least_service(time, runs) for time in service[:most]]

    def fits(room: int) -> int:
        """Most tokens of successive batches with total least service below `room`."""
        if room <= 0:
            return 0
        batches = -(-room // min(least)) - 1
        return min(batches * most, max((room - 1) * (k + 1) // least[k] for k in range(most)))

    own = max(service[: parent.largest[sender]])
    passed += (replicas - 1) * fits(own + late)
    if slack:
        passed += parent.largest[sender] - 1 + fits(late)
    return copies * passed + (copies - 1 if slack else 0)
