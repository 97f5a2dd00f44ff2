"""Pipelines that are no YAML, hostile YAML, or YAML that is no pipeline."""

from __future__ import annotations

from pathlib import Path

from bad_inputs.case import PIPELINE, Case, Making


def _case(name: str, pipeline: Making, *said: str) -> Case:
    return Case(f"pipeline: {name}", said, {"pipeline.yaml": pipeline})


def _with(old: str, new: str) -> str:
    assert old in PIPELINE
    return PIPELINE.replace(old, new)


def _stage(entries: str) -> str:
    return _with("{model: resize}", f"{{model: resize, {entries}}}")


def _edge(entries: str) -> str:
    return _with("delay: 1ms", entries)


_BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
_MANY = "stages:\n" + "".join(f"  s{index}: {{model: resize}}\n" for index in range(1_001))

FORM = [
    _case("empty", "", "pipeline.yaml: is empty"),
    _case("only a comment", "# later\n", "pipeline.yaml: is empty"),
    _case("anchor bomb", _BOMB, "pipeline.yaml:2: b[0]: the alias *a is not accepted: write the value out"),
    _case(
        "object tag",
        _with("slo: 100ms", "slo: !!python/object/apply:os.system [ls]"),
        "pipeline.yaml:2: slo: the tag",
        "write a plain value",
    ),
    _case("local tag", _with("slo: 100ms", "slo: !secret 100ms"), "pipeline.yaml:2: slo: the tag '!secret'"),
    _case(
        "merge key",
        _with("{model: resize}", "{<<: {model: resize}}"),
        "pipeline.yaml:4: stages.first.<<: merge keys",
    ),
    _case(
        "duplicate key",
        PIPELINE + "slo: 200ms\n",
        "pipeline.yaml:2: slo: the key is given twice: here and again on line 8",
    ),
    _case(
        "duplicate stage",
        _with("  second:", "  first:"),
        "pipeline.yaml:4: stages.first: the key is given twice",
    ),
    _case("tabs", "stages:\n\tfirst: {model: resize}\n", "pipeline.yaml:2: is not valid YAML", "not tabs"),
    _case("unclosed brace", _with("{model: resize}", "{model: resize"), "pipeline.yaml:5: is not valid YAML"),
    _case(
        "colon in text", _with("name: small", "name: a: b"), "pipeline.yaml:1: is not valid YAML", "in quotes"
    ),
    _case("deep nesting", "[" * 200 + "]" * 200, "pipeline.yaml:1: is nested more than 24 levels deep"),
    _case(
        "two documents",
        PIPELINE + "---\n" + PIPELINE,
        "pipeline.yaml:8: a second document begins here; keep one per file",
    ),
    _case("zero byte", _with("small", "sm\0all"), "pipeline.yaml:1: holds the character U+0000", "remove it"),
    _case(
        "not UTF-8",
        PIPELINE.encode() + b"# caf\xe9\n",
        "pipeline.yaml:8: is not UTF-8 text (byte 0xe9); save the file as UTF-8",
    ),
    _case("UTF-16", PIPELINE.encode("utf-16"), "pipeline.yaml:1: is not UTF-8 text"),
    _case("binary", bytes(range(256)) * 4, "pipeline.yaml:", "is not UTF-8 text"),
    _case("too large", "# " + "x" * (5 * 1024 * 1024), "pipeline.yaml: is larger than 4 MiB"),
    _case(
        "too many values", "a: [" + "1," * 120_000 + "]", "pipeline.yaml:1: holds more than 100,000 values"
    ),
    _case("a folder", Path.mkdir, "pipeline.yaml: is a folder; a file was expected"),
    _case("missing", None, "pipeline.yaml: there is no such file"),
    _case("a link to itself", lambda path: path.symlink_to(path.name), "pipeline.yaml: cannot be read"),
    _case(
        "a device",
        lambda path: path.symlink_to("/dev/zero"),
        "pipeline.yaml: is a device; a file was expected",
    ),
    _case("JSON of something else", '[1, 2, {"a": null}]', "pipeline.yaml:1: expected a mapping"),
    _case("a text", "just words\n", "pipeline.yaml:1: expected a mapping, found 'just words'"),
]

CONTENT = [
    _case("no stages", "name: x\nslo: 1s\n", "pipeline.yaml:1: stages: is missing"),
    _case("empty stages", "stages: {}\n", "pipeline.yaml:1: stages: must not be empty"),
    _case("stages as a list", "stages: [first]\n", "pipeline.yaml:1: stages: expected a mapping"),
    _case("too many stages", _MANY, "pipeline.yaml:1: stages: holds more than 1,000 entries"),
    _case(
        "stage without model",
        _with("{model: resize}", "{}"),
        "pipeline.yaml:4: stages.first.model: is missing",
    ),
    _case(
        "stage of nothing",
        _with(" {model: resize}", ""),
        "pipeline.yaml:4: stages.first: expected a mapping, found nothing",
    ),
    _case("numeric stage", _with("first:", "1:"), "pipeline.yaml:4: stages.1", "in quotes"),
    _case(
        "numeric model",
        _with("{model: resize}", "{model: 5}"),
        "pipeline.yaml:4: stages.first.model: expected a name",
    ),
    _case("blank name", _with("name: small", "name: '  '"), "pipeline.yaml:1: name: the name is empty"),
    _case(
        "control characters",
        _with("  first:", '  "fi\\x07rst":'),
        "pipeline.yaml:4: stages.fi?rst",
        "control or invisible characters",
    ),
    _case(
        "right-to-left override",
        _with("  first:", '  "fi\\u202Erst":'),
        "pipeline.yaml:4",
        "invisible characters",
    ),
    _case(
        "endless name", _with("  first:", f"  {'x' * 300}:"), "pipeline.yaml:4", "longer than 200 characters"
    ),
    _case(
        "a plan",
        '{"format": 1, "choices": {}, "pipeline": {"stages": {}}}',
        "pipeline.yaml: is a plan, not a pipeline: the one that it was made for stands in it, as `pipeline`",
    ),
    _case(
        "misspelt key of a stage",
        _with("{model: resize}", "{modle: resize}"),
        "pipeline.yaml:4: stages.first.modle: unknown key; did you mean 'model'?",
    ),
    _case(
        "misspelt key of the pipeline",
        _with("slo:", "sla:"),
        "pipeline.yaml:2: sla: unknown key; did you mean 'slo'?",
    ),
    _case(
        "misspelt key of an edge",
        _edge("dellay: 1ms"),
        "pipeline.yaml:7: edges[0].dellay: unknown key; did you mean 'delay'?",
    ),
    _case(
        "unknown stage",
        _with("to: second", "to: secnd"),
        "pipeline.yaml:7: edges[0].to: there is no stage 'secnd'; did you mean 'second'?",
    ),
    _case(
        "numeric end of an edge",
        _with("to: second", "to: 2"),
        "pipeline.yaml:7: edges[0].to",
        "expected the name of a stage, found 2",
    ),
    _case(
        "self loop",
        _with("to: second", "to: first"),
        "pipeline.yaml:7: edges[0]: the edge leads from 'first' to itself",
    ),
    _case(
        "cycle",
        PIPELINE + "  - {from: second, to: first}\n",
        "pipeline.yaml:",
        "closes a cycle: ",
        "first",
        "second",
    ),
    _case(
        "edge twice",
        PIPELINE + "  - {from: first, to: second}\n",
        "pipeline.yaml:8: edges[1]: the edge first → second is given twice; first at line 7",
    ),
    _case(
        "edges as a mapping",
        PIPELINE.split("edges")[0] + "edges: {first: second}\n",
        "pipeline.yaml:6: edges: expected a list",
    ),
    _case("edge of one end", _with(", to: second", ""), "pipeline.yaml:7: edges[0].to: is missing"),
    *(
        _case(f"slo {slo}", _with("100ms", slo), "pipeline.yaml:2: slo", *said)
        for slo, said in {
            "300": ("300ms or 300s",),
            "0ms": ("positive duration",),
            "-5ms": ("300ms",),
            ".nan": ("duration",),
            ".inf": ("duration",),
            "5 minutes": ("300ms",),
            "1:30": ("'1:30'",),
            "1e400s": ("300ms",),
            "99999999999999s": ("longer than ten years",),
            "[300ms]": ("duration with a unit",),
            "true": ("duration with a unit",),
        }.items()
    ),
    *(
        _case(f"delay {delay}", _edge(f"delay: {delay}"), "pipeline.yaml:7: edges[0].delay", *said)
        for delay, said in {
            "1": ("1ms or 1s",),
            "-1ms": ("300ms",),
            "1 hour": ("300ms",),
            "null": ("duration",),
        }.items()
    ),
    *(
        _case(
            f"probability {value}",
            _edge(f"probability: {value}"),
            "pipeline.yaml:7: edges[0].probability",
            *said,
        )
        for value, said in {
            "0": ("> 0",),
            "-0.1": ("> 0",),
            "1.5": ("≤ 1",),
            ".nan": ("finite number",),
            "often": ("expected a number",),
            "50%": ("expected a number",),
        }.items()
    ),
    *(
        _case(f"fanout {value}", _edge(f"fanout: {value}"), "pipeline.yaml:7: edges[0].fanout", *said)
        for value, said in {
            "0": ("above 0",),
            "-2": ("above 0",),
            ".inf": ("mean number of tokens",),
            "1" + "0" * 30: ("at most 10000",),
            "many": ("mean number of tokens",),
            "[1, 2]": ("a mean number of tokens",),
            "{poison: 2}": ("did you mean 'poisson'?",),
            "{poisson: -1}": ("above 0",),
            "{values: [0, 1]}": ("both values and weights",),
            "{values: [0, 1], weights: [1]}": ("as many weights as values",),
            "{values: [], weights: []}": ("at least one",),
            "{values: [1, 1], weights: [1, 2]}": ("add up its weights",),
            "{values: [0.5], weights: [1]}": ("whole number",),
            "{values: [-1], weights: [1]}": ("whole numbers from 0",),
            "{values: [1], weights: [-1]}": ("≥ 0",),
            "{values: [1, 2], weights: [0, 0]}": ("must not all be 0",),
            "{poisson: 2, values: [1], weights: [1]}": ("not both",),
        }.items()
    ),
    *(
        _case(f"stage with {entries}", _stage(entries), "pipeline.yaml:4: stages.first", *said)
        for entries, said in {
            "batch: 0": ("≥ 1",),
            "batch: 1.5": ("whole number",),
            "batch: 010": ("begins with a zero",),
            "batch: " + "9" * 30: ("≤ 1,000,000",),
            "batch: 0x" + "f" * 5000: ("no usable number",),
            "batch: big": ("whole number",),
            "batch: []": ("must not be empty",),
            "batch: [4, 4]": ("given twice",),
            "batch: {min: 8, max: 4}": ("min 8 is above max 4",),
            "batch: {most: 4}": ("unknown key",),
            "replicas: -1": ("≥ 1",),
            "replicas: {min: 0}": ("≥ 1",),
            "replicas: [1, 2]": ("a number of replicas or {min: …, max: …}",),
            "hardware: []": ("must not be empty",),
            "hardware: [cpu, cpu]": ("given twice",),
            "hardware: {cpu: 1}": ("a hardware type or a list of them",),
            "hardware: gpuu": ("did you mean 'gpu'?",),
            "join: some": ("expected each or all, found 'some'",),
            "dispatch: swift": ("expected eager, paced or timed, found 'swift'",),
        }.items()
    ),
    _case(
        "unknown model",
        _with("resize", "resise"),
        "pipeline.yaml:4: stages.first.model",
        "did you mean 'resize'?",
    ),
    _case(
        "tokens beyond measure",
        _edge(
            "fanout: 10000}\n  - {from: second, to: third, fanout: 10000}\n  - {from: third, to: fourth, fanout: 10000"
        ).replace("edges:", "  third: {model: resize}\n  fourth: {model: resize}\nedges:"),
        "tokens",
        "smaller fan-out",
    ),
]

CASES = [*FORM, *CONTENT]
