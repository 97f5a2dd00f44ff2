from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mipplan.profiles import Finding, Hardware, LatencyTable, Profiles, Severity, examine

NOTE, WARNING = Severity.NOTE, Severity.WARNING


def table(
    points: Mapping[int, float], hardware: str = "t4", p99: Sequence[float] | None = None
) -> LatencyTable:
    return LatencyTable(
        "ssd",
        hardware,
        np.array(list(points)),
        np.array(list(points.values())),
        latency_p99_ms=None if p99 is None else np.array(p99),
    )


def findings(*tables: LatencyTable) -> tuple[Finding, ...]:
    return examine(Profiles.from_parts([Hardware(t.hardware, 1.0) for t in tables], tables))


@pytest.mark.parametrize(
    "points",
    [
        {1: 2.0, 2: 3.0, 4: 5.0, 8: 9.0},
        {1: 0.3, 2: 0.6, 3: 0.9, 4: 1.2},  # in proportion, but for rounding
        {1: 2.0, 4: 3.0},
        {1: 0.01, 2: 0.011},
        {1: 40_000.0, 2: 60_000.0},
    ],
)
def test_sound_tables_are_left_alone(points: dict[int, float]) -> None:
    assert findings(table(points)) == ()


@pytest.mark.parametrize(
    ("points", "severity", "batches", "found"),
    [
        ({1: 5.0}, NOTE, (1,), "only batch size 1 was measured"),
        ({4: 5.0}, WARNING, (4,), "nothing was measured below batch 4"),
        ({2: 5.0, 4: 7.0}, WARNING, (2,), "nothing was measured below batch 2"),
        ({1: 5.0, 2: 4.9, 4: 7.0}, NOTE, (2,), "the latency falls at batch size 2"),
        ({1: 5.0, 2: 4.9, 4: 4.8}, NOTE, (2, 4), "the latency falls at batch sizes 2, 4"),
        ({1: 5.0, 2: 2.5, 4: 4.5}, NOTE, (2,), "the latency falls at"),
        ({1: 5.0, 2: 2.4, 4: 4.0}, WARNING, (2,), "falls by more than half at batch size 2"),
        ({1: 1.0, 2: 2.5}, NOTE, (2,), "the throughput falls at batch size 2"),
        ({1: 1.0, 2: 4.0}, NOTE, (2,), "the throughput falls at"),
        ({1: 1.0, 2: 4.1}, WARNING, (2,), "per item grows more than 2 times at batch size 2"),
        ({1: 1.0, 5: 2.0}, WARNING, (1, 5), "the gaps between batch sizes 1, 5 are wider than a factor of 4"),
        ({1: 1.0, 2: 1.5, 16: 8.0, 128: 60.0}, WARNING, (2, 16, 128), "the gaps between"),
        ({1: 7.0, 2: 7.0, 4: 7.0}, WARNING, (1, 2, 4), "the latency is 7 ms at every batch size"),
        ({1: 0.0099, 2: 0.012}, WARNING, (1,), "below 10 µs at batch size 1"),
        ({1: 50_000.0, 2: 60_001.0}, WARNING, (2,), "above one minute at batch size 2"),
    ],
)
def test_one_odd_thing(
    points: dict[int, float], severity: Severity, batches: tuple[int, ...], found: str
) -> None:
    (finding,) = findings(table(points))
    assert (finding.severity, finding.model, finding.hardware) == (severity, "ssd", "t4")
    assert finding.batches == batches
    assert found in finding.found
    assert str(finding).startswith("ssd on t4: ")
    assert str(finding).endswith(finding.treatment)


def test_a_percentile_below_the_latency() -> None:
    (finding,) = findings(table({1: 2.0, 2: 3.0, 4: 5.0}, p99=[2.0, 2.9, 4.0]))
    assert (finding.severity, finding.batches) == (WARNING, (2, 4))
    assert "latency_p99_ms is below latency_ms" in finding.found


def test_copied_tables_are_named_once_each() -> None:
    points = {1: 2.0, 2: 3.0}
    found = findings(
        table(points, "t4"), table(points, "l4"), table(points, "a10"), table({1: 2.0, 2: 3.5}, "cpu")
    )
    assert [(finding.hardware, finding.severity) for finding in found] == [("l4", WARNING), ("a10", WARNING)]
    assert all("equals that on t4" in finding.found for finding in found)


def test_equal_figures_of_two_models_are_no_copy() -> None:
    one = table({1: 2.0, 2: 3.0})
    other = LatencyTable("ocr", "t4", one.batch, one.latency_ms)
    assert examine(Profiles.from_parts([Hardware("t4", 1.0)], [one, other])) == ()


def test_warnings_come_first_and_remarks_are_the_warnings() -> None:
    odd = table({2: 1.0, 4: 0.9, 8: 40.0})
    found = findings(odd)
    assert [finding.severity for finding in found] == [WARNING, WARNING, NOTE]
    profiles = Profiles.from_parts([Hardware("t4", 1.0)], [odd])
    assert profiles.remarks == tuple(str(finding) for finding in found[:2])


def test_shipped_profiles_give_no_warning_but_where_small_batches_are_not_published() -> None:
    found = examine(Profiles.default())
    warned = [finding for finding in found if finding.severity is WARNING]
    assert {finding.hardware for finding in warned} == {"rtx4090", "tpu_v5e_4"}
    assert all("nothing was measured below batch" in finding.found for finding in warned)


@given(
    st.dictionaries(st.integers(1, 300), st.floats(0.001, 1e6), min_size=1, max_size=6),
    st.floats(0.01, 100.0),
)
def test_findings_name_measured_sizes_and_ratios_do_not_depend_on_the_scale(
    points: dict[int, float], factor: float
) -> None:
    ordered = dict(sorted(points.items()))
    found = findings(table(ordered))
    for finding in found:
        assert set(finding.batches) <= set(ordered)
        assert finding.found
        assert "{" not in str(finding)
    # Powers of two scale without rounding, so every ratio stays; only the judgement of units may change.
    scale = 2.0 ** round(np.log2(factor))
    scaled = findings(table({size: latency * scale for size, latency in ordered.items()}))
    absolute = ("millisecond", "at every batch size")

    def relative(some: tuple[Finding, ...]) -> list[Finding]:
        return [finding for finding in some if not any(word in finding.found for word in absolute)]

    assert relative(found) == relative(scaled)
