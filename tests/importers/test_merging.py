"""Imported rows in a folder: nothing there is lost, conflicts are faults, and nothing is written half."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest

from mipplan.core import InputError
from mipplan.importers import ImportedFile, ImportedRow, Stated, merge_rows, read_measurements
from mipplan.profiles import Profiles

HARDWARE = "# ours\nt4:\n  usd_per_hour: 0.5\n"
OWN = 'model,hardware,batch,latency_ms,source\nnet,t4,1,2.5,"ours, P99"\nother,t4,1,9,ours\n'


def rows(*figures: tuple[int, float], p99: float | None = None, model: str = "net") -> list[ImportedFile]:
    made = tuple(
        ImportedRow(f"in/x.csv:{at}", model, "t4", batch, latency, p99, "mean", "one batch")
        for at, (batch, latency) in enumerate(figures, 2)
    )
    return [ImportedFile("in/x.csv", "0123456789abcdef" * 4, "timm", "timm benchmark", "", made, ())]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "models").mkdir()
    (tmp_path / "hardware.yaml").write_text(HARDWARE, encoding="utf-8")
    (tmp_path / "models" / "all.csv").write_text(OWN, encoding="utf-8")
    return tmp_path


def state(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text(encoding="utf-8") for path in folder.rglob("*") if path.is_file()}


def latencies(folder: Path, model: str = "net") -> dict[int, float]:
    table = Profiles.read(folder).tables[model, "t4"]
    return dict(zip(table.batch.tolist(), table.latency_ms.tolist(), strict=True))


def refused(folder: Path, files: list[ImportedFile], *, replace: bool = False) -> str:
    before = state(folder)
    with pytest.raises(InputError) as caught:
        merge_rows(folder, files, replace_existing=replace)
    assert state(folder) == before
    return str(caught.value)


def test_rows_join_the_table_that_is_there(folder: Path) -> None:
    merge = merge_rows(folder, rows((4, 6.0), (2, 3.5)))
    assert (merge.added, merge.replaced, merge.unchanged, merge.notes) == (2, 0, 0, ())
    assert merge.written == (str(folder / "models" / "all.csv"),)
    assert latencies(folder) == {1: 2.5, 2: 3.5, 4: 6.0}
    assert latencies(folder, "other") == {1: 9.0}
    kept = Profiles.read(folder).tables["net", "t4"]
    assert kept.source[0] == "ours, P99"
    assert kept.source[1] == "x.csv:3 sha256:0123456789abcdef | timm benchmark | mean of one batch"


def test_a_new_model_gets_a_file_of_its_name(folder: Path) -> None:
    merge_rows(folder, rows((1, 3.0), model="BERT base (cased)"))
    assert (folder / "models" / "BERT-base-cased.csv").is_file()
    assert latencies(folder, "BERT base (cased)") == {1: 3.0}
    assert (folder / "models" / "all.csv").read_text(encoding="utf-8") == OWN


def test_models_whose_names_make_the_same_file_share_it(folder: Path) -> None:
    merge_rows(
        folder, [*rows((1, 3.0), model="a/b"), *rows((1, 4.0), model="a b"), *rows((1, 5.0), model="A-B")]
    )
    assert [path.name for path in (folder / "models").iterdir() if path.name != "all.csv"] == ["a-b.csv"]
    assert [latencies(folder, model) for model in ("a/b", "a b", "A-B")] == [{1: 3.0}, {1: 4.0}, {1: 5.0}]


def test_a_conflict_is_a_fault_unless_replaced(folder: Path) -> None:
    told = refused(folder, rows((1, 2.75), (2, 4.0)))
    assert "in/x.csv:2: batch 1 of net on t4 is 2.75 ms here, 2.5 in" in told
    assert "all.csv:2: --replace takes this one" in told
    merge = merge_rows(folder, rows((1, 2.75), (2, 4.0)), replace_existing=True)
    assert (merge.added, merge.replaced, merge.unchanged) == (1, 1, 0)
    assert latencies(folder) == {1: 2.75, 2: 4.0}


def test_the_same_figures_change_nothing(folder: Path) -> None:
    before = state(folder)
    merge = merge_rows(folder, rows((1, 2.5)))
    assert (merge.added, merge.unchanged, merge.written) == (0, 1, ())
    assert state(folder) == before


def test_a_batch_written_as_a_float_is_the_same_batch(folder: Path) -> None:
    (folder / "models" / "all.csv").write_text(OWN.replace("net,t4,1,", "net,t4,1.0,"), encoding="utf-8")
    assert merge_rows(folder, rows((1, 2.5))).unchanged == 1


def test_p99_stands_in_all_rows_or_none(folder: Path) -> None:
    merge = merge_rows(folder, rows((2, 3.5), p99=4.0))
    assert merge.notes == ("net on t4: latency_p99_ms is left out, since not all batch sizes have one",)
    assert Profiles.read(folder).tables["net", "t4"].latency_p99_ms is None
    merge_rows(folder, rows((1, 3.0), (2, 3.5), p99=4.0, model="new"))
    assert Profiles.read(folder).tables["new", "t4"].latency_p99_ms is not None
    assert "has latency_p99_ms for all its rows" in refused(folder, rows((4, 9.0), model="new"))


def test_other_columns_of_a_table_are_not_lost(folder: Path) -> None:
    text = "model,hardware,batch,latency_ms,energy_j,source\nnet,t4,1,2.5,0.3,ours\n"
    (folder / "models" / "all.csv").write_text(text, encoding="utf-8")
    assert "has energy_j for all its rows" in refused(folder, rows((2, 4.0)))
    merge_rows(folder, rows((1, 4.0), model="new"))
    assert Profiles.read(folder).tables["net", "t4"].energy_j is not None


def test_a_batch_in_two_files_is_a_fault(folder: Path) -> None:
    told = refused(folder, [*rows((2, 4.0)), *rows((2, 5.0))], replace=True)
    assert "batch 2 of net on t4 is given twice" in told


def test_a_folder_that_is_broken_is_not_touched(folder: Path) -> None:
    for text, told in (
        (OWN + "net,t4\n", "all.csv:4: expected 5 values as in the header, found 2"),
        ("a,b\n1,2\n", "all.csv:1: missing columns: model, hardware"),
        (OWN.replace("2.5", "fast"), "hold what is no number"),
        (OWN + 'net,t4,"2', "is not well-formed CSV"),
    ):
        (folder / "models" / "all.csv").write_text(text, encoding="utf-8")
        assert told in refused(folder, rows((2, 4.0)))
    (folder / "models" / "all.csv").write_text(OWN, encoding="utf-8")
    (folder / "hardware.yaml").write_text("a: b: c\n", encoding="utf-8")
    assert "hardware.yaml:1" in refused(folder, rows((2, 4.0)))


def test_a_folder_is_made_and_what_has_no_price_is_told(tmp_path: Path) -> None:
    merge = merge_rows(tmp_path / "deep" / "new", rows((2, 4.0)))
    assert "hardware.yaml has no price of t4" in merge.notes[0]
    assert (tmp_path / "deep" / "new" / "models" / "net.csv").is_file()
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(InputError, match="is a file; name a profile folder"):
        merge_rows(tmp_path / "file", rows((2, 4.0)))
    with pytest.raises(InputError, match="cannot be made"):
        merge_rows(tmp_path / "file" / "inside", rows((2, 4.0)))


def test_all_pieces_of_a_gzipped_file_are_read(tmp_path: Path) -> None:
    """Files put behind each other, and blocks as bgzip writes them: only the first one was read, without a word."""
    path, lines = tmp_path / "own.csv.gz", ["model,hardware,batch,latency_ms\n", "a,t4,1,2\n", "a,t4,2,3\n"]
    path.write_bytes(b"".join(gzip.compress(line.encode()) for line in lines))
    assert [row.batch for row in read_measurements(path).rows] == [1, 2]
    path.write_bytes(path.read_bytes() + b"more")
    with pytest.raises(InputError, match="is not well-formed gzip"):
        read_measurements(path)


def test_models_and_hardware_without_a_row_together_are_told(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    path.write_text("model,hardware,batch,latency_ms\na,t4,1,2\nb,l4,1,3\n")
    with pytest.raises(InputError, match="but no two of them together"):
        read_measurements(path, stated=Stated(model={"": "a"}, hardware={"": "l4"}))


def test_the_source_of_a_row_can_be_written_whatever_its_file_is_called(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9.csv")
    path.write_text("model,hardware,batch,latency_ms\na,t4,1,2\n")
    merge_rows(tmp_path / "p", [read_measurements(path)])
    assert ",caf?.csv:2 sha256:" in (tmp_path / "p/models/a.csv").read_text()


def test_what_latency_has_no_part_in_is_kept_where_all_of_a_table_is_replaced(folder: Path) -> None:
    (folder / "models" / "all.csv").write_text(
        "model,hardware,batch,latency_ms,memory_gib,accuracy,energy_j,source\n"
        "net,t4,1,2.5,4,0.7,1,ours\nnet,t4,8,9,12,0.7,3,ours\n",
        encoding="utf-8",
    )
    merge = merge_rows(folder, rows((1, 2.75), (8, 8.0)), replace_existing=True)
    assert merge.notes == ("net on t4: energy_j of what is replaced is left out",)
    table = Profiles.read(folder).tables["net", "t4"]
    assert table.latency_ms.tolist() == [2.75, 8.0]
    assert table.memory_gib is not None
    assert table.memory_gib.tolist() == [4.0, 12.0]
    assert table.accuracy is not None
    # A size that was not there has no memory, so the column would not be filled for all.
    assert "has accuracy, memory_gib for all its rows" in refused(
        folder, rows((1, 2.5), (16, 20.0)), replace=True
    )
