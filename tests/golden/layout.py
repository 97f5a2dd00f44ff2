"""The files that golden commands are run on: the shipped profiles, old plans, and small inputs written here."""

from __future__ import annotations

import json
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import mipplan as mp

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
ANSWERS = HERE / "answers"
OLD_PLANS = HERE / "old_plans"
#: By name of the plan: the shipped trace that it was made for, and how much of it.
OLD_TRACES = {"video": ("bursty", 20.0), "cascade": ("steady", 20.0), "image": ("steady", 10.0)}

_HARDWARE = """\
cpu: {usd_per_hour: 0.1, source: made up}
gpu: {usd_per_hour: 1.0, memory_gib: 16, limit: 6, source: made up}
"""
_TABLES = """\
model,hardware,batch,latency_ms,latency_p99_ms,memory_gib,source
resize,cpu,1,2.0,2.2,0.1,made up
resize,cpu,4,5.0,5.5,0.2,made up
classify,cpu,1,30.0,36.0,1,made up
classify,gpu,1,4.0,4.2,2,made up
classify,gpu,8,10.0,11.0,4,made up
rank,cpu,1,9.0,9.5,1,made up
rank,cpu,2,14.0,15.0,1,made up
rank,gpu,1,3.0,3.1,2,made up
"""
_ODD = """\
model,hardware,batch,latency_ms,latency_p99_ms,source
resize,cpu,1,2.0,1.5,made up
resize,cpu,4,1.0,5.5,made up
classify,gpu,1,4.0,90,made up
classify,gpu,8,400.0,411.0,made up
classify,gpu,16,401.0,411.0,made up
"""
_PERF = (
    "Concurrency,Inferences/Second,Client Send,Network+Server Send/Recv,Server Queue,Server Compute Input,"
    "Server Compute Infer,Server Compute Output,Client Recv,p50 latency,p99 latency\n"
)
_PERF_LOADED = "4,130,100,900,9000,150,8700,50,50,30000,31000\n"
_PRICES = """\
instance,accelerator,accelerator_count,accelerator_memory_gb,region,on_demand_usd_per_hour
g4dn.xlarge,T4,1,16,us-east-1,0.526
g4dn.xlarge,T4,1,16,eu-west-1,0.587
p4d.24xlarge,A100,8,40,us-east-1,32.7726
"""
_SMALL = """\
name: small
slo: 100ms
stages:
  first: {model: resize}
  second: {model: classify, replicas: {max: 20}}
  third: {model: rank, batch: {min: 1, max: 2}}
  last: {model: resize, join: all}
edges:
  - {from: first, to: second, delay: 1ms}
  - {from: first, to: third, probability: 0.5}
  - {from: second, to: last, delay: 500us}
  - {from: third, to: last}
"""
_BROKEN_PIPELINE = """\
name: broken
slo: fast
stages:
  first: {model: resize, replicas: {min: 3, max: 1}}
  second: {modell: classify}
edges:
  - {from: first, to: thrid}
  - {from: second, to: first, probability: 2}
"""
_FLEET = """\
name: production
limits: {t4: 4, v100: 1}
pipelines:
  video-eu: {pipeline: video-monitoring, trace: steady, to: 6s, weight: 2}
  cascade:  {pipeline: cascade, trace: bursty, to: 6s}
  images:   {pipeline: image-processing, trace: steady, to: 6s, scale: 0.5, slo: 150ms}
"""
_BROKEN_FLEET = """\
name: broken
limits: {t4: many, tpu: 3}
pipelines:
  video: {pipeline: video-monitring, trace: steady}
  other: {pipeline: cascade, trace: nowhere.csv, weight: -1, slo: 5}
  third: {trace: steady}
"""
_HOPELESS = """\
pipelines:
  video: {pipeline: video-monitoring, trace: steady, to: 3s, slo: 1ms}
  cascade: {pipeline: cascade, trace: bursty, to: 3s}
"""


def lay_out(folder: Path) -> None:
    """Write all of it into an empty folder."""
    shutil.copytree(ROOT / "profiles", folder / "profiles")
    shutil.copytree(OLD_PLANS, folder, dirs_exist_ok=True)
    plan = (OLD_PLANS / "cascade.json").read_text(encoding="utf-8")
    for name, text in {
        "small/hardware.yaml": _HARDWARE,
        "small/models/all.csv": _TABLES,
        "odd/hardware.yaml": _HARDWARE,
        "odd/models/all.csv": _ODD,
        "broken/hardware.yaml": _HARDWARE.replace("0.1", "cheap").replace("limit: 6", "limits: 6"),
        "broken/models/all.csv": _TABLES.replace("30.0", "-3").replace("gpu,8", "tpu,x"),
        "small.yaml": _SMALL,
        "each.yaml": _SMALL.replace("join: all", "join: each").replace("probability: 0.5", "fanout: 1.5"),
        "broken.yaml": _BROKEN_PIPELINE,
        "fleet.yaml": _FLEET,
        "broken-fleet.yaml": _BROKEN_FLEET,
        "hopeless.yaml": _HOPELESS,
        "arrivals.csv": "arrival_ms\n" + "".join(f"{i * 7 + (i * i) % 7}\n" for i in range(300)),
        "perf.csv": f"{_PERF}1,100,100,900,50,150,8700,50,50,9900,11000\n{_PERF_LOADED}",
        "loaded.csv": f"{_PERF}{_PERF_LOADED}",
        "list.csv": _PRICES,
        "rush.csv": "arrival_ms\n" + "".join(f"{i / 10}\n" for i in range(300)),
        "counts.csv": "requests_per_s\n"
        + "".join(f"{count}\n" for count in (80, 120, 0, 150, 90, 200, 140, 60)),
        "tampered.json": plan.replace('"replicas": 3', '"replicas": 2', 1),
        "broken.json": plan[: len(plan) // 2],
    }.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


@cache
def instances() -> dict[str, dict[str, Any]]:
    """Random small planning problems, as plain documents."""
    return dict(json.loads((HERE / "inputs" / "instances.json").read_text(encoding="utf-8")))


@cache
def fleets() -> dict[str, dict[str, Any]]:
    """Random small fleets, as plain documents."""
    return dict(json.loads((HERE / "inputs" / "fleets.json").read_text(encoding="utf-8")))


def shipped_pipeline(name: str) -> mp.Pipeline:
    """Read a shipped pipeline."""
    return mp.Pipeline.read(ROOT / "profiles" / "pipelines" / f"{name}.yaml")


@cache
def shipped_profiles() -> mp.Profiles:
    """Read the shipped profiles."""
    return mp.Profiles.read(ROOT / "profiles")


@cache
def shipped_trace(name: str, start_s: float | None = None, end_s: float | None = None) -> mp.Trace:
    """Read a shipped trace, or a part of it."""
    return mp.Trace.read(ROOT / "profiles" / "traces" / f"{name}.csv.gz", start_s=start_s, end_s=end_s)


def old_plan(name: str) -> mp.Plan:
    """Load one of the old plans."""
    return mp.Plan.load(OLD_PLANS / f"{name}.json")


def old_trace(name: str) -> mp.Trace:
    """Read the trace that an old plan was made for."""
    trace, end_s = OLD_TRACES[name]
    return shipped_trace(trace, None, end_s)
