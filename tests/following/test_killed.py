"""A controller that is killed, as a process of its own: whoever starts it again goes on where it was."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import mipplan as mp
from following.servers import Answer, FakeDispatcher, serving
from tuned_plans import one_stage


def follow_command(plan: Path, url: str, *settings: Any) -> list[str]:
    """Follow `lp-lean` five times a second on a dispatcher whose replicas start at once, and tell it in JSON."""
    command = [sys.executable, "-m", "mipplan", "follow", plan, "--target", f"mipplan:{url}"]
    command += ["--policy", "lp-lean", "--period", "200ms", "--activation-delay", "0s", "--json", *settings]
    return [str(part) for part in command]


@pytest.mark.parametrize("is_taken", [True, False])
def test_nothing_flaps_when_the_controller_is_killed_and_restarted(is_taken: bool, tmp_path: Path) -> None:
    """By SIGKILL in the middle of its first command, which the target takes, or not."""
    plan, sample, state = tmp_path / "plan.json", tmp_path / "sample.csv", tmp_path / "state.json"
    one_stage(3).save(plan)
    arrivals = mp.Trace.gamma(rate_rps=20, cv=1.5, duration_s=60, seed=3)
    sample.write_text("arrival_s\n" + "".join(f"{at / 1e9:.9f}\n" for at in arrivals.arrival_ns.tolist()))
    dispatcher = FakeDispatcher({"only": 3}, 200.0)
    lives: list[subprocess.Popen[bytes]] = []

    def trouble(method: str, path: str) -> Answer | None:
        if path == "/scale" and len(lives) == 1:
            lives[0].kill()
            lives[0].wait()
            return None if is_taken else (500, b"no")
        return None

    dispatcher.trouble = trouble
    with serving(dispatcher) as fake:

        def follow(*settings: Any) -> tuple[int, Any]:
            """Follow in a process of its own, to its end; its exit code and what it says."""
            command = follow_command(plan, fake.url, "--sample", sample, *settings)
            with subprocess.Popen(command, stdout=subprocess.PIPE) as life:
                lives.append(life)
                told, _ = life.communicate(timeout=120)
            return life.returncode, json.loads(told or "null")

        code, _ = follow("--state", state, "--for", "60s")
        assert code != 0
        ((_, _, ordered),) = fake.changes()
        assert dispatcher.replicas == (ordered if is_taken else {"only": 3})
        assert ordered["only"] > 3

        # With hardly any traffic a policy wants fewer at once, if it does not know that there were more: …
        dispatcher.rate_rps = 10.0
        _, unaware = follow("--shadow", "--for", "1s")
        assert unaware["replicas"]["only"] < ordered["only"]
        # … whoever goes on from the state orders what was ordered, if it is not there, and nothing else.
        code, report = follow("--state", state, "--for", "1s")
        assert code == 0
        assert report["ticks"] > 0
        assert [document for _, _, document in fake.changes()[1:]] == ([] if is_taken else [ordered])
        assert dispatcher.replicas == report["replicas"] == ordered


def test_the_end_does_not_wait_for_a_target_that_does_not_answer(tmp_path: Path) -> None:
    """Whoever stops it, such as Kubernetes, kills it when it takes too long, and its summary would be lost."""
    plan = tmp_path / "plan.json"
    one_stage(3).save(plan)
    ended, answered_after_it = threading.Event(), list[bool]()

    def trouble(_method: str, path: str) -> Answer | None:
        if path == "/scale":
            answered_after_it.append(ended.wait(40))
        return None

    dispatcher = FakeDispatcher({"only": 3}, 200.0)
    dispatcher.trouble = trouble
    with serving(dispatcher) as fake:
        command = follow_command(plan, fake.url, "--sample", "steady", "--for", "2s")
        done = subprocess.run(command, stdout=subprocess.PIPE, timeout=120, check=True)
        ended.set()
    assert json.loads(done.stdout)["commands"] > 0
    assert answered_after_it
    assert all(answered_after_it)
