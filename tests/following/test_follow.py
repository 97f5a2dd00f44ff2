"""The loop against real servers of this machine, with faults. Nothing asserts how long anything took."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import mipplan as mp
from following.servers import DRIP, HALF, HANG, FakeDispatcher, FakeServer, serving
from mipplan.driving import TargetRequest, find_target
from mipplan.following import FollowParams, WebError, fetch, open_target
from serving_plans import small_plan
from tuned_plans import one_stage

PLAN = one_stage(2)
SAMPLE = mp.Trace.poisson(rate_rps=8, duration_s=20, seed=1)
QUICK = FollowParams(looks=2, metrics_timeout_s=0.4, first_retry_s=0.05, longest_retry_s=0.1, grace_s=0.0)


class Wish:
    """Wants a number of replicas from the first instant of control on, and may fail."""

    def __init__(self, *counts: int, fails: int = 0) -> None:
        self.name, self.counts, self.fails = "wish", list(counts), fails

    def start(self, setting: object) -> Wish:
        return self

    def decide(self, seen: Any) -> dict[str, int]:
        if self.fails:
            self.fails -= 1
            raise RuntimeError("no idea")
        return {"only": self.counts.pop(0) if len(self.counts) > 1 else self.counts[0]}


def followed(fake: FakeServer, policy: Any, until: Callable[[], bool], **settings: Any) -> mp.FollowSummary:
    """Follow until something has happened, and at most 20 s."""
    stop = threading.Event()

    def watch() -> None:
        for _ in range(400):
            if until() or stop.wait(0.05):
                break
        stop.set()

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        return mp.follow(
            PLAN,
            f"mipplan:{fake.url}",
            policy=policy,
            sample=SAMPLE,
            stop=stop,
            **({"period_s": 0.1, "activation_delay_s": 0.0, "params": QUICK} | settings),
        )
    finally:
        stop.set()
        watcher.join()


def test_what_is_decided_is_told_once() -> None:
    dispatcher = FakeDispatcher({"only": 2}, 50.0)
    with serving(dispatcher) as fake:
        summary = followed(fake, Wish(4), lambda: len(fake.asked) > 20)
    assert fake.changes() == [("POST", "/scale", {"only": 4})]
    assert dispatcher.replicas == {"only": 4}
    assert (summary.commands, summary.failed_commands, summary.mismatches, summary.changes) == (1, 0, 0, 1)
    assert summary.told == summary.replicas == {"only": 4}
    assert summary.queries > 0
    # From 2 to 4 replicas in between.
    assert 2 <= summary.replica_hours["only"] * 3600 / summary.duration_s <= 4


def test_no_limit_may_be_said_as_an_infinite_one() -> None:
    with serving(FakeDispatcher({"only": 2}, 50.0)) as fake:
        summary = followed(fake, Wish(4), lambda: len(fake.asked) > 20, time_limit_s=float("inf"))
    assert summary.told == {"only": 4}


@pytest.mark.parametrize("limit_s", ["8", [1], True, -1, float("nan")])
def test_limits_that_are_no_time_are_refused(limit_s: Any) -> None:
    with pytest.raises(mp.InputError, match="time_limit_s: expected seconds above 0"):
        mp.follow(PLAN, "mipplan:http://127.0.0.1:9", sample=SAMPLE, time_limit_s=limit_s)
    with pytest.raises(mp.InputError, match="time_limit_s: expected seconds above 0"):
        mp.serving.serve(PLAN, time_limit_s=limit_s)


def test_periods_that_pass_while_nothing_answers_are_held_and_not_made_up_for() -> None:
    """A look takes four periods then: with one for each of ten, the limit would last four times as long."""
    dispatcher = FakeDispatcher({"only": 2}, 50.0)
    with serving(dispatcher) as fake:
        dispatcher.trouble = lambda method, path: HANG if len(fake.asked) > 2 else None
        summary = followed(fake, Wish(4), lambda: False, time_limit_s=1.0)
    assert (summary.ticks, summary.failed_looks < 8, summary.held > 8) == (0, True, True)


def test_shadow_changes_nothing_and_logs_all(tmp_path: Path) -> None:
    audit = tmp_path / "audit.jsonl"
    with serving(FakeDispatcher({"only": 2}, 50.0)) as fake:
        summary = followed(fake, Wish(4), lambda: len(fake.asked) > 20, shadow=True, audit=audit)
        assert fake.changes() == []
    assert (summary.commands, summary.replicas) == (0, {"only": 4})
    events = [json.loads(line) for line in audit.read_text().splitlines()]
    decisions = [event for event in events if event["event"] == "decision"]
    assert decisions[0]["replicas"] == {"only": 4}
    assert decisions[0]["serving"] == {"only": 2}
    assert events[0]["shadow"] is True
    assert events[-1]["event"] == "stop"


@pytest.mark.parametrize(
    "fault", [(500, b"out of order"), HANG, HALF, DRIP, (200, b"<html>\n"), (200, b"\xff\n")]
)
def test_last_decision_stays_while_metrics_fail(fault: Any, tmp_path: Path) -> None:
    dispatcher = FakeDispatcher({"only": 2}, 50.0)
    audit = tmp_path / "audit.jsonl"

    def events(name: str) -> int:
        return audit.read_text().count(f'"event": "{name}"') if audit.exists() else 0

    def trouble(method: str, path: str) -> Any:
        # Once the first decision is told, metrics fail, until it has been noticed.
        return (
            fault
            if path == "/metrics" and dispatcher.replicas["only"] == 5 and not events("metrics failed")
            else None
        )

    dispatcher.trouble = trouble
    with serving(dispatcher) as fake:
        summary = followed(fake, Wish(5), lambda: events("metrics back") > 0, audit=audit)
    assert summary.failed_looks >= 1
    assert events("metrics failed") == events("metrics back") == 1
    assert fake.changes() == [("POST", "/scale", {"only": 5})]
    assert dispatcher.replicas == {"only": 5}


@pytest.mark.parametrize(
    "fault", [(500, b"no"), (200, b'{"replicas": {"only": 1}}'), (200, b"yes"), (200, b'{"repl')]
)
def test_command_that_is_not_taken_is_tried_again(fault: Any) -> None:
    dispatcher, refused = FakeDispatcher({"only": 2}, 50.0), []

    def trouble(method: str, path: str) -> Any:
        if path == "/scale" and len(refused) < 3:
            refused.append(path)
            return fault
        return None

    dispatcher.trouble = trouble
    with serving(dispatcher) as fake:
        summary = followed(fake, Wish(3), lambda: dispatcher.replicas["only"] == 3 and len(fake.asked) > 20)
    assert summary.failed_commands == 3
    assert summary.commands == 4
    assert summary.told == {"only": 3}


def test_target_that_says_yes_and_does_nothing_is_found_out(tmp_path: Path) -> None:
    dispatcher = FakeDispatcher({"only": 2}, 50.0)
    dispatcher.obeys = False
    audit = tmp_path / "audit.jsonl"
    with serving(dispatcher) as fake:
        summary = followed(fake, Wish(4), lambda: len(fake.changes()) > 2, audit=audit)
    assert summary.mismatches >= 1
    mismatch = next(json.loads(line) for line in audit.read_text().splitlines() if '"mismatch"' in line)
    assert (mismatch["told"], mismatch["serving"]) == (4, 2)


def test_commands_are_limited_and_more_replicas_come_first() -> None:
    plan = small_plan({"a": ([10.0], 3), "b": ([10.0], 3)})
    dispatcher = FakeDispatcher({"a": 3, "b": 3}, 10.0)

    class Both(Wish):
        def decide(self, seen: Any) -> dict[str, int]:
            return {"a": 1, "b": 5}

    stop = threading.Event()
    with serving(dispatcher) as fake:
        threading.Timer(20, stop.set)
        watcher = threading.Thread(target=lambda: [stop.wait(0.05) for _ in range(20)] and stop.set())
        watcher.start()
        summary = mp.follow(
            plan,
            f"mipplan:{fake.url}",
            policy=Both(1),
            sample=SAMPLE,
            period_s=0.1,
            stop=stop,
            params=FollowParams(looks=1, most_commands_per_min=1),
        )
        watcher.join()
    assert fake.changes() == [("POST", "/scale", {"b": 5})]
    assert summary.delayed_commands > 0


def test_policy_that_fails_changes_nothing() -> None:
    dispatcher = FakeDispatcher({"only": 2}, 50.0)
    with serving(dispatcher) as fake:
        summary = followed(fake, Wish(3, fails=2), lambda: dispatcher.replicas["only"] == 3)
    assert summary.held >= 2
    assert fake.changes() == [("POST", "/scale", {"only": 3})]


def test_counter_reset_is_no_burst() -> None:
    """The dispatcher is started again: its counters begin at 0 and its queue is gone."""
    dispatcher = FakeDispatcher({"only": 2}, 40.0)
    seen: list[tuple[int, float]] = []
    dispatcher.began -= 1000.0

    class Watching(Wish):
        def decide(self, observation: Any) -> dict[str, int]:
            # A busy machine may take its time between two looks: what has been counted by now is the most.
            counted = dispatcher.rate_rps * (time.monotonic() - dispatcher.began)
            seen.append((observation.arrival_ns.size, counted))
            if len(seen) == 8:
                dispatcher.began = time.monotonic() - 0.5  # it has counted for half a second
            return {}

    with serving(dispatcher) as fake:
        followed(fake, Watching(2), lambda: len(seen) > 14)
    # What is counted anew may all have come at once; the 40,000 that were counted before have not.
    assert len(seen) > 14
    assert all(came <= counted for came, counted in seen[8:])
    assert sum(came for came, _ in seen[8:]) <= seen[-1][1]


def test_restart_goes_on_where_it_was(tmp_path: Path) -> None:
    state, audit = tmp_path / "state.json", tmp_path / "audit.jsonl"
    dispatcher = FakeDispatcher({"only": 2}, 50.0)
    with serving(dispatcher) as fake:
        followed(fake, Wish(6), lambda: dispatcher.replicas["only"] == 6, state=state)
        told = len(fake.changes())
        saved = json.loads(state.read_text())
        assert saved["replicas"] == {"only": 6}
        # The policy, which has seen nothing yet, would have fewer.
        looks = len(fake.asked)
        summary = followed(fake, Wish(1), lambda: len(fake.asked) > looks + 20, state=state, audit=audit)
        assert len(fake.changes()) == told
        assert summary.replicas == {"only": 6}
        # So it is where nothing was changed before the restart: what was there was wanted.
        state.unlink()
        followed(fake, Wish(6), state.exists, state=state)
        looks = len(fake.asked)
        followed(fake, Wish(1), lambda: len(fake.asked) > looks + 20, state=state)
        assert (len(fake.changes()), dispatcher.replicas) == (told, {"only": 6})
        # Once the hold is over it has its way.
        brief = FollowParams(**{**vars(QUICK), "restart_hold_s": 0.0})
        followed(fake, Wish(1), lambda: dispatcher.replicas["only"] == 1, state=state, params=brief)
        assert dispatcher.replicas == {"only": 1}
    assert saved["written"] in audit.read_text()


def test_target_that_lost_replicas_while_nobody_followed_is_told_again(tmp_path: Path) -> None:
    state, dispatcher = tmp_path / "state.json", FakeDispatcher({"only": 2}, 50.0)
    with serving(dispatcher) as fake:
        followed(fake, Wish(6), lambda: dispatcher.replicas["only"] == 6, state=state)
        dispatcher.replicas["only"] = 3
        followed(fake, Wish(6), lambda: dispatcher.replicas["only"] == 6, state=state)
        assert dispatcher.replicas == {"only": 6}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no state"),
        ('{"format": 1}', "remove it"),
        ("[1]", "remove it"),
        (
            '{"format": 1, "plan": "x", "target": "y", "policy": "z", "replicas": {"only": 0}, "written": ""}',
            "another plan",
        ),
    ],
)
def test_state_that_is_none_of_ours_is_refused(text: str, says: str, tmp_path: Path) -> None:
    state = tmp_path / "state.json"
    state.write_text(text)
    with pytest.raises(mp.InputError, match=says):
        mp.follow(PLAN, "mipplan:http://127.0.0.1:9", sample=SAMPLE, state=state)


def test_state_that_cannot_be_written_does_not_stop_following_and_is_written_later(tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    dispatcher, audit = FakeDispatcher({"only": 2}, 50.0), tmp_path / "audit.jsonl"
    state, often = folder / "state.json", FollowParams(**{**vars(QUICK), "summary_s": 0.1})

    def is_told() -> bool:
        return audit.exists() and "state not written" in audit.read_text()

    class Loses(Wish):
        def decide(self, seen: Any) -> dict[str, int]:
            if folder.is_dir() and not is_told():
                folder.rmdir()
            return super().decide(seen)

    def is_written() -> bool:
        if is_told():
            folder.mkdir(exist_ok=True)
        return state.exists()

    with serving(dispatcher) as fake:
        followed(fake, Loses(6), is_written, state=state, audit=audit, params=often)
    assert dispatcher.replicas == {"only": 6}
    assert json.loads(state.read_text())["replicas"] == {"only": 6}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is always full")
def test_audit_log_on_a_full_disk_does_not_cost_the_summary() -> None:
    with serving(FakeDispatcher({"only": 2}, 50.0)) as fake:
        summary = followed(fake, Wish(4), lambda: len(fake.changes()) > 0, audit="/dev/full")
    assert summary.commands == 1
    assert any("lines of the audit log could not be written" in note for note in summary.notes)


def test_whoever_interrupts_again_has_the_summary_all_the_same() -> None:
    class Impatient(Wish):
        def decide(self, seen: Any) -> dict[str, int]:
            signal.raise_signal(signal.SIGINT)
            return super().decide(seen)

    def again(line: str) -> None:
        if line == "interrupted":
            signal.raise_signal(signal.SIGINT)

    with serving(FakeDispatcher({"only": 2}, 50.0)) as fake:
        summary = followed(fake, Impatient(4), lambda: False, progress=again)
    assert (summary.ticks, summary.told) == (0, {"only": 2})


def test_bad_arguments_are_all_named() -> None:
    with pytest.raises(mp.InputError) as caught:
        mp.follow(
            PLAN,
            "tritno:127.0.0.1",
            policy="oracle",
            period_s=0,
            names={"olny": "x"},
            state="/no/such/folder/x",
        )
    told = " ".join(map(str, caught.value.faults))
    for part in (
        "tritno",
        "triton",
        "http://HOST:PORT",
        "names.olny",
        "oracle",
        "period_s",
        "sample",
        "state",
    ):
        assert part in told


def test_target_that_is_not_there_is_one_message() -> None:
    with pytest.raises(mp.InputError, match="cannot be looked at"):
        mp.follow(PLAN, "mipplan:http://127.0.0.1:9", sample=SAMPLE, params=QUICK)


def test_metrics_of_another_server_are_one_message() -> None:
    with (
        serving(lambda method, path, document: (200, b"up 1\n")) as fake,
        pytest.raises(mp.InputError, match="mipplan_queue_length"),
    ):
        mp.follow(PLAN, f"mipplan:{fake.url}", sample=SAMPLE, params=QUICK)


@pytest.mark.parametrize("fault", [HANG, DRIP, HALF, (302, b"elsewhere")])
def test_fetch_ends_in_time_with_a_reason(fault: Any) -> None:
    with serving(lambda method, path, document: fault) as fake, pytest.raises(WebError, match=fake.url):
        fetch(fake.url, timeout_s=0.3)


def test_url_that_is_none_is_refused() -> None:
    for url in ("ftp://127.0.0.1/x", "http://[::1/x", "http://127.0.0.1:99999", "http://a b", "http://a..b"):
        with pytest.raises(WebError, match="expected http"):
            fetch(url)
    for target in ("ray:localhost:8265", "mipplan:http://[::1", "triton:http://127.0.0.1:99999"):
        with pytest.raises(mp.InputError, match="expected KIND"):
            open_target(PLAN, target)
    assert open_target(PLAN, "triton:http://[::1]:8000").metrics_urls == ["http://[::1]:8002/metrics"]


def test_addresses_without_a_port_have_the_usual_one(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, int]] = []

    def refused(address: tuple[str, int], *_others: object) -> None:
        asked.append(address)
        raise OSError("nobody there")

    monkeypatch.setattr("socket.create_connection", refused)
    for url in ("http://[::1]/metrics", "https://[fd00::9]/", "http://[::1]:8002/", "http://a/"):
        with pytest.raises(WebError, match="nobody there"):
            fetch(url)
    with pytest.raises(mp.InputError, match="nobody there"):
        find_target(TargetRequest("http://[::1]/v2/models/net"))
    assert asked == [("::1", 80), ("fd00::9", 443), ("::1", 8002), ("a", 80), ("::1", 80)]
