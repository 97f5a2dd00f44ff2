"""The documentation says what the program does: JSON fields, and outputs shown beside code blocks.

A ``text`` block right after a ``python`` or ``bash`` block is its output. When outputs change on purpose, run this file
(``python tests/test_docs.py``): it writes them anew; then look at the difference.
"""

from __future__ import annotations

import code
import contextlib
import dataclasses
import inspect
import json
import pkgutil
import re
import runpy
import shutil
import tempfile
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest
import typer
from pydantic import BaseModel

import mipplan as mp
from code_blocks import Page, lines_of, run_shell
from golden.answering import versions
from golden.layout import ANSWERS
from mipplan.cli.app import app
from mipplan.core import Fault
from mipplan.profiles import Finding
from mipplan.profiling import MachineRecord
from mipplan.reporting import (
    catalog,
    comparisons,
    control,
    documents,
    drawings,
    exchange,
    judgements,
    operations,
    replays,
)
from mipplan.reporting.answers import differences, frontiers, offers
from mipplan.result import Interval
from mipplan.solvers import SolverInfo
from mipplan.tuner import Action, WorstWindow

ROOT = Path(__file__).resolve().parents[1]
JSON_PAGE = ROOT / "docs" / "json.md"
#: What is written into pages while the site is built.
HOOKS = runpy.run_path(str(ROOT / "docs" / "hooks.py"))
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]

# --- docs/json.md against the documents' types ------------------------------------------------------------------------

#: Heading of each table on the page.
HEADINGS: dict[type, str] = {
    documents.PlanReport: "plan",
    documents.ReplayCommandReport: "replay",
    replays.StreamReport: "replay --stream",
    judgements.VerifyReport: "verify",
    comparisons.ComparisonReport: "compare",
    judgements.FragilityReport: "fragility",
    frontiers.ExplainReport: "explain",
    differences.WhatIfReport: "whatif",
    frontiers.FrontierReport: "frontier",
    frontiers.SensitivityReport: "sensitivity",
    differences.DiffReport: "diff",
    offers.OffersReport: "pareto",
    offers.OfferReport: "offer",
    offers.WeighReport: "weigh",
    comparisons.TuneReport: "tune",
    documents.FleetReport: "fleet",
    drawings.DrawingReport: "plot",
    exchange.ExportReport: "export",
    exchange.DepartureReport: "departure",
    catalog.MeasurementReport: "profile",
    exchange.ScaleReport: "profile --pipeline",
    exchange.EdgeScaleReport: "measured edge",
    catalog.MeasuredBatchReport: "measured batch size",
    MachineRecord: "machine",
    operations.DriveReport: "drive",
    operations.ObserveReport: "observe",
    operations.ObservedBatchReport: "observed batch size",
    operations.ObservedHopReport: "observed hop",
    operations.TruthReport: "truth",
    operations.FigureComparisonReport: "compared figure",
    operations.CauseReport: "cause",
    operations.StageComparisonReport: "compared stage",
    operations.ServiceComparisonReport: "compared service",
    operations.HopComparisonReport: "compared hop",
    control.DayScheduleReport: "day schedule",
    control.StageScheduleReport: "scheduled stage",
    control.FollowReport: "follow",
    control.WatchReport: "watch",
    control.MisfitReport: "misfit",
    control.ReplanReport: "re-plan",
    catalog.ProfilesReport: "profiles",
    catalog.ExaminationReport: "profiles --check",
    exchange.ImportReport: "profiles import",
    exchange.PricesReport: "profiles prices",
    catalog.SolversReport: "solvers",
    documents.ErrorReport: "error",
    documents.ChoiceReport: "choice",
    documents.GuaranteeCostReport: "guarantee cost",
    documents.BucketReport: "bucket",
    documents.RunClassReport: "class of runs",
    documents.ReliabilityReport: "reliability",
    documents.WorstScenarioReport: "worst scenario",
    documents.SampleReport: "sample",
    comparisons.ComparedTraceReport: "compared trace",
    documents.TraceReport: "trace",
    documents.ReplayReport: "replay figures",
    Interval: "interval",
    documents.WindowReport: "window",
    documents.StageReport: "stage",
    replays.StreamStageReport: "streamed stage",
    documents.CriticalStageReport: "critical stage",
    comparisons.ComparisonRowReport: "comparison row",
    comparisons.JudgementReport: "judgement",
    judgements.AxisReport: "axis",
    judgements.FragilityPointReport: "perturbation",
    judgements.FragilityBreakReport: "break",
    frontiers.ExplainedStageReport: "explained stage",
    frontiers.OptionReasonReport: "option",
    frontiers.NearPlanReport: "near plan",
    differences.WhatIfCaseReport: "case",
    differences.SamePlanReport: "same plan",
    differences.StageDifferenceReport: "stage difference",
    differences.RequestDifferenceReport: "request difference",
    frontiers.FrontierStepReport: "step of a frontier",
    frontiers.HardwareSensitivityReport: "price that decides",
    frontiers.ModelSensitivityReport: "speed that decides",
    frontiers.MeasurementSensitivityReport: "measurement that decides",
    comparisons.TuningRunReport: "tuning run",
    comparisons.ScheduleReport: "schedule",
    Action: "action",
    WorstWindow: "worst window",
    documents.FleetSetReport: "fleet set",
    documents.FleetMemberReport: "fleet member",
    documents.DeviceUseReport: "device use",
    documents.AdmissionReport: "admission",
    documents.SloRelaxationReport: "relaxation",
    catalog.HardwareReport: "hardware",
    catalog.TableReport: "table",
    exchange.ImportedFileReport: "imported file",
    exchange.ImportedRowReport: "imported row",
    SolverInfo: "solver",
    Fault: "fault",
    Finding: "finding",
}
SCALARS = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}
FIELD_ROW = re.compile(r"^\| `(?P<name>\w+)` \| (?P<type>.+?) \| (?P<meaning>.+?) \|$", re.MULTILINE)
HEADING = re.compile(r"^##+ (.+)$", re.MULTILINE)


def documented_tables() -> dict[str, dict[str, tuple[str, str]]]:
    """Field to (type, meaning), by heading of the page."""
    parts = HEADING.split(JSON_PAGE.read_text(encoding="utf-8"))
    return {
        heading: {row["name"]: (row["type"], row["meaning"]) for row in FIELD_ROW.finditer(text)}
        for heading, text in zip(parts[1::2], parts[2::2], strict=True)
    }


def type_text(annotation: Any) -> str:
    """Write a type as the page does; the key of an object is named on the page only."""
    if annotation in SCALARS:
        return SCALARS[annotation]
    if annotation in HEADINGS:
        heading = HEADINGS[annotation]
        return f"[{heading}](#{heading.replace(' ', '-')})"
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (types.UnionType, typing.Union):
        return " or ".join(type_text(argument) for argument in arguments)
    if origin is typing.Literal:
        return " or ".join(f'"{argument}"' for argument in arguments)
    if inspect.isclass(annotation) and issubclass(annotation, StrEnum):
        return " or ".join(f'"{member}"' for member in annotation)
    if origin is tuple and arguments[1:] == (Ellipsis,):
        return f"array of {type_text(arguments[0])}"
    if origin is list:
        return f"array of {type_text(arguments[0])}"
    if origin is dict:
        return f"object of {type_text(arguments[1])}"
    raise AssertionError(f"no wording for {annotation}")


def fields_of(model: type) -> list[str]:
    """Names of the fields in a document; parts of it may be the results themselves."""
    if issubclass(model, BaseModel):
        return list(model.model_fields)
    return [field.name for field in dataclasses.fields(model)]


def report_models() -> list[type]:
    return [
        value
        for room in (
            *(documents, replays, comparisons, catalog, control),
            *(drawings, exchange, judgements, operations),
            *(differences, frontiers, offers),
        )
        for value in vars(room).values()
        if inspect.isclass(value) and issubclass(value, documents.Report) and value is not documents.Report
    ]


def test_every_document_has_its_table() -> None:
    parts = {model for model in HEADINGS if not issubclass(model, BaseModel)}
    with_own = {model for model in report_models() if model.model_fields}  # Others are only built upon.
    assert {*with_own, *parts} == set(HEADINGS)
    with_fields = {heading for heading, fields in documented_tables().items() if fields}
    assert with_fields == set(HEADINGS.values())


@pytest.mark.parametrize("model", HEADINGS, ids=lambda model: model.__name__)
def test_fields_and_types_are_as_documented(model: type) -> None:
    table = documented_tables()[HEADINGS[model]]
    assert list(table) == fields_of(model)
    hints = typing.get_type_hints(model)
    documented = {name: kind.split(" by ")[0] for name, (kind, _) in table.items()}
    assert documented == {name: type_text(hints[name]) for name in fields_of(model)}


def test_named_values_are_all_documented() -> None:
    tables = documented_tables()
    named = set(re.findall(r"`(\w+)`", tables["plan"]["status"][1]))
    assert named == {status.value for status in mp.PlanStatus}
    plan = mp.Plan.from_choices(
        mp.Pipeline.read(ROOT / "profiles" / "pipelines" / "image-processing.yaml"),
        mp.Profiles.default(),
        {"preprocess": ("cpu", 1, 1), "classify": ("v100", 1, 1)},
    )
    result = mp.replay(plan, mp.Trace.from_seconds([0.0, 1.0]))
    figures = result.summary(plan.slo_s)["latency_s"]
    assert re.findall(r"`(\w+)`", tables["replay figures"]["latency_s"][1]) == list(figures)


# --- outputs shown on the pages --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Block:
    language: str
    source: str
    before: str


FENCE = re.compile(r"^```(?P<language>\w+)[^\n]*\n(?P<source>.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks_of(text: str) -> Iterator[Block]:
    end = 0
    for match in FENCE.finditer(text):
        yield Block(match["language"], match["source"], text[end : match.start()])
        end = match.end()


def refreshed(path: Path) -> str:
    """Write the outputs of a page anew."""
    page, text = Page(path), path.read_text(encoding="utf-8")
    page.run()
    for shown, printed in page.outputs:
        old, new = (f"```text\n{output}\n```" for output in (shown.strip("\n"), "\n".join(lines_of(printed))))
        text = text.replace(old, new)
    return text


#: With all the time that the table of guarantees asks for.
README_COMMAND = "mipplan plan video-monitoring --trace bursty --time-limit 86400s"


def readme_output(text: str) -> str:
    return next(b.source for b in blocks_of(text) if b.language == "text" and "lower bound" in b.source)


def test_output_shown_in_readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every line with the solvers of the golden answers; with others, choices of equal cost may differ."""
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = lines_of(readme_output(text))
    # By default the table of guarantees has no time to be like this, which is not kept from who runs `make demo`.
    assert "`--time-limit 600s`" in text[: text.index(readme_output(text))]
    printed = lines_of(run_shell(README_COMMAND).stdout)
    if versions() != json.loads((ANSWERS / "versions.json").read_text(encoding="utf-8")):
        stable = re.compile(r"video-monitoring on|(cost|lower bound|objective) ")
        shown, printed = ([line for line in lines if stable.match(line)] for lines in (shown, printed))
        assert len(shown) == 4
    assert shown == printed


COMPARE_PAGE = ROOT / "docs" / "how-to" / "compare.md"
COMPARE_COMMAND = "mipplan compare cascade --trace steady --plot bars.png"


def compare_output(text: str) -> str:
    return next(b.source for b in blocks_of(text) if b.language == "text" and "planned in" in b.source)


def without_times(lines: list[str]) -> list[str]:
    """Leave out how long planning took, the one column that no two runs have in common."""
    head = next(line for line in lines if "planned in" in line)
    begin = head.index("planned in")
    end = begin + len("planned in")
    table = lines[lines.index(head) :]
    rows = table[: table.index("")]
    return [line[:begin] + line[end:] if line in rows else line for line in lines]


def test_output_shown_of_compare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page leaves out the lines about the traces and the notes."""
    monkeypatch.chdir(tmp_path)
    text = COMPARE_PAGE.read_text(encoding="utf-8")
    assert f"```bash\n{COMPARE_COMMAND}\n```" in text
    printed = without_times(lines_of(run_shell(COMPARE_COMMAND).stdout))
    shown = without_times(lines_of(compare_output(text)))
    assert len(shown) > 15
    begin = printed.index(shown[0])
    assert printed[begin : begin + len(shown)] == shown


# --- what is written while the site is built, and the tutorial outside of it -----------------------------------------


class Session(code.InteractiveConsole):
    """Takes lines as Python's prompt does, and runs nothing."""

    def runcode(self, code: types.CodeType) -> None:
        pass

    def showsyntaxerror(self, *_: Any, **__: Any) -> None:
        raise SyntaxError(f"at the prompt: {self.buffer}")


TUTORIAL = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")


def pasted(source: str) -> bool:
    """Paste a block and press Enter once more; True if nothing is waited for."""
    session = Session()
    return not [session.push(line) for line in [*source.splitlines(), ""]][-1]


def test_the_tutorial_can_be_pasted() -> None:
    blocks = [block.source for block in blocks_of(TUTORIAL) if block.language == "python"]
    assert len(blocks) > 10
    assert all(pasted(source) for source in blocks)
    with pytest.raises(SyntaxError):
        pasted("for x in ():\n    pass\nprint()\n")


def test_the_tutorial_is_a_notebook() -> None:
    """Each block that runs is a cell; prose lies between, and outputs are left to whoever runs it."""
    cells = json.loads(HOOKS["notebook"](TUTORIAL))["cells"]
    written = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert written == [
        ("!" if block.language == "bash" else "") + block.source.strip("\n")
        for block in blocks_of(TUTORIAL)
        if block.language in ("python", "bash")
    ]
    prose = "".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    assert "## 7. Save, load, verify" in prose
    assert "```" not in prose


def test_tables_of_rivals_are_found_in_results() -> None:
    page = (ROOT / "docs" / "rivals.md").read_text(encoding="utf-8")
    written = HOOKS["ROWS"].sub(HOOKS["rows"], page)
    assert "<!-- rows of" not in written
    assert written.count("\n| greedy |") == 2
    with pytest.raises(LookupError, match="no rows"):
        HOOKS["ROWS"].sub(HOOKS["rows"], page.replace(" greedy;", " nobody;"))


def test_commands_are_listed_with_their_options() -> None:
    page = "\n".join(HOOKS["commands"](typer.main.get_command(app), "mipplan"))
    assert "## mipplan profiles import\n" in page
    assert "| `--slo` | " in page.split("## mipplan plan\n")[1].split("\n## ")[0]


# --- the pages among themselves --------------------------------------------------------------------------------------


RELATIVE_LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)(?:#[^)]*)?\)")


def test_every_page_is_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    pages = {path.relative_to(ROOT / "docs").as_posix() for path in PAGES if path.name != "README.md"}
    assert pages == set(re.findall(r": ([\w/-]+\.md)$", navigation, re.MULTILINE))


def test_public_names_are_on_the_api_page() -> None:
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    missing = [
        name for name in mp.__all__ if not re.search(rf"^::: mipplan\.(\w+\.)*{name}$", page, re.MULTILINE)
    ]
    assert missing == []


def test_relative_links_lead_somewhere() -> None:
    broken = [
        f"{path.name}: {target}"
        for path in PAGES
        for target in RELATIVE_LINK.findall(FENCE.sub("", path.read_text(encoding="utf-8")))
        if not (path.parent / target).exists() and target != "tutorial.ipynb"  # written by docs/hooks.py
    ]
    assert broken == []


#: Where a docstring refers to a theorem or a section: ``[Theorem (sample path)][theorem-sample-path]``.
REFERENCE = re.compile(r"\[[^\[\]]+\]\[([a-z0-9]+(?:-[a-z0-9]+)+)\]")
SOURCES = sorted([*ROOT.glob("mipplan/**/*.py"), *ROOT.glob("formulations/mipplan_formulations/**/*.py")])


def test_references_in_docstrings_lead_somewhere() -> None:
    """The docs build checks those on the API page, and this all others."""
    pages = (
        ROOT / "docs" / name
        for name in ("theory.md", "sharp.md", "fifo.md", "variants.md", "how-to/energy.md")
    )
    theory = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    anchors = set(re.findall(r"\{#([a-z0-9-]+)\}", theory))
    for title in re.findall(r"^#+ (.*)$", theory, re.MULTILINE):
        anchors.add(re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", title.lower())).strip("-"))
    found = {
        (path.name, reference)
        for path in SOURCES
        for reference in REFERENCE.findall(path.read_text(encoding="utf-8"))
    }
    assert len(found) >= 10
    assert [place for place in found if place[1] not in anchors] == []


def test_no_docstring_refers_to_a_section_of_another_document() -> None:
    """Documents that users do not have, and numbers that move: a link is checked, "design §3" is not."""
    assert [
        path.name for path in SOURCES if re.search(r"[Dd]esign,? §", path.read_text(encoding="utf-8"))
    ] == []


MODULE = re.compile(r"`(mipplan(?:_formulations)?(?:\.\w+)+)`")


def test_modules_and_names_in_prose_are_there() -> None:
    """Whatever a page writes as `mipplan.room.name` can be imported."""
    missing = set()
    for path in PAGES:
        for name in MODULE.findall(FENCE.sub("", path.read_text(encoding="utf-8"))):
            try:
                pkgutil.resolve_name(name)
            except (ImportError, AttributeError):
                missing.add(f"{path.name}: {name}")
    assert sorted(missing) == []


def refresh_outputs() -> None:
    """Write the outputs on all pages anew."""
    for path in PAGES:
        text = path.read_text(encoding="utf-8")
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
            shutil.copytree(ROOT / "profiles", Path(folder) / "profiles")
            if path == COMPARE_PAGE:
                shown, printed = compare_output(text), lines_of(run_shell(COMPARE_COMMAND).stdout)
                begin = printed.index(lines_of(shown)[0])
                new = "\n".join(printed[begin : begin + len(lines_of(shown))])
                text = text.replace(shown, new + "\n")
            if path.name == "README.md":
                new = "\n".join(lines_of(run_shell(README_COMMAND).stdout))
                path.write_text(text.replace(readme_output(text), new + "\n"), encoding="utf-8")
            else:
                path.write_text(refreshed(path), encoding="utf-8")


if __name__ == "__main__":
    refresh_outputs()
