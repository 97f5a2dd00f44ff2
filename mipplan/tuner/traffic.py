"""What a tuner is told: traffic in one of several forms, and what is on its way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mipplan.calculus import ArrivalCurve, Envelope, WindowCounts
from mipplan.core import Fault, InputError, is_whole, shown, to_ns
from mipplan.pipeline import Pipeline

#: Traffic as a tuner takes it: an arrival curve, counts over windows, or the corners that both come down to.
Traffic = ArrivalCurve | WindowCounts | Envelope

#: More replicas or queries are a slip.
_MOST = 1_000_000_000


@dataclass(frozen=True)
class Situation:
    """What a pipeline is in when it is tuned.

    Attributes
    ----------
    envelope : Envelope
        What to be ready for.
    outstanding : mapping of str to int
        Queries that each stage has yet to serve, those still on their way to it included.
    active : mapping of str to int
        Replicas that serve now.
    ordered : mapping of str to int
        Replicas that were asked for last; changes are counted from them.
    now_ns : int or None
    """

    envelope: Envelope
    outstanding: Mapping[str, int]
    active: Mapping[str, int]
    ordered: Mapping[str, int]
    now_ns: int | None


def as_envelope(traffic: Traffic) -> Envelope:
    """Corners of whatever describes traffic.

    Raises
    ------
    InputError
        If it is something else.
    """
    if isinstance(traffic, Envelope):
        return traffic
    if isinstance(traffic, WindowCounts):
        return traffic.envelope()
    if isinstance(traffic, ArrivalCurve):
        return Envelope.of_curve(traffic)
    raise InputError.one("traffic", f"expected an ArrivalCurve or WindowCounts, found {shown(traffic)}")


def read_seconds(name: str, seconds: float, *, least_ns: int = 0) -> int:
    """Turn a duration in seconds into ns.

    Raises
    ------
    InputError
        If it is no number of seconds, or less than `least_ns`.
    """
    duration_ns = to_ns(seconds)
    if duration_ns is None or duration_ns < least_ns:
        raise InputError.one(name, f"expected seconds, at least {least_ns} ns, found {shown(seconds)}")
    return duration_ns


def read_instant(now_ns: int | None) -> int | None:
    """Return an instant in ns, or None.

    Raises
    ------
    InputError
        If it is no whole number.
    """
    if now_ns is None:
        return None
    if not is_whole(now_ns):
        raise InputError.one("now_ns", f"expected whole nanoseconds, found {shown(now_ns)}")
    return int(now_ns)


def read_outstanding(pipeline: Pipeline, backlog: int | Mapping[str, int]) -> dict[str, int]:
    """Queries that each stage has yet to serve.

    Parameters
    ----------
    pipeline : Pipeline
    backlog : int or mapping of str to int
        All queries in the system; or per stage the tokens that wait or are being served there (0 if left out). Of
        the latter every stage is charged with its own and those of the stages before it.

    Raises
    ------
    InputError
        With every fault.
    """
    if not isinstance(backlog, Mapping):
        counts = read_counts("backlog", {"queries": backlog}, {"queries"}, least=0)
        return dict.fromkeys(pipeline.stages, counts["queries"])
    tokens = read_counts("backlog", backlog, set(pipeline.stages), least=0)
    above: dict[str, set[str]] = {}
    for stage in pipeline.topological_order:
        above[stage] = {stage}.union(*(above[edge.parent] for edge in pipeline.incoming(stage)))
    return {stage: sum(tokens.get(other, 0) for other in above[stage]) for stage in pipeline.stages}


def read_counts(
    name: str, given: Mapping[str, int], known: set[str], *, least: int, most: int = _MOST
) -> dict[str, int]:
    """Whole numbers by name.

    Raises
    ------
    InputError
        With every fault.
    """
    if not isinstance(given, Mapping):
        raise InputError.one(name, f"expected a mapping of names to whole numbers, found {shown(given)}")
    faults = []
    for key, value in given.items():
        if key not in known:
            faults.append(
                Fault(f"{name}.{key}", f"there is no such stage; there are {', '.join(sorted(known))}")
            )
        elif not is_whole(value) or not least <= value <= most:
            faults.append(
                Fault(f"{name}.{key}", f"expected a whole number of at least {least}, found {shown(value)}")
            )
    if faults:
        raise InputError(faults)
    return {key: int(value) for key, value in given.items()}
