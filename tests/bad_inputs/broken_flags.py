"""Flags with nonsense: what the parser of the command line refuses (`usage`), and what mipplan does."""

from __future__ import annotations

from pathlib import Path

from bad_inputs.broken_plans import sealed
from bad_inputs.case import PIPELINE, PLAN, Case

_REPLAY = ("replay", "plan.json", "--trace", "trace.csv")


def _flags(flags: tuple[str, ...], *said: str, usage: bool = False) -> Case:
    return Case(f"flags: {' '.join(flags)}"[:60], said, {}, (*PLAN, *flags), usage)


def _usage(arguments: tuple[str, ...], *said: str) -> Case:
    return Case(f"usage: {' '.join(arguments)}"[:60], said, {}, arguments, usage=True)


def _replayed(*flags: str, said: tuple[str, ...]) -> Case:
    return Case(
        f"replay {' '.join(flags)}", said, {"plan.json": sealed(lambda document: None)}, (*_REPLAY, *flags)
    )


def _asked(*arguments: str, said: tuple[str, ...]) -> Case:
    given = (arguments[0], "pipeline.yaml", "--trace", "trace.csv", "--profiles", "profiles", *arguments[1:])
    return Case(f"asked: {' '.join(arguments)}"[:60], said, {}, given)


CASES = [
    _flags(("--slo", "300"), "--slo: '300' has no unit: write 300ms or 300s"),
    _flags(("--slo", "0ms"), "--slo: expected a positive"),
    _flags(("--slo", "-5ms"), "--slo: expected a duration such as 300ms"),
    _flags(("--slo", "fast"), "--slo: expected a duration such as 300ms"),
    _flags(("--slo", ""), "--slo: expected a duration such as 300ms"),
    _flags(("--slo", "nan"), "--slo: expected a duration such as 300ms"),
    _flags(("--slo", "9" * 60 + "s"), "--slo", "too long"),
    _flags(("--time-limit", "5"), "--time-limit: '5' has no unit: write 5s"),
    _flags(("--time-limit", "0s"), "--time-limit: expected"),
    _flags(("--time-limit", "1hr"), "--time-limit: '1hr' is not accepted: write 1h"),
    _flags(("--time-limit", "forever"), "--time-limit: expected a duration"),
    _flags(("--quantile", "99"), "--quantile", "for P99 write 0.99"),
    _flags(("--quantile", "0"), "--quantile: expected a number in (0, 1]"),
    _flags(("--quantile", "nan"), "--quantile: expected a number in (0, 1]"),
    _flags(("--quantile", "inf"), "--quantile: expected a number in (0, 1]"),
    _flags(("--quantile", "p99"), "--quantile", usage=True),
    _flags(("--seed", "-1"), "--seed: expected"),
    _flags(("--seed", "9" * 40), "--seed: expected"),
    _flags(("--seed", "1.5"), "--seed", usage=True),
    _flags(("--formulation", "path"), "--formulation: expected one of", "paths"),
    _flags(
        ("--out", "nowhere/plan.json"), "--out nowhere/plan.json: there is no folder 'nowhere' to write to"
    ),
    _flags(("--out", "profiles"), "--out profiles: is a folder; name a file to write to"),
    _flags(
        ("--out", "trace.csv/plan.json"),
        "--out trace.csv/plan.json: there is no folder 'trace.csv' to write to",
    ),
    _flags(
        ("--out", "pipeline.yaml"), "--out pipeline.yaml: is the pipeline that is read; name another file"
    ),
    _flags(("--out", "profiles/../trace.csv"), "trace.csv: is the trace that is read; name another file"),
    _flags(("--out", "profiles/hardware.yaml"), "hardware.yaml: is the table of profiles that is read"),
    _flags(("--out", "profiles/models/all.csv"), "models/all.csv: is the table of profiles that is read"),
    _flags(("--profiles", "nowhere"), "nowhere: there is no such folder"),
    _flags(
        ("--guarantee", "always", "--headroom", "0", "--budget", "0", "--slo", "3"),
        "--slo: '3' has no unit",
        "--guarantee: expected one of",
        "--headroom: expected a multiple",
        "--budget: expected dollars above 0",
    ),
    _flags(("--guarantee", "always"), "--guarantee: expected one of trace"),
    _flags(
        ("--trace", "nowhere.csv", "--from", "x"), "nowhere.csv: there is no such file", "--from: expected"
    ),
    _flags(("--from", "9s", "--to", "5s", "--expand", "even"), "is empty: it must end", "need no expansion"),
    _flags(("--headroom", "0"), "--headroom"),
    _flags(("--headroom", "nan"), "--headroom"),
    _flags(("--margin", "10"), "--margin: '10' has no unit"),
    _flags(("--budget", "-1"), "--budget"),
    _flags(("--budget", "nan"), "--budget"),
    _flags(("--guarantee", "envelope", "--envelope", "5"), "--envelope"),
    _flags(("--guarantee", "envelope", "--envelope", "nan:1"), "--envelope"),
    _flags(("--guarantee", "envelope", "--envelope", "5:-1"), "--envelope"),
    _flags(("--per", "10s", "--share", "2"), "--share: expected a number above 0, at most 1, found 2.0"),
    _flags(("--colour",), "No such option", "--colour", usage=True),
    _usage(("plan",), "PIPELINE"),
    _usage(("plan", "pipeline.yaml"), "--trace"),
    _usage(("plan", "pipeline.yaml", "--trace"), "--trace", "argument"),
    _usage(("plan", "pipeline.yaml", "trace.csv", "--trace", "trace.csv"), "trace.csv"),
    _usage(("plam",), "plam", "plan"),
    _usage(("verify",), "PLAN"),
    _usage(("profiles", "my_profiles"), "my_profiles"),
    _usage(("solvers", "--profiles", "x"), "--profiles"),
    Case(
        "pipeline: neither file nor shipped",
        ("cascad: is neither a file nor one of the shipped pipelines; did you mean 'cascade'?",),
        {},
        ("plan", "cascad", "--trace", "trace.csv"),
    ),
    Case("pipeline: an empty name", ("",), {}, ("plan", "", "--trace", "trace.csv")),
    Case(
        "everything at once",
        (
            "bad.yaml:2: slo",
            "bad.yaml:4: stages.first.modle",
            "nothing.csv",
            "--slo",
            "--time-limit",
            "--quantile",
            "--seed",
            "hardware.yaml:1",
        ),
        {
            "bad.yaml": PIPELINE.replace("model: resize", "modle: resize").replace("100ms", "100"),
            "profiles/hardware.yaml": "cpu: {}\n",
        },
        (
            *("plan", "bad.yaml", "--trace", "nothing.csv", "--profiles", "profiles", "--slo", "3"),
            *("--time-limit", "x", "--quantile", "7", "--seed", "-1"),
        ),
    ),
    _flags(
        ("--slo", "0ms", "--quantile", "7", "--seed", "-1"),
        *("--slo: expected a positive time", "--quantile: expected", "--seed: expected"),
    ),
    Case(
        "no objective anywhere",
        ("pipeline.yaml:1: slo: the pipeline 'small' states none", "pass --slo 300ms"),
        {"pipeline.yaml": PIPELINE.replace("slo: 100ms\n", "")},
    ),
    _replayed(
        "--discipline", "lifo", said=("--discipline: expected one of oldest_first, fifo, found 'lifo'",)
    ),
    _replayed("--engine", "warp", said=("--engine: expected one of",)),
    _replayed("--seed", "-1", said=("--seed: expected",)),
    _replayed(
        "--from", "5s", said=("trace.csv: arrival_s: gives no arrival in [5 s, end) of its 0 s to 0.5 s",)
    ),
    Case(
        "written over a file that is a folder",
        ("--out there: is a folder",),
        {"there": Path.mkdir},
        (*PLAN, "--out", "there"),
    ),
    _asked(
        *("whatif", "--set", "slo", "--time-limit", "0s", "--jobs", "0"),
        said=(
            "--set: expected WHAT=VALUE",
            "--time-limit: expected seconds above 0",
            "--jobs: expected workers",
        ),
    ),
    _asked("whatif", "--set", "slo=x", said=("--set slo=x: expected a duration",)),
    _asked(
        *("frontier", "--start", "x", "--time-limit", "0s", "--jobs", "0"),
        said=("--start: expected", "--time-limit: expected seconds above 0", "--jobs: expected workers"),
    ),
    _asked(
        "pareto", "--by", "size", "--quantile", "3", said=("--by: expected one of", "--quantile: expected")
    ),
    _asked(
        *("menu", "--by", "size", "--within", "x", "--most", "0"),
        said=("--within: expected a share", "--by: expected one of", "--most: expected a whole"),
    ),
    _asked(
        "weigh", "--alpha", "nan", "--slo", "3", said=("--alpha: expected a number", "--slo: '3' has no unit")
    ),
]
