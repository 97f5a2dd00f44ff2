"""Plan files that are none, or no longer what mipplan wrote."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import mipplan as mp
from bad_inputs.case import HARDWARE, HEADER, PIPELINE, ROWS, Case, Making
from mipplan.documents import parse_yaml
from mipplan.result import document_text, fingerprint

_REPLAY = ("replay", "plan.json", "--trace", "trace.csv")
_VERIFY = ("verify", "plan.json", "--trace", "trace.csv")


@cache
def good_plan() -> mp.Plan:
    """Return a plan for the good inputs."""
    hardware = parse_yaml(HARDWARE, "hardware.yaml").value
    rows = [row.split(",") for row in ROWS.splitlines()]
    tables: dict[tuple[str, str], dict[str, Any]] = {}
    for model, device, batch, latency, source in rows:
        table = tables.setdefault(
            (model, device), {"model": model, "hardware": device, "batch": [], "latency_ms": [], "source": []}
        )
        table["batch"].append(int(batch))
        table["latency_ms"].append(float(latency))
        table["source"].append(source)
    assert HEADER.startswith("model,hardware,batch,latency_ms")
    profiles = mp.Profiles.from_document({"hardware": hardware, "tables": list(tables.values())})
    pipeline = mp.Pipeline.from_document(parse_yaml(PIPELINE, "pipeline.yaml"))
    return mp.Plan.from_choices(pipeline, profiles, {"first": ("cpu", 1, 1), "second": ("gpu", 8, 2)})


def sealed(change: Callable[[dict[str, Any]], object]) -> Making:
    """Make a changed plan whose checksums fit again, as someone would who knows them."""

    def make(path: Path) -> None:
        document = copy.deepcopy(good_plan().to_document())
        change(document)
        hashes = {part: fingerprint(document[part]) for part in ("pipeline", "profiles") if part in document}
        if isinstance(document.get("hashes"), dict):
            document["hashes"].update(hashes)
        path.write_text(document_text(document), encoding="utf-8")

    return make


def _edited(change: Callable[[str], str]) -> Making:
    def make(path: Path) -> None:
        before = good_plan().to_json()
        after = change(before)
        assert after != before
        path.write_text(after, encoding="utf-8")

    return make


def _set(*path: str | int, value: Any) -> Making:
    def change(document: Any) -> None:
        for part in path[:-1]:
            document = document[part]
        document[path[-1]] = value

    return sealed(change)


def _case(name: str, plan: Making, *said: str, arguments: tuple[str, ...] = _REPLAY) -> Case:
    return Case(f"plan: {name}", said, {"plan.json": plan}, arguments)


FORM = [
    _case("missing", None, "plan.json: there is no such file"),
    _case("empty", "", "plan.json:1: is not a plan file: not JSON"),
    _case("a folder", Path.mkdir, "plan.json: is a folder; a file was expected"),
    _case("YAML", PIPELINE, "plan.json:1: is not a plan file: not JSON"),
    _case("binary", bytes(range(128, 256)), "plan.json:1: is not UTF-8 text"),
    _case(
        "truncated",
        _edited(lambda text: text[: len(text) // 2]),
        "plan.json:",
        "is not a plan file: not JSON",
    ),
    _case(
        "someone else's JSON",
        '{"name": "x", "version": 1}',
        "plan.json: is not a plan file: write one with `mipplan plan",
    ),
    _case("a list", "[1, 2]", "plan.json: is not a plan file: write one with"),
    _case("deep nesting", "[" * 100_000 + "]" * 100_000, "plan.json: is not a plan file: nested too deeply"),
    _case(
        "nested forty levels",
        '{"format": ' + "[" * 40 + "]" * 40 + "}",
        "plan.json: is not a plan file: nested too deeply",
    ),
    _case(
        "NaN",
        _edited(lambda text: text.replace('"quantile": 0.99', '"quantile": NaN')),
        "plan.json:",
        "NaN is not a number",
    ),
    _case(
        "infinite",
        _edited(lambda text: text.replace('"quantile": 0.99', '"quantile": 1e999')),
        "plan.json:",
        "the number 1e999 is out of range",
    ),
    _case(
        "endless number",
        _edited(lambda text: text.replace('"seed": 0', '"seed": ' + "9" * 9999)),
        "plan.json:",
        "a number has 9999 digits",
    ),
    _case(
        "duplicate key",
        _edited(lambda text: text.replace('"seed": 0', '"seed": 0, "seed": 1')),
        "plan.json",
        "the key 'seed' is given twice in one place",
    ),
    _case("too large", " " * (20 * 1024 * 1024), "plan.json: is larger than"),
]

CONTENT = [
    _case("another format", _set("format", value=3), "plan.json: format"),
    _case(
        "without choices", sealed(lambda document: document.pop("choices")), "plan.json: choices: is missing"
    ),
    _case(
        "without pipeline",
        sealed(lambda document: document.pop("pipeline")),
        "plan.json: pipeline: is missing",
    ),
    _case("without hashes", sealed(lambda document: document.pop("hashes")), "plan.json: hashes: is missing"),
    _case("unknown key", _set("slo", value="1s"), "plan.json: slo: unknown key"),
    _case("status nobody knows", _set("status", value="best"), "plan.json: status"),
    _case("objective as text", _set("slo_ns", value="300ms"), "plan.json: slo_ns: expected a whole number"),
    _case("negative objective", _set("slo_ns", value=-1), "plan.json: slo_ns"),
    _case("quantile in percent", _set("quantile", value=99.0), "plan.json: quantile: expected a number ≤ 1"),
    _case("negative seed", _set("seed", value=-1), "plan.json: seed"),
    _case(
        "choice as a list",
        _set("choices", "first", value=["cpu", 1, 1]),
        "plan.json: choices.first: expected a mapping",
    ),
    _case("no replicas", _set("choices", "first", "replicas", value=0), "plan.json: choices.first.replicas"),
    _case(
        "misspelt key of a choice",
        sealed(lambda document: document["choices"]["first"].update(replica=1)),
        "plan.json: choices.first.replica: unknown key; did you mean 'replicas'?",
    ),
    _case(
        "choice for no stage",
        _set("choices", "third", value={"hardware": "cpu", "batch": 1, "replicas": 1}),
        "plan.json",
        "choices.third",
    ),
    _case(
        "stage without choice",
        sealed(lambda document: document["choices"].pop("first")),
        "plan.json",
        "choices.first",
    ),
    _case(
        "batch beyond the table",
        _set("choices", "second", "batch", value=9),
        "plan.json",
        "choices.second.batch",
        "latency is not extrapolated",
    ),
    _case(
        "hardware nobody measured",
        _set("choices", "first", "hardware", value="tpu"),
        "plan.json",
        "choices.first.hardware",
        "no measurements on 'tpu'",
    ),
    _case(
        "negative latency",
        _set("profiles", "tables", 0, "latency_ms", value=[-1.0]),
        "plan.json: profiles: tables[0]",
        "latency_ms",
    ),
    _case(
        "latencies short of sizes",
        _set("profiles", "tables", 0, "latency_ms", value=[]),
        "plan.json: profiles: tables[0].latency_ms: must not be empty",
    ),
    _case(
        "price of nothing",
        _set("profiles", "hardware", "cpu", "usd_per_hour", value=0),
        "plan.json: profiles: hardware.cpu.usd_per_hour",
    ),
    _case(
        "cycle",
        sealed(lambda document: document["pipeline"]["edges"].append({"from": "second", "to": "first"})),
        "plan.json: pipeline: edges[1]",
        "closes a cycle",
    ),
    _case("pipeline of nothing", _set("pipeline", value={}), "plan.json: pipeline", "stages: is missing"),
]

ALTERED = [
    _case(
        "altered choices",
        _edited(lambda text: text.replace('"replicas": 2', '"replicas": 1')),
        "plan.json: was altered after it was written: the checksum of its choices or figures",
    ),
    _case(
        "altered prices",
        _edited(lambda text: text.replace('"usd_per_hour": 0.1', '"usd_per_hour": 0.2')),
        "plan.json: was altered after it was written: the checksum of its profiles",
    ),
    _case(
        "altered pipeline",
        _edited(lambda text: text.replace('"delay": "1ms"', '"delay": "2ms"')),
        "plan.json: was altered after it was written: the checksum of its pipeline",
    ),
    _case("verify without a file", None, "plan.json: there is no such file", arguments=_VERIFY),
    _case("verify something else", "{}", "plan.json: is not a plan file", arguments=_VERIFY),
    _case(
        "verify a cycle",
        sealed(lambda document: document["pipeline"]["edges"].append({"from": "second", "to": "first"})),
        "plan.json: pipeline: edges[1]",
        "closes a cycle",
        arguments=_VERIFY,
    ),
    _case(
        "verify a choice for no stage",
        _set("choices", "third", value={"hardware": "cpu", "batch": 1, "replicas": 1}),
        "plan.json",
        "choices.third",
        arguments=_VERIFY,
    ),
]

CASES = [*FORM, *CONTENT, *ALTERED]
