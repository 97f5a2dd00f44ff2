"""Traffic that nobody's constants are made for: everything about it is drawn, half an hour at a time; and real days.

Draws have numbers. Policies may be tuned on all below those of `FINAL`, which are drawn once everything is frozen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from benchmarks.tuner.traffic import SHARED
from mipplan import Trace
from mipplan.core import NS_PER_S

FINAL = range(5_000, 5_006)
#: A run lasts half an hour, and the sample five minutes.
RUN_S, SAMPLE_S = 1_800.0, 300.0
#: Days of the recording, which has fifteen, by the pipeline that runs on them: those whose plans have several replicas
#: at a day's rate. A job reads no other day than its own.
REAL_DAYS = {5: "social-media", 9: "video-monitoring", 2: "audio-question-answering"}
_DAY_S = 86_400.0


@dataclass(frozen=True)
class Ranges:
    """What events are drawn from; all but `up_share` and `ramp_share` between the two ends, evenly on a log scale."""

    multiple: tuple[float, float] = (1.2, 8.0)
    """The rate goes up to that many times the base, or down to its inverse."""
    up_share: float = 0.75
    """This share of events goes up."""
    length_s: tuple[float, float] = (10.0, 300.0)
    ramp_s: tuple[float, float] = (2.0, 120.0)
    """How long the way there takes, and the way back."""
    ramp_share: float = 0.6
    """All other ways take no time."""
    cv: tuple[float, float] = (1.0, 4.0)
    """Of the base, and of every event anew."""
    gap_s: tuple[float, float] = (30.0, 600.0)
    """From one event to the next."""


@dataclass(frozen=True)
class Piece:
    """A stretch of traffic: multiples of the base rate at both ends, linear between; CV of the gaps; seconds."""

    begin: float
    end: float
    cv: float
    length_s: float


def draw_pieces(seed: int, duration_s: float, ranges: Ranges, *, calm: bool = False) -> list[Piece]:
    """Draw events one after the other; with `calm` there are none."""
    rng = np.random.default_rng([20261126, seed])

    def between(ends: tuple[float, float]) -> float:
        return math.exp(rng.uniform(math.log(ends[0]), math.log(ends[1])))

    base_cv = between(ranges.cv)
    pieces: list[Piece] = []
    left = math.inf if calm else between(ranges.gap_s)
    reached = 0.0
    while reached < duration_s:
        quiet = min(left, duration_s - reached)
        pieces.append(Piece(1.0, 1.0, base_cv, quiet))
        multiple = between(ranges.multiple)
        multiple = multiple if rng.random() < ranges.up_share else 1.0 / multiple
        cv = between(ranges.cv)
        ways = [between(ranges.ramp_s) if rng.random() < ranges.ramp_share else 0.0 for _ in range(2)]
        event = [
            Piece(1.0, multiple, cv, ways[0]),
            Piece(multiple, multiple, cv, between(ranges.length_s)),
            Piece(multiple, 1.0, cv, ways[1]),
        ]
        if reached + quiet < duration_s:
            pieces += [piece for piece in event if piece.length_s > 0]
        reached = sum(piece.length_s for piece in pieces)
        left = between(ranges.gap_s)
    return pieces


def arrivals(pieces: list[Piece], rate_rps: float, duration_s: float, seed: int) -> Trace:
    """Draw gamma gaps in operational time, in which the rate is 1, and stretch them by the rate of the hour.

    A piece's gaps have its CV; the time that operational time t belongs to is where the integral of the rate is t.
    """
    rng = np.random.default_rng([20261127, seed])
    found, since_s = [], 0.0
    for piece in pieces:
        low, high = piece.begin * rate_rps, piece.end * rate_rps
        area = (low + high) / 2 * piece.length_s
        shape = 1.0 / piece.cv**2
        # Enough gaps to fill the piece, but for a chance beyond ten standard deviations: then drawn on.
        count = math.ceil(area + 10 * piece.cv * math.sqrt(area) + 50)
        at = np.cumsum(rng.gamma(shape, 1.0 / shape, count))
        while at[-1] < area:
            at = np.concatenate([at, at[-1] + np.cumsum(rng.gamma(shape, 1.0 / shape, count))])
        at = at[at < area]
        slope = (high - low) / piece.length_s
        # low·s + slope·s²/2 = t, solved for s in the form that a small slope leaves exact.
        seconds = 2 * at / (low + np.sqrt(low**2 + 2 * slope * at))
        found.append(since_s + seconds)
        since_s += piece.length_s
    times = np.concatenate(found)
    times = np.sort(times[times < duration_s])
    return Trace.from_ns(np.floor(times * NS_PER_S).astype(np.int64), name=f"drawn {seed}")


def drawn_traffic(rate_rps: float, draw: int, ranges: Ranges = Ranges()) -> tuple[Trace, Trace]:
    """The sample, and the trace to run on; the sample of even draws is calm, that of odd ones has events, too."""
    seed = 10 * draw
    sample = draw_pieces(seed, SAMPLE_S, ranges, calm=draw % 2 == 0)
    whole = draw_pieces(seed + 1, RUN_S, ranges)
    return (
        arrivals(sample, rate_rps, SAMPLE_S, seed + 2),
        arrivals(whole, rate_rps, RUN_S, seed + 3),
    )


def day_name(day: int) -> str:
    """The name of a real day in the rows."""
    return f"twitter day {day}"


def real_day(day: int, rate_rps: float) -> tuple[Trace, Trace]:
    """The hour before a day of Twitter's counts per second, as sample, and the day; thinned to this mean rate."""
    begin_s = day * _DAY_S
    counts = Trace.read(
        SHARED / "twitter_stream_per_second_days07-21.csv.gz",
        expand="poisson",
        seed=day,
        start_s=begin_s - 3_600.0,
        end_s=begin_s + _DAY_S,
    )
    kept = np.random.default_rng([20261128, day]).random(len(counts)) < rate_rps / counts.rate_rps
    thinned = Trace.from_ns(counts.arrival_ns[kept], name=day_name(day))
    return thinned.slice(end_s=begin_s), thinned.slice(start_s=begin_s)
