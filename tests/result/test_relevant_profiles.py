"""What of the profiles a plan carries: enough for every question that is asked of the plan later."""

from __future__ import annotations

from pathlib import Path

import mipplan as mp
from mipplan.profiles import Hardware
from mipplan.result import relevant_profiles
from planning_instances import hand_made


def test_hardware_that_a_stage_names_stays_though_nothing_was_measured_on_it(tmp_path: Path) -> None:
    """Without it, its name was a fault to all that plan again: refining, sharpening, changes and plans by replays."""
    instance = hand_made()
    document = instance.pipeline.to_document()
    document["stages"]["detect"]["hardware"] = ["cpu", "h100"]
    pipeline, trace = mp.Pipeline.from_document(document), instance.trace
    own = instance.profiles
    devices = [*own.hardware.values(), Hardware("h100", 9.0), Hardware("unnamed", 1.0)]
    profiles = mp.Profiles.from_parts(devices, own.tables.values())
    assert set(relevant_profiles(pipeline, profiles).hardware) == {"cpu", "t4", "h100"}
    mp.plan(pipeline, profiles, trace).save(tmp_path / "plan.json")
    plan = mp.Plan.load(tmp_path / "plan.json")
    again = (
        mp.plan(pipeline, profiles, trace, guarantee="replay"),
        mp.refine(plan, trace),
        mp.sharpen(plan, trace),
        mp.whatif(plan, trace, {"rate": "x1.1"}).plan,
    )
    assert [made.status for made in again] == ["optimal"] * len(again)
