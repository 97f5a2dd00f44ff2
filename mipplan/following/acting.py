"""Telling a target what was decided: one command a stage at a time, no faster than allowed, again if it failed."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, wait
from dataclasses import dataclass
from functools import partial

from mipplan.core import NS_PER_S, Fault, InputError, begun, is_finite, is_whole, shown
from mipplan.following.targets import FollowTarget
from mipplan.following.web import WebError

_MINUTE_NS = 60 * NS_PER_S
#: More seconds, a day, or looks, or commands are a slip.
_MOST = 86_400


@dataclass(frozen=True)
class FollowParams:
    """What is taken for known of networks and serving systems.

    Attributes
    ----------
    looks : int
        Metrics are looked at so many times in a control period: arrivals are known that finely.
    metrics_timeout_s, command_timeout_s : float
        A look or a command that takes longer has failed. Triton answers a command when the model is loaded.
    most_commands_per_min : int
        More commands wait; those that add replicas go first.
    first_retry_s, longest_retry_s : float
        A command that failed is tried again after so long, twice as long after each failure, up to the longest.
    restart_hold_s : float
        So long after a restart no stage gets fewer replicas than before it, since policies have seen little.
    grace_s : float
        A target that does not have what it was told within the activation delay and this time is told again.
    summary_s : float
        The audit log has a line at least so often.
    """

    looks: int = 4
    metrics_timeout_s: float = 2.0
    command_timeout_s: float = 60.0
    most_commands_per_min: int = 60
    first_retry_s: float = 1.0
    longest_retry_s: float = 30.0
    restart_hold_s: float = 60.0
    grace_s: float = 10.0
    summary_s: float = 60.0

    def __post_init__(self) -> None:
        faults = [
            Fault(f"params.{name}", f"expected a number above 0 and at most {_MOST}, found {shown(value)}")
            for name, value in vars(self).items()
            if not is_finite(value)
            or not 0 <= value <= _MOST
            or (value == 0 and name not in ("restart_hold_s", "grace_s"))
        ]
        faults += [
            Fault(f"params.{name}", f"expected a whole number, found {shown(getattr(self, name))}")
            for name in ("looks", "most_commands_per_min")
            if not is_whole(getattr(self, name))
        ]
        InputError.raise_if(faults)


@dataclass
class _StageCommands:
    """What one stage was told."""

    told: int
    """The last count that the target took."""
    told_ns: int
    asked: int | None = None
    """On its way."""
    future: Future[None] | None = None
    failures: int = 0
    not_before_ns: int = 0


class Actuator:
    """Sends commands from threads of their own, as some take until a model is loaded.

    Parameters
    ----------
    target : FollowTarget
    told : mapping of str to int
        What stages have at the beginning.
    now_ns : int
    delay_ns : int
        Activation delay: before that nobody has to have what he was told.
    params : FollowParams
    log : callable
        Given an event and its fields, for each command and each failure.
    """

    def __init__(
        self,
        target: FollowTarget,
        told: Mapping[str, int],
        now_ns: int,
        delay_ns: int,
        params: FollowParams,
        log: Callable[..., None],
    ) -> None:
        self._target, self._params, self._log = target, params, log
        self._patience_ns = delay_ns + round(params.grace_s * NS_PER_S)
        self._stages = {stage: _StageCommands(count, now_ns) for stage, count in told.items()}
        self._sent_ns: deque[int] = deque()
        self.sent = self.failed = self.mismatches = self.delayed = 0

    @property
    def told(self) -> dict[str, int]:
        """What the target took last, by stage."""
        return {stage: one.told for stage, one in self._stages.items()}

    def act(self, now_ns: int, wanted: Mapping[str, int]) -> None:
        """Take answers, then send what differs from what the target took, as far as may be sent now."""
        self._collect(now_ns)
        while self._sent_ns and self._sent_ns[0] <= now_ns - _MINUTE_NS:
            self._sent_ns.popleft()
        due = [
            (stage, one)
            for stage, one in self._stages.items()
            if one.future is None and wanted[stage] != one.told and now_ns >= one.not_before_ns
        ]
        # Too few replicas cost more than too many.
        for stage, one in sorted(due, key=lambda pair: wanted[pair[0]] < pair[1].told):
            if len(self._sent_ns) >= self._params.most_commands_per_min:
                self.delayed += 1
                continue
            self._sent_ns.append(now_ns)
            self.sent += 1
            one.asked = wanted[stage]
            self._log("command", stage=stage, replicas=one.asked, before=one.told)
            command = partial(self._target.scale, stage, one.asked, self._params.command_timeout_s)
            one.future = begun(command, "mipplan-request")

    def _collect(self, now_ns: int) -> None:
        for stage, one in self._stages.items():
            if one.future is None or not one.future.done():
                continue
            error = one.future.exception()
            if error is None and one.asked is not None:
                one.told, one.told_ns, one.failures = one.asked, now_ns, 0
            else:
                self.failed += 1
                wait_s = min(
                    self._params.longest_retry_s, self._params.first_retry_s * 2.0 ** min(one.failures, 20)
                )
                one.failures += 1
                one.not_before_ns = now_ns + round(wait_s * NS_PER_S)
                kind = "" if isinstance(error, WebError) else f"{type(error).__name__}: "
                self._log(
                    "command failed",
                    stage=stage,
                    replicas=one.asked,
                    error=f"{kind}{error}",
                    again_in_s=wait_s,
                )
            one.asked = one.future = None

    def compare(self, now_ns: int, active: Mapping[str, int]) -> None:
        """Find stages that do not have what they were told, long after: they are told again."""
        for stage, one in self._stages.items():
            is_late = now_ns - one.told_ns > self._patience_ns
            if is_late and one.future is None and active.get(stage, one.told) != one.told:
                self.mismatches += 1
                self._log("mismatch", stage=stage, told=one.told, serving=active[stage])
                # Whatever it has, it is not what was told: with this, `act` sends it again.
                one.told, one.told_ns = active[stage], now_ns

    def close(self, now_ns: int, timeout_s: float) -> None:
        """Wait for commands on their way, for some time; those that take longer end with the process."""
        under_way = [one.future for one in self._stages.values() if one.future is not None]
        wait(under_way, timeout_s)
        self._collect(now_ns)
