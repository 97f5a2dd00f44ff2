"""Broken files: every fault comes with the file, the line or path, and the field; nothing is written."""

from __future__ import annotations

import contextlib
import gzip
import json
import re
from pathlib import Path
from random import Random

import pytest

from campaigns import campaign_size
from mipplan.core import InputError
from mipplan.importers import FORMATS, Stated, read_measurements

FILES = Path(__file__).parent / "files"
PERF = (FILES / "perf_analyzer.csv").read_text(encoding="utf-8")
LOG = (FILES / "trtexec.log").read_text(encoding="utf-8")
TIMM = (FILES / "timm.csv").read_text(encoding="utf-8")
SUMMARY = (FILES / "mlperf_log_summary.txt").read_text(encoding="utf-8")
ORT = (FILES / "onnxruntime.json").read_text(encoding="utf-8")
EXPORT = (FILES / "perf_analyzer.json").read_text(encoding="utf-8")
VLLM = (FILES / "vllm_latency.json").read_text(encoding="utf-8")
GENAI = (FILES / "genai_perf.json").read_text(encoding="utf-8")
AIC = (FILES / "aiconfigurator.csv").read_text(encoding="utf-8")
PUBLISHED = "model,hardware,batch,latency_avg_ms\nm,t4,1,2.5\nm,t4,4,6\n"

#: What is wrong: (name of the file, text, places and words that the faults must hold).
BROKEN: dict[str, tuple[str, str | bytes, tuple[str, ...]]] = {
    "empty file": ("p.csv", "", ("p.csv: is empty",)),
    "blank file": ("p.csv", " \n\n", ("p.csv: is empty",)),
    "utf-16": ("t.log", LOG.encode("utf-16"), ("t.log:1: is not UTF-8",)),
    "zero bytes": ("t.log", LOG.replace("[I]", "\0"), ("t.log: holds zero bytes",)),
    "half a gzip": (
        "p.csv.gz",
        gzip.compress(PERF.encode())[:-12],
        ("p.csv.gz: ends in the middle of its gzip",),
    ),
    "damaged gzip": (
        "p.csv.gz",
        gzip.compress(PERF.encode())[:40] + b"x" * 99,
        ("p.csv.gz: is not well-formed gzip",),
    ),
    "unknown format": (
        "x.csv",
        "a,b\n1,2\n",
        ("x.csv: looks like none of perf_analyzer, model_analyzer, trtexec",),
    ),
    "closest format": (
        "x.csv",
        TIMM.replace("infer_step_time", "step"),
        ("the closest is timm, but for the columns infer_step_time",),
    ),
    "closest log": (
        "x.log",
        LOG.replace("TensorRT.trtexec", "x").replace("GPU Compute", "CPU"),
        ("closest is trtexec",),
    ),
    "header alone": ("p.csv", PERF.splitlines()[0] + "\n", ("p.csv: holds no row below its header",)),
    "half a row": ("p.csv", PERF[:-20], ("p.csv:5: expected 13 values as in the header, found",)),
    "open quotes": ("p.csv", PERF + '1,"2', ("p.csv:6: is not well-formed CSV",)),
    "a column twice": (
        "p.csv",
        PERF.replace("p50 latency", "p90 latency"),
        ("p.csv:1: names columns twice: p90 latency",),
    ),
    "no number": (
        "p.csv",
        PERF.replace(",11781,", ",fast,"),
        ("p.csv:2: Server Compute Infer: expected a number, found 'fast'",),
    ),
    "decimal comma": (
        "t.csv",
        TIMM.replace("2.654", '"2,654"'),
        ("t.csv:2: step time: expected a number, found '2,654'",),
    ),
    "digits apart": ("t.csv", TIMM.replace("2.654", "2_654"), ("t.csv:2: step time: expected a number",)),
    "NaN": (
        "p.csv",
        PERF.replace(",11781,", ",nan,"),
        ("p.csv:2: Server Compute Infer: expected a number, found 'nan'",),
    ),
    "infinity": (
        "t.csv",
        TIMM.replace("2.654", "inf"),
        ("t.csv:2: step time: expected a finite number above 0, found inf",),
    ),
    "negative": (
        "t.csv",
        TIMM.replace("2.654", "-2.654"),
        ("t.csv:2: step time: expected a finite number above 0",),
    ),
    "zero": (
        "t.csv",
        TIMM.replace("2.654", "0"),
        ("t.csv:2: step time: expected a finite number above 0, found 0",),
    ),
    "blank": ("t.csv", TIMM.replace("2.654", ""), ("t.csv:2: step time: is blank; expected a number",)),
    "half a batch": (
        "t.csv",
        TIMM.replace(",9.66,1,", ",9.66,1.5,"),
        ("t.csv:3: batch size: expected a whole number, found 1.5",),
    ),
    "batch 0": (
        "t.csv",
        TIMM.replace(",9.66,1,", ",9.66,0,"),
        ("t.csv:3: batch size: expected a finite number above 0",),
    ),
    "huge batch": (
        "t.csv",
        PUBLISHED.replace("t4,4", "t4,4000000"),
        ("t.csv:3: expected a whole number from 1 to 1000000",),
    ),
    "seconds": (
        "t.csv",
        TIMM.replace("22.892", "0.022892"),
        ("t.csv:5: 1 samples at 43.63/s take 22.92 ms, not", "milliseconds?"),
    ),
    "nanoseconds": (
        "p.csv",
        PERF.replace("1,69.2,", "1,69200,"),
        ("p.csv:2: the batch size is not written down",),
    ),
    "all faults at once": (
        "t.csv",
        TIMM.replace("2.654", "x").replace("9.66", "-1"),
        ("t.csv:2: step time", "t.csv:3: step time"),
    ),
    "batch twice": (
        "t.csv",
        PUBLISHED + "m,t4,4,7\n",
        ("t.csv:4: batch 4 of net on dev is given twice; first at", "t.csv:3"),
    ),
    "years": ("t.csv", PUBLISHED.replace("2.5", "1e12"), ("t.csv:2: 1e+12 ms is longer than ten years",)),
    "half a log": ("t.log", LOG[: LOG.index("[I] Latency")], ("t.log:1: ends before 'Latency",)),
    "failed run": ("t.log", LOG.replace("&&&& PASSED", "&&&& FAILED"), ("t.log:1: the run failed",)),
    "microseconds": (
        "t.log",
        LOG.replace("mean = 10.0312 ms", "mean = 10.0312 us"),
        ("t.log:17: mean: expected milliseconds",),
    ),
    "two summaries": (
        "t.log",
        LOG + LOG.split("\n", 1)[1],
        ("t.log:1: several performance summaries, on lines 17, ",),
    ),
    "no mean": ("t.log", LOG.replace("mean =", "average ="), ("t.log:17: the summary has no mean",)),
    "half a summary": ("s.txt", SUMMARY[: SUMMARY.index("Result is")], ("s.txt: ends before 'Scenario",)),
    "no percentile": (
        "s.txt",
        SUMMARY.replace("90", "91"),
        ("s.txt: has no line '90th percentile latency (ns)",),
    ),
    "no query size": (
        "s.txt",
        SUMMARY.replace("SingleStream", "MultiStream").replace("samples_per_query", "samples"),
        ("samples_per_query: is blank",),
    ),
    "several summaries": ("s.txt", SUMMARY * 2, ("s.txt: holds several summaries",)),
    "semicolons": (
        "x.csv",
        TIMM.replace(".", "~").replace(",", ";").replace("~", ","),
        ("cells of a table are told apart by commas, not ';'",),
    ),
    "half a JSON": ("o.json", ORT[:-300], ("o.json:",)),
    "half a JSON at a comma": ("o.json", ORT[: ORT.rindex(",\n") + 2], ("ends in the middle of its JSON",)),
    "JSON NaN": ("v.json", VLLM.replace("1.24,", "NaN,"), ("v.json: holds NaN",)),
    "deep JSON": ("v.json", '{"a":' * 100_000, ("v.json: is JSON nested too deeply",)),
    "no events": ("o.json", ORT.replace("model_run", "model_ran"), ("o.json: holds no model_run event",)),
    "no duration": (
        "o.json",
        ORT.replace('"dur": 12, "ts": 5551,', '"ts": 5551,'),
        ("o.json: [13]: dur: is blank",),
    ),
    "no latencies": (
        "v.json",
        json.dumps({"avg_latency": 1, "latencies": []}),
        ("v.json: latencies: expected a list",),
    ),
    "half the latencies": (
        "v.json",
        VLLM.replace("1.24,", ""),
        ("v.json: avg_latency: 1.25 is not the mean",),
    ),
    "truth for a number": (
        "v.json",
        VLLM.replace("1.24,", "true,"),
        ("v.json: latencies[0]: s: expected a number",),
    ),
    "no experiments": ("e.json", '{"experiments": []}', ("e.json: experiments: expected a list",)),
    "no timestamps": (
        "e.json",
        EXPORT.replace('"timestamp": 1000', '"timestamp": "1"'),
        ("requests[0]: expected a timestamp",),
    ),
    "response first": (
        "e.json",
        EXPORT.replace("5001000", "999"),
        ("requests[0]: the response came no later",),
    ),
    "unknown unit": (
        "g.json",
        GENAI.replace('"unit": "ms"', '"unit": "min"'),
        ("g.json: request_latency.unit: expected ms, found 'min'",),
    ),
    "parts that do not add up": (
        "a.csv",
        AIC.replace("1975.5", "1.9755"),
        ("a.csv:2: request_latency 1.9755 is not",),
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_every_fault_has_its_place(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name, content, told = BROKEN[case]
    monkeypatch.chdir(tmp_path)
    data = content if isinstance(content, bytes) else content.encode("utf-8")
    Path(name).write_bytes(data)
    batch = 8 if name in ("v.json", "e.json") else None
    named = (
        Stated({"m": "net", "": ""}, {"t4": "dev"})
        if content in _TABLES
        else Stated({"": "net"}, {"": "dev"}, batch)
    )
    with pytest.raises(InputError) as caught:
        read_measurements(name, stated=named)
    for words in told:
        assert words in str(caught.value)


_TABLES = [
    content
    for _, content, _ in BROKEN.values()
    if isinstance(content, str) and content.startswith("model,hard")
]


def test_there_are_many_cases() -> None:
    assert len(BROKEN) >= 20


def figures_of(path: Path, stated: Stated) -> set[float | None]:
    rows = read_measurements(path, stated=stated).rows
    return {figure for row in rows for figure in (row.latency_ms, row.latency_p99_ms)}


@pytest.mark.parametrize("name", sorted(path.name for path in FILES.iterdir() if path.name != "README.md"))
def test_a_file_cut_anywhere_is_read_or_refused(name: str, tmp_path: Path) -> None:
    """A half file gives fewer rows, or an `InputError`; never another error, and never another figure."""
    stated = Stated({}, {"": "dev"}, 8 if "vllm" in name else 2 if name == "perf_analyzer.json" else None)
    named = Stated({"": "net"}, {"": "dev"}, stated.batch)
    whole = (FILES / name).read_bytes()
    figures: set[float | None] = {None}
    for options in (named, stated, Stated()):
        try:
            figures |= figures_of(FILES / name, options)
        except InputError:
            continue
    assert len(figures) > 1
    path = tmp_path / name
    for cut in range(0, len(whole), max(1, len(whole) // 97)):
        path.write_bytes(whole[:cut])
        for options in (named, stated, Stated()):
            try:
                found = figures_of(path, options)
            except InputError:
                continue
            assert found <= figures


@pytest.mark.parametrize(
    ("format", "stated", "told"),
    [
        ("perf", Stated(), "format: there is no format 'perf'; did you mean"),
        ("trtexec", Stated(), "is no file of trtexec: it lacks"),
        ("auto", Stated(batch=0), "batch: expected a whole number from 1"),
        ("auto", Stated(hardware={"": "i7"}, where={"modle": "x"}), "where: "),
        ("auto", Stated(hardware={"": "i7"}, batch=4), "timm.csv:2: the file says batch 1, --batch 4"),
        ("auto", Stated(hardware={"": "i7"}, where={"model": "x"}), "no row is left by --where"),
        ("auto", Stated(), "does not name the hardware: give it with --hardware NAME"),
        ("auto", Stated({"": "resnet18"}, {"": "i7"}), "has no model 'resnet18'; did you mean 'resnet18-"),
        ("auto", Stated({"resnet18": "r"}, {"": "i7"}), "model: "),
        ("auto", Stated({"resnet18-160": " r"}, {"": "i7"}), "begins or ends with a blank"),
    ],
)
def test_what_is_stated_is_checked(format: str, stated: Stated, told: str) -> None:  # noqa: A002
    with pytest.raises(InputError) as caught:
        read_measurements(FILES / "timm.csv", format, stated)
    assert told in str(caught.value)


def test_rows_of_what_is_no_table_cannot_be_chosen() -> None:
    with pytest.raises(InputError, match=r"where: .*trtexec\.log is no table"):
        read_measurements(FILES / "trtexec.log", stated=Stated(where={"model": "x"}))


@pytest.mark.parametrize("name", sorted(path.name for path in FILES.iterdir() if path.name != "README.md"))
def test_any_damage_is_read_or_refused(name: str, tmp_path: Path) -> None:
    """Cells and values that are swapped, doubled or replaced lead to rows or an `InputError`, never another error."""
    random = Random(17)
    whole = (FILES / name).read_text(encoding="utf-8")
    pieces = re.split(r"([,:\s\[\]{}=]+)", whole)
    odd = (
        "",
        "null",
        "[]",
        "{}",
        '"x"',
        "-1",
        "1e999",
        "9" * 5000,
        "true",
        "\u00b2",
        "[",
        "}",
        ",",
        "\n",
        '"',
    )
    path = tmp_path / name
    for _ in range(campaign_size(30, 3_000)):
        changed = list(pieces)
        for _ in range(random.randint(1, 3)):
            at = random.randrange(len(changed))
            changed[at] = random.choice([*odd, changed[random.randrange(len(changed))]])
        path.write_text("".join(changed), encoding="utf-8")
        for known in ("auto", *FORMATS):
            with contextlib.suppress(InputError):
                read_measurements(path, known, Stated({}, {}, random.choice([None, 2])))
