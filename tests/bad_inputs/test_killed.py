"""A run killed at any moment leaves the old plan or the new one, whole."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import mipplan as mp
from bad_inputs.broken_plans import good_plan
from campaigns import campaign_size, write_summary

#: Saves two plans over each other until it is killed; says when it has begun.
SAVE = """\
import sys
import mipplan as mp
plans = [mp.Plan.load(name) for name in sys.argv[2:]]
print("saving", flush=True)
while True:
    for plan in plans:
        plan.save(sys.argv[1])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL there")
def test_a_killed_run_leaves_no_half_written_plan(tmp_path: Path) -> None:
    plan = good_plan()
    other = mp.Plan.from_choices(
        plan.pipeline, plan.profiles, {"first": ("cpu", 1, 7), "second": ("gpu", 8, 9)}
    )
    for name, saved in (("one.json", plan), ("two.json", other)):
        saved.save(tmp_path / name)
    whole = {(tmp_path / name).read_bytes(): name for name in ("one.json", "two.json")}
    target = tmp_path / "out" / "plan.json"
    target.parent.mkdir()
    plan.save(target)
    delays = random.Random(3)
    found: list[str] = []
    for _ in range(campaign_size(4, 200)):
        process = subprocess.Popen(
            [sys.executable, "-c", SAVE, str(target), "one.json", "two.json"],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
        )
        assert process.stdout is not None
        with process.stdout:
            assert process.stdout.readline() == b"saving\n"
            time.sleep(delays.uniform(0.0, 0.02))
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
        assert target.read_bytes() in whole
        found.append(whole[target.read_bytes()])
        assert mp.Plan.load(target).choices
    # A killed run may leave its unfinished copy, under a name that nobody takes for a plan.
    for left in target.parent.iterdir():
        assert left == target or (left.name.startswith(".plan.json.") and left.suffix == ".part")
    write_summary(
        "killed", {"runs": len(found), "old": found.count("one.json"), "new": found.count("two.json")}
    )
