"""IPA's pipelines, how its evaluation set its rivals up, and its traffic.

The settings are those of the configurations that IPA's notebooks print (reconfigurable-ml-pipeline/ipa at commit
``e1f08dde84e2``, ``experiments/runner/notebooks/paper-revision-*``); variants have our names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

from mipplan import Trace

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "traces"
COUNTS = "twitter_stream_per_second_days07-21.csv.gz"


@dataclass(frozen=True)
class Setup:
    """What of a pipeline IPA's evaluation fixed for its rivals."""

    low: Mapping[str, str]  # Variants of FA2-low.
    high: Mapping[str, str]
    replicas: Mapping[str, int]  # Of RIM.


SETUPS = {
    "video": Setup(
        {"detect": "yolov5n", "classify": "resnet18"},
        {"detect": "yolov5s", "classify": "resnet101"},
        {"detect": 3, "classify": 3},
    ),
    "audio-qa": Setup(
        {"transcribe": "s2t-small", "answer": "xlm-roberta-qa"},
        {"transcribe": "s2t-medium", "answer": "roberta-qa"},
        {"transcribe": 27, "answer": 6},
    ),
    "audio-sent": Setup(
        {"transcribe": "s2t-small", "rate": "distilbert-sentiment"},
        {"transcribe": "s2t-medium", "rate": "distilbert-sst2"},
        {"transcribe": 27, "rate": 5},
    ),
    "sum-qa": Setup(
        {"summarise": "distilbart-1-1", "answer": "xlm-roberta-qa"},
        {"summarise": "distilbart-12-6", "answer": "roberta-qa"},
        {"summarise": 12, "answer": 8},
    ),
    "nlp": Setup(
        {"translate": "opus-mt", "summarise": "distilbart-1-1"},
        {"translate": "opus-mt-big", "summarise": "distilbart-12-6"},
        {"identify": 6, "translate": 22, "summarise": 12},
    ),
}

#: IPA's segments of the Twitter stream, in seconds of the file of counts; it divides them by eight.
SEGMENTS = {
    "twitter, steady low": (694_800, 696_000),
    "twitter, bursty": (696_360, 697_560),
    "twitter, fluctuating": (696_600, 697_200),
    "twitter, steady high": (1_164_000, 1_164_600),
}
DIVISOR = 8.0
#: Traffic made anywhere, of about the rate of the bursty segment: the coefficient of variation of its gaps.
MADE = {"gamma, CV 2": 2.0, "gamma, CV 4": 4.0}
MADE_RPS, MADE_S = 12.5, 600.0


def traces() -> list[str]:
    """Names of the traffic that there is: without the shared data only what is made."""
    return [*(SEGMENTS if (SHARED / COUNTS).exists() else ()), *MADE]


def traffic(name: str, draw: int) -> Trace:
    """A draw of some traffic: queries of a second come at random within it, as many as Poisson's law has it."""
    if name in MADE:
        return Trace.gamma(MADE_RPS, MADE[name], MADE_S, seed=draw)
    rng = np.random.default_rng([draw, list(SEGMENTS).index(name)])
    first, last = SEGMENTS[name]
    many = rng.poisson(_counts()[first:last] / DIVISOR)
    seconds = np.repeat(np.arange(many.size), many)
    return Trace.from_seconds(np.sort(seconds + rng.random(seconds.size)), name=name)


@cache
def _counts() -> np.ndarray:
    return pd.read_csv(SHARED / COUNTS)["requests_per_s"].to_numpy(dtype=np.float64)
