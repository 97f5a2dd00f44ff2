"""Queries by the bin: counts added up, arrivals counted, and days that are read by the clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from mipplan.core import InputError
from mipplan.trace.bins import read_bins

HOUR_NS = 3600 * 10**9


def written(tmp_path: Path, content: str) -> Path:
    path = tmp_path / "t.csv"
    path.write_text(content)
    return path


def test_bins_add_up_counts_and_count_arrivals(tmp_path: Path) -> None:
    hours = written(tmp_path, "hour,requests_per_hour\n0,100\n1,0\n2,50\n3,7\n")
    assert read_bins(hours, 3600 * 10**9).count.tolist() == [100, 0, 50, 7]
    assert read_bins(hours, 7200 * 10**9).count.tolist() == [100, 57]
    minutes = written(tmp_path, "requests_per_min\n" + "6\n" * 120)
    assert read_bins(minutes, 3600 * 10**9).count.tolist() == [360, 360]
    arrivals = written(tmp_path, "arrival_s\n0.5\n0.6\n3.0\n")
    assert read_bins(arrivals, 10**9).count.tolist() == [2, 0, 0, 1]


def test_arrivals_that_end_within_a_bin_are_told(tmp_path: Path) -> None:
    """Its rate is reckoned over all of it: half a bin of arrivals is half the rate."""
    whole = written(tmp_path, "arrival_s\n" + "".join(f"{n / 10}\n" for n in range(200)))
    assert read_bins(whole, 10 * 10**9).notes == ("arrivals of arrival_s counted",)
    part = written(tmp_path, "arrival_s\n" + "".join(f"{n / 10}\n" for n in range(150)))
    assert read_bins(part, 10 * 10**9).notes[1:] == (
        "arrivals end 4.9 s into the last bin: its rate is reckoned over all of its 10 s",
    )


@pytest.mark.parametrize(
    ("text", "bin_s", "says"),
    [
        ("hour,requests_per_hour\n0,1\n1,1\n3,1\n", 3600, "leaves intervals out after"),
        (
            "hour,requests_per_hour\n0,1\n1,1\n3,1\n",
            3600,
            "in an hour that clocks skipped what other days have",
        ),
        ("hour,requests_per_hour\n0,1\n1,1\n1,1\n2,1\n", 3600, "has the hour from 3600 s on twice"),
        ("hour,requests_per_hour\n6,1\n7,1\n", 3600, "leaves out the first 6 intervals"),
        ("hour,requests_per_hour\n0,1\n1,1\n", 5400, "do not add up to bins of 5400 s"),
        ("hour,requests_per_hour\n0,1\n1,1\n", 60, "do not add up"),
        ("hour,requests_per_hour\n0,1\n1,1\n2,1\n", 7200, "ends 3600 s into a bin of 7200 s"),
        ("arrival_s\n", 60, "holds no rows"),
        ("arrival_s\n0\n300000000\n", 60, "more than 105,120 bins"),
        ("hour,requests_per_hour\n0,1\n1,-1\n", 3600, "negative"),
    ],
)
def test_bins_that_cannot_be_are_refused(text: str, bin_s: int, says: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=says):
        read_bins(written(tmp_path, text), bin_s * 10**9)


def a_day(begin: datetime, busy: int, *, dated: str = "timestamp") -> tuple[str, list[int]]:
    """Two queries in every hour of a day from `begin` on, twenty in the hour `busy` (UTC); how many in each hour."""
    step, told, by_hour = timedelta(minutes=3), [], [0] * 24
    for number in range(480):
        at = begin + number * step
        if at.hour == busy or at.minute // 30 != (at - step).minute // 30 or not number:
            told.append(at)
            by_hour[at.hour] += 1
    zero = begin if dated == "arrival_s, undated" else datetime(1970, 1, 1, tzinfo=UTC)
    rows = [at.isoformat() if dated == "timestamp" else f"{(at - zero).total_seconds()}" for at in told]
    return "\n".join([dated.split(",")[0], *rows, ""]), by_hour


@pytest.mark.parametrize("dated", ["timestamp", "arrival_s"])
@pytest.mark.parametrize(
    "begin", [datetime(2026, 7, 2, 9, 0, tzinfo=UTC), datetime(2026, 7, 2, 9, 17, tzinfo=UTC)]
)
def test_a_day_of_dated_arrivals_is_counted_from_midnight(
    begin: datetime, dated: str, tmp_path: Path
) -> None:
    """Entries of a schedule are for days from midnight on, and this one began at nine."""
    text, by_hour = a_day(begin, busy=12, dated=dated)
    path = written(tmp_path, text)
    assert by_hour[12] == max(by_hour) == 20
    assert read_bins(path, HOUR_NS, zone=ZoneInfo("Etc/UTC")).count.tolist() == by_hour
    in_berlin = read_bins(path, HOUR_NS, zone=ZoneInfo("Europe/Berlin"))
    assert in_berlin.count.tolist() == by_hour[-2:] + by_hour[:-2]
    assert in_berlin.notes[-1] == (
        f"the first arrival is of {begin.isoformat().removesuffix('+00:00')} UTC; "
        "bins are by the clock of Europe/Berlin, from midnight"
    )
    # Half hours there are those of nowhere else.
    in_kolkata = read_bins(path, HOUR_NS // 2, zone=ZoneInfo("Asia/Kolkata")).count
    assert in_kolkata.size == 48
    assert in_kolkata[2 * 17 + 1 : 2 * 18 + 1].sum() == 20
    # Nobody said where.
    assert read_bins(path, HOUR_NS).count[0] == read_bins(path, HOUR_NS, zone=None).count[0]
    assert read_bins(path, HOUR_NS).count.argmax() in (2, 3)


def test_what_is_no_day_or_has_no_date_is_counted_from_its_beginning(tmp_path: Path) -> None:
    utc = ZoneInfo("Etc/UTC")
    text, _ = a_day(datetime(2026, 7, 2, 9, tzinfo=UTC), busy=12, dated="arrival_s, undated")
    assert read_bins(written(tmp_path, text), HOUR_NS, zone=utc).count.argmax() == 3
    short = written(tmp_path, "timestamp\n2026-07-02T09:00:00\n2026-07-02T10:30:00\n2026-07-02T10:40:00\n")
    assert read_bins(short, HOUR_NS, zone=utc).count.tolist() == [1, 2]
    # Five hours do not divide a day.
    text, _ = a_day(datetime(2026, 7, 2, 9, tzinfo=UTC), busy=12)
    assert read_bins(written(tmp_path, text), 5 * HOUR_NS, zone=utc).count.argmax() == 0


def test_a_day_keeps_the_hours_in_which_nothing_came(tmp_path: Path) -> None:
    path = written(tmp_path, "timestamp\n2026-07-02T09:00:00\n2026-07-02T10:30:00\n2026-07-03T08:10:00\n")
    count = read_bins(path, HOUR_NS, zone=ZoneInfo("Etc/UTC")).count
    assert count.size == 24
    assert count.nonzero()[0].tolist() == [8, 9, 10]
