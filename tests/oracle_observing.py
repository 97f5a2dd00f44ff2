"""What a log says, in plain loops over its rows: the reference for the fast ways of `mipplan.observing`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence

from mipplan.logs import QueryRow, StageRow


def hops(
    queries: Sequence[QueryRow], rows: Sequence[StageRow], edges: Collection[tuple[str, str]]
) -> Mapping[tuple[str, str], list[int]]:
    """Every hop along an edge, from and to the sender, sorted by its length."""
    found: dict[tuple[str, str], list[int]] = defaultdict(list)
    sent = {row.query: row.sent_ns for row in queries}
    for row in rows:
        above = [
            (other.finish_ns, other.stage)
            for other in rows
            if other.query == row.query
            and (other.stage, row.stage) in edges
            and other.finish_ns is not None
            and other.finish_ns <= row.arrival_ns
        ]
        if above:
            finish, stage = max(above, key=lambda entry: entry[0])
            found[stage, row.stage].append(row.arrival_ns - finish)
        elif row.query in sent and not any((other.stage, row.stage) in edges for other in rows):
            found["sent", row.stage].append(row.arrival_ns - sent[row.query])
    for query in queries:
        ended = [
            (row.finish_ns, row.stage)
            for row in rows
            if row.query == query.query and row.finish_ns is not None
        ]
        if query.status == "ok" and query.answered_ns is not None and ended:
            finish, stage = max(ended, key=lambda entry: entry[0])
            found[stage, "answered"].append(query.answered_ns - finish)
    return {ends: sorted(times) for ends, times in found.items()}


def most_at_once(rows: Sequence[StageRow]) -> int:
    """The most batches under way just after some instant."""
    batches = spans(rows)
    return max((sum(begin <= at < end for begin, end in batches) for at, _ in batches), default=0)


def idle_instants(rows: Sequence[StageRow], replicas: int, until: int) -> set[int]:
    """Instants just after which a token waits and fewer than `replicas` batches are under way."""
    batches = spans(rows)
    return {
        at
        for at in range(until)
        if any(row.arrival_ns <= at < row.dispatch_ns for row in rows if row.dispatch_ns is not None)
        and sum(begin <= at < end for begin, end in batches) < replicas
    }


def spans(rows: Sequence[StageRow]) -> list[tuple[int, int]]:
    """Begin and end of each batch."""
    found: dict[int, tuple[int, int]] = {}
    for row in rows:
        assert row.batch is not None
        assert row.dispatch_ns is not None
        assert row.finish_ns is not None
        _, end = found.get(row.batch, (0, 0))
        found[row.batch] = (row.dispatch_ns, max(end, row.finish_ns))
    return list(found.values())


def gaps(
    answered: Collection[int], rows: Sequence[StageRow], parents: Mapping[str, Collection[str]]
) -> set[tuple[str, int]]:
    """Queries that lack a row of a stage, all of them having been sent; stages without any row are not looked at."""
    found = set()
    logged = {row.stage for row in rows}
    for stage, above in parents.items():
        if stage not in logged or not logged.issuperset(above):
            continue
        for query in {*answered, *(row.query for row in rows)}:
            at = {row.stage for row in rows if row.query == query}
            if stage in at and above and not at & set(above):
                found.add((" or ".join(above), query))
            if stage not in at and not above:
                found.add((stage, query))
    return found
