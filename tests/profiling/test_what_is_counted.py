"""What a figure counts, and what it does not: how long a command took, the memory of each size, whose energy it is."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from mipplan.profiling import SUBJECTS, MeasuringParams, SubjectRequest

#: A measurement ends after some runs rather than some time, so that a busy machine makes tests slow and nothing else.
QUICK: dict[str, Any] = {
    "hardware": "here",
    "disturbed": "keep",
    "time_limit_s": 60,
    "params": MeasuringParams(most_visits=2, first_look=1_000, most_runs=40, block_s=0.05, least_s=0.0),
}


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_command_is_waited_for_without_looking_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python's wait with a limit sleeps for up to 50 ms between looks: 120 ms passed for 165 ms, every time."""
    slept: list[float] = []
    sleep = time.sleep
    monkeypatch.setattr(time, "sleep", lambda seconds: (slept.append(seconds), sleep(seconds)))
    command = SUBJECTS["command"].load(SubjectRequest("command", "sleep 0.0{batch}"))
    command.prepare(5)
    command.run()
    assert slept == []
