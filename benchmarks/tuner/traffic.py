"""The traffic that policies meet, and the sample that each plan was made for; about five minutes each."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mipplan import Trace

#: Public data beside the checkout; never copied into it.
SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "traces"
#: Burstiness of the synthetic samples.
CV = 1.5
SAMPLE_S = 90.0
#: Draws of made traffic: ours was designed looking at the first; nobody looked at the second.
SEEN, FRESH = 0, 1


@dataclass(frozen=True)
class Scenario:
    """A trace by name.

    Attributes
    ----------
    name, what : str
        What happens, in a few words.
    make : callable
        Of the sample's rate (queries/s) and a seed: the whole trace.
    real : bool
        Whether the sample is the beginning of the trace itself (its first 60 s), and not of the usual kind.
    """

    name: str
    what: str
    make: Callable[[float, int], Trace]
    real: bool = False

    @property
    def draws(self) -> tuple[int, ...]:
        """Numbers of the draws to run: made traffic is drawn twice, what was recorded is there once."""
        return (SEEN,) if self.real else (SEEN, FRESH)

    def traces(self, rate_rps: float, draw: int = SEEN) -> tuple[Trace, Trace]:
        """The sample, and the trace to run on."""
        seed = zlib.crc32(self.name.encode()) % 10_000 + 10_000 * draw
        whole = self.make(rate_rps, seed)
        if not self.real:
            return usual_sample(rate_rps, draw), whole
        cut_s = float(whole.arrival_ns[0]) / 1e9 + 60.0
        return whole.slice(end_s=cut_s), whole.slice(start_s=cut_s)


def usual_sample(rate_rps: float, draw: int) -> Trace:
    """What plans for synthetic traffic are made for."""
    return Trace.gamma(rate_rps=rate_rps, cv=CV, duration_s=SAMPLE_S, seed=1 + draw)


def _ramp(
    rates: tuple[float, ...], lengths_s: tuple[float, ...], transition_s: float, cvs: tuple[float, ...] = ()
) -> Callable[[float, int], Trace]:
    """Regimes at these multiples of the sample's rate."""
    return lambda rate, seed: Trace.ramp(
        [rate * factor for factor in rates],
        list(cvs or (CV,) * len(rates)),
        list(lengths_s),
        transition_s,
        seed,
    )


def _flash_crowd(rate_rps: float, seed: int) -> Trace:
    """Fourfold within 15 s, then back with a half-life of 30 s."""

    def factor(at_s: np.ndarray) -> np.ndarray:
        rising = np.clip((at_s - 80.0) / 15.0, 0.0, 1.0)
        return 1.0 + 3.0 * rising * 0.5 ** (np.maximum(at_s - 95.0, 0.0) / 30.0)

    # Thinning: points of a process of the highest rate, kept in proportion to the rate then.
    points = Trace.gamma(rate_rps=4.0 * rate_rps, cv=CV, duration_s=300.0, seed=seed).arrival_ns
    kept = np.random.default_rng([seed, 4]).random(points.size) * 4.0 < factor(points / 1e9)
    return Trace.from_ns(points[kept], name="flash crowd")


def _twitter(start_s: float) -> Callable[[float, int], Trace]:
    """Six minutes of counts per second, at the rate wanted: as many Poisson copies as it takes, thinned."""

    def make(rate_rps: float, seed: int) -> Trace:
        def copy(number: int) -> Trace:
            return Trace.read(
                SHARED / "twitter_stream_per_second_days07-21.csv.gz",
                expand="poisson",
                seed=seed + number,
                start_s=start_s,
                end_s=start_s + 360.0,
            )

        first = copy(0)
        begin = first.slice(end_s=start_s + 60.0).rate_rps
        copies = [first, *(copy(number) for number in range(1, int(np.ceil(rate_rps / begin))))]
        together = np.sort(np.concatenate([trace.arrival_ns for trace in copies]))
        return _thinned(together, rate_rps / begin / len(copies), seed)

    return make


def _proteus(rate_rps: float, seed: int) -> Trace:
    """The bursty trace of Proteus, all models together; thinned to the rate wanted."""
    whole = Trace.read(SHARED / "proteus_zipf_exponential_bursty_arrivals_ms.csv.gz")
    begin = whole.slice(end_s=float(whole.arrival_ns[0]) / 1e9 + 60.0).rate_rps
    return _thinned(whole.arrival_ns, min(1.0, rate_rps / begin), seed)


def _azure(rate_rps: float, seed: int) -> Trace:
    """Conversations with a language model: an hour of arrivals, ten times as fast, over itself at so many offsets."""
    hour = Trace.read(SHARED / "azure_llm_2023_conv_arrivals.csv.gz").scale(10.0)
    copies = int(np.ceil(rate_rps / hour.rate_rps))
    since = hour.arrival_ns - hour.arrival_ns[0]
    length_ns = hour.span_ns + 1
    shifts = np.arange(copies, dtype=np.int64) * (length_ns // copies)
    together = np.sort(((since[:, np.newaxis] + shifts) % length_ns).ravel())
    return _thinned(together, rate_rps / (hour.rate_rps * copies), seed)


def _thinned(arrival_ns: np.ndarray, share: float, seed: int) -> Trace:
    kept = np.random.default_rng([seed, 5]).random(arrival_ns.size) < share
    return Trace.from_ns(arrival_ns[kept], name="real")


SCENARIOS = (
    Scenario("steady", "like the sample", _ramp((1.0,), (300.0,), 0.0)),
    Scenario("ramp up", "rate ×3 within 60 s, back within 60 s", _ramp((1, 3, 1), (50.0, 60.0, 70.0), 60.0)),
    Scenario(
        "ramp down", "rate to a third within 60 s, and back", _ramp((1, 0.33, 1), (50.0, 60.0, 70.0), 60.0)
    ),
    Scenario("steep ramp", "rate ×3 within 15 s", _ramp((1, 3, 1), (80.0, 60.0, 130.0), 15.0)),
    Scenario(
        "burstier",
        "CV 1.5 to 4 within 30 s, and back",
        _ramp((1, 1, 1), (60.0, 100.0, 80.0), 30.0, (CV, 4, CV)),
    ),
    Scenario(
        "more and burstier",
        "rate ×2 and CV to 3 within 40 s",
        _ramp((1, 2, 1), (50.0, 90.0, 80.0), 40.0, (CV, 3, CV)),
    ),
    Scenario("spike", "rate ×3 at once, for 60 s", _ramp((1, 3, 1), (80.0, 60.0, 160.0), 0.0)),
    Scenario("short spike", "rate ×3 at once, for 10 s", _ramp((1, 3, 1), (120.0, 10.0, 150.0), 0.0)),
    Scenario("steps", "rate ×1.5, ×2, ×1.5 at once, 60 s each", _ramp((1, 1.5, 2, 1.5, 1), (60.0,) * 5, 0.0)),
    Scenario(
        "diurnal",
        "a wave of five minutes, from 1 to 1.6, to 0.4, and back",
        lambda rate, seed: Trace.diurnal(rate, 0.6, 300.0, 300.0, seed),
    ),
    Scenario("flash crowd", "rate ×4 within 15 s, then halved every 30 s", _flash_crowd),
    Scenario(
        "modulated",
        "rates 0.6 and 1.4 in turn, 20 s each on average",
        lambda rate, seed: Trace.markov_modulated([0.6 * rate, 1.4 * rate], 20.0, 300.0, seed),
    ),
    Scenario(
        "twitter bursty", "Twitter counts per second, IPA's bursty part", _twitter(696_600.0), real=True
    ),
    Scenario(
        "twitter fluctuating",
        "Twitter counts per second, IPA's fluctuating part",
        _twitter(703_860.0),
        real=True,
    ),
    Scenario("proteus", "square bursts of Proteus' exponential_bursty", _proteus, real=True),
    Scenario("azure", "Azure's conversations, ten times as fast, several at a time", _azure, real=True),
)


def scenarios() -> list[Scenario]:
    """Those whose data are at hand."""
    return [scenario for scenario in SCENARIOS if not scenario.real or SHARED.is_dir()]
