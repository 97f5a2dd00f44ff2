"""What is mutated, and which tests judge each mutant: fast ones in this process, none of them by a command."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.provenance import ROOT


@dataclass(frozen=True)
class Subject:
    """Files that are mutated together, and the tests that judge them."""

    files: tuple[str, ...]
    tests: tuple[str, ...]
    mutants: int
    """How many are drawn, if there are more."""
    slow: tuple[str, ...] = ()
    """Tests that are left out: others notice the same sooner."""
    environment: dict[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    """Filters of warnings for pytest, besides the suite's."""


def _in_room(room: str, *names: str) -> tuple[str, ...]:
    return tuple(f"{room}/{name}.py" for name in names)


SUBJECTS: dict[str, Subject] = {
    "certificate": Subject(
        _in_room("mipplan/certificate", "classic", "certifying"),
        (
            *_in_room(
                "tests/certificate",
                "test_by_hand",
                "test_certifying",
                "test_oracle",
                "test_fifo",
                "test_sharp_oracle",
                "test_stagger",
                "test_collecting",
            ),
            "tests/verification/test_verify.py",
        ),
        200,
    ),
    # As with the engines, the kernels are judged as the Python that they are written in.
    "sharp": Subject(
        (
            *_in_room("mipplan/certificate", "sharp"),
            *_in_room("mipplan/calculus", "intervals", "interval_kernels"),
        ),
        _in_room(
            "tests/certificate",
            "test_sharp_oracle",
            "test_sharp_by_hand",
            "test_fifo",
            "test_stagger",
            "test_collecting",
        ),
        240,
        environment={"NUMBA_DISABLE_JIT": "1"},
    ),
    "curves": Subject(
        _in_room("mipplan/calculus", "samplepath", "waits", "paths", "arrival", "envelopes", "worstcase"),
        (
            "tests/calculus",
            "tests/certificate/test_by_hand.py",
            "tests/envelope/test_worst_case.py",
            "tests/tuner/test_closed_form.py",
        ),
        160,
    ),
    "cuts": Subject(
        ("mipplan/planner/cuts.py",),
        _in_room("tests/planner", "test_query_cuts", "test_sample", "test_cuts"),
        200,
    ),
    "oracle": Subject(
        ("mipplan/planner/oracle.py",),
        _in_room("tests/planner", "test_critical_sample", "test_sample", "test_oracles"),
        200,
    ),
    # A mutant must be compiled to be judged, which takes seconds: here the kernels run as the Python they are written
    # in, where NumPy warns of an overflow that is meant.
    "engines": Subject(
        _in_room(
            "mipplan/replayer/engines",
            "batches",
            "lanes",
            "numba_engine",
            "numba_kernels",
            "numba_sorting",
            "numpy_engine",
            "plain",
        ),
        _in_room(
            "tests/replayer",
            "test_engines",
            "test_numba_engine",
            "test_numpy_engine",
            "test_pieces",
            "test_following",
            "test_by_hand",
            "test_paced",
            "test_stagger",
        ),
        160,
        slow=(
            "tests/replayer/test_following.py::test_a_queue_that_arrives_backwards_is_sorted_in_a_tree",
            "tests/replayer/test_numba_engine.py::test_equals_the_plain_engine_on_a_long_queue",
            "tests/replayer/test_numba_engine.py::test_numba_is_loaded_only_where_it_is_chosen",
        ),
        environment={"NUMBA_DISABLE_JIT": "1"},
        warnings=("ignore:overflow encountered in scalar:RuntimeWarning",),
    ),
    "scaling": Subject(
        _in_room("mipplan/tuner", "scaling", "scaling_solver"),
        _in_room(
            "tests/tuner",
            "test_scaler",
            "test_scaling_solver",
            "test_tuner",
            "test_shedding",
        ),
        120,
        slow=("tests/tuner/test_scaling_solver.py::test_units_are_found_where_limits_leave_hardly_any",),
    ),
    "verification": Subject(
        ("mipplan/verification/certifying.py", "mipplan/verification/verifying.py"),
        (
            "tests/verification",
            "tests/certificate/test_stagger.py",
            "tests/energy/test_energy.py",
            "tests/planner/test_samples.py",
        ),
        240,
        slow=("tests/verification/test_agreement.py::test_plan_finds_the_cheapest_that_verify_accepts",),
    ),
}


def files_of_tests(subject: Subject) -> Iterator[Path]:
    """Files of tests that judge a subject."""
    for name in subject.tests:
        place = ROOT / name
        yield from [place] if place.is_file() else sorted(place.glob("test_*.py"))
