"""Going on with what was measured, whatever became of the table meanwhile; what nobody measured is not lost."""

from __future__ import annotations

import csv
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

import mipplan as mp
from mipplan.profiles import Profiles
from mipplan.profiling import examine_records, read_samples
from profiling.subjects_under_test import quick, serving, write_module

QUICK = quick(40, usd_per_hour=1.0, out="p")


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_module(tmp_path)
    monkeypatch.chdir(tmp_path)


def with_column(name: str, value: str) -> None:
    """Write a column into the table, as somebody does who knows more than was measured."""
    path = Path("p/models/sleepy.csv")
    rows = [row | {name: value} for row in csv.DictReader(path.read_text().splitlines())]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def test_a_second_visit_that_is_ended_between_record_and_table_is_gone_on_with(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The record then knows more than the table, whose rows passed for somebody else's."""
    flush, written = os.fsync, list[int]()

    def interrupted(file: int) -> None:
        flush(file)
        written.append(file)
        if (
            len(written) == 7
        ):  # the price, twice a record and a table of a first visit, the record of a second one
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        mp.measure("served:sleepy", batches=[1, 2], **QUICK)
    monkeypatch.setattr(os, "fsync", flush)
    found = mp.measure("served:sleepy", batches=[1, 2], **QUICK)
    assert [len(one.visits) for one in found.batches.values()] == [2, 2]
    assert Profiles.read("p").table("sleepy", "here") == found.table


def test_rounded_means_are_those_of_the_record() -> None:
    """In nanoseconds means of models faster than half a millisecond are off by more than a millionth."""
    Path("takes.py").write_text("def quick(batch):\n    pass\n")
    for batches in ([1], [1, 2], [1, 2, 3, 4, 5, 6]):
        mp.measure("takes:quick", batches=batches, latency="mean", **QUICK)
    odd = [one.found for one in examine_records(Path("p"), Profiles.read("p"))]
    assert not any("not what was measured" in text for text in odd)


@pytest.mark.parametrize("name", ["power_w", "memory_gib"])
def test_a_column_that_nobody_measured_is_not_lost(name: str) -> None:
    """Such as the memory of a GPU beside the latencies of an endpoint."""
    with serving(True) as server:
        given = QUICK | {"name": "sleepy", "axes": {"x.2": 5}}
        mp.measure(server.url("free"), batches=[1, 2], **given)
        with_column(name, "70")
        with pytest.raises(mp.InputError, match=rf"has {name} of sleepy on here, which is not of its"):
            mp.measure(server.url("free"), batches=[1, 2, 4], **given)
        assert getattr(Profiles.read("p").table("sleepy", "here"), name).tolist() == [70.0, 70.0]
        found = mp.measure(server.url("free"), batches=[1, 4], again=True, **given)
    assert list(found.batches) == [1, 4]


# ------------------------------------------------------------------------------------------- two runs at once


def at(words: str, then: Callable[[], object]) -> Callable[[str], None]:
    """Do something once, as soon as a progress report holds some words."""
    left = [then]

    def told(text: str) -> None:
        if words in text and left:
            left.pop()()

    return told


def stands() -> dict[int, tuple[float, ...]]:
    """Latencies by batch size, of which the record and the table have to know alike."""
    measured = read_samples("p")["sleepy", "here"]
    table = Profiles.read("p").table("sleepy", "here")
    assert table is not None
    assert table.batch.tolist() == list(measured)
    return {size: tuple(latency_ms) for size, latency_ms in measured.items()}


@pytest.mark.parametrize("again", [False, True])
def test_of_two_runs_at_once_both_keep_their_sizes(again: bool) -> None:
    """The one that wrote last wrote over the sizes of the other."""
    if again:
        mp.measure("served:sleepy", batches=[3], **QUICK)
    others = list[mp.Measurement]()
    other = at("batch 2 (", lambda: others.append(mp.measure("served:sleepy", batches=[1, 2, 4, 8], **QUICK)))
    found = mp.measure("served:sleepy", batches=[1, 2], again=again, progress=other, **QUICK)
    expected = {size: found.batches[size] for size in (1, 2)} | {
        size: others[0].batches[size] for size in (4, 8)
    }
    assert list(found.batches) == [1, 2, 4, 8]
    assert stands() == {size: tuple(one.latency_ns / 1e6) for size, one in expected.items()}


def test_a_run_at_once_that_loads_otherwise_is_told() -> None:
    other = at("batch 2 (", lambda: mp.measure("served:sleepy", batches=[4], again=True, threads=1, **QUICK))
    with pytest.raises(
        mp.InputError, match=r"threads was 1, now nothing[^ ]*; (.|\n)*so batch 2 is not saved"
    ):
        mp.measure("served:sleepy", batches=[1, 2], progress=other, **QUICK)
    assert list(stands()) == [4]


def test_sizes_of_a_run_at_once_are_not_measured_again() -> None:
    other = at("batch 1 (", lambda: mp.measure("served:sleepy", batches=[2, 4], **QUICK))
    reports = list[str]()

    def told(text: str) -> None:
        reports.append(text)
        other(text)

    found = mp.measure("served:sleepy", batches=[1, 2, 4], progress=told, **QUICK)
    assert list(found.batches) == list(stands()) == [1, 2, 4]
    assert not any("batch 2 (" in text for text in reports)
