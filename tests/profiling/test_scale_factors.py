"""Scale factors: what is counted is what the steps made, and a pipeline that draws it does the same."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import mipplan as mp
from mipplan.cli.app import app
from mipplan.tokens import realise

OCR = {
    "name": "ocr",
    "stages": {"find": {"model": "m"}, "read": {"model": "m"}, "join": {"model": "m", "join": "all"}},
    "edges": [
        {"from": "find", "to": "read", "fanout": 2.6},
        {"from": "read", "to": "join", "probability": 0.5},
        {"from": "find", "to": "join"},
    ],
}


def pipeline() -> mp.Pipeline:
    return mp.Pipeline.from_document(OCR)


def step(stage: str, token: Any) -> Mapping[str, Sequence[Any]] | None:
    """A page is a number of lines; every line but the first can be read."""
    if stage == "find":
        return {"read": range(token), "join": ["page"]}
    if stage == "read":
        return {"join": [token]} if token else {}
    assert token == ["page", *range(1, len(token))] or token == [*range(1, len(token)), "page"]
    return None


@given(st.lists(st.integers(0, 4), min_size=1, max_size=30).filter(lambda lines: max(lines) > 1))
@settings(max_examples=50, deadline=None)
def test_what_is_counted_is_what_was_made(lines: list[int]) -> None:
    found = mp.measure_scale(pipeline(), step, lines)
    by_name = {(scale.edge.parent, scale.edge.child): scale for scale in found.edges}
    find = by_name["find", "read"]
    assert find.counts.tolist() == lines
    some = [count for count in lines if count]
    assert find.taken == len(some) / len(lines)
    held = find.document["fanout"]
    many = held if isinstance(held, dict) else {"values": [held], "weights": [len(some)]}
    assert dict(zip(many["values"], many["weights"], strict=True)) == Counter(some)
    low, high = find.taken_interval
    assert low <= find.taken <= high
    assert by_name["read", "join"].counts.tolist() == [
        int(line > 0) for count in lines for line in range(count)
    ]
    assert found.tokens == {"find": len(lines), "read": sum(lines), "join": len(lines)}
    assert found.factors["read"] == pytest.approx(np.mean(lines))


def test_a_pipeline_that_draws_what_was_measured_makes_as_many_tokens() -> None:
    lines = [0, 1, 1, 2, 5, 0, 3, 2]
    found = mp.measure_scale(pipeline(), step, lines)
    measured = found.measured
    edge = measured.edges[0]
    assert (edge.probability, edge.fanout.mean) == (0.75, pytest.approx(14 / 6))
    queries = 20_000
    drawn = realise(measured, mp.Trace.from_ns(np.arange(queries)), seed=1)
    assert drawn.stages["read"].count / queries == pytest.approx(found.factors["read"], rel=0.05)
    assert mp.Pipeline.from_document(measured.to_document()) == measured
    assert "find → read" in str(found)


def test_edges_that_go_together_are_told() -> None:
    document = {
        "stages": {name: {"model": "m"} for name in ("a", "b", "c")},
        "edges": [{"from": "a", "to": "b"}, {"from": "a", "to": "c"}],
    }
    forked = mp.Pipeline.from_document(document)
    either = mp.measure_scale(
        forked, lambda stage, n: {"b" if n % 2 else "c": [n]} if stage == "a" else {}, range(50)
    )
    assert "instead of each other" in either.remarks[0]
    random = np.random.default_rng(0)
    alone = mp.measure_scale(
        forked,
        lambda stage, n: (
            {"b": [n] * random.integers(3), "c": [n] * random.integers(3)} if stage == "a" else {}
        ),
        range(50),
    )
    assert alone.remarks == ()


def test_what_cannot_be_counted_is_refused() -> None:
    with pytest.raises(mp.InputError, match="samples: there is none"):
        mp.measure_scale(pipeline(), step, [])
    with pytest.raises(mp.InputError, match="no token came to read in 2 samples"):
        mp.measure_scale(pipeline(), step, [0, 0])
    with pytest.raises(mp.InputError, match=r"edge read → join: was never taken in 2 tokens"):
        _ = mp.measure_scale(pipeline(), step, [1, 1]).measured
    with pytest.raises(mp.InputError, match="to which no edge leads; did you mean 'read'"):
        mp.measure_scale(pipeline(), lambda _stage, _token: {"raed": [1]}, [1])
    with pytest.raises(mp.InputError, match="expected tokens by the next stage, found 3"):
        mp.measure_scale(pipeline(), lambda _stage, _token: 3, [1])  # type: ignore[arg-type, return-value]
    with pytest.raises(mp.InputError, match=r"step\('find', …\): raises ZeroDivisionError: division by zero"):
        mp.measure_scale(pipeline(), lambda _stage, token: {"read": [1 / token]}, [0])
    for made in (3, "line"):
        with pytest.raises(mp.InputError, match="expected a list of tokens for 'read', found"):
            mp.measure_scale(pipeline(), lambda _stage, _token, made=made: {"read": made}, [1])  # type: ignore[misc]
    with pytest.raises(mp.InputError, match="samples: raises TypeError: 'int' object is not iterable"):
        mp.measure_scale(pipeline(), step, 3)  # type: ignore[arg-type]
    with pytest.raises(mp.InputError, match="samples: raises ZeroDivisionError"):
        mp.measure_scale(pipeline(), step, (1 // token for token in (0, 1)))
    with pytest.raises(mp.InputError, match="expected a function"):
        mp.measure_scale(pipeline(), 3, [1])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("error", "why"),
    [(ValueError("no page"), "raises ValueError: no page"), (KeyboardInterrupt(), "interrupted")],
)
@pytest.mark.parametrize("where", ["step", "samples"])
def test_what_was_counted_before_a_sample_that_fails_is_kept(
    where: str, error: BaseException, why: str
) -> None:
    whole = mp.measure_scale(pipeline(), step, [3, 2, 1])

    def failing(stage: str, token: Any) -> Any:
        if token == "fails" and where == "step":
            raise error
        return step(stage, token)

    def shown() -> Iterator[Any]:
        yield from [3, 2, 1]
        if where == "samples":
            raise error
        yield "fails"

    found = mp.measure_scale(pipeline(), failing, shown())
    assert (found.samples, found.ended_early, whole.ended_early) == (3, True, False)
    assert found.remarks[0].startswith("ended at sample 4, of which nothing is counted: ")
    assert why in found.remarks[0]
    assert [edge.counts.tolist() for edge in found.edges] == [edge.counts.tolist() for edge in whole.edges]
    assert found.tokens == whole.tokens


MODULE = """
def lines(number):
    return [count % 4 for count in range(number)]

def step(stage, token):
    if stage == "find":
        return {"read": range(token), "join": ["page"]}
    return {"join": [token]} if stage == "read" and token else {}
"""


def test_the_command_writes_the_pipeline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "paged.py").write_text(MODULE)
    (tmp_path / "ocr.yaml").write_text(json.dumps(OCR))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    asked = ["profile", "paged:step", "--pipeline", "ocr.yaml", "--inputs", "paged:lines", "--samples", "40"]
    done = CliRunner().invoke(app, [*asked, "--out", "measured.yaml"])
    assert done.exit_code == 0, done.output
    assert "tokens per query  find 1, read 1.5, join 1" in done.output
    measured = mp.Pipeline.read("measured.yaml")
    assert (measured.edges[0].probability, measured.edges[0].fanout.values) == (0.75, (1, 2, 3))
    report = json.loads(CliRunner().invoke(app, [*asked, "--out", "measured.yaml", "--json"]).stdout)
    assert (report["samples"], report["edges"][0]["times"]) == (40, [10, 10, 10, 10])
    wrong = CliRunner().invoke(
        app, ["profile", "paged:stp", "--pipeline", "ocr.yaml", "--samples", "0", "--out", "x"]
    )
    assert wrong.exit_code == 2
    for said in (
        "paged has no 'stp'",
        "--inputs: missing",
        "--samples: expected a whole number",
        "ends in .yaml",
    ):
        assert said in " ".join(wrong.output.split()), wrong.output
    Path("paged.py").write_text(
        MODULE.replace("return [count % 4", "return ['x' if count == 30 else count % 4")
    )
    del sys.modules["paged"]
    early = CliRunner().invoke(app, [*asked, "--out", "early.yaml"])
    assert early.exit_code == 1
    assert "ended at sample 31, of which nothing is counted: step('find', …): raises" in " ".join(
        early.output.split()
    )
    assert mp.Pipeline.read("early.yaml").edges[0].probability == pytest.approx(0.7333, abs=1e-3)
    mixed = CliRunner().invoke(app, [*asked, "--hardware", "h", "--batch", "1", "--out", "measured.yaml"])
    assert mixed.exit_code == 2
    assert "--hardware: does not go with --pipeline --batch: does" in " ".join(mixed.output.split())
    alone = CliRunner().invoke(app, ["profile", "paged:step", "--samples", "4", "--out", "p"])
    assert "--samples: goes with --pipeline" in alone.output
    nameless = CliRunner().invoke(app, ["profile", "paged:step", "--batch", "1", "--out", "p"])
    assert "--hardware: missing" in nameless.output
    lonely = CliRunner().invoke(
        app, ["profile", "paged:step", "--out", "p", "--expand", "even", "--to", "3s"]
    )
    for flag in ("--expand", "--to"):
        assert f"{flag}: goes with --trace" in lonely.output


def test_a_pipeline_that_cannot_be_written_costs_no_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losing = (
        "\nimport shutil\n\ndef lost(*given):\n    shutil.rmtree('gone', True)\n    return step(*given)\n"
    )
    (tmp_path / "losing.py").write_text(MODULE + losing)
    (tmp_path / "ocr.yaml").write_text(json.dumps(OCR))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    asked = ["profile", "losing:lost", "--pipeline", "ocr.yaml", "--inputs", "losing:lines", "--json"]
    (tmp_path / "gone").mkdir()
    done = CliRunner().invoke(app, [*asked, "--out", "gone/measured.yaml"])
    assert done.exit_code == 2
    assert "  --out gone/measured.yaml: " in done.stderr or "  gone/measured.yaml: " in done.stderr
    report = json.loads(done.stdout)
    assert (report["samples"], report["file"]) == (100, None)
