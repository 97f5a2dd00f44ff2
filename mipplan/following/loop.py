"""The loop of `mipplan.follow`: look, decide, act, and take down what was done."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from mipplan.core import MICRODOLLARS_PER_DOLLAR, NS_PER_HOUR, NS_PER_S, InputError, interrupts_held
from mipplan.documents import AnyPath
from mipplan.following.acting import Actuator, FollowParams
from mipplan.following.deciding import Decider, Tick, TickBuilder
from mipplan.following.readings import Scrape
from mipplan.following.result import FollowSummary
from mipplan.following.scraping import Scraper
from mipplan.following.state import AuditLog, FollowState
from mipplan.following.targets import FollowTarget
from mipplan.following.web import WebError
from mipplan.result import fingerprint
from mipplan.tuner import Policy, Setting

#: A system that cannot be seen at the beginning is looked at so many times.
_FIRST_LOOKS = 3
#: Events that people are told of; the rest is in the log.
_SPOKEN = (
    "start",
    "command",
    "command failed",
    "mismatch",
    "metrics failed",
    "metrics back",
    "policy failed",
    "state not written",
)


@dataclass(frozen=True)
class Followed:
    """What follows what."""

    setting: Setting
    target: FollowTarget
    policy: Policy
    shadow: bool

    @cached_property
    def identity(self) -> FollowState:
        """A state of this run, with the plan's replicas."""
        plan = fingerprint(self.setting.plan.to_document())
        return FollowState(plan, self.target.name, self.policy.name, self.setting.replicas)


@dataclass
class _Counts:
    ticks: int = 0
    held: int = 0
    failed_looks: int = 0
    changes: int = 0
    queries: int = 0


class FollowLoop:
    """One run.

    Parameters
    ----------
    followed : Followed
    scraper : Scraper
    log : AuditLog
    say : callable
        Told lines for people.
    params : FollowParams
    """

    def __init__(
        self,
        followed: Followed,
        scraper: Scraper,
        log: AuditLog,
        say: Callable[[str], None],
        params: FollowParams,
    ) -> None:
        self._followed, self._setting = followed, followed.setting
        self._scraper, self._log, self._say, self._params = scraper, log, say, params
        self._counts = _Counts()
        self._replica_ns = dict.fromkeys(self._setting.stages, 0)
        self._noted_ns: int | None = None
        self._blind = False

    def run(
        self,
        stop: threading.Event,
        time_limit_s: float | None,
        state: AnyPath | None,
        saved: FollowState | None,
    ) -> FollowSummary:
        """Follow until told to stop, or for some time; Ctrl-C stops, too.

        Raises `InputError` if the system cannot be seen at the beginning.
        """
        active = self._first_look(stop)
        ends_ns = math.inf if time_limit_s is None else time_limit_s * NS_PER_S
        told = {stage: max(1, active[stage]) for stage in self._setting.stages}
        decider = Decider(self._setting, self._followed.policy, saved.replicas if saved else told)
        # A policy may have calibrated for seconds: counting begins now.
        active = self._first_look(stop)
        begin_ns, now_ns = time.monotonic_ns(), 0
        delay_ns = self._setting.delay_ns
        actuator = Actuator(self._followed.target, told, 0, delay_ns, self._params, self._note)
        builder, wanted = TickBuilder(0), decider.replicas
        floor = kept = saved.replicas if saved else {}
        hold_ns = round(self._params.restart_hold_s * NS_PER_S)
        self._start(wanted, saved)
        look, interrupted = 0, False
        try:
            while not stop.is_set():
                look = self._next_look(look, time.monotonic_ns() - begin_ns)
                at_ns = look * self._setting.period_ns // self._params.looks
                if at_ns > ends_ns:
                    break
                if stop.wait(max(0.0, (at_ns - (time.monotonic_ns() - begin_ns)) / NS_PER_S)):
                    break
                found = self._look()
                before_ns, now_ns = now_ns, time.monotonic_ns() - begin_ns
                self._pay(wanted if self._followed.shadow else actuator.told, now_ns - before_ns)
                if found is not None:
                    active = found[1]
                    builder.add(now_ns, *found)
                if look % self._params.looks == 0:
                    before = wanted
                    wanted = self._decide(decider, builder, active, floor if now_ns < hold_ns else {})
                    self._conclude(wanted, before, now_ns)
                    # A new one at once, and what a full disk did not take whenever the log has a line.
                    is_due = wanted != kept and self._noted_ns == now_ns
                    if state is not None and is_due and not self._followed.shadow:
                        kept = self._save(state, wanted)
                if not self._followed.shadow:
                    if found is not None:
                        actuator.compare(now_ns, active)
                    actuator.act(now_ns, wanted)
        except KeyboardInterrupt:
            interrupted = True
        # It ends in order, however often it is told so.
        with contextlib.suppress(KeyboardInterrupt), interrupts_held():
            if interrupted:
                self._say("interrupted")
            actuator.close(now_ns, self._params.metrics_timeout_s)
            self._note("stop", replicas=wanted, told=actuator.told)
        return self._summary(now_ns, wanted, actuator, decider.notes)

    def _start(self, replicas: Mapping[str, int], saved: FollowState | None) -> None:
        followed = self._followed
        fields = {"target": followed.target.name, "policy": followed.policy.name, "shadow": followed.shadow}
        since = {} if saved is None else {"goes_on_from": saved.written}
        self._note("start", **fields, replicas=replicas, **since)

    def _next_look(self, look: int, now_ns: int) -> int:
        """Number of the next look; those whose time has passed, as an answer took long, are left out."""
        looks = self._params.looks
        passed = now_ns * looks // self._setting.period_ns
        # The last of a period is made up for, or the policy would not be asked; that of earlier ones is not.
        missed = passed // looks * looks
        self._counts.held += max(0, missed // looks - look // looks - 1)
        return max(look + 1, missed if missed > look else passed)

    def _first_look(self, stop: threading.Event) -> Mapping[str, int]:
        for attempt in range(1, _FIRST_LOOKS + 1):
            try:
                return self._seen()[1]
            except (WebError, InputError) as error:
                if attempt == _FIRST_LOOKS or stop.wait(self._params.first_retry_s):
                    if isinstance(error, InputError):
                        raise
                    raise InputError.one("target", f"cannot be looked at: {error}") from None
        raise AssertionError("the last attempt returns or raises")

    def _look(self) -> tuple[Scrape, Mapping[str, int]] | None:
        try:
            found = self._seen()
        except (WebError, InputError) as error:
            self._counts.failed_looks += 1
            if not self._blind:  # one line for a failure, however long it lasts
                self._blind = True
                self._note("metrics failed", error=str(error))
            return None
        if self._blind:
            self._blind = False
            self._note("metrics back")
        return found

    def _seen(self) -> tuple[Scrape, Mapping[str, int]]:
        """What metrics say, and replicas that serve by stage, whoever says so."""
        scrape, serving = self._scraper.look()
        return scrape, {
            stage: serving.get(stage, 0) if figures.active is None else figures.active
            for stage, figures in scrape.stages.items()
        }

    def _decide(
        self, decider: Decider, builder: TickBuilder, active: Mapping[str, int], floor: Mapping[str, int]
    ) -> dict[str, int]:
        """Ask the policy, or keep what was decided last."""
        if not builder.looks:
            self._counts.held += 1
            return decider.replicas
        tick = builder.close()
        self._tick = tick
        present = {stage: max(1, count) for stage, count in active.items()} if self._followed.shadow else None
        try:
            wanted = decider.decide(tick, present=present, least=floor)
        except Exception as error:  # a policy of the user's own may fail; what was decided stays
            self._counts.held += 1
            self._note("policy failed", error=f"{type(error).__name__}: {error}")
            return decider.replicas
        self._counts.ticks += 1
        self._counts.queries += sum(tick.queries)
        return wanted

    def _save(self, state: AnyPath, wanted: Mapping[str, int]) -> Mapping[str, int]:
        try:
            replace(self._followed.identity, replicas=wanted).save(state)
        except InputError as error:  # a full disk must not stop following
            self._note("state not written", error=str(error))
            return {}
        return wanted

    def _conclude(self, wanted: Mapping[str, int], before: Mapping[str, int], now_ns: int) -> None:
        """Log a decision that changes something, and every now and then one that does not."""
        changed = wanted != before
        self._counts.changes += changed
        summary_ns = self._params.summary_s * NS_PER_S
        if changed or self._noted_ns is None or now_ns - self._noted_ns >= summary_ns:
            self._noted_ns = now_ns
            tick = self._tick
            seen = (
                {}
                if tick is None
                else {
                    "queries": sum(tick.queries),
                    "period_s": (tick.now_ns - tick.edges_ns[0]) / NS_PER_S,
                    "waiting": {stage: one.waiting for stage, one in tick.stages.items()},
                    "serving": {stage: one.active for stage, one in tick.stages.items()},
                }
            )
            self._note("decision", replicas=wanted, changed=changed, **seen)

    #: The last period that was decided on.
    _tick: Tick | None = None

    def _pay(self, replicas: Mapping[str, int], length_ns: int) -> None:
        for stage, count in replicas.items():
            self._replica_ns[stage] += count * length_ns

    def _note(self, event: str, **fields: object) -> None:
        self._log.write(event, **fields)
        if event in _SPOKEN or (event == "decision" and fields.get("changed") and self._followed.shadow):
            told = ", ".join(
                f"{name} {value}" for name, value in fields.items() if value not in (None, False)
            )
            self._say(f"{event}: {told}" if told else event)

    def _summary(
        self, now_ns: int, wanted: Mapping[str, int], actuator: Actuator, notes: tuple[str, ...]
    ) -> FollowSummary:
        plan, followed = self._setting.plan, self._followed
        microusd = {
            stage: plan.profiles.hardware[choice.hardware].microusd_per_hour
            for stage, choice in plan.choices.items()
        }
        hours = {stage: spent / NS_PER_HOUR for stage, spent in self._replica_ns.items()}
        lost = (f"{self._log.lost:,} lines of the audit log could not be written",) if self._log.lost else ()
        return FollowSummary(
            plan.pipeline.name,
            followed.target.name,
            followed.policy.name,
            followed.shadow,
            now_ns,
            **vars(self._counts),
            commands=actuator.sent,
            failed_commands=actuator.failed,
            delayed_commands=actuator.delayed,
            mismatches=actuator.mismatches,
            replicas=dict(wanted),
            told=actuator.told,
            replica_hours=hours,
            usd=sum(hours[stage] * microusd[stage] for stage in hours) / MICRODOLLARS_PER_DOLLAR,
            notes=notes + lost,
        )
