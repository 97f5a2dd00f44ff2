from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path

import pytest

from mipplan.core import InputError
from mipplan.documents import shipped_folder
from mipplan.profiles import Hardware, LatencyTable, Profiles

HARDWARE = "t4: {usd_per_hour: 0.526, memory_gib: 16, limit: 64, source: list}\na100: {usd_per_hour: 4.1}\n"
HEADER = "model,hardware,batch,latency_ms,source\n"
ROWS = "resnet,t4,4,6.5,doc\nresnet,t4,1,2.5,doc\nresnet,a100,1,1.5,doc\nssd,t4,2,9,other\n"


def folder(tmp_path: Path, hardware: str = HARDWARE, **files: str) -> Path:
    (tmp_path / "models").mkdir()
    (tmp_path / "hardware.yaml").write_text(hardware)
    for name, text in (files or {"all": HEADER + ROWS}).items():
        (tmp_path / "models" / f"{name}.csv").write_text(text, newline="")
    return tmp_path


def faults_of(path: Path) -> list[str]:
    with pytest.raises(InputError) as caught:
        Profiles.read(path)
    return [str(fault).replace(f"{path}/", "") for fault in caught.value.faults]


@pytest.fixture
def profiles(tmp_path: Path) -> Profiles:
    return Profiles.read(folder(tmp_path))


def test_a_folder_is_read(profiles: Profiles) -> None:
    assert profiles.hardware["t4"] == Hardware("t4", 0.526, 16, 64, "list")
    assert profiles.models == ("resnet", "ssd")
    assert profiles.hardware_for("resnet") == ("t4", "a100")
    assert profiles.hardware_for("nothing") == ()
    resnet = profiles.table("resnet", "t4")
    assert resnet == LatencyTable("resnet", "t4", [1, 4], [2.5, 6.5], ("doc", "doc"))  # type: ignore[arg-type]
    assert profiles.table("ssd", "a100") is None


def test_one_model_may_be_spread_over_files(tmp_path: Path) -> None:
    path = folder(tmp_path, b=HEADER + "m,t4,1,2,x\n", a=HEADER + "m,t4,8,9,y\n")
    table = Profiles.read(path).table("m", "t4")
    assert table is not None
    assert (table.batch.tolist(), table.source) == ([1, 8], ("x", "y"))


def test_optional_columns_and_blank_cells(tmp_path: Path) -> None:
    header = "source,accuracy,model,hardware,batch,latency_ms,latency_p99_ms,memory_gib\n"
    path = folder(
        tmp_path, m=header + '"a, b",70.5,m,t4,1,2,3,\n\n,71,m,t4,2,3,,\n'.replace(",3,,\n", ",3,4,\n")
    )
    table = Profiles.read(path).table("m", "t4")
    assert table is not None
    assert table.source == ("a, b", "")
    assert table.accuracy is not None
    assert table.accuracy.tolist() == [70.5, 71.0]
    assert table.latency_p99_ms is not None
    assert table.latency_p99_ms.tolist() == [3.0, 4.0]
    assert table.memory_gib is None


def test_byte_order_mark_and_windows_line_ends(tmp_path: Path) -> None:
    path = folder(tmp_path, m="\ufeff" + (HEADER + "m,t4,1,2,x\n").replace("\n", "\r\n"))
    assert Profiles.read(path).models == ("m",)


def test_documents_read_back_exactly(profiles: Profiles) -> None:
    again = Profiles.from_document(json.loads(json.dumps(profiles.to_document())))
    assert again == profiles
    assert hash(again) == hash(profiles)
    assert again.to_document() == profiles.to_document()
    assert list(again.hardware) == list(profiles.hardware)
    assert pickle.loads(pickle.dumps(profiles)) == profiles
    assert copy.deepcopy(profiles) == profiles


def test_faults_of_a_document() -> None:
    document = {
        "hardware": {"t4": {"usd_per_hour": 0, "memroy_gib": 1}},
        "tables": [{"model": "m", "hardware": "t4", "batch": [1], "latency_ms": [1.0], "sauce": []}],
    }
    with pytest.raises(InputError) as caught:
        Profiles.from_document(document, "plan.json")
    assert [str(fault) for fault in caught.value.faults] == [
        "plan.json: hardware.t4.usd_per_hour: expected a price from 0.000001 to 1000000, found 0",
        "plan.json: hardware.t4.memroy_gib: unknown key; did you mean 'memory_gib'?",
        "plan.json: tables[0].sauce: unknown key; did you mean 'source'?",
    ]


def test_faults_of_tables_in_a_document() -> None:
    bad = {"model": "m", "hardware": "t44", "batch": [2, 1], "latency_ms": [1.0, -2.0]}
    with pytest.raises(InputError) as caught:
        Profiles.from_document({"hardware": {"t4": {"usd_per_hour": 1}}, "tables": [bad]})
    text = str(caught.value)
    assert "profiles: tables[0].hardware: there is no hardware type 't44'; did you mean 't4'?" in text
    assert "increase strictly" in text
    assert "latency_ms: expected a number above 0" in text


def test_the_same_table_twice_in_a_document() -> None:
    table = {"model": "m", "hardware": "t4", "batch": [1], "latency_ms": [1.0]}
    with pytest.raises(InputError, match="m on t4 is profiled twice"):
        Profiles.from_document({"hardware": {"t4": {"usd_per_hour": 1}}, "tables": [table, table]})


def test_restriction(profiles: Profiles) -> None:
    only = profiles.restricted_to(["resnet", "unknown"], ["t4"])
    assert (list(only.hardware), list(only.tables)) == (["t4"], [("resnet", "t4")])
    assert profiles.restricted_to() == profiles


def test_hardware_can_be_added_replaced_and_removed(profiles: Profiles) -> None:
    dearer = profiles.with_hardware(Hardware("t4", 9.0))
    assert dearer.hardware["t4"].usd_per_hour == 9.0
    assert dearer.tables == profiles.tables
    more = profiles.with_hardware(Hardware("h100", 12.0), [LatencyTable("ssd", "h100", [1], [1.0])])  # type: ignore[arg-type]
    assert more.hardware_for("ssd") == ("t4", "h100")
    assert more.without_hardware("h100") == profiles
    assert list(profiles.without_hardware("t4").tables) == [("resnet", "a100")]


def test_profiles_are_read_only(profiles: Profiles) -> None:
    with pytest.raises(TypeError):
        profiles.hardware["x"] = Hardware("x", 1)  # type: ignore[index]
    with pytest.raises(TypeError):
        del profiles.tables["resnet", "t4"]  # type: ignore[attr-defined]


def test_keys_must_match_entries() -> None:
    table = LatencyTable("m", "t4", [1], [1.0])  # type: ignore[arg-type]
    with pytest.raises(InputError) as caught:
        Profiles({"x": Hardware("y", 1)}, {("m", "x"): table})
    assert len(caught.value.faults) == 3


def test_remarks_tell_what_was_not_measured(profiles: Profiles) -> None:
    assert len(profiles.remarks) == 1
    assert profiles.remarks[0].startswith("ssd on t4: nothing was measured below batch 2")


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ("m,t4,0,1,x", "batch: expected a whole number from 1"),
        ("m,t4,1.5,1,x", "batch: expected a whole number from 1"),
        ("m,t4,,1,x", "batch: expected a number, found ''"),
        ("m,t4,inf,1,x", "batch: expected a whole number from 1"),
        ("m,t4,1_0,1,x", "batch: expected a number, found '1_0'"),
        ("m,t4,1,fast,x", "latency_ms: expected a number, found 'fast'"),
        ("m,t4,1,nan,x", "latency_ms: expected a finite number, found nan"),
        ("m,t4,1,inf,x", "latency_ms: expected a finite number, found inf"),
        ("m,t4,1,0,x", "latency_ms: expected a number above 0, found 0"),
        ("m,t4,1,,x", "latency_ms: expected a number, found ''"),
        ("m,t44,1,1,x", "hardware: there is no hardware type 't44'; did you mean 't4'? (in hardware.yaml)"),
        ("m,t5,1,1,x", "hardware: there is no hardware type 't5'; known are t4, a100 (in hardware.yaml)"),
        (",t4,1,1,x", "model: the name is empty"),
        ("m,,1,1,x", "hardware: the name is empty"),
        ("m,t4,1,1", "expected 5 values as in the header, found 4"),
        ("m,t4,1,1,x,y", "expected 5 values as in the header, found 6"),
        ("ok,t4,1,2,x", "batch: batch 1 is given twice; first at models/f.csv:2"),
    ],
)
def test_faulty_row(row: str, expected: str, tmp_path: Path) -> None:
    path = folder(tmp_path, f=f"{HEADER}ok,t4,1,2,x\n\n{row}\n")
    faults = faults_of(path)
    assert len(faults) == 1
    assert faults[0].startswith(f"models/f.csv:4: {expected}")


def test_line_numbers_follow_the_editor_through_quoted_line_breaks(tmp_path: Path) -> None:
    path = folder(tmp_path, f=HEADER + 'm,t4,1,2,"two\nlines"\nm,t4,x,2,y\n')
    assert faults_of(path) == ["models/f.csv:4: batch: expected a number, found 'x'"]


def test_a_column_given_for_some_sizes_only(tmp_path: Path) -> None:
    text = "model,hardware,batch,latency_ms,source,accuracy\nm,t4,1,2,x,70\nm,t4,2,3,x,\nm,a100,1,2,x,\n"
    expected = (
        "models/f.csv:3: accuracy: is blank in 1 of 2 rows of this model and hardware: fill all or none"
    )
    assert faults_of(folder(tmp_path, f=text)) == [expected]


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("model,hardware,batch,latency,source", "unknown column 'latency'; did you mean 'latency_ms'?"),
        ("model,hardware,batch,latency_ms,source,xyz", "unknown column 'xyz'; known are model, hardware"),
        ("model,hardware,batch,latency_ms", "missing columns: source"),
        ("model,model,hardware,batch,latency_ms,source", "the column model is given twice"),
    ],
)
def test_faulty_header(header: str, expected: str, tmp_path: Path) -> None:
    faults = faults_of(folder(tmp_path, f=header + "\nm,t4,1,2,x\n"))
    assert any(fault.startswith("models/f.csv:1") and expected in fault for fault in faults)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "models/f.csv: is empty"),
        (HEADER, "holds no row below its header"),
        (HEADER + 'm,"t4', "well-formed CSV"),
    ],
)
def test_files_without_rows(text: str, expected: str, tmp_path: Path) -> None:
    faults = faults_of(folder(tmp_path, f=text))
    assert len(faults) == 1
    assert expected in faults[0]


@pytest.mark.parametrize(
    ("hardware", "expected"),
    [
        ("t4: {}", "hardware.yaml:1: t4.usd_per_hour: is missing"),
        ("t4: {usd_per_hour: 0}", "hardware.yaml:1: t4.usd_per_hour: expected a price from"),
        ("t4: {usd_per_hour: cheap}", "expected a price in dollars per hour, found 'cheap'"),
        (
            "t4: {usd_per_hour: 1, limit: -1}",
            "t4.limit: expected a whole number of devices from 0 to 1,000,000,000",
        ),
        (
            "t4: {usd_per_hour: 1, limit: 1.5}",
            "t4.limit: expected a whole number of devices from 0 to 1,000,000,000",
        ),
        ("t4: {usd_per_hour: 1, memory_gib: .inf}", "t4.memory_gib: expected a positive number of GiB"),
        ("t4: {usd_per_hour: 1, limits: 1}", "t4.limits: unknown key; did you mean 'limit'?"),
        ("t4: {usd_per_hour: 1}\nt4: {usd_per_hour: 1}", "the key is given twice"),
        ("[]", "hardware.yaml:1: expected a mapping"),
        ("{}", "must not be empty"),
        ("", "hardware.yaml: is empty"),
        ("' t4': {usd_per_hour: 1}", "begins or ends with a blank"),
    ],
)
def test_faulty_hardware(hardware: str, expected: str, tmp_path: Path) -> None:
    faults = faults_of(folder(tmp_path, hardware))
    assert any(expected in fault for fault in faults), faults
    assert all("no hardware type" not in fault for fault in faults)  # not known as long as the file is wrong


def test_faults_of_all_files_come_together(tmp_path: Path) -> None:
    path = folder(
        tmp_path,
        "t4: {usd_per_hour: -1}\n",
        a=HEADER + "m,t4,x,y,z\n",
        b="model\n",
        c=HEADER + "m,t4,1,0,s\n",
    )
    faults = faults_of(path)
    assert [fault.split(":")[0] for fault in faults] == [
        "hardware.yaml",
        "models/a.csv",
        "models/a.csv",
        "models/b.csv",
        "models/c.csv",
    ]


def test_missing_parts(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no such folder"):
        Profiles.read(tmp_path / "none")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file; a profile folder was expected"):
        Profiles.read(tmp_path / "file")
    faults = faults_of(tmp_path)
    assert faults[0].startswith("hardware.yaml: there is no such file")
    assert "there is no table here" in faults[1]


def test_shipped_profiles_load() -> None:
    profiles = Profiles.default()
    assert profiles.models
    assert all(profiles.hardware_for(model) for model in profiles.models)
    assert Profiles.from_document(profiles.to_document()) == profiles


def test_shipped_folder_of_an_installed_package_comes_first(tmp_path: Path) -> None:
    package = tmp_path / "mipplan"
    with pytest.raises(InputError, match="holds no profile folder"):
        shipped_folder(package)
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "hardware.yaml").write_text(HARDWARE)
    assert shipped_folder(package) == tmp_path / "profiles"
    (tmp_path / "mipplan" / "shipped_profiles").mkdir(parents=True)
    (tmp_path / "mipplan" / "shipped_profiles" / "hardware.yaml").write_text(HARDWARE)
    assert shipped_folder(package) == tmp_path / "mipplan" / "shipped_profiles"
