"""Exports as folders: what is refused, that they are whole, and what they say of the guarantee."""

from __future__ import annotations

import ast
import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings

import mipplan as mp
from export_plans import CHOICES, diamond, random_plans, shipped_plan
from mipplan.exporters import TARGETS, Deployment
from mipplan.pipeline import SYSTEMS

LONG_NAME = '検出 / «objects» of "everything" \\ that moves'


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def is_refused(target: str, plan: mp.Plan, *, emulate: bool = False) -> bool:
    return bool(TARGETS[target].faults(Deployment(plan, emulate)))


@pytest.mark.parametrize("emulate", [False, True])
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", CHOICES)
def test_shipped_pipelines_are_written_the_same_every_time(
    name: str, target: str, emulate: bool, tmp_path: Path
) -> None:
    plan = shipped_plan(name)
    if is_refused(target, plan, emulate=emulate):
        with pytest.raises(mp.InputError):
            mp.export(plan, to=target, directory=tmp_path / "a", emulate=emulate)
        assert list(tmp_path.iterdir()) == []
        return
    made = mp.export(plan, to=target, directory=tmp_path / "a", emulate=emulate)
    mp.export(plan, to=target, directory=tmp_path / "b", emulate=emulate)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert set(made.files) == set(contents(tmp_path / "a"))
    assert mp.Plan.load(tmp_path / "a" / "plan.json").to_json() == plan.to_json()
    assert len(str(made).splitlines()) <= 15
    readme = (tmp_path / "a" / "README.md").read_text(encoding="utf-8")
    for departure in made.departures:
        assert departure.what in readme
        assert departure.effect in readme
    for sentence in made.assumptions:
        assert sentence in readme


@settings(max_examples=25, deadline=None)
@given(plan=random_plans())
def test_random_plans_can_be_written_or_are_refused_with_reasons(plan: mp.Plan) -> None:
    deployment = Deployment(plan)
    for target in TARGETS.values():
        faults = target.faults(deployment)
        assert len(set(faults)) == len(faults)
        if faults:
            continue
        for emulate in (False, True):
            files = target.files(Deployment(plan, emulate))
            for path, text in files.items():
                if path.endswith(".py"):
                    ast.parse(text)
                elif path.endswith(".yaml"):
                    assert all(isinstance(document, dict) for document in yaml.safe_load_all(text))
        assert target.start(deployment)
        assert all(target.settings(stage) for stage in deployment.stages)
        assert all(one.what and one.effect for one in target.departures(deployment))


@pytest.mark.parametrize("target", TARGETS)
def test_any_name_is_written(target: str, tmp_path: Path) -> None:
    pipeline = mp.Pipeline.from_document(
        {
            "name": LONG_NAME,
            "slo": "1s",
            "stages": {name: {"model": "resnet50"} for name in (LONG_NAME, "7 up", "検出", "A-b", "a b")},
            "edges": [
                {"from": one, "to": other}
                for one, other in ((LONG_NAME, "7 up"), ("7 up", "検出"), ("検出", "A-b"), ("A-b", "a b"))
            ],
        }
    )
    plan = mp.Plan.from_choices(pipeline, mp.Profiles.default(), dict.fromkeys(pipeline.stages, ("t4", 2, 1)))
    mp.export(plan, to=target, directory=tmp_path / "out", emulate=target != "keda")
    labels = [stage.label for stage in Deployment(plan).stages]
    assert labels == ["objects-of-everything-that", "stage-7-up", "stage", "a-b", "a-b-2"]
    for path in (tmp_path / "out").rglob("*.py"):
        ast.parse(path.read_text(encoding="utf-8"))


def test_all_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    with pytest.raises(mp.InputError) as told:
        mp.export(shipped_plan("cascade"), to="tritn", directory=tmp_path / "full", cpu=["t5"])
    assert [str(fault) for fault in told.value.faults] == [
        "to: expected one of triton, ray, mosec, kserve, keda, found 'tritn'",
        "cpu: the plan uses no 't5'; it uses cpu, t4, v100",
        f"{tmp_path / 'full'}: is not empty; name another folder (--force, or force=True, replaces an earlier export)",
    ]


@pytest.mark.parametrize(
    ("directory", "message"),
    [
        ("", "expected the name of a folder"),
        ("file", "is a file"),
        ("nowhere/out", "there is no folder"),
        ("a\0b", "expected the name of a folder"),
    ],
)
def test_folders_that_cannot_be_made(
    directory: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("mine")
    with pytest.raises(mp.InputError, match=message):
        mp.export(diamond(), to="triton", directory=directory)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_only_an_earlier_export_is_replaced(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    mp.export(diamond(), to="triton", directory=out)
    mp.export(shipped_plan("image-processing"), to="mosec", directory=out, force=True)
    assert sorted(contents(out)) == ["README.md", "plan.json", "server.py"]
    assert list(tmp_path.iterdir()) == [out]
    (out / "README.md").write_text("another text")
    with pytest.raises(mp.InputError, match="no export wrote"):
        mp.export(diamond(), to="triton", directory=out, force=True)
    assert (out / "server.py").is_file()


def test_models_put_in_are_kept_when_an_export_is_replaced(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert mp.export(diamond(), to="triton", directory=out).kept == ()
    weights = out / "models" / "left" / "1" / "model.onnx"
    weights.parent.mkdir(parents=True, exist_ok=True)
    weights.write_bytes(b"weights")
    (out / "shared.safetensors").symlink_to("/nowhere/shared.safetensors")
    (out / "models" / "left" / "config.pbtxt").write_text("changed")
    labels, config = weights.with_name("labels.txt"), weights.with_name("tokenizer.json")
    for path in (labels, config):
        path.write_text("mine")
    (out / "models" / "left" / "__pycache__").mkdir()
    (out / "models" / "left" / "__pycache__" / "model.cpython-311.pyc").write_bytes(b"")
    again = mp.export(diamond(), to="triton", directory=out, force=True)
    put_in = [f"models/left/1/{name}" for name in ("labels.txt", "model.onnx", "tokenizer.json")]
    assert again.kept == (*put_in, "shared.safetensors")
    assert labels.read_text() == config.read_text() == "mine"
    assert not (out / "models" / "left" / "__pycache__").exists()
    assert weights.read_bytes() == b"weights"
    assert (out / "shared.safetensors").is_symlink()
    assert (out / "models" / "left" / "config.pbtxt").read_text(encoding="utf-8") != "changed"
    assert list(tmp_path.iterdir()) == [out]


def test_every_kind_of_file_that_is_written_is_known_as_such(tmp_path: Path) -> None:
    for target in TARGETS:
        out = tmp_path / target
        mp.export(shipped_plan("image-processing"), to=target, directory=out)
        assert mp.export(shipped_plan("image-processing"), to=target, directory=out, force=True).kept == ()


def test_a_failure_leaves_the_old_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    mp.export(diamond(), to="triton", directory=out)
    before = contents(out)
    real = Path.rename
    for refused in range(5):  # Of the renames, from the first of the old folder's files to the last new one.
        made = itertools.count()

        def failing(path: Path, target: Path, made: Iterator[int] = made, refused: int = refused) -> Path:
            if next(made) == refused:
                raise OSError(28, "No space left on device")
            return real(path, target)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "rename", failing)
            with pytest.raises(mp.InputError, match="cannot be written: No space left on device"):
                mp.export(shipped_plan("image-processing"), to="mosec", directory=out, force=True)
        assert contents(out) == before
        assert list(tmp_path.iterdir()) == [out]


def test_a_folder_that_somebody_is_in_stays_the_same_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = tmp_path.stat().st_ino
    for _ in range(2):
        mp.export(shipped_plan("image-processing"), to="mosec", directory=".", force=True)
        assert sorted(path.name for path in Path().iterdir()) == ["README.md", "plan.json", "server.py"]
    assert tmp_path.stat().st_ino == before


@pytest.mark.parametrize("listed", ["", "<!-- Its files: [cut -->"])
def test_exports_whose_readme_does_not_list_files_keep_what_is_of_no_kind_of_theirs(
    listed: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    mp.export(diamond(), to="triton", directory=out)
    readme = out / "README.md"
    lines = readme.read_text(encoding="utf-8").splitlines()
    readme.write_text("\n".join(listed if "Its files" in line else line for line in lines), encoding="utf-8")
    (out / "models" / "left" / "model.onnx").write_bytes(b"weights")
    assert mp.export(diamond(), to="triton", directory=out, force=True).kept == ("models/left/model.onnx",)


def test_a_plan_without_choices_has_nothing_to_export(tmp_path: Path) -> None:
    pipeline = mp.Pipeline.from_document({"slo": "1ms", "stages": {"one": {"model": "resnet50"}}})
    trace = mp.Trace.from_seconds([0.0, 0.1, 0.2])
    plan = mp.plan(pipeline, mp.Profiles.default(), trace)
    with pytest.raises(mp.NoPlanError):
        mp.export(plan, to="triton", directory=tmp_path / "out")


def subjects(plan: mp.Plan, target: str) -> set[str]:
    return {one.subject for one in TARGETS[target].departures(Deployment(plan)) if one.voids}


def test_a_plan_made_for_the_server_keeps_its_certificate() -> None:
    """In order of arrival, outputs 200 us apart, batches collected for 600 us, and hops that may be quick."""
    plan = shipped_plan("image-processing")
    assert subjects(plan, "triton") == {"order", "collection"}
    exact = shipped_plan("image-processing", discipline="fifo")
    assert subjects(exact, "triton") == {"collection", "delays"}
    assert "delays" not in subjects(exact, "ray")
    fifo = replace(exact, objective=replace(exact.objective, runs=mp.RunClass(least_delay=0)))
    assert subjects(fifo, "triton") == {"collection"}
    collecting = replace(fifo, pipeline=fifo.pipeline.collecting(6e-4))
    assert subjects(collecting, "triton") == set()
    assert subjects(collecting, "mosec") == {"collection"}
    # What is kept back of the objective is no bound under fifo, where more tokens overtake meanwhile.
    object.__setattr__(fifo.objective, "margin_ns", 600_000)
    assert subjects(fifo, "triton") == {"collection"}
    # A source in order of arrival is one in order of the queries.
    alone = mp.Pipeline.from_document({"slo": "1s", "stages": {"one": {"model": "resnet50"}}})
    single = mp.Plan.from_choices(alone, mp.Profiles.default(), {"one": ("t4", 1, 2)})
    assert subjects(single, "triton") == {"proof"}
    assert subjects(single, "kserve") == {"proof", "queue"}


def test_laws_that_need_a_dispatcher_are_told() -> None:
    for law in ("paced", "timed"):
        assert "dispatch" in subjects(shipped_plan("image-processing", dispatch=law), "mosec")
    chain = shipped_plan("audio-question-answering")
    assert "outputs" in subjects(chain, "triton")
    told = [one for one in TARGETS["triton"].departures(Deployment(chain)) if one.subject == "outputs"]
    assert "recognise, answer" in told[0].what


def test_tokens_and_rates_are_those_of_the_trace() -> None:
    deployment = Deployment(shipped_plan("cascade"))
    slow = deployment.by_name["slow"]
    assert slow.tokens_per_query == pytest.approx(0.3, abs=0.02)
    assert slow.rate_rps == pytest.approx(100 * slow.tokens_per_query)
    assert deployment.by_name["fast"].rate_rps == pytest.approx(100.0)


def test_hardware_is_a_gpu_unless_it_is_said_or_called_a_cpu() -> None:
    plan = shipped_plan("video-monitoring")
    stages = Deployment(plan).by_name
    assert {name: stage.gpus for name, stage in stages.items()} == {
        "decode": (),
        "detect": (0, 1, 2, 3),
        "identify": (4, 5),
        "plates": (6, 7),
        "merge": (),
    }
    assert Deployment(plan, cpu=("t4",)).by_name["identify"].gpus == ()


@pytest.mark.parametrize("name", ["triton", "mosec"])
def test_what_a_replay_takes_for_usual_is_within_what_an_export_keeps_back_for(name: str) -> None:
    """Figures of one system in two rooms: typical ones to predict by, largest ones to keep a margin for."""
    rules, law = TARGETS[name].rules, SYSTEMS[name]
    assert 0 < law.window_ns <= rules.window_ns
    # What goes to one worker together reaches the next stage together; all else comes one by one.
    assert (law.stagger_ns == 0) == (law.collecting == "together")
    assert 0 <= law.stagger_ns <= rules.stagger_ns != 0
    assert rules.is_central == (law.routing == "central")
    assert not rules.is_oldest_first
    assert law.discipline == "fifo"
