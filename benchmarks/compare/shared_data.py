"""Public profiles and traces that lie beside the checkout; read from there, never copied.

Prices are assumptions of the order that community clouds ask for such devices: what the public tables hold is rather
other devices.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mipplan import Pipeline, Profiles, Trace
from mipplan.profiles import Hardware, LatencyTable

FOLDER = Path(__file__).resolve().parents[2].parent / "shared" / "data"

#: Files by name; those with counts per second are expanded to uniform arrivals.
TRACES = {
    "twitter": "twitter_stream_per_second_days07-21.csv.gz",
    "azure": "azure_llm_2023_conv_arrivals.csv.gz",
    "proteus-bursty": "proteus_zipf_exponential_bursty_arrivals_ms.csv.gz",
    "proteus-normal": "proteus_medium_normal_load_arrivals_ms.csv.gz",
}
COUNTED = ("twitter",)
#: Dollars per hour, assumed.
PRICES = {
    "rtx2080ti": 0.20,
    "rtx3080": 0.30,
    "onnxruntime_cpu": 0.134,
    "onnxruntime_gpu_pascal": 0.19,
    "onnxruntime_gpu_ampere": 0.34,
}
#: Models by pipeline: stage → (model, incoming edges).
PIPELINES: dict[str, dict[str, Any]] = {
    "glet-traffic": {
        "stages": {
            "detect": {"model": "glet:ssd-mobilenetv1"},
            "vehicles": {"model": "glet:googlenet"},
            "people": {"model": "glet:vgg16"},
        },
        "edges": [
            {"from": "detect", "to": "vehicles", "fanout": 2.6, "delay": "1ms"},
            {"from": "detect", "to": "people", "probability": 0.4, "delay": "1ms"},
        ],
    },
    "glet-moderation": {
        "stages": {
            "filter": {"model": "glet:mnasnet1_0"},
            "image": {"model": "glet:densenet161"},
            "text": {"model": "glet:bert"},
            "decide": {"model": "glet:lenet", "join": "all"},
        },
        "edges": [
            {"from": "filter", "to": "image", "probability": 0.5, "delay": "1ms"},
            {"from": "filter", "to": "text", "delay": "1ms"},
            {"from": "image", "to": "decide", "delay": "1ms"},
            {"from": "text", "to": "decide", "delay": "1ms"},
        ],
    },
    "proteus-video": {
        "stages": {
            "detect": {"model": "proteus:yolov5n"},
            "objects": {"model": "proteus:efficientnet-b1"},
            "faces": {"model": "proteus:resnet50_v1"},
        },
        "edges": [
            {"from": "detect", "to": "objects", "fanout": 2, "delay": "1ms"},
            {"from": "detect", "to": "faces", "probability": 0.3, "delay": "1ms"},
        ],
    },
    "proteus-text": {
        "stages": {
            "language": {"model": "proteus:albert-base-v2"},
            "translate": {"model": "proteus:t5-small"},
            "classify": {"model": "proteus:roberta-base", "join": "all"},
        },
        "edges": [
            {"from": "language", "to": "translate", "probability": 0.3, "delay": "1ms"},
            {"from": "language", "to": "classify", "delay": "1ms"},
            {"from": "translate", "to": "classify", "delay": "1ms"},
        ],
    },
}


def is_present() -> bool:
    """Whether the shared data lie beside the checkout."""
    return (FOLDER / "README.md").exists()


def measured_pipeline(name: str) -> Pipeline:
    """One of `PIPELINES`."""
    return Pipeline.from_document({"name": name, **PIPELINES[name]})


def measured_profiles(name: str) -> Profiles:
    """The public measurements of the models of a pipeline."""
    models = {stage["model"] for stage in PIPELINES[name]["stages"].values()}
    tables = []
    for model in sorted(models):
        table, _, plain = model.partition(":")
        rows = _measurements(table)
        for hardware, own in rows[rows["model"] == plain].groupby("hardware", sort=True):
            means = own.groupby("batch_size")["latency_avg_ms"].mean().sort_index()
            sizes, latency_ms = means.index.to_numpy(dtype=np.int64), np.round(means.to_numpy(dtype=float), 4)
            tables.append(LatencyTable(model, str(hardware), sizes, latency_ms, source=table))
    used = {table.hardware for table in tables}
    hardware = [Hardware(name, price, source="assumed") for name, price in PRICES.items() if name in used]
    return Profiles.from_parts(hardware, tables)


def read_segment(name: str, start_s: float, queries: int, seed: int) -> Trace:
    """Read a segment with at least so many queries of one of `TRACES`."""
    path = FOLDER / "traces" / TRACES[name]
    if name not in COUNTED:
        return _arrivals(path).slice(start_s)
    # The lowest rates are some 40/s: a window this long holds enough, and is quick to expand.
    return Trace.read(path, expand="uniform", seed=seed, start_s=start_s, end_s=start_s + queries / 20.0)


@cache
def _arrivals(path: Path) -> Trace:
    return Trace.read(path)


@cache
def _measurements(table: str) -> pd.DataFrame:
    return pd.read_csv(FOLDER / "profiles" / f"{table}_profiles.csv")
