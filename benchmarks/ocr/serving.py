"""Real models in what ``mipplan export`` writes: what it leaves open is filled in, and nothing else is changed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mipplan as mp
from benchmarks.truth.servers import RunningServer, mosec_service, ray_application, without, without_mosec

_LEFT_OPEN = re.compile(r'raise NotImplementedError\("put the model of this stage in here"\)')
_LOADS = re.compile(r'"""Load the model[^\n]*"""')
_DRAWN = ", decide=DECISIONS.__getitem__"


@dataclass(frozen=True)
class OcrSystem:
    """A system that serves the models, and the pipeline that it can serve."""

    name: str
    pipeline: Mapping[str, str]
    """Of stages, one after the other: the function of `benchmarks.ocr.stages` that is measured."""
    serve: Callable[[mp.Plan, Path], AbstractContextManager[RunningServer]]
    missing: Callable[[], str | None]
    """Why it cannot run here, or None."""
    law: str | None = None
    """For ``system=``; None where the plan's own laws are kept."""
    has_dispatcher: bool = False
    """Ours: every line is a token, and what each stage did is logged. Else tokens are pages."""
    asked: Mapping[str, Any] = field(default_factory=dict)
    """Of `mipplan.plan`."""


def fill_in(text: str, calls: Mapping[str, str]) -> str:
    """Put models into the classes of the stages, which are in this order: `calls` has what each returns."""
    for stage, call in calls.items():
        text, loaded = _LOADS.subn(rf'"""Load."""\n        stages.load("{stage}")', text, count=1)
        text, served = _LEFT_OPEN.subn(f"return {call}", text, count=1)
        assert loaded == served == 1, f"the export leaves nothing open for {stage}"
    assert not _LEFT_OPEN.search(text)
    return text.replace("\nimport os\n", "\nimport os\n\nfrom benchmarks.ocr import stages\n", 1)


@contextmanager
def on_ray(plan: mp.Plan, folder: Path) -> Iterator[RunningServer]:
    """Serve on Ray Serve, every line as a token of its own; stages are logged into ``log/``."""
    mp.export(plan, to="ray", directory=folder / "application", force=True)
    path = folder / "application" / "app.py"
    text = fill_in(path.read_text(), {stage: f"stages.serve_{stage}(batch)" for stage in plan.choices})
    assert _DRAWN in text
    path.write_text(text.replace(_DRAWN, ""))
    with ray_application(folder, log=folder / "log") as server:
        yield server


@contextmanager
def on_mosec(plan: mp.Plan, folder: Path) -> Iterator[RunningServer]:
    """Serve by mosec, a page with all of its lines as one token."""
    mp.export(plan, to="mosec", directory=folder / "service", force=True)
    path = folder / "service" / "server.py"
    work = {"find": "find", "turn": "turn_page", "read": "read_page"}
    # mosec hands a list to workers that batch, and the task itself to others.
    calls = {
        stage: f"stages.{work[stage]}(data)" if choice.batch > 1 else f"stages.{work[stage]}([data])[0]"
        for stage, choice in plan.choices.items()
    }
    path.write_text(fill_in(path.read_text(), calls))
    with mosec_service(folder) as server:
        yield server


SYSTEMS = (
    OcrSystem(
        "Ray Serve, our dispatcher",
        {"find": "find_next", "turn": "turn_next", "read": "read_next"},
        on_ray,
        lambda: without("ray", "starlette", "uvicorn", "onnxruntime"),
        has_dispatcher=True,
    ),
    OcrSystem(
        "mosec",
        {"find": "find_next", "turn": "turn_page_next", "read": "read_page_next"},
        on_mosec,
        lambda: without("onnxruntime") or without_mosec(),
        law="mosec",
        asked={"discipline": "fifo"},
    ),
)
