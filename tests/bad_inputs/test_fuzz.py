"""Readers answer any input with an object or an InputError, nothing else: random bytes, and good files damaged."""

from __future__ import annotations

import copy
import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import mipplan as mp
from bad_inputs.broken_plans import good_plan
from bad_inputs.case import HARDWARE, HEADER, PIPELINE, ROWS, lay_out
from campaigns import campaign_size
from mipplan.core import InputError
from mipplan.documents import parse_yaml
from mipplan.profiles import Profiles, examine
from mipplan.result import document_text, fingerprint

EXAMPLES = campaign_size(60, 5_000)
fuzzed = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
    ],
)

Read = Callable[[Path], object]


def parquet() -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(pa.table({"arrival_s": [0.0, 0.5, 1.0], "note": ["a", "b", "c"]}), buffer)
    return buffer.getvalue()


ARRIVALS = b'id,arrival_s,name\n1,0,a\n2,0.25,"b, c"\n3,1.5,d\n'
COUNTS = b"t_s,requests_per_s\n0,3\n10,5\n10,1\n20,0\n"
DATES = b"timestamp\n2024-01-01T00:00:00\n2024-01-01T00:00:00.5Z\n2024-01-02\n"

#: Reader, the file it reads within a folder of good files, and good contents.
READERS: dict[str, tuple[Read, str, tuple[bytes, ...]]] = {
    "pipeline": (
        lambda folder: mp.Pipeline.read(folder / "pipeline.yaml"),
        "pipeline.yaml",
        (PIPELINE.encode(),),
    ),
    "hardware": (
        lambda folder: examine(Profiles.read(folder / "profiles")),
        "profiles/hardware.yaml",
        (HARDWARE.encode(),),
    ),
    "table": (
        lambda folder: examine(Profiles.read(folder / "profiles")),
        "profiles/models/all.csv",
        ((HEADER + ROWS).encode(),),
    ),
    "arrivals": (
        lambda folder: mp.Trace.read(folder / "trace.csv"),
        "trace.csv",
        (ARRIVALS, DATES, gzip.compress(ARRIVALS, mtime=0), parquet()),
    ),
    "counts": (
        lambda folder: mp.Trace.read(folder / "trace.csv", expand="poisson", end_s=20),
        "trace.csv",
        (COUNTS, gzip.compress(COUNTS, mtime=0)),
    ),
    "plan": (
        lambda folder: mp.Plan.load(folder / "plan.json"),
        "plan.json",
        (good_plan().to_json().encode(),),
    ),
}


def outcome(read: Callable[[], object]) -> object | None:
    """Read; only an InputError may come out, with messages of sane size that can be shown on a terminal."""
    try:
        return read()
    except InputError as error:
        faults = error.faults
    assert faults
    for fault in faults:
        assert fault.message
        assert len(str(fault)) < 3_000
        str(fault).encode()
        assert fault.message.isprintable()
    return None


@st.composite
def damaged(draw: st.DrawFn, good: tuple[bytes, ...]) -> bytes:
    """Cut, overwrite, repeat and insert in good contents."""
    data = bytearray(draw(st.sampled_from(good)))
    telling = [
        b"\0",
        b"\xff",
        b'"',
        b"\n",
        b",",
        b":",
        b"-",
        b"[",
        b"{",
        b"nan",
        b"inf",
        b"1e999",
        b"-1",
        b"\t",
        b"*a",
        b"&a",
        b"!!x ",
    ]
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(data)))
        length = draw(st.integers(0, 12))
        kind = draw(st.sampled_from(["cut", "overwrite", "insert", "repeat", "end"]))
        piece = draw(st.sampled_from(telling) | st.binary(max_size=8))
        if kind == "cut":
            del data[place : place + length]
        elif kind == "overwrite":
            data[place : place + len(piece)] = piece
        elif kind == "insert":
            data[place:place] = piece
        elif kind == "repeat":
            data[place:place] = data[place : place + 4 * length] * draw(st.integers(1, 4))
        else:
            del data[place:]
    return bytes(data)


@pytest.mark.parametrize("name", READERS)
@fuzzed
@given(st.data())
def test_any_bytes(name: str, tmp_path: Path, data: st.DataObject) -> None:
    read, file, _ = READERS[name]
    lay_out(tmp_path, {file: data.draw(st.binary(max_size=300) | st.text(max_size=100).map(_encoded))})
    outcome(lambda: read(tmp_path))


@pytest.mark.parametrize("name", READERS)
@fuzzed
@given(st.data())
def test_damaged_files(name: str, tmp_path: Path, data: st.DataObject) -> None:
    read, file, good = READERS[name]
    lay_out(tmp_path, {file: data.draw(damaged(good))})
    outcome(lambda: read(tmp_path))


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


# --------------------------------------------------------------------------------- documents with odd values

leaves = (
    st.none()
    | st.booleans()
    | st.integers(-2, 20)
    | st.integers()
    | st.floats()
    | st.sampled_from(["", "first", "second", "cpu", "gpu", "resize", "300ms", "1e9s", "all", "nan"])
    | st.text(max_size=8)
)
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


@st.composite
def with_odd_values(draw: st.DrawFn, good: Any) -> Any:
    """Replace, add or remove a few values somewhere in a document."""
    document = copy.deepcopy(good)
    for _ in range(draw(st.integers(1, 3))):
        inside = draw(st.sampled_from(_collections(document)))
        keys = list(inside) if isinstance(inside, dict) else list(range(len(inside)))
        key = draw(st.sampled_from(keys)) if keys else None
        kind = draw(st.sampled_from(["replace", "replace", "remove", "add"]))
        if kind == "add" and isinstance(inside, dict):
            inside[draw(st.sampled_from(["from", "to", "batch", "join", "fanout", "limit", "x"]))] = draw(
                values
            )
        elif kind == "add":
            inside.append(draw(values))
        elif key is not None and kind == "remove":
            del inside[key]
        elif key is not None:
            inside[key] = draw(values)
    return document


def _collections(document: Any) -> list[Any]:
    if isinstance(document, dict):
        return [document, *(found for value in document.values() for found in _collections(value))]
    if isinstance(document, list):
        return [document, *(found for value in document for found in _collections(value))]
    return []


RICH_PIPELINE = parse_yaml(
    """\
name: rich
slo: 1s
stages:
  first: {model: resize, hardware: [cpu, gpu], batch: [1, 4], replicas: {min: 1, max: 3}}
  second: {model: classify, batch: {min: 2}, replicas: 2}
  third: {model: resize, join: each, hardware: cpu}
edges:
  - {from: first, to: second, delay: 1ms, probability: 0.5, fanout: 2.5}
  - {from: second, to: third, fanout: {poisson: 2}}
  - {from: first, to: third, fanout: {values: [0, 2], weights: [1, 3]}}
""",
    "rich.yaml",
).value
RICH_PROFILES = good_plan().profiles.to_document()


@fuzzed
@given(with_odd_values(RICH_PIPELINE))
def test_odd_pipelines(document: Any) -> None:
    pipeline = outcome(lambda: mp.Pipeline.from_document(document))
    if isinstance(pipeline, mp.Pipeline):
        assert mp.Pipeline.from_document(pipeline.to_document()) == pipeline


@fuzzed
@given(with_odd_values(RICH_PROFILES))
def test_odd_profiles(document: Any) -> None:
    profiles = outcome(lambda: Profiles.from_document(document))
    if isinstance(profiles, Profiles):
        assert Profiles.from_document(profiles.to_document()) == profiles
        examine(profiles)


@fuzzed
@given(with_odd_values(RICH_PIPELINE))
def test_odd_pipelines_as_yaml(tmp_path: Path, document: Any) -> None:
    import yaml

    text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
    lay_out(tmp_path, {"pipeline.yaml": _encoded(text)})
    outcome(lambda: mp.Pipeline.read(tmp_path / "pipeline.yaml"))


@fuzzed
@given(with_odd_values(good_plan().to_document()), st.booleans())
def test_odd_plans(tmp_path: Path, document: Any, sealed: bool) -> None:
    """Odd values in plan files, with checksums that fit: as if their writer knew how."""
    try:
        if sealed and isinstance(document, dict):
            document.pop("checksum", None)
            for part in ("pipeline", "profiles"):
                document["hashes"][part] = fingerprint(document[part])
            text = document_text(document)
        else:
            text = json.dumps(document)
    except (KeyError, TypeError, ValueError):
        return  # nobody can write this one
    lay_out(tmp_path, {"plan.json": _encoded(text)})
    outcome(lambda: mp.Plan.load(tmp_path / "plan.json"))
    outcome(lambda: mp.verify(tmp_path / "plan.json", mp.Trace.read(tmp_path / "trace.csv")))
