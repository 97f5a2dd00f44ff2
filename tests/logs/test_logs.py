"""Logs come back as they were written, and everything wrong with them is told at once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mipplan.core import InputError
from mipplan.logs import (
    MISSING,
    LogMetadata,
    LogWriter,
    QueryLog,
    QueryRow,
    StageLog,
    StageRow,
    read_log,
    write_log,
)

T0 = 1_800_000_000_000_000_000
MS = 1_000_000


def queries(count: int = 4, **changes: object) -> QueryLog:
    rows = [
        QueryRow(k, T0 + k * 10 * MS, T0 + k * 10 * MS + 1, T0 + k * 10 * MS + 8 * MS, "ok")
        for k in range(count)
    ]
    return QueryLog.from_rows([row._replace(**changes) if k == 1 else row for k, row in enumerate(rows)])


def stages(
    count: int = 4, offset_ns: int = 0, host: str = "gpu1", run: str = "a", **changes: object
) -> StageLog:
    """Batches of two: queries 0 and 1, 2 and 3 …"""
    rows = []
    for k in range(count):
        at = T0 + k * 10 * MS + offset_ns
        dispatch = T0 + (k | 1) * 10 * MS + 2 * MS + offset_ns
        rows.append(StageRow(k, "detect", at + MS, dispatch, dispatch + 4 * MS, k // 2, 2, 0))
    rows = [row._replace(**changes) if k == 1 else row for k, row in enumerate(rows)]
    return StageLog.from_rows(rows, LogMetadata(host=host, run=run))


def late_answers(count: int = 4) -> QueryLog:
    """Queries whose answers come after their batches of two."""
    log = queries(count)
    answered = [T0 + (k | 1) * 10 * MS + 7 * MS for k in range(count)]
    return QueryLog(log.query, log.scheduled_ns, log.sent_ns, answered, log.status, log.error, log.route)


def faults_of(*paths: Path) -> list[str]:
    with pytest.raises(InputError) as caught:
        read_log(*paths)
    return [str(fault) for fault in caught.value.faults]


def equal(one: QueryLog | StageLog, other: QueryLog | StageLog) -> bool:
    return all(
        getattr(one, column.name).tolist() == getattr(other, column.name).tolist() for column in one.columns()
    )


def test_logs_come_back_as_they_were(tmp_path: Path) -> None:
    sent = QueryLog.from_rows(
        [
            QueryRow(0, T0, T0 + 5, T0 + 9, "ok", route='{"detect": ["plates"]}'),
            QueryRow(1, T0, T0 + 5, None, "timeout", "no answer within 1 s"),
        ],
        LogMetadata.here(plan="ab12", target="http://127.0.0.1:1", law="eager"),
    )
    write_log(tmp_path / "q.parquet", sent)
    served = StageLog.from_rows(
        [
            StageRow(0, "detect", T0 + 6, T0 + 6, T0 + 8, 0, 1),
            StageRow(1, "detect", T0 + 6, None, None, None, None),
        ]
    )
    write_log(tmp_path / "s.parquet", served)
    run = read_log(tmp_path / "q.parquet", tmp_path / "s.parquet")
    assert equal(run.queries, sent)
    assert equal(run.stages, served)
    assert run.sources[0] == sent.metadata
    assert run.queries.latency_ns.tolist() == [4, MISSING]
    assert run.stages.replica.tolist() == [MISSING, MISSING]


def test_half_characters_are_written_as_escapes(tmp_path: Path) -> None:
    """Errors of workers hold names of files, and drivers the bytes of a header, that are no UTF-8."""
    write_log(tmp_path / "q.parquet", queries(route='{"\udcff": ["b"]}', error="é\ud800"))
    write_log(tmp_path / "s.parquet", stages(error="no file \udcff"))
    sent, served = read_log(tmp_path / "q.parquet").queries, read_log(tmp_path / "s.parquet").stages
    assert (sent.route[1], sent.error[1]) == ('{"\\udcff": ["b"]}', "é\\ud800")
    assert served.error[1] == "no file \\udcff"


def test_writer_makes_whole_files_and_none_is_lost(tmp_path: Path) -> None:
    log = stages(20)
    with LogWriter(tmp_path / "run", StageLog, LogMetadata.here(), rows_at_once=7) as writer:
        for row in zip(*(getattr(log, column.name).tolist() for column in log.columns()), strict=True):
            writer.add(StageRow(*row))
    files = sorted((tmp_path / "run").iterdir())
    assert [pq.read_metadata(file).num_rows for file in files] == [7, 7, 6]
    assert equal(read_log(tmp_path / "run").stages, log)
    files[1].unlink()
    assert "lacks part 1" in faults_of(tmp_path / "run")[0]


def test_an_allowance_that_is_none_is_told(tmp_path: Path) -> None:
    log = stages(2)
    wrong = replace(log, metadata=replace(log.metadata, allowance_ns=-1))
    write_log(tmp_path / "s.parquet", wrong)
    assert faults_of(tmp_path / "s.parquet") == [
        f"{tmp_path / 's.parquet'}: the metadata under mipplan.log are damaged"
    ]


def test_two_servers_may_give_batches_the_same_numbers(tmp_path: Path) -> None:
    write_log(tmp_path / "a.parquet", stages(run="a"))
    write_log(tmp_path / "b.parquet", stages(run="b"))
    batch = read_log(tmp_path).stages.batch.tolist()
    assert [batch.count(number) for number in set(batch)] == [2, 2, 2, 2]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"answered_ns": T0}, "answered_ns, row 2: is before sent_ns"),
        ({"answered_ns": None}, "answered_ns, row 2: has no value although status is ok"),
        (
            {"status": "okay"},
            "status, row 2: expected one of ok, error, timeout, rejected, found 'okay'; did you mean",
        ),
        ({"sent_ns": -5}, "sent_ns, row 2: is negative"),
        ({"route": "[1]"}, "route, row 2: is no JSON object: '[1]'"),
        ({"query": 2}, "found more than once: query 2"),
        ({"query": 7}, "4 numbers from 1 on are missing: the log has gaps"),
    ],
)
def test_fault_in_queries_is_told(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    write_log(tmp_path / "q.parquet", queries(**changes))
    assert any(message in fault for fault in faults_of(tmp_path / "q.parquet"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dispatch_ns": T0}, "dispatch_ns, row 2: is before arrival_ns"),
        ({"finish_ns": T0 + 11 * MS}, "finish_ns, row 2: is before dispatch_ns"),
        ({"dispatch_ns": None}, "finish_ns, row 2: has a value although dispatch_ns has none"),
        ({"batch": None}, "batch, row 2: has no value although dispatch_ns has one"),
        ({"batch_size": 0}, "batch_size, row 2: is below 1"),
        ({"batch_size": 3}, "batch 0 of stage detect: batch_size differs within a batch"),
        ({"batch": 1}, "batch 0 of stage detect: fewer rows than batch_size says: the log has gaps"),
        ({"dispatch_ns": T0 + 11 * MS}, "batch 0 of stage detect: dispatch_ns differs within a batch"),
        ({"stage": ""}, "stage, row 2: is empty"),
    ],
)
def test_fault_in_stages_is_told(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    write_log(tmp_path / "s.parquet", stages(**changes))
    assert any(message in fault for fault in faults_of(tmp_path / "s.parquet"))


def test_every_fault_of_every_file_is_told_at_once(tmp_path: Path) -> None:
    write_log(tmp_path / "q.parquet", queries(answered_ns=T0, status="fine"))
    table = pa.table({"query": [0], "stage": [3], "arrival_ns": [1.5], "dispatch_ns": [2]})
    pq.write_table(table, tmp_path / "s.parquet")
    (tmp_path / "t.parquet").write_text("not Parquet")
    (tmp_path / "p.parquet").write_text('{"format": 2}')
    pq.write_table(pa.table({"query": [1], "colour": ["red"]}), tmp_path / "u.parquet")
    told = "\n".join(faults_of(tmp_path, tmp_path / "gone.parquet"))
    for part in (
        "is before sent_ns",
        "found 'fine'",
        "column stage: expected text, it holds int64",
        "column arrival_ns: expected whole nanoseconds of the UNIX clock (int64), it holds double",
        "column finish_ns is missing",
        "t.parquet: cannot be read as a Parquet file",
        "p.parquet: is a JSON document, such as a plan: expected a log",
        "u.parquet: expected the columns query, scheduled_ns, sent_ns, answered_ns, status or query, stage",
        "gone.parquet: there is no such file",
    ):
        assert part in told


@pytest.mark.parametrize(("offset_ms", "side"), [(250, "ahead of"), (-40, "behind")])
def test_clock_that_is_off_is_told_with_its_offset_which_can_be_taken_out(
    tmp_path: Path, offset_ms: int, side: str
) -> None:
    write_log(tmp_path / "q.parquet", late_answers())
    write_log(tmp_path / "s.parquet", stages(offset_ns=offset_ms * MS))
    (fault,) = faults_of(tmp_path)
    assert fault.startswith("gpu1: clock: it is ")
    assert side in fault
    shift = float(fault.rpartition("=")[2].removesuffix("ms"))
    assert shift == pytest.approx(-offset_ms, abs=1.0)  # The slack around a stage is 2 ms.
    run = read_log(tmp_path, shift_ns={"gpu1": round(shift * MS)})
    assert np.all(run.stages.arrival_ns >= run.queries.sent_ns - MS)
    with pytest.raises(InputError, match="no stage was logged on host 'cpu9'; hosts are gpu1"):
        read_log(tmp_path, shift_ns={"cpu9": 5, "gpu1": round(shift * MS)})


def test_clock_that_jumped_has_no_offset(tmp_path: Path) -> None:
    write_log(tmp_path / "q.parquet", late_answers(8))
    early, late = stages(4), stages(8, offset_ns=500 * MS).taken(np.arange(4, 8))
    write_log(tmp_path / "s.parquet", early.together([late]))
    (fault,) = faults_of(tmp_path)
    assert "4 of 8 stage times are not between sending and answer, and no single offset" in fault


def test_a_number_that_came_twice_is_told(tmp_path: Path) -> None:
    """Two requests by hand, numbered by arrival, before a run that numbers its queries from 0, too."""
    write_log(tmp_path / "q.parquet", late_answers(8))
    by_hand = stages(2, offset_ns=-5_000 * MS)
    by_hand = replace(by_hand, batch=by_hand.batch + 100)
    write_log(tmp_path / "s.parquet", by_hand.together([stages(8)]))
    (fault,) = faults_of(tmp_path)
    assert "2 of 10 stage times are not between sending and answer, and queries 0, 1 came twice" in fault


def test_clock_within_tolerance_passes(tmp_path: Path) -> None:
    write_log(tmp_path / "q.parquet", late_answers())
    write_log(tmp_path / "s.parquet", stages(offset_ns=1_500_000))
    assert len(read_log(tmp_path).stages) == 4
