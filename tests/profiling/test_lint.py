"""`mipplan profiles --check` with records: what is odd in how latencies were measured, and too wide for a plan."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from typer.testing import CliRunner, Result

import mipplan as mp
from mipplan.cli.app import app
from mipplan.core import InputError
from mipplan.profiles import LatencyTable, Profiles, Severity
from mipplan.profiling import BatchMeasurement, QuantileRange, examine_for_plan, examine_records
from mipplan.profiling.machine import read_machine
from mipplan.profiling.record import MeasurementRecord, ProfileFolder
from mipplan.reporting.catalog import ExaminationReport
from mipplan.result import Guarantee
from profiling.fake_latencies import found_at

Batches = dict[int, BatchMeasurement]


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def sound(noise: float = 0.02) -> Batches:
    return {batch: found_at(batch, 4.0 + batch, noise=noise) for batch in (1, 2, 4, 8)}


def written(batches: Batches, latency: str = "p99", name: str = "m") -> Path:
    """A profile folder as `mipplan profile` writes it."""
    root = Path("p")
    (root / "models").mkdir(parents=True, exist_ok=True)
    (root / "hardware.yaml").write_text("mine: {usd_per_hour: 0.5, source: us}\n")
    days = dict.fromkeys(batches, "2026-05-01")
    record = MeasurementRecord(name, "mine", {"kind": "callable"}, 1, read_machine({}), batches, days)
    rows = [round(one.latency_ms(latency), 6) for one in batches.values()]
    table = LatencyTable(name, "mine", list(batches), rows, source="x")  # type: ignore[arg-type]
    ProfileFolder(root, name, "mine").write(record, table)
    return root


def check(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["profiles", "--check", "--profiles", "p", *arguments])


def told(batches: Batches, latency: str = "p99") -> list[str]:
    root = written(batches, latency)
    return [f"{one.severity}: {one}" for one in examine_records(root, Profiles.read(root))]


def drifting(ms: tuple[float, float]) -> BatchMeasurement:
    """Three hundred runs that get slower, or faster, from the first to the last."""
    random = np.random.default_rng(1)
    latency_ns = np.rint(1e6 * np.linspace(*ms, 300) * (1 + 0.01 * random.standard_normal(300)))
    return replace(found_at(4, 8.0, noise=0.02), latency_ns=latency_ns.astype(np.int64))


ODD: dict[str, tuple[Callable[[BatchMeasurement], BatchMeasurement], str]] = {
    "disturbed runs count": (
        lambda one: replace(one, kept=True, disturbed=2),
        "warning: m on mine: up to 67% of the runs at batch size 4 were disturbed by other load, and count",
    ),
    "many runs left out": (
        lambda one: replace(one, disturbed=4),
        "note: m on mine: more than a third of the runs at batch size 4 were disturbed by other load, and left out",
    ),
    "not settled": (
        lambda one: replace(one, settled=False),
        "warning: m on mine: latencies at batch size 4 had not settled after the warm-up when the time was up",
    ),
    "slower and slower": (
        lambda _one: drifting((7.5, 8.5)),
        "warning: m on mine: latencies at batch size 4 drifted by up to 9% between the first and the last third",
    ),
    "faster and faster": (
        lambda _one: drifting((8.5, 7.5)),
        "warning: m on mine: latencies at batch size 4 drifted by up to 8% between the first and the last third",
    ),
    "interval too wide": (
        lambda _one: found_at(4, 8.0, noise=0.3),
        "warning: m on mine: P99 at batch size 4 is known within 30% only; used as measured; allow more time",
    ),
    "no interval": (
        lambda one: replace(one, p99=QuantileRange(one.p99.value_ns, one.p99.low_ns, None)),
        "warning: m on mine: P99 at batch size 4 comes from too few runs for an interval",
    ),
    "falls beyond the intervals": (
        lambda _one: found_at(4, 5.0, noise=0.02),
        "warning: m on mine: the latency at batch size 4 is below that of the size before, beyond the intervals",
    ),
    "bends": (
        lambda _one: found_at(4, 6.1, noise=0.02),
        "warning: m on mine: between batch sizes 4, 8 a straight line may be off by 41%",
    ),
}


def test_a_sound_measurement_gives_no_finding() -> None:
    assert told(sound()) == []
    result = check("--json")
    document = json.loads(result.stdout)
    jsonschema.validate(document, ExaminationReport.model_json_schema())
    assert (result.exit_code, document["findings"]) == (0, [])


@pytest.mark.parametrize("case", ODD)
def test_what_is_odd_in_a_record_is_told(case: str) -> None:
    change, message = ODD[case]
    batches = sound()
    found = told(batches | {4: change(batches[4])})
    assert any(line.startswith(message) for line in found), found
    assert check("--strict").exit_code == any(line.startswith("warning") for line in found)


@pytest.mark.parametrize(
    "change",
    [
        lambda one: replace(one, disturbed=1),  # a third of the runs, and they were repeated
        lambda one: replace(
            one, latency_ns=np.array([5_000_000, 8_000_000, 11_000_000])
        ),  # too few to call it a drift
        lambda _one: found_at(4, 5.9, noise=0.02),  # less than batch 2 takes, but perhaps it does not
    ],
)
def test_what_may_be_chance_is_not_told(change: Callable[[BatchMeasurement], BatchMeasurement]) -> None:
    batches = sound()
    found = told(batches | {4: change(batches[4])})
    assert not any(word in line for line in found for word in ("disturbed", "drifted", "is below"))


def test_maxima_have_no_interval_to_be_wide() -> None:
    wide = sound(noise=0.5)
    assert any("is known within" in line for line in told(wide))
    assert told(wide, "max") == []


def edited(column: str, value: str) -> None:
    path = Path("p/models/m.csv")
    rows = list(csv.DictReader(path.read_text().splitlines()))
    rows[1][column] = value
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def test_tables_that_are_not_what_was_measured_are_told() -> None:
    root = written(sound())
    edited("latency_ms", "5.5")
    (finding,) = examine_records(root, Profiles.read(root))
    assert finding.found == "latency_ms at batch size 2 is not what was measured by the record"
    written(sound())
    edited("batch", "3")
    assert any(
        one.found == "the record says nothing of batch size 3"
        for one in examine_records(root, Profiles.read(root))
    )


def test_a_record_that_cannot_be_read_is_told_and_the_table_used() -> None:
    written(sound())
    Path("p/models/m.mine.json").write_text("{")
    result = check()
    assert result.exit_code == 0
    assert "its record cannot be read (p/models/m.mine.json: is no record of a measurement" in " ".join(
        result.stdout.split()
    )
    root = Path("p")
    plan, trace = planned(root)
    assert examine_for_plan(root, Profiles.read(root), plan, trace) == ()


def test_a_plan_that_is_not_certified_as_it_is_is_told_without_intervals_too() -> None:
    written(sound())
    Path("p/models/m.mine.json").unlink()
    root = Path("p")
    plan, trace = planned(root)
    assert examine_for_plan(root, Profiles.read(root), plan, trace) == ()
    found = examine_for_plan(root, Profiles.read(root), plan.with_slo(1), trace)
    assert [one.severity for one in found] == ["warning"]
    assert "above the objective of 1 ns" in found[0].found


def test_the_record_of_another_model_with_a_similar_name_is_not_taken() -> None:
    root = written(sound())
    record = json.loads(Path("p/models/m.mine.json").read_text())
    Path("p/models/m.mine.json").write_text(json.dumps(record | {"model": "m?"}))
    assert examine_records(root, Profiles.read(root)) == ()


# --- for a plan ------------------------------------------------------------------------------------------------------


def planned(root: Path, slo: str = "11ms", **asked: Any) -> tuple[mp.Plan, mp.Trace]:
    """Batch 1 takes 5 ms, so that two queries at once take 10 ms at most where one replica serves them."""
    pipeline = mp.Pipeline.from_document({"slo": slo, "stages": {"a": {"model": "m", "batch": 1}}})
    trace = mp.Trace.from_seconds(np.repeat(np.arange(50) / 10, 2))
    return mp.plan(pipeline, Profiles.read(root), trace, **asked), trace


@pytest.mark.parametrize(("noise", "bound"), [(0.02, "10.2"), (0.09, "10.9"), (0.11, "11.1")])
def test_whether_intervals_are_too_wide_for_a_plan_is_told(noise: float, bound: str) -> None:
    root = written(sound(noise))
    plan, trace = planned(root)
    assert plan.choices["a"].replicas == 1
    (found,) = examine_for_plan(root, Profiles.read(root), plan, trace)
    is_kept = float(bound) <= 11
    assert found.severity is (Severity.NOTE if is_kept else Severity.WARNING)
    assert found.found == (
        f"at the upper ends of the intervals at batch size 1 the plan's certificate is {bound} ms, "
        f"{'within' if is_kept else 'above'} the objective of 11 ms (as measured 10 ms)"
    )


def test_intervals_without_an_upper_end_are_told_beside_the_plan() -> None:
    measured = sound()
    measured[1] = replace(measured[1], p99=replace(measured[1].p99, high_ns=None))
    root = written(measured)
    plan, trace = planned(root)
    (found,) = examine_for_plan(root, Profiles.read(root), plan, trace)
    assert (
        "at batch size 1 (too few runs for one at 1: the longest run stands for it) the plan's" in found.found
    )


def test_tables_that_hold_one_by_one_and_not_together_are_told() -> None:
    """Of two stages, each may be slower by 4 %, and both may not."""
    root = Path("p")
    for name in ("m", "n"):
        written(sound(0.04), name=name)
    pipeline = mp.Pipeline.from_document(
        {"slo": "15.5ms", "stages": {"a": {"model": "m", "batch": 1}, "b": {"model": "n", "batch": 1}}, "edges": [
            {"from": "a", "to": "b"}]}
    )  # fmt: skip
    trace = mp.Trace.from_seconds(np.arange(50) / 10)
    plan = mp.plan(pipeline, Profiles.read(root), trace)
    found = examine_for_plan(root, Profiles.read(root), plan, trace)
    assert [one.severity for one in found] == [Severity.WARNING] * 2
    assert all(
        "and of the other tables' at once, the plan's certificate is 15.6 ms" in one.found for one in found
    )


def test_the_command_checks_for_a_plan() -> None:
    root = written(sound(0.12))
    plan, trace = planned(root)
    plan.save("plan.json")
    Path("arrivals.csv").write_text("arrival_s\n" + "".join(f"{at / 1e9}\n" for at in trace.arrival_ns))
    result = check("--for", "plan.json", "--trace", "arrivals.csv")
    assert result.exit_code == 1
    assert "the plan's certificate is 11.2 ms, above the objective of 11 ms" in " ".join(
        result.stdout.split()
    )
    written(sound(0.05))
    held = check("--for", "plan.json", "--trace", "arrivals.csv")
    assert held.exit_code == 0
    assert "within the objective of 11 ms (as measured 10 ms); this table is known well enough" in " ".join(
        held.stdout.split()
    )
    assert "--for: goes with --trace" in check("--for", "plan.json").stderr
    alone = CliRunner().invoke(app, ["profiles", "--for", "plan.json", "--trace", "arrivals.csv"])
    assert "--for: goes with --check" in alone.stderr
    lonely = check("--expand", "even", "--to", "3s").stderr
    assert "--expand: goes with --trace" in lonely
    assert "--to: goes with --trace" in lonely


def test_the_command_reads_a_trace_as_the_plan_read_it() -> None:
    """Evenly spaced counts that are too many after 5 s: only the part that was planned with keeps the objective."""
    root = written(sound(0.05))
    Path("counts.csv").write_text(
        "window_start_s,requests_per_s\n" + "".join(f"{at},{9 if at < 5 else 300}\n" for at in range(10))
    )
    part = mp.Trace.read("counts.csv", expand="even", end_s=5.0)
    plan, _ = planned(root)
    given = ("--for", "plan.json", "--trace", "counts.csv", "--expand", "even", "--to", "5s")
    mp.plan(plan.pipeline, Profiles.read(root), part).save("plan.json")
    assert check(*given).exit_code == 0
    whole = check(*given[:-2])
    assert whole.exit_code == 1
    assert "above the objective of 11 ms" in " ".join(whole.stdout.split())


def test_only_certificates_on_a_trace_can_be_checked() -> None:
    root = written(sound())
    plan, trace = planned(root)
    profiles = Profiles.read(root)
    for guarantee in (Guarantee.REPLAY, Guarantee.ENVELOPE):
        other = replace(plan, objective=replace(plan.objective, guarantee=guarantee))
        with pytest.raises(InputError, match=f"for_: the plan has guarantee {guarantee}"):
            examine_for_plan(root, profiles, other, trace)
    with pytest.raises(InputError, match="trace: the plan is certified on a trace: which one"):
        examine_for_plan(root, profiles, plan, None)  # type: ignore[arg-type]
