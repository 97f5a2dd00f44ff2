"""The commands schedule, follow and watch: what they print, write and exit with."""

from __future__ import annotations

import contextlib
import json
import shlex
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

import mipplan as mp
from following.servers import FakeDispatcher, serving
from mipplan.cli.app import app
from mipplan.core import InputError
from mipplan.logs import write_log
from tuned_plans import one_stage
from validation.served_runs import plan as served_plan
from validation.served_runs import served, traffic


def run(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    one_stage(3).save(tmp_path / "plan.json")
    return tmp_path / "plan.json"


def arrivals(path: Path, trace: mp.Trace) -> Path:
    path.write_text("arrival_s\n" + "".join(f"{at / 1e9:.9f}\n" for at in trace.arrival_ns.tolist()))
    return path


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    return arrivals(tmp_path / "sample.csv", mp.Trace.gamma(rate_rps=20, cv=1.5, duration_s=60, seed=3))


def test_schedule_shows_counts_and_writes_entries(plan: Path, sample: Path, tmp_path: Path) -> None:
    day = tmp_path / "day.csv"
    rates = [10] * 8 + [50] * 10 + [10] * 6
    day.write_text("hour,requests_per_hour\n" + "".join(f"{h},{r * 3600}\n" for h, r in enumerate(rates)))
    out = tmp_path / "day.yaml"
    common = ("schedule", plan, "--counts", day, "--sample", sample)
    code, text, _ = run(*common, "--to", "keda", "--out", out)
    assert code == 0
    assert "08:00" in text
    assert "keeps: no stage's bound on waits exceeds" in text
    (document,) = yaml.safe_load_all(out.read_text())
    assert document["kind"] == "ScaledObject"
    code, text, _ = run(*common, "--json")
    report = json.loads(text)
    assert code == 0
    assert len(report["stages"]["only"]["replicas"]) == 24
    assert report["usd"] < report["peak_usd"]
    # Arrivals are counted, in bins of one's own.
    code, text, _ = run(
        "schedule", plan, "--counts", sample, "--sample", sample, "--bin", "10s", "--once", "--json"
    )
    assert len(json.loads(text)["rate_rps"]) == 6


def test_schedule_reads_a_day_of_dated_arrivals_by_the_clock(
    plan: Path, sample: Path, tmp_path: Path
) -> None:
    """Entries of cron begin at midnight, and yesterday's log at nine."""
    day = tmp_path / "day.csv"
    at = [f"2026-07-{2 + (9 + hour) // 24:02d}T{(9 + hour) % 24:02d}:30:00" for hour in range(24)]
    day.write_text(
        "timestamp\n2026-07-02T09:00:00\n"
        + "".join(f"{one}\n" * (1 + 2 * (n == 3)) for n, one in enumerate(at))
    )
    common = ("schedule", plan, "--counts", day, "--sample", sample, "--time-zone", "Europe/Berlin", "--json")
    by_clock, from_first = (json.loads(run(*common, *once)[1])["rate_rps"] for once in ((), ("--once",)))
    assert by_clock.index(max(by_clock)) == 14
    assert from_first.index(max(from_first)) == 3
    code, _, stderr = run(*common, "--time-zone", "Europe/Bern")
    assert code == 2
    assert stderr.count("--time-zone: expected a name such as Europe/Berlin") == 1


def test_schedule_of_a_plan_with_an_arrival_curve_needs_no_sample(
    plan: Path, sample: Path, tmp_path: Path
) -> None:
    """A curve of a trace ends with it: then what is missing is a rate."""
    day, curved = tmp_path / "day.csv", tmp_path / "curved.json"
    day.write_text("hour,requests_per_hour\n0,36000\n1,72000\n")
    made, trace = mp.Plan.load(plan), mp.Trace.read(sample)

    def scheduled(*buckets: tuple[float, float]) -> tuple[int, str, str]:
        settings = {"guarantee": "envelope", "envelope": mp.ArrivalCurve(buckets)}
        mp.plan(made.pipeline, made.profiles, trace, slo_s=0.5, **settings).save(curved)
        return run("schedule", curved, "--counts", day, "--once")

    code, text, _ = scheduled((3, 20))
    assert code == 0
    assert "every query inside the envelope" in text
    code, _, text = scheduled((3, 20), (40, 0))
    assert code == 2
    assert "sample: no more come after some time: it has no rate" in text
    code, _, text = run("schedule", plan, "--counts", day)
    assert "--sample: is needed" in text


def test_schedule_names_every_fault(plan: Path, sample: Path, tmp_path: Path) -> None:
    day = tmp_path / "day.csv"
    day.write_text("hour,requests_per_hour\n0,10\n2,20\n3,5\n")
    code, _, text = run("schedule", plan, "--counts", day, "--sample", sample, "--to", "cronn", "--bin", "60")
    assert code == 2
    for part in ("write 60s", "goes with --out", "cronn"):
        assert part in text
    wrong = ("--headroom", "-3", "--switch", "-1", "--keep", "zzz", "--to", "cron", "--out", sample)
    code, _, text = run("schedule", plan, "--counts", day, "--sample", sample, *wrong)
    for part in (
        "--headroom: ",
        "--switch: ",
        "--keep: ",
        "is the sample that is read",
        "leaves intervals out",
    ):
        assert part in text, part
    code, _, text = run("schedule", plan, "--counts", day, "--sample", sample)
    assert "leaves intervals out after 3.6" in text or "leaves intervals out after 0" in text
    code, _, text = run("schedule", plan, "--counts", day, "--sample", sample, "--bin", "90min")
    assert "do not add up to bins" in text


def test_follow_tells_what_it_did(plan: Path, sample: Path, tmp_path: Path) -> None:
    state, audit = tmp_path / "state.json", tmp_path / "audit.jsonl"
    with serving(FakeDispatcher({"only": 3}, 200.0)) as fake:
        common = ("follow", plan, "--target", f"mipplan:{fake.url}", "--sample", sample, "--period", "200ms")
        files = ("--state", state, "--audit", audit)
        code, text, _ = run(*common, "--for", "1500ms", "--policy", "inferline", *files, "--json")
        assert code == 0
        report = json.loads(text)
        assert report["command"] == "follow"
        assert report["replicas"]["only"] > 3
        assert report["written"] == [str(state), str(audit)]
        code, text, _ = run(*common, "--for", "500ms", "--shadow")
        assert code == 0
        assert "nothing was told" in text
    code, _, text = run("follow", plan, "--target", "kserve:x", "--policy", "hpaa", "--for", "1")
    assert code == 2
    for part in ("hpaa", "has no unit"):
        assert part in text


def test_samples_are_read_as_the_plan_read_them(
    plan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = tmp_path / "counts.csv"
    rows = "".join(f"{second},{60 + second}\n" for second in range(20))
    counts.write_text(f"window_start_s,requests_per_s\n{rows}")
    loaded = mp.Plan.load(plan)
    replace(loaded, objective=replace(loaded.objective, seed=7)).save(plan)
    taken: list[mp.Trace] = []

    def take(*given: object, sample: mp.Trace, **settings: object) -> None:
        taken.append(sample)
        raise InputError.one("sample", "was taken")

    nowhere = "http://127.0.0.1:9"
    asked: dict[str, tuple[object, ...]] = {
        "schedule": ("--counts", counts, "--bin", "4s"),
        "follow": ("--target", f"mipplan:{nowhere}", "--from", "4s", "--to", "16s"),
        "watch": ("--metrics", nowhere, "--from", "4s", "--to", "16s"),
    }
    whole = mp.Trace.read(str(counts), expand="poisson", seed=7)
    part = mp.Trace.read(str(counts), expand="poisson", seed=7, start_s=4.0, end_s=16.0)
    assert len(part.arrival_ns) < len(whole.arrival_ns)
    for command, more in asked.items():
        monkeypatch.setattr(mp, command, take)
        code, _, text = run(command, plan, *more, "--sample", counts, "--expand", "poisson")
        assert (code, "sample: was taken" in text) == (2, True), text
        expected = part if "--from" in more else whole
        assert taken.pop().arrival_ns.tolist() == expected.arrival_ns.tolist()
        run(command, plan, *more, "--sample", counts, "--expand", "poisson", "--seed", "3")
        assert taken.pop().arrival_ns.tolist() != expected.arrival_ns.tolist()
        code, _, text = run(command, plan, *more, "--expand", "poisson", "--seed", "3")
        flags = ("--expand", "--seed", *(("--from", "--to") if "--from" in more else ()))
        assert code == 2
        for flag in flags:
            assert f"{flag}: goes with --sample" in text


def test_watch_exits_by_what_it_finds(tmp_path: Path) -> None:
    file, new = tmp_path / "plan.json", tmp_path / "new.json"
    served_plan().save(file)
    sample = arrivals(tmp_path / "sample.csv", traffic())

    def logs(name: str, trace: mp.Trace) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        whole = served(trace=trace)
        write_log(folder / "queries.parquet", whole.queries)
        write_log(folder / "stages.parquet", whole.stages)
        return folder

    kept = logs("kept", traffic(seed=2))
    code, text, _ = run("watch", file, "--log", kept, "--sample", sample, "--no-replan")
    assert code == 0
    assert "fits" in text
    code, text, _ = run(
        "watch", file, "--log", logs("more", traffic(rate=260.0, seconds=20.0)), "--sample", sample, "--json"
    )
    report = json.loads(text)
    assert code == 1
    assert {one["kind"] for one in report["misfits"]} >= {"envelope"}
    assert report["command_line"].startswith("mipplan watch ")
    assert report["command_line"].endswith("--out new-plan.json")
    code, text, _ = run("watch", file, "--log", tmp_path / "more", "--sample", sample, "--out", new)
    assert code == 1
    assert mp.Plan.load(new).choices
    code, _, text = run("watch", file, "--out", new, "--no-replan", "--cheaper", "x")
    assert code == 2
    for part in ("--no-replan", "--cheaper"):
        assert part in text


def test_follow_tells_everything_at_once_and_writes_over_nothing_that_it_reads(
    plan: Path, sample: Path, tmp_path: Path
) -> None:
    before = sample.read_bytes()
    code, _, text = run(
        "follow", plan, "--target", "mipplan:http://127.0.0.1:9", "--state", tmp_path / "gone" / "s",
        "--name", "typo=x", "--period", "0s", "--audit", tmp_path / "gone" / "a", "--for", "0s", "--metrics", "no-url",
    )  # fmt: skip
    assert code == 2
    for flag in ("state", "name typo", "period", "audit", "for", "metrics", "sample"):
        assert f"  --{flag}: " in text
    code, _, text = run(
        "follow", plan, "--target", "mipplan:http://127.0.0.1:9", "--sample", sample, "--audit", sample,
        "--policy", "no-such", "--for", "1",
    )  # fmt: skip
    assert code == 2
    assert f"--audit {sample}: is the sample that is read" in text
    assert "no-such" in text
    assert sample.read_bytes() == before


@pytest.fixture
def more(tmp_path: Path) -> Path:
    """Logs of more traffic than was planned for, beside the plan of the fixture below."""
    folder, whole = tmp_path / "more", served(trace=traffic(rate=260.0, seconds=20.0))
    folder.mkdir()
    write_log(folder / "queries.parquet", whole.queries)
    write_log(folder / "stages.parquet", whole.stages)
    return folder


@pytest.fixture
def watched(tmp_path: Path) -> Path:
    served_plan().save(tmp_path / "watched.json")
    return tmp_path / "watched.json"


def test_watch_tells_everything_at_once_by_its_flags(watched: Path, more: Path) -> None:
    code, _, text = run(
        "watch", watched, "--log", more, "--metrics", "no-url", "--system", "foo", "--for", "0s", "--name", "typo=x",
        "--cheaper", "3", "--time-limit", "0s",
    )  # fmt: skip
    assert code == 2
    for flag in ("log", "metrics", "system", "for", "name typo", "cheaper", "time-limit"):
        assert f"  --{flag}: " in text


def test_watch_refuses_what_it_would_ignore(watched: Path, more: Path) -> None:
    code, _, text = run(
        "watch", watched, "--log", more, "--name", "typo=x", "--system", "triton", "--for", "3s", "--no-replan",
        "--time-limit", "3s", "--cheaper", "5%",
    )  # fmt: skip
    assert code == 2
    for flag in ("name", "system", "for"):
        assert f"  --{flag}: goes with --metrics" in text
    for flag in ("time-limit", "cheaper"):
        assert f"  --{flag}: does not go with --no-replan" in text


def test_watch_looks_at_the_end_of_a_log_only(watched: Path, more: Path) -> None:
    counted = []
    for last in ("20s", "2s"):
        _, text, _ = run("watch", watched, "--log", more, "--last", last, "--no-replan", "--json")
        counted.append(json.loads(text)["queries"])
    assert 0 < counted[1] < counted[0] / 5
    code, _, text = run("watch", watched, "--log", more, "--last", "0s", "--for", "3s")
    assert code == 2
    for part in ("--last: expected a positive number", "--for: goes with --metrics"):
        assert part in text
    code, _, text = run("watch", watched, "--metrics", "http://127.0.0.1:1/metrics", "--last", "2s")
    assert code == 2
    assert "  --last: goes with --log" in text


def test_watch_writes_over_nothing_that_it_reads(watched: Path, more: Path) -> None:
    for file in (watched, *sorted(more.iterdir())):
        before = file.read_bytes()
        code, _, text = run("watch", watched, "--log", more, "--out", file)
        assert code == 2
        assert f"--out {file}: is the " in text
        assert file.read_bytes() == before


def test_watch_says_the_command_with_all_that_was_given(watched: Path, more: Path, tmp_path: Path) -> None:
    sample = arrivals(tmp_path / "sample of it.csv", traffic())
    logs = [word for file in sorted(more.iterdir()) for word in ("--log", str(file))]
    given = [*logs, "--sample", str(sample), "--cheaper", "5%", "--time-limit", "15s"]
    code, text, _ = run("watch", watched, *given, "--json")
    assert code == 1
    command = shlex.split(json.loads(text)["command_line"])
    assert command[:3] == ["mipplan", "watch", str(watched)]
    assert command[-2:] == ["--out", "new-plan.json"]
    pairs = list(zip(command[3:-2:2], command[4:-2:2], strict=True))
    assert sorted(pairs) == sorted(zip(given[::2], given[1::2], strict=True))


def test_a_search_that_is_broken_off_replaces_no_file(
    watched: Path, more: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Planners stop at Ctrl-C and return the best that they have."""
    watch, new = mp.watch, tmp_path / "new.json"
    new.write_text("an earlier plan")

    def broken_off(*given: Any, **settings: Any) -> mp.Watch:
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        return watch(*given, **settings)

    monkeypatch.setattr(mp, "watch", broken_off)
    code, text, _ = run("watch", watched, "--log", more, "--out", new, "--json")
    assert code == 130
    report = json.loads(text)
    assert report["written"] == []
    assert report["command_line"] is None
    assert new.read_text() == "an earlier plan"


def test_a_schedule_of_one_day_alone_has_no_entries(plan: Path, sample: Path, tmp_path: Path) -> None:
    day = tmp_path / "day.csv"
    day.write_text("hour,requests_per_hour\n" + "".join(f"{hour},36000\n" for hour in range(24)))
    entries = ("--to", "cron", "--out", tmp_path / "day.cron")
    code, _, text = run("schedule", plan, "--counts", day, "--sample", sample, "--once", *entries)
    assert (code, "--once: entries are for every day, and this one does not repeat" in text) == (2, True), (
        text
    )
    assert not (tmp_path / "day.cron").exists()


def test_counts_may_be_a_shipped_trace(plan: Path, sample: Path) -> None:
    code, text, _ = run("schedule", plan, "--counts", "steady", "--sample", sample, "--bin", "60s", "--once")
    assert code == 0
    assert "-0% less" not in text


def test_the_command_for_a_new_plan_is_one_that_watch_takes(
    watched: Path, more: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a configuration file says of traces does not count without a sample, and is not repeated."""
    watch = mp.watch
    # With a sample there is something to say; the command knows of none.
    monkeypatch.setattr(mp, "watch", lambda *given, **how: watch(*given, **how | {"sample": traffic()}))
    monkeypatch.chdir(tmp_path)
    Path("mipplan.toml").write_text('expand = "poisson"\nfrom = "1s"\nseed = 3\n')
    code, text, _ = run("watch", watched, "--log", more, "--time-limit", "5s", "--json")
    assert code == 1
    command = shlex.split(json.loads(text)["command_line"])
    assert not {"--expand", "--from", "--seed"} & set(command)
    code, _, text = run("watch", watched, "--log", more, "--sample", "steady", "--seed", "-5")
    assert (code, "--seed" in text) == (2, True)
