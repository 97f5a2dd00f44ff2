"""What `benchmarks.follow` says beside its runs in real time."""

from __future__ import annotations

import pandas as pd
import pytest

from benchmarks.follow.beginnings import MACHINE, OUT, is_among, report
from benchmarks.follow.run import ROWS
from benchmarks.machine import headline


@pytest.mark.parametrize(
    ("measured", "simulated", "expected"),
    [
        (0.027, [0.022, 0.04], True),
        (0.027, [0.008, 0.04], False),  # between two of them is not near one
        (0.119, [0.1, 0.05], True),
        (0.121, [0.1, 0.05], False),
        (0.041, [0.05, 0.1], True),
        (0.039, [0.05, 0.1], False),
        (0.009, [0.0], True),  # a ratio says nothing where hardly anything is missed
        (0.011, [0.0], False),
    ],
)
def test_a_measurement_is_among_simulations_if_it_is_as_near_as_the_aim_asks(
    measured: float, simulated: list[float], expected: bool
) -> None:
    assert is_among(measured, simulated) is expected


def test_the_page_says_what_its_simulations_find() -> None:
    page = OUT.read_text(encoding="utf-8").splitlines()
    rows = pd.read_csv(OUT.parent / ROWS)
    assert page[0] == headline(MACHINE)
    assert [line.split(" | ")[:3] for line in page[4 : 4 + len(rows)]] == [
        [f"| {row.system}", row.trace, f"`{row.policy}`"] for row in rows.itertuples()
    ]
    # Of those that need no shared data one that misses the aim, if there is one.
    row = rows[rows["trace"] != "twitter"].sort_values("within").head(1)
    assert report(row).splitlines()[2] == page[4 + row.index[0]]
    assert f"of {len(rows)} rows" in page[-1]
