"""Every public trace beside the checkout, against a plain computation in pandas."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mipplan.trace import Trace

FOLDER = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "traces"

pytestmark = [
    pytest.mark.shared_data,
    pytest.mark.skipif(not FOLDER.is_dir(), reason="the public data sets are not beside the checkout"),
]

#: Files of arrivals: their number as the data's README states it, and nanoseconds per unit.
ARRIVALS = {
    "azure_llm_2023_conv_arrivals.csv.gz": (19_366, "arrival_s", 10**9),
    "mooncake_conversation_arrivals.csv": (12_031, "arrival_s", 10**9),
    "proteus_medium_normal_load_arrivals_ms.csv.gz": (112_861, "arrival_ms", 10**6),
    "proteus_zipf_exponential_bursty_arrivals_ms.csv.gz": (175_818, "arrival_ms", 10**6),
}
#: Files of counts: a window in seconds, the column, the interval column, and seconds per unit of both.
COUNTS = {
    "nasa_http_per_minute_first28days.csv.gz": ((0, 86_400), "requests_per_min", "minute_index", 60, 60),
    "nasa_http_per_second_peakday12.csv.gz": ((30_000, 50_000), "requests_per_s", "t_s", 1, 1),
    "servegen_deepseek_r1_rate_per_600s.csv": ((600, 3_600), "requests_per_s", "window_start_s", 1, 1),
    "servegen_deepseek_r1_top30_clients_per_600s.csv": (
        (600, 3_600),
        "requests_per_s",
        "window_start_s",
        1,
        1,
    ),
    "servegen_m_large_rate_per_600s.csv": ((86_400, 87_600), "requests_per_s", "window_start_s", 1, 1),
    "servegen_m_large_top30_clients_per_600s.csv.gz": (
        (86_400, 87_600),
        "requests_per_s",
        "window_start_s",
        1,
        1,
    ),
    "servegen_m_small_rate_per_600s.csv": ((0, 600), "requests_per_s", "window_start_s", 1, 1),
    "servegen_m_small_top30_clients_per_600s.csv.gz": ((0, 600), "requests_per_s", "window_start_s", 1, 1),
    "twitter_stream_per_second_days07-21.csv.gz": ((696_360, 697_560), "requests_per_s", None, 1, 1),
}


def test_no_trace_is_left_out() -> None:
    assert {path.name for path in FOLDER.iterdir()} == {*ARRIVALS, *COUNTS}


@pytest.mark.parametrize("name", ARRIVALS)
def test_arrivals(name: str) -> None:
    number, column, unit = ARRIVALS[name]
    values = pd.read_csv(FOLDER / name)[column].to_numpy(float)
    trace = Trace.read(FOLDER / name)
    assert len(trace) == number == len(values)
    assert np.array_equal(trace.arrival_ns, np.rint(values * unit).astype(np.int64))
    assert trace.rate_rps == pytest.approx(number / ((values[-1] - values[0]) * unit / 1e9))


@pytest.mark.parametrize("name", COUNTS)
def test_counts(name: str) -> None:
    (start, end), column, key, key_s, per_s = COUNTS[name]
    frame = pd.read_csv(FOLDER / name)
    start_s = frame[key] * key_s if key else pd.Series(np.arange(len(frame)))
    length_s = float(np.diff(np.unique(start_s)).min())
    kept = frame[(start_s >= start) & (start_s < end)]
    expected = kept[column].sum() * length_s / per_s
    poisson = Trace.read(FOLDER / name, expand="poisson", seed=7, start_s=start, end_s=end)
    assert abs(len(poisson) - expected) < 5 * math.sqrt(expected)
    even = Trace.read(FOLDER / name, expand="even", start_s=start, end_s=end)
    assert abs(len(even) - expected) <= 0.5 * (end - start) / length_s
    for trace in (poisson, even):
        assert start <= trace.arrival_ns[0] / 1e9
        assert trace.arrival_ns[-1] / 1e9 < end
    if len(frame) > frame[key].nunique() if key else False:
        assert "those of one interval added up" in even.note


def test_mooncake_keeps_its_ties() -> None:
    trace = Trace.read(FOLDER / "mooncake_conversation_arrivals.csv")
    assert np.mean(np.diff(trace.arrival_ns) == 0) > 0.5


def test_bursty_segment_has_the_published_mean() -> None:
    """IPA's bursty segment: mean 100/s."""
    window = {"start_s": 696_360, "end_s": 697_560}
    trace = Trace.read(FOLDER / "twitter_stream_per_second_days07-21.csv.gz", expand="uniform", **window)
    assert len(trace) / 1200 == pytest.approx(100, abs=1)
