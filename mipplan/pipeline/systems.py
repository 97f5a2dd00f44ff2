"""How serving systems make batches: a register of their laws, for replays that predict the system as it is.

A plan's guarantee is about one central queue whose idle replicas take what waits. Servers collect for a while, queue
before each replica, or turn queries away. Each entry of `SYSTEMS` says what one server does, and where that was read.

Everything of an instant happens in this order: batches end, tokens arrive, the router tries again, tokens are handed
out, collecting ends, and what then exceeds a bound is turned away, the last arrivals first.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from types import MappingProxyType
from typing import Any, TypeAlias

from mipplan.core import (
    Fault,
    Faults,
    InputError,
    check_one_of,
    format_duration,
    is_whole,
    listed,
    parse_duration_ns,
    shown,
    suggestion,
)
from mipplan.pipeline.laws import WINDOW, CollectionWindow, Discipline


class Routing(StrEnum):
    """Where a token waits, and who decides which replica serves it."""

    CENTRAL = "central"
    """In one queue: an idle replica takes it."""
    ROUND_ROBIN = "round_robin"
    """Before a replica: the next one in turn, whatever waits there."""
    POW2 = "pow2"
    """Before a replica: of two drawn at random the one with fewer tokens under way, as far as the router knows. With
    `ServingSystem.most_ongoing` at both it draws again at once, and then ever later; what it finds goes to whichever
    token has waited longest."""


class Collecting(StrEnum):
    """How long a batch is added to."""

    FROM_FIRST = "from_first"
    """A replica that took its first token collects for the window. It takes no further one while busy. A token goes to
    whichever replica has listened longest, idle or collecting: bursts are spread."""
    TOGETHER = "together"
    """As from the first; what comes at one instant, as the outputs of a batch do, goes to one replica as far as it may:
    the outputs wait in the queue before a worker wakes."""
    OPEN = "open"
    """As from the first; a token goes to the replica that collects, if one does: one batch is open at a time."""
    BY_CLOCK = "by_clock"
    """As from the first, in windows one behind the other from when the replica became idle: up to the end of the one
    under way. That of replica r of n began r/n windows before the first token came."""
    AHEAD = "ahead"
    """A batch is closed the window after its first token, or full, *also while the replica is busy*. Closed batches
    then wait for it: so they do not grow with the queue."""


#: The router draws again after 25 ms, then after twice as long each time, up to 500 ms (``request_router.py``).
FIRST_RETRY_NS, LONGEST_RETRY_NS = 25_000_000, 500_000_000
#: The router seeks for at most so many tokens of a stage at a time, and two for each replica; others wait in order.
MOST_ROUTED = 50


@dataclass(frozen=True)
class ServingSystem:
    """A serving system's law.

    Raises `InputError` with every field that cannot be used, or not with another.
    """

    name: str
    source: str = ""
    """Where its law was read."""
    routing: Routing = Routing.CENTRAL
    collecting: Collecting = Collecting.FROM_FIRST
    window_ns: int = 0
    """How long is collected, at most. With 0 at a central queue an idle replica takes what waits, as the plan says."""
    stagger_ns: int = 0
    """Least time between the outputs of a batch on their way to other stages, where the caller says none."""
    discipline: Discipline | None = Discipline.FIFO
    """None: as the plan says."""
    most_ongoing: int | None = None
    """With `Routing.POW2`: tokens of a replica, in batches and before them, up to which it is given more."""
    stale_ns: int = 0
    """With `Routing.POW2`: the router knows so much later that a token was served."""
    most_waiting: int | None = None
    """Tokens that may wait in the queue (that of the router where it has one); more are turned away."""

    def __post_init__(self) -> None:
        faults = Faults()
        for field, words in (("routing", Routing), ("collecting", Collecting)):
            faults.take(partial(check_one_of, f"system.{field}", getattr(self, field), words))
        for field in ("window_ns", "stagger_ns", "stale_ns"):
            value = getattr(self, field)
            if not is_whole(value) or not 0 <= value <= WINDOW.most_ns:
                faults.add(
                    Fault(f"system.{field}", f"expected a time from 0 to 60 s in ns, found {shown(value)}")
                )
        for field, least in (("most_ongoing", 1), ("most_waiting", 0)):
            value = getattr(self, field)
            if value is not None and not (is_whole(value) and least <= value <= 2**31):
                message = f"expected a whole number from {least} on, or None, found {shown(value)}"
                faults.add(Fault(f"system.{field}", message))
        if self.discipline is not None:
            faults.take(lambda: check_one_of("system.discipline", self.discipline, Discipline))
        faults.check()
        is_ahead, is_routed = self.collecting == Collecting.AHEAD, self.routing == Routing.POW2
        if is_ahead and self.routing == Routing.CENTRAL:
            faults.add(
                Fault("system.collecting", "closes batches before a replica: not with a central queue")
            )
        if is_ahead and self.most_waiting is not None and not is_routed:
            faults.add(
                Fault("system.most_waiting", "with batches closed ahead only the router's queue has a bound")
            )
        for field in ("most_ongoing", "stale_ns"):
            if getattr(self, field) and not is_routed:
                faults.add(Fault(f"system.{field}", "only the router of pow2 counts tokens"))
        faults.check()
        object.__setattr__(self, "routing", Routing(self.routing))
        object.__setattr__(self, "collecting", Collecting(self.collecting))
        if self.discipline is not None:
            object.__setattr__(self, "discipline", Discipline(self.discipline))

    @property
    def is_plain(self) -> bool:
        """Whether it makes the batches of eager dispatch: one queue, whatever waits, nothing turned away."""
        return self.routing is Routing.CENTRAL and not self.window_ns and self.most_waiting is None

    @property
    def text(self) -> str:
        """The law in words."""
        where = {
            Routing.CENTRAL: "one queue",
            Routing.ROUND_ROBIN: "a queue before each replica, in turn",
            Routing.POW2: "a queue before each replica, the shorter of two drawn",
        }[self.routing]
        how = {
            Collecting.FROM_FIRST: "collects for {} from its first token on",
            Collecting.TOGETHER: "collects for {} from its first tokens on",
            Collecting.OPEN: "one open batch, which collects for {} from its first token on",
            Collecting.BY_CLOCK: "collects in windows of {}",
            Collecting.AHEAD: "batches closed {} after their first token, also before a busy replica",
        }[self.collecting].format(format_duration(self.window_ns))
        parts = [where]
        if self.window_ns or self.collecting is Collecting.AHEAD:
            parts.append(how)
        if self.most_ongoing is not None:
            parts.append(f"at most {self.most_ongoing} under way at a replica")
        if self.most_waiting is not None:
            parts.append(f"at most {self.most_waiting} waiting")
        return f"{self.name} ({', '.join(parts)})"


#: A system by its name with what is other than usual (``"ray:window=100ms,ongoing=8"``), itself, or None.
System: TypeAlias = str | ServingSystem | None

_REGISTER = (
    ServingSystem("central", "the serving model (docs/theory.md, section 1)", discipline=None),
    ServingSystem(
        "triton",
        # Queue delay 0, as exported. A payload is open until an instance has taken it out: 0.3 to 0.6 ms, measured.
        "Triton core 73aad7c, dynamic_batch_scheduler.cc, rate_limiter.cc, instance_queue.cc; measured with 2.51",
        collecting=Collecting.OPEN,
        window_ns=500_000,
        stagger_ns=200_000,
    ),
    ServingSystem(
        "mosec",
        # max_wait_time=1, as exported, and 0.2 to 1.2 ms until tokio's timer is heard, measured. All outputs of a batch
        # are in the next stage's channel before one of its workers looks.
        "mosec 124694b, src/protocol.rs (get_batch), src/tasks.rs; measured with 0.9.8",
        collecting=Collecting.TOGETHER,
        window_ns=1_700_000,
    ),
    ServingSystem(
        "litserve",
        # Its usual batch_timeout of 0 polls all the time; with another: litserve:window=5ms.
        "LitServe 0.2.19, loops/base.py (collate_requests)",
        collecting=Collecting.BY_CLOCK,
        stagger_ns=1_000,
    ),
    ServingSystem(
        "ray",
        # @serve.batch as it comes: batch_wait_timeout_s=0.01, max_ongoing_requests=5. Outputs 1 ms apart, measured.
        "Ray 2.60.0, serve/batching.py (_BatchQueue), serve/_private/request_router/pow_2_router.py, request_router.py",
        routing=Routing.POW2,
        collecting=Collecting.AHEAD,
        window_ns=10_000_000,
        stagger_ns=1_000_000,
        most_ongoing=5,
    ),
)
#: Laws of serving systems by name.
SYSTEMS: Mapping[str, ServingSystem] = MappingProxyType({system.name: system for system in _REGISTER})


def collecting_for(window_ns: int) -> ServingSystem:
    """The law of a stage whose replicas collect batches for up to so long, and nothing else."""
    return replace(SYSTEMS["central"], window_ns=window_ns)


def _time_ns(text: str) -> int:
    if (ns := parse_duration_ns(text)) > WINDOW.most_ns:
        raise ValueError(f"expected at most {format_duration(WINDOW.most_ns)}, found {text}")
    return ns


def _whole(text: str) -> int:
    if not text.isdecimal() or len(text) > 9:
        raise ValueError(f"expected a whole number, found {text[:80]!r}")
    return int(text)


#: What may be said behind a name: the field, and how its text is read.
_KEYS: Mapping[str, tuple[str, Any]] = MappingProxyType(
    {
        "window": ("window_ns", _time_ns),
        "stagger": ("stagger_ns", _time_ns),
        "stale": ("stale_ns", _time_ns),
        "ongoing": ("most_ongoing", _whole),
        "waiting": ("most_waiting", _whole),
        "routing": ("routing", str),
        "collecting": ("collecting", str),
        "discipline": ("discipline", str),
    }
)


def read_system(system: System, place: str = "system") -> ServingSystem:
    """Return a system by its name and what is other than usual, such as ``ray:window=100ms,ongoing=8``.

    Raises `InputError` if there is none of that name, and with everything that cannot be used.
    """
    if isinstance(system, ServingSystem):
        return system
    if not isinstance(system, str):
        raise InputError.one(place, f"expected a name such as ray, or a ServingSystem, found {shown(system)}")
    name, colon, settings = system.partition(":")
    faults = Faults()
    if name not in SYSTEMS:
        hint = suggestion(name, SYSTEMS) or f"; expected one of {listed(SYSTEMS)}"
        faults.add(Fault(place, f"there is no system {shown(name)}{hint}"))
    given: dict[str, Any] = {}
    for pair in settings.split(",") if colon else ():
        key, equals, text = pair.partition("=")
        if key not in _KEYS or not equals:
            hint = suggestion(key, _KEYS) or f"; expected some of {listed(_KEYS)}"
            faults.add(Fault(place, f"{shown(pair)} is no KEY=VALUE that there is{hint}"))
            continue
        field, read = _KEYS[key]
        if field in given:
            faults.add(Fault(place, f"{key} is given twice"))
        try:
            given[field] = read(text)
        except ValueError as error:
            faults.add(Fault(f"{place}.{key}", str(error)))
    faults.check()
    try:
        return replace(SYSTEMS[name], **given)
    except InputError as error:  # by fields, of which only their keys were given
        keys = {f"system.{field}": f"{place}.{key}" for key, (field, _) in _KEYS.items()}
        raise InputError([Fault(keys[fault.place], fault.message) for fault in error.faults]) from None


def systems_of(
    system: System, window_s: CollectionWindow, stages: Collection[str]
) -> dict[str, ServingSystem]:
    """Return the law of every stage; of `central` where only windows are given.

    Raises `InputError` with every stage that there is not, and everything that cannot be used.
    """
    faults = Faults()
    read = faults.take(lambda: read_system("central" if system is None else system))
    windows = faults.take(lambda: WINDOW.read(window_s, stages))
    faults.check()
    found = dict.fromkeys(stages, read.value)
    return found | {stage: replace(read.value, window_ns=ns) for stage, ns in windows.value.items()}
