"""Campaigns count what they find; none states a number that somebody typed."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from campaigns import Violations, campaign_size, is_deep, write_summary

TESTS = Path(__file__).parent
#: What the number of findings is called.
FINDINGS = {"violations", "mismatches", "differences", "false_statements"}


def test_violations_are_counted_and_end_the_campaign_when_checked() -> None:
    violations = Violations()
    for number in range(5):
        with violations.case(number):
            assert number % 2 == 0, "odd"
    violations.expect(1 < 2, "fine")
    violations.expect(2 < 1, "case 7")
    assert [found.split(":")[0] for found in violations.found] == ["1", "3", "case 7"]
    with pytest.raises(AssertionError, match="3 violations"):
        violations.checked()


def test_without_violations_none_are_stated() -> None:
    violations = Violations()
    with violations.case(0):
        assert True
    assert violations.checked() == 0


def test_errors_are_no_findings() -> None:
    violations = Violations()
    with pytest.raises(ZeroDivisionError) as caught, violations.case("of nothing"):
        assert 1 / 0
    assert caught.value.__notes__ == ["case of nothing"]
    assert violations.found == []


@pytest.mark.parametrize("path", sorted(TESTS.rglob("test_*.py")), ids=lambda path: path.name)
def test_no_summary_states_a_typed_number_of_findings(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typed = [
        key.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Dict)
        for key, value in zip(node.keys, node.values, strict=True)
        if isinstance(key, ast.Constant) and key.value in FINDINGS and isinstance(value, ast.Constant)
    ]
    assert typed == []


def test_a_quick_campaign_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MIPPLAN_DEEP", raising=False)
    assert (is_deep(), campaign_size(3, 5)) == (False, 3)
    before = sorted((TESTS.parent / "benchmarks" / "results" / "campaigns").iterdir())
    write_summary("no-such-campaign", {})
    assert sorted((TESTS.parent / "benchmarks" / "results" / "campaigns").iterdir()) == before
