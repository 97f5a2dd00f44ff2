"""How many cases a randomised test runs, and what a long run leaves behind.

`MIPPLAN_DEEP=1` (``make deep``) turns the quick pass of a campaign into a long one, which records what it saw
in ``benchmarks/results/campaigns``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from zlib import crc32

from benchmarks.machine import describe

RESULTS = Path(__file__).resolve().parents[1] / "benchmarks" / "results" / "campaigns"


def is_deep() -> bool:
    """Whether long campaigns are asked for."""
    return os.environ.get("MIPPLAN_DEEP", "") not in ("", "0")


def campaign_size(quick: int, deep: int) -> int:
    """Return the number of cases to run."""
    return deep if is_deep() else quick


def tried(names: Iterable[str]) -> list[str]:
    """Return all of these; in CI every third, always the same ones."""
    return [name for name in names if not os.environ.get("CI") or crc32(name.encode()) % 3 == 0]


def write_summary(name: str, summary: dict[str, Any]) -> None:
    """Record a deep campaign as ``<name>.json``, with the code and machine it ran on; a quick one leaves nothing."""
    if not is_deep():
        return
    RESULTS.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"campaign": name, **summary, "machine": _machine()}, indent=2, ensure_ascii=False)
    (RESULTS / f"{name}.json").write_text(text + "\n", encoding="utf-8")


@cache
def _machine() -> dict[str, Any]:
    """Told once per process: the code does not change while tests run."""
    return describe("campaigns")


class Violations:
    """What a campaign finds to be untrue: counted while it runs, so that its summary states what was seen."""

    def __init__(self) -> None:
        self.found: list[str] = []

    @contextmanager
    def case(self, name: object) -> Iterator[None]:
        """Check one case: where an assertion fails, it is counted and the campaign goes on; errors end it."""
        try:
            yield
        except AssertionError as failure:
            self.found.append(f"{name}: {str(failure)[:500]}")
        except Exception as error:
            error.add_note(f"case {name}")
            raise

    def expect(self, holds: object, case: object) -> None:
        """Count a case in which something does not hold."""
        if not holds:
            self.found.append(str(case))

    def checked(self) -> int:
        """Fail if anything was found; return how many, for the summary."""
        count = len(self.found)
        assert count == 0, f"{count} violations, the first of them:\n" + "\n".join(self.found[:5])
        return count
