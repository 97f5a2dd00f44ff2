"""Every rule of the pipeline file, broken once, with its message and place."""

from __future__ import annotations

from pathlib import Path

import pytest

from mipplan.core import InputError, find_cycle
from mipplan.pipeline import Pipeline

HEAD = "stages:\n  a: {model: m}\n  b: {model: n}\n"


def faults_of(text: str, tmp_path: Path) -> list[str]:
    path = tmp_path / "p.yaml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        Pipeline.read(path)
    return [str(fault).removeprefix(f"{tmp_path}/") for fault in caught.value.faults]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("slo: 300\n" + HEAD, "p.yaml:1: slo: 300 has no unit: write 300ms or 300s"),
        ("slo: 0ms\n" + HEAD, "p.yaml:1: slo: expected a positive duration"),
        ("slo: fast\n" + HEAD, "p.yaml:1: slo: expected a duration such as 300ms"),
        ("slo: [3ms]\n" + HEAD, "p.yaml:1: slo: expected a duration with a unit"),
        ("slo: {p99: 3}\n" + HEAD, "p.yaml:1: slo: p99: 3 has no unit: write 3ms or 3s"),
        ("slo: {p0: 3ms}\n" + HEAD, "p.yaml:1: slo: p0: expected p50, p99, p99.9 or such, per or share"),
        ("slo: {p99: 3ms, share: 2}\n" + HEAD, "p.yaml:1: slo: share: expected a number in (0, 1]"),
        ("slo: {p99: 3ms, share: 0.9}\n" + HEAD, "share: is of windows: say how long they are by per: 5min"),
        (
            "slo: {per: 5min}\n" + HEAD,
            "p.yaml:1: slo: expected a quantile with its limit, such as p99: 300ms",
        ),
        (
            "slo: {p101: 3ms, per: 0s}\n" + HEAD,
            "slo: p101: expected p50, p99, p99.9 or such, per or share; per: ",
        ),
        ("slo: {p99: 3ms, p99.0: 3s}\n" + HEAD, "p.yaml:1: slo: p99.0: is the same quantile as p99"),
        ("name: ''\n" + HEAD, "p.yaml:1: name: the name is empty"),
        ("stage: 1\n" + HEAD, "p.yaml:1: stage: unknown key; did you mean 'stages'?"),
        (
            "xyzzy: 1\n" + HEAD,
            "p.yaml:1: xyzzy: unknown key; known keys are accuracy, discipline, dispatch, edges, name, slo",
        ),
        ("name: x\n", "p.yaml:1: stages: is missing"),
        ("stages: {}\n", "p.yaml:1: stages: must not be empty"),
        ("stages: [a]\n", "p.yaml:1: stages: expected a mapping, found ['a']"),
        ("- 1\n", "p.yaml:1: expected a mapping"),
        ("stages:\n  a: {}\n", "p.yaml:2: stages.a.model: is missing"),
        ("stages:\n  a:\n", "p.yaml:2: stages.a: expected a mapping, found nothing"),
        ("stages:\n  a: {model: [m]}\n", "p.yaml:2: stages.a.model: expected a name (text)"),
        ("stages:\n  ' a': {model: m}\n", "p.yaml:2: stages. a: the name ' a' begins or ends with a blank"),
        ('stages:\n  "a\\tb": {model: m}\n', "holds control or invisible characters"),
        ("stages:\n  a: {modle: m, model: m}\n", "stages.a.modle: unknown key; did you mean 'model'?"),
        ("stages:\n  a: {model: m, hardware: []}\n", "stages.a.hardware: must not be empty"),
        (
            "stages:\n  a: {model: m, hardware: [t4, 4]}\n",
            "stages.a.hardware[1]: expected a name (text), found 4",
        ),
        ("stages:\n  a: {model: m, hardware: [t4, t4]}\n", "stages.a.hardware: 't4' is given twice"),
        ("stages:\n  a: {model: m, hardware: {t4: 1}}\n", "expected a hardware type or a list of them"),
        ("stages:\n  a: {model: m, batch: 0}\n", "stages.a.batch: expected a number ≥ 1, found 0"),
        ("stages:\n  a: {model: m, batch: 2.5}\n", "stages.a.batch: expected a whole number, found 2.5"),
        ("stages:\n  a: {model: m, batch: true}\n", "stages.a.batch: expected a batch cap, a list of them"),
        ("stages:\n  a: {model: m, batch: [1, 1]}\n", "stages.a.batch: 1 is given twice"),
        (
            "stages:\n  a: {model: m, batch: [1, true]}\n",
            "stages.a.batch[1]: expected a whole number, found True",
        ),
        ("stages:\n  a: {model: m, batch: {min: 4, max: 2}}\n", "stages.a.batch: min 4 is above max 2"),
        ("stages:\n  a: {model: m, batch: {mx: 2}}\n", "stages.a.batch.mx: unknown key; did you mean 'max'?"),
        ("stages:\n  a: {model: m, replicas: 0}\n", "stages.a.replicas: expected a number ≥ 1, found 0"),
        ("stages:\n  a: {model: m, replicas: 2000000}\n", "expected a number ≤ 1,000,000, found 2000000"),
        ("stages:\n  a: {model: m, replicas: [1, 2]}\n", "stages.a.replicas: expected a number of replicas"),
        ("stages:\n  a: {model: m, join: any}\n", "stages.a.join: expected each or all, found 'any'"),
        (
            "dispatch: [paced]\nstages:\n  a: {model: m}\n",
            "p.yaml:1: dispatch: expected eager, paced or timed",
        ),
        (
            "stages:\n  a: {model: m}\n  a: {model: n}\n",
            "stages.a: the key is given twice: here and again on line 3",
        ),
        (HEAD + "edges: {a: b}\n", "p.yaml:4: edges: expected a list"),
        (HEAD + "edges:\n  - a\n", "p.yaml:5: edges[0]: expected a mapping, found 'a'"),
        (HEAD + "edges:\n  - {from: a}\n", "p.yaml:5: edges[0].to: is missing"),
        (HEAD + "edges:\n  - {from: a, to: 3}\n", "edges[0].to: expected the name of a stage, found 3"),
        (HEAD + "edges:\n  - {from: a, to: bb}\n", "edges[0].to: there is no stage 'bb'; did you mean 'b'?"),
        (HEAD + "edges:\n  - {from: a, to: a}\n", "edges[0]: the edge leads from 'a' to itself"),
        (
            HEAD + "edges:\n  - {from: a, to: b}\n  - {from: a, to: b}\n",
            "p.yaml:6: edges[1]: the edge a → b is given twice; first at line 5",
        ),
        (
            HEAD + "edges:\n  - {from: a, to: b}\n  - {from: b, to: a}\n",
            "p.yaml:6: edges[1]: this edge closes a cycle: a → b → a",
        ),
        (HEAD + "edges:\n  - {from: a, to: b, delay: -1ms}\n", "edges[0].delay: expected a duration such as"),
        (HEAD + "edges:\n  - {from: a, to: b, delay: 1}\n", "edges[0].delay: 1 has no unit: write 1ms or 1s"),
        (
            HEAD + "edges:\n  - {from: a, to: b, dealy: 1ms}\n",
            "edges[0].dealy: unknown key; did you mean 'delay'?",
        ),
        (HEAD + "edges:\n  - {from: a, to: b, probability: 0}\n", "expected a number > 0, found 0"),
        (HEAD + "edges:\n  - {from: a, to: b, probability: 1.1}\n", "expected a number ≤ 1, found 1.1"),
        (
            HEAD + "edges:\n  - {from: a, to: b, probability: .nan}\n",
            "probability: expected a finite number, found nan",
        ),
        (HEAD + "edges:\n  - {from: a, to: b, probability: '0.5'}\n", "expected a number, found '0.5'"),
        (
            HEAD + "edges:\n  - {from: a, to: b, fanout: 0}\n",
            "edges[0].fanout: the mean number of tokens must be",
        ),
        (HEAD + "edges:\n  - {from: a, to: b, fanout: 10001}\n", "at most 10000, found 10001"),
        (
            HEAD + "edges:\n  - {from: a, to: b, fanout: two}\n",
            "edges[0].fanout: expected a mean number of tokens",
        ),
        (
            HEAD + "edges:\n  - {from: a, to: b, fanout: [1]}\n",
            "edges[0].fanout: expected a mean number of tokens",
        ),
        (
            HEAD + "edges:\n  - {from: a, to: b, fanout: {}}\n",
            "expected {poisson: mean}, or both values and weights",
        ),
        (HEAD + "edges:\n  - {from: a, to: b, fanout: {poisson: -2}}\n", "edges[0].fanout.poisson: the mean"),
        (HEAD + "edges:\n  - {from: a, to: b, fanout: {values: [1], weights: [0]}}\n", "must not all be 0"),
        (
            HEAD + "edges:\n  - {from: a, to: b, fanout: {values: [1.5], weights: [1]}}\n",
            "expected a whole number",
        ),
        (
            HEAD + "edges:\n  - {from: a, to: b, fanout: {value: [1]}}\n",
            "unknown key; did you mean 'values'?",
        ),
    ],
)
def test_rule(text: str, expected: str, tmp_path: Path) -> None:
    faults = faults_of(text, tmp_path)
    assert any(expected in fault for fault in faults), faults
    assert len(faults) <= 2  # a misspelt key may also leave another one missing


def test_every_fault_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = (
        "nmae: x\nslo: 300\nstages:\n"
        "  a: {model: m, batch: 0}\n  b: {modell: n}\n  c: {model: k, join: some}\n"
        "edges:\n  - {from: a, to: x}\n  - {from: b, to: c, probability: 2}\n  - {from: c, to: b, delay: 5}\n"
    )
    faults = faults_of(text, tmp_path)
    assert [int(fault.split(":")[1]) for fault in faults] == [1, 2, 4, 5, 5, 6, 8, 9, 10, 10]
    assert "p.yaml:10: edges[2]: this edge closes a cycle: b → c → b" in faults


def test_faults_of_a_plain_document_name_its_origin() -> None:
    with pytest.raises(InputError, match=r"^plan.json: stages.a.model: is missing$"):
        Pipeline.from_document({"stages": {"a": {}}}, origin="plan.json")


def test_keys_that_are_not_text_are_refused() -> None:
    with pytest.raises(InputError, match="key 3 is not text"):
        Pipeline.from_document({"stages": {"a": {"model": "m", 3: 4}}})  # type: ignore[dict-item]
    with pytest.raises(InputError, match=r"expected a name \(text\), found 7"):
        Pipeline.from_document({"stages": {7: {"model": "m"}}})


def test_a_misspelt_file_name_is_corrected(tmp_path: Path) -> None:
    (tmp_path / "video.yaml").write_text(HEAD)
    with pytest.raises(InputError, match=r"did you mean 'video\.yaml'"):
        Pipeline.read(tmp_path / "vidio.yaml")


@pytest.mark.parametrize(
    ("arcs", "cycle"),
    [
        ([], []),
        ([("a", "b"), ("b", "c"), ("a", "c")], []),
        ([("a", "b"), ("b", "c"), ("c", "b"), ("c", "d")], ["b", "c"]),
        ([("a", "b"), ("b", "c"), ("c", "a")], ["a", "b", "c"]),
    ],
)
def test_one_cycle_is_found(arcs: list[tuple[str, str]], cycle: list[str]) -> None:
    assert find_cycle(arcs) == cycle


def test_a_long_chain_needs_no_deep_stack() -> None:
    count = 3000
    stages = {f"s{i}": {"model": "m"} for i in range(count)}
    edges = [{"from": f"s{i}", "to": f"s{i + 1}"} for i in range(count - 1)]
    assert find_cycle([(edge["from"], edge["to"]) for edge in edges]) == []
    pipeline = Pipeline.from_document({"stages": dict(list(stages.items())[:300]), "edges": edges[:299]})
    assert len(pipeline.topological_order) == 300
