"""What one stage guarantees, R and T, and the recursion under every bound .

Proofs: [theory, section 2][2-what-one-stage-guarantees] and [3][3-the-certificate].
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import NamedTuple

import numpy as np

from mipplan.core import (
    NS_PER_S,
    UNLIMITED_NS,
    Bool,
    InputError,
    Int64,
    SampleParams,
    find_largest,
    greatest_values,
    running_maximum,
)
from mipplan.pipeline import DispatchLaw

#: Products above this are split, because no intermediate result may leave int64.
_SAFE = 2**62
_SAMPLE_PARAMS = SampleParams()
#: Waits below 0.8 of what is known to be the least one asked for are not looked at, because none of them can count.
_DOUBTED = 0.8


@dataclass(frozen=True)
class StageService:
    """Rate-latency service β(t) = R·(t − T)⁺ with R = ``tokens / period_ns`` kept as a ratio of integers."""

    latency_ns: int  # T, in ns.
    period_ns: int  # ℓ(b), the time of one full batch; 0 stands for R = ∞.
    tokens: int  # n·b, tokens served per period.
    #: Under fifo, how many tokens may pass another one, for each slack of the messages it sends (`most_passing`).
    passing: tuple[int, ...] = ()

    @property
    def rate_rps(self) -> float:
        """R in tokens per second."""
        return float("inf") if self.period_ns == 0 else self.tokens * NS_PER_S / self.period_ns

    @property
    def ns_per_token(self) -> Fraction:
        """1/R, exactly."""
        return Fraction(self.period_ns, self.tokens)


def stage_service(
    service_ns: Int64,
    replicas: int,
    is_source: bool,
    law: DispatchLaw = DispatchLaw.EAGER,
    stagger_ns: int = 0,
) -> StageService:
    """Service curve of `replicas` replicas with batch cap ``b = service_ns.size``.

    Eager and timed: ``T = 2·max ℓ(k)``, as the batch in service may be waited out in full, then the own batch takes as
    long again; ``R = n·b/ℓ(b)``. Paced: ``T = L + δ`` and ``R = b/δ`` with ``L = max ℓ(k)`` and ``δ = ⌈L/n⌉``.
    Under every law ``T = ℓ(1)`` at a source with b = 1: tokens arrive in token order and are served one by one in
    constant time ([theory, section 2][2-what-one-stage-guarantees]). Neither T nor 1/R grows with n. Where outputs of a
    batch go on one after another, T is longer by the time until the last has gone.

    Parameters
    ----------
    service_ns : int64, shape (b,)
        ℓ(1), …, ℓ(b).
    is_source : bool
        Whether the stage has no incoming edge.
    law : DispatchLaw
    stagger_ns : int
        Between the outputs of a batch on their way to other stages.

    References
    ----------
    [Lemma (service)][lemma-service], [Lemma (service, paced)][lemma-service-paced].
    """
    batch, slowest_ns = int(service_ns.size), int(service_ns.max())
    if law is not DispatchLaw.PACED:
        latency_ns = slowest_ns if is_source and batch == 1 else 2 * slowest_ns
        return StageService(latency_ns + (batch - 1) * stagger_ns, int(service_ns[-1]), replicas * batch)
    latency, period, tokens = service_columns(service_ns, np.array([replicas]), is_source, law, stagger_ns)
    return StageService(int(latency[0]), int(period[0]), int(tokens[0]))


def service_columns(
    service_ns: Int64, replicas: Int64, is_source: bool, law: DispatchLaw, stagger_ns: int = 0
) -> tuple[Int64, Int64, Int64]:
    """T, ℓ(b) and n·b of `stage_service` for many numbers of replicas, shape (m,) each; paced they are T, δ and b."""
    batch, slowest_ns = int(service_ns.size), int(service_ns.max())
    one_by_one, same = is_source and batch == 1, np.ones_like(replicas)
    spread_ns = (batch - 1) * stagger_ns
    if law is not DispatchLaw.PACED:
        latency_ns = (slowest_ns if one_by_one else 2 * slowest_ns) + spread_ns
        return latency_ns * same, service_ns[-1] * same, replicas * batch
    pace_ns = -(-slowest_ns // replicas)
    latencies_ns = slowest_ns * same if one_by_one else slowest_ns + pace_ns
    return latencies_ns + spread_ns, np.where(replicas == 1, _alone_ns(service_ns), pace_ns), batch * same


def _alone_ns(service_ns: Int64) -> int:
    """Time in which one paced replica serves a full batch; ``δ = ⌈L/n⌉`` for two or more.

    One replica is eager and needs ℓ(b), perhaps less than L where the table is not monotone; no less than two replicas
    need is claimed even so, that more replicas never seem slower.
    """
    return max(int(service_ns[-1]), -(-int(service_ns.max()) // 2))


def fewest_replicas(
    service_ns: Int64, tokens_per_ns: Fraction, law: DispatchLaw = DispatchLaw.EAGER, *, reached: bool = False
) -> int:
    """Fewest replicas whose R exceeds a rate, or reaches it; where no number does, more than there ever are."""
    batch = int(service_ns.size)
    if law is not DispatchLaw.PACED:
        needed = tokens_per_ns * int(service_ns[-1]) / batch
        return math.ceil(needed) if reached else math.floor(needed) + 1
    longest_ns = UNLIMITED_NS
    if tokens_per_ns:
        period_ns = batch / tokens_per_ns
        longest_ns = math.floor(period_ns) if reached else math.ceil(period_ns) - 1
    if longest_ns < 1:
        return UNLIMITED_NS
    if _alone_ns(service_ns) <= longest_ns:
        return 1
    return max(2, -(-int(service_ns.max()) // longest_ns))


def service_time_ns(service: StageService, serial_tokens: int = 0) -> int:
    """``T + serial_tokens/R`` in ns, rounded up."""
    return service.latency_ns + -(-serial_tokens * service.period_ns // service.tokens)


def latest_start_ns(
    arrival_ns: Int64,
    period_ns: int,
    tokens: int,
    position: Int64 | None = None,
    probes: tuple[Int64, Int64] | None = None,
) -> Int64:
    """``Y(i) = ⌈ max_{j ≤ i} ( E(j) + (p(i) − p(j))·period_ns/tokens ) ⌉``, shape (k,).

    Raises `InputError` if the result would come near the end of int64 (292 years): absurd overload, and no
    wrong number for it.

    Parameters
    ----------
    arrival_ns : int64, shape (k,)
        E: bounds on arrival times, any order.
    period_ns, tokens : int
        1/R = ``period_ns / tokens`` ns per token; ``period_ns = 0`` means R = ∞.
    position : int64, shape (k,), optional
        p: increasing token numbers; 0, 1, … if absent. Gaps count tokens whose arrivals are left out.
    probes : (last, number), optional
        Evaluate Y for other tokens, shape (q,): `last` is the index of the last entry that counts as j ≤ i, and
        `number` the token number p(i).

    Notes
    -----
    Exact in integers: with E(j)·tokens − p(j)·period_ns the maximum is a running one. Where the products could
    leave int64 (spans of months times thousands of parallel tokens) the work p·period_ns/tokens is split into
    whole nanoseconds and a remainder, and the running maximum taken in lexicographic order: just as exact, and
    slower.

    References
    ----------
    [Theorem (sample path)][theorem-sample-path].
    """
    count = arrival_ns.size
    if count == 0:
        return np.empty(0, dtype=np.int64)
    index = np.arange(count, dtype=np.int64) if position is None else position
    last, number = (slice(None), index) if probes is None else probes
    if period_ns == 0:
        return running_maximum(arrival_ns)[last]
    base = int(arrival_ns.min())
    latest, served = int(arrival_ns.max()), int(number.max(initial=0)) + 1
    if (latest - base + 1) * tokens + served * period_ns < _SAFE:
        key = (arrival_ns - np.int64(base)) * np.int64(tokens)
        key -= index * np.int64(period_ns)
        running_maximum(key, out=key)
        key = key[last] + number * np.int64(period_ns)
        key += np.int64(tokens - 1)
        key //= np.int64(tokens)
        key += np.int64(base)
        return key
    # What would leave int64 even when split is refused: a wrapped number would look like a bound.
    if latest + served * (period_ns // tokens + 1) >= _SAFE or served * tokens >= _SAFE:
        message = "these replicas would need more than a century for this trace: too long to count"
        raise InputError.one("load", message)
    done, remainder = _work_ns(index, period_ns, tokens)
    whole, least_remainder = _lexicographic_maximum(arrival_ns - done, remainder, tokens)
    asked, broken = _work_ns(number, period_ns, tokens)
    # The broken part asked for, less the one done, lies between −1 and 1 ns: rounded up it is 1 or 0.
    start: Int64 = whole[last] + asked + (broken > least_remainder[last])
    return start


class Probes(NamedTuple):
    """Tokens whose waits count where they came another way than those that they wait for: one per query."""

    last: Int64  # Shape (q,). Index of the last token before or at it that came along the path's beginning.
    number: Int64  # Shape (q,). Its token number at the stage.
    ingress_ns: Int64  # Shape (q,). Its query's ingress.


class Sought(NamedTuple):
    """Which of the waits at one rate is looked for: the least of the longest `above`."""

    above: int
    kept: int  # What this many of the tokens wait for that wait longest is told, too: at least `above`.
    #: Whose waits count: the tokens marked, shape (k,), or others; None for all tokens.
    among: Bool | Probes | None = None
    # What is known already: the wait is no shorter, and much shorter ones are not looked at.
    least_ns: int = 0


@dataclass(frozen=True)
class Supports:
    """Lower bounds on the waits of some tokens at every rate: the work since an older token, less the time since."""

    work: Int64  # Shape (s,). Tokens served from the older one on.
    gap_ns: Int64  # Shape (s,). How much later the token entered than the older one.

    def lower_ns(self, period_ns: int, tokens: int, above: int) -> int:
        """Wait that `above` of these tokens reach at least at ``1/R = period_ns / tokens``, rounded up; ≥ 0."""
        size = self.work.size
        if size < above:
            return 0
        farthest_ns, most = self._extents
        if farthest_ns * tokens + most * period_ns >= _SAFE:
            return 0  # true, if of no use: such rates are far from any of interest
        waits = self.work * np.int64(period_ns) - self.gap_ns * np.int64(tokens)
        waits.partition(size - above)
        return max(0, -(-int(waits[size - above]) // tokens))

    @cached_property
    def _extents(self) -> tuple[int, int]:
        """Longest gap, either way, and most work."""
        return int(np.abs(self.gap_ns).max()), int(self.work.max())


def longest_waits_ns(
    arrival_ns: Int64,
    period_ns: int,
    tokens: int,
    sought: Sequence[Sought],
    position: Int64 | None = None,
    params: SampleParams = _SAMPLE_PARAMS,
) -> list[tuple[int, Supports]]:
    """Return waits ``Y(i) − t(i)``, and what the longest ones wait for, all from one pass over the tokens.

    Y is that of `latest_start_ns`, t the ingress of each probe, or `arrival_ns` without any; waits are rounded up to
    ns. Of equal waits, the first are kept. Order does not change when all waits are multiplied by `tokens`, so only
    those that are returned are ever divided.
    """
    scaled = _scaled_waits(arrival_ns, period_ns, tokens, position, sought)
    if scaled is None:
        return [_by_parts(one, arrival_ns, period_ns, tokens, position) for one in sought]
    slow, every = _slow_tokens(scaled.waits, sought, params), enumerate(sought)
    return [_longest(one, scaled, slow.get(n), arrival_ns, tokens, position, params) for n, one in every]


def _by_parts(
    sought: Sought, arrival_ns: Int64, period_ns: int, tokens: int, position: Int64 | None
) -> tuple[int, Supports]:
    """Return one of the waits at a rate with which products could leave int64, and nothing of what it is for."""
    among, nothing = sought.among, np.empty(0, dtype=np.int64)
    if isinstance(among, Probes):
        waits = latest_start_ns(arrival_ns, period_ns, tokens, position, among[:2]) - among.ingress_ns
    else:
        waits = latest_start_ns(arrival_ns, period_ns, tokens, position) - arrival_ns
        waits = waits if among is None else waits[among]
    rank = waits.size - sought.above
    return int(np.partition(waits, rank)[rank]), Supports(nothing, nothing)


class _Scaled(NamedTuple):
    """Waits times `tokens` at one rate, and the running maximum behind them; shape (k,)."""

    waits: Int64
    greatest: Int64
    base_ns: int
    period_ns: int


def _slow_tokens(waits: Int64, sought: Sequence[Sought], params: SampleParams) -> dict[int, Int64]:
    """Tokens that wait longest, at least as many as are kept, for each set of tokens of which this is known.

    One look at the waits finds the tokens for all sets; how long they wait, a sample of the waits tells.
    """
    every, least = waits.size // params.size, dict[int, int]()
    for place, one in enumerate(sought):
        if every > 1 and not isinstance(one.among, Probes):
            sample = waits[::every] if one.among is None else waits[::every][one.among[::every]]
            rank = sample.size - 1 - math.ceil(params.surplus * one.kept / every)
            if rank > 0:
                least[place] = int(np.sort(sample)[rank])
    slow = np.flatnonzero(waits >= min(least.values())) if least else np.empty(0, dtype=np.int64)
    those, found = waits[slow], dict[int, Int64]()
    for place, least_wait in least.items():
        own, among = slow[those >= least_wait], sought[place].among
        own = own if among is None else own[among[own]]
        if own.size >= sought[place].kept:
            found[place] = own
    return found


def _longest(
    sought: Sought,
    scaled: _Scaled,
    slow: Int64 | None,
    arrival_ns: Int64,
    tokens: int,
    position: Int64 | None,
    params: SampleParams,
) -> tuple[int, Supports]:
    """Return one of the waits at a rate, and what the longest ones wait for; these are among `slow`, if known."""
    among, waits, marked = sought.among, scaled.waits, None
    if isinstance(among, Probes):
        entered = (among.ingress_ns - np.int64(scaled.base_ns)) * np.int64(tokens)
        waits = scaled.greatest[among.last] - (entered - among.number * np.int64(scaled.period_ns))
    elif slow is None and among is not None:
        marked = np.flatnonzero(among)
        waits = waits[marked]
    if slow is None:
        slow = find_largest(waits, sought.kept, params)
    # Rounding up may have added one unit of time. (Of 0 nothing follows: some waits may be negative.)
    if slow is None and sought.least_ns > 1:
        slow = np.flatnonzero(waits >= int(_DOUBTED * (sought.least_ns - 1)) * tokens)
    elif slow is None:
        slow = np.arange(waits.size)
    # Both order statistics come of one pass: most of the time goes into it.
    those = waits[slow]
    first = max(0, those.size - sought.kept)
    order = np.partition(those, [first, those.size - sought.above])
    slow = slow[greatest_values(those, sought.kept, int(order[first]))]
    slow = slow if marked is None else marked[slow]
    exact = -(-int(order[those.size - sought.above]) // tokens)
    if isinstance(among, Probes):
        last, number, ingress_ns = (column[slow] for column in among)
    else:
        last, number, ingress_ns = slow, slow if position is None else position[slow], arrival_ns[slow]
    # A running maximum lasts from the token that sets it, mostly for many tokens.
    greatest = scaled.greatest[last]
    change = np.flatnonzero(np.r_[True, greatest[1:] != greatest[:-1]])
    since = np.searchsorted(scaled.greatest, greatest[change])
    since = np.repeat(since, np.diff(change, append=last.size))
    work = number - (since if position is None else position[since])
    return exact, Supports(work, ingress_ns - arrival_ns[since])


def _scaled_waits(
    arrival_ns: Int64, period_ns: int, tokens: int, position: Int64 | None, sought: Sequence[Sought]
) -> _Scaled | None:
    """Waits of all tokens times `tokens`; None if these, or those of some probes, could leave int64."""
    newest = arrival_ns.size - 1 if position is None else int(position[-1])
    base, latest = int(arrival_ns[0]), int(arrival_ns[-1])
    for probes in (one.among for one in sought if isinstance(one.among, Probes)):
        newest = max(newest, int(probes.number.max(initial=0)))
        latest = max(latest, int(probes.ingress_ns.max(initial=0)))
    if (latest - base + 1) * tokens + (newest + 1) * period_ns >= _SAFE:
        return None
    # Two arrays are all that is made, and written again: with long traces, making more is what takes the time.
    work = np.arange(arrival_ns.size, dtype=np.int64) if position is None else position.astype(np.int64)
    work *= np.int64(period_ns)
    key = arrival_ns - np.int64(base)
    key *= np.int64(tokens)
    key -= work
    greatest = running_maximum(key, out=work)
    return _Scaled(np.subtract(greatest, key, out=key), greatest, base, period_ns)


def _lexicographic_maximum(whole: Int64, remainder: Int64, tokens: int) -> tuple[Int64, Int64]:
    """Running maximum of ``whole − remainder/tokens``, remainders in [0, tokens): greatest whole, least remainder."""
    greatest = running_maximum(whole)
    # Remainders count only where the maximum is attained. Each new maximum starts a segment whose remainders are
    # put below those of all segments before, so that one running minimum serves them all.
    segment = np.cumsum(np.r_[0, greatest[1:] != greatest[:-1]]) * np.int64(tokens)
    counting = np.where(whole == greatest, remainder, np.int64(tokens - 1)) - segment
    return greatest, np.minimum.accumulate(counting) + segment


def _work_ns(index: Int64, period_ns: int, tokens: int) -> tuple[Int64, Int64]:
    """``index·period_ns/tokens`` as whole ns and the remainder (in 1/tokens ns), without overflow."""
    whole, broken = divmod(period_ns, tokens)
    part, remainder = np.divmod(index * np.int64(broken), np.int64(tokens))
    return index * np.int64(whole) + part, remainder
