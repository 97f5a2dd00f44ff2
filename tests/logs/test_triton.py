"""Trace files of Triton become logs of stages: batches by a common start, ensembles as queries of several stages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mipplan.core import InputError
from mipplan.logs import QueryLog, QueryRow, read_log, write_log

MS = 1_000_000
T0 = 1_800_000_000_000_000_000
#: What the clock of the server is behind UNIX time.
BOOT = T0 - 5_000_000_000
NAMES = ("REQUEST_START", "QUEUE_START", "COMPUTE_START", "COMPUTE_INPUT_END", "COMPUTE_END", "REQUEST_END")


def request(
    number: int, model: str, at_ms: list[float], parent: int | None = None, name: str = ""
) -> list[object]:
    """Entries of one request as Triton writes them: one for the request, one for each stamp."""
    about: dict[str, object] = {"id": number, "model_name": model, "model_version": 1, "request_id": name}
    if parent is not None:
        about["parent_id"] = parent
    stamps = [{"name": key, "ns": round(T0 - BOOT + ms * MS)} for key, ms in zip(NAMES, at_ms, strict=False)]
    return [about, *({"id": number, "timestamps": [stamp]} for stamp in stamps)]


def ensemble(name: str = "") -> list[object]:
    """Two queries through detect, where they are one batch, and read, where they are two."""
    entries: list[object] = []
    for query, (first, enters) in enumerate([(10, 0.0), (20, 1.0)]):
        entries += request(first, "whole", [enters], name=str(query) if name else "")
        entries += request(first + 1, "detect", [enters, enters, 2.0, 2.1, 9.0, 9.1], first)
        begins = 10.0 + query
        entries += request(first + 2, "read", [9.2, 9.2, begins, begins, begins + 5, begins + 5], first)
    return entries


def write(path: Path, entries: list[object]) -> Path:
    path.write_text(json.dumps(entries))
    return path


def test_batches_and_queries_are_found(tmp_path: Path) -> None:
    entries = ensemble()
    half = len(entries) // 2 + 3  # The entries of a request may be in two files.
    run = read_log(write(tmp_path / "t.json.0", entries[:half]), write(tmp_path / "t.json.1", entries[half:]))
    log = run.stages
    rows = sorted(
        zip(log.query, log.stage, log.batch_size, (log.finish_ns - log.dispatch_ns) / MS, strict=True)
    )
    assert rows == [(0, "detect", 2, 7.0), (0, "read", 1, 5.0), (1, "detect", 2, 7.0), (1, "read", 1, 5.0)]
    assert len(set(log.at("detect").batch)) == 1
    assert len(set(log.batch)) == 3
    assert ((log.dispatch_ns - log.arrival_ns) / MS).max() == pytest.approx(2.0)


def test_batches_are_numbered_by_numpy_2_0_0_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It alone returns an inverse with as many dimensions as there were, where an axis is given."""
    unique = np.unique

    def of_that_version(values: Any, **settings: Any) -> Any:
        found = unique(values, **settings)
        if settings.get("axis") is None:
            return found
        return found[0], found[1].reshape(1, -1), *found[2:]

    monkeypatch.setattr(np, "unique", of_that_version)
    log = read_log(write(tmp_path / "t.json", ensemble())).stages
    assert sorted(log.batch_size) == [1, 1, 2, 2]
    assert len(set(log.numbered_anew(np.array([0, 0, 1, 1])).batch)) == 4


def test_older_names_of_stamps_are_read(tmp_path: Path) -> None:
    text = json.dumps(ensemble()).replace("QUEUE_START", "queue start").replace("COMPUTE_", "compute ")
    (tmp_path / "t.json").write_text(text)
    assert len(read_log(tmp_path / "t.json").stages) == 4


def test_steady_clock_is_moved_onto_the_sender_s(tmp_path: Path) -> None:
    rows = [QueryRow(k, T0 + k * MS, T0 + k * MS - MS // 2, T0 + 17 * MS, "ok") for k in range(2)]
    write_log(tmp_path / "q.parquet", QueryLog.from_rows(rows))
    run = read_log(tmp_path / "q.parquet", write(tmp_path / "t.json", ensemble("numbers")))
    # The query that ends last ends 1 ms before its answer, and both arrive half a millisecond after they were sent.
    assert run.stages.arrival_ns.min() - run.queries.sent_ns.min() == 750_000
    assert run.queries.answered_ns.max() - run.stages.finish_ns.max() == 750_000
    # Where no answer came in time, only that nothing arrives before it was sent is known.
    late = [QueryRow(k, T0 + k * MS, T0 + k * MS, None, "timeout") for k in range(2)]
    write_log(tmp_path / "q.parquet", QueryLog.from_rows(late))
    run = read_log(tmp_path / "q.parquet", tmp_path / "t.json")
    assert run.stages.arrival_ns.min() == run.queries.sent_ns.min()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[{", "is no whole JSON document"),
        ('[{"model_name": "m"}]', "is no entry of a trace of Triton"),
        (
            '[{"id": 1, "timestamps": [{"name": "COMPUTE_END", "ns": 1.5}]}]',
            "is no entry of a trace of Triton",
        ),
        (
            '[{"id": 1, "timestamps": [{"name": "COMPUTE_END", "ns": 9223372036854775808}]}]',
            "is no entry of a trace of Triton",
        ),
        (
            '[{"id": 1, "model_name": "m"}]',
            "no request has the time stamps QUEUE_START, COMPUTE_START, COMPUTE_END",
        ),
        ("[" * 100_000, "is no whole JSON document"),
    ],
)
def test_what_is_no_trace_is_told(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "t.json").write_text(text)
    with pytest.raises(InputError, match=message):
        read_log(tmp_path / "t.json")
