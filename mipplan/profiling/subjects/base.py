"""What is measured: what every kind of subject offers, and what it is asked for."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from mipplan.core import Fault, InputError, is_whole, shown


class SubjectError(Exception):
    """A subject cannot serve a batch; the text says why."""


def axes_faults(axes: object) -> list[Fault]:
    """Find sizes of axes that are none."""
    if not isinstance(axes, Mapping):
        return [Fault("axes", f"expected a mapping of axes to sizes, found {shown(axes)}")]
    return [
        Fault("axes", f"{axis}: expected a whole number above 0, found {shown(size)}")
        for axis, size in axes.items()
        if not is_whole(size) or size < 1
    ]


def request_faults(providers: object, axes: object, inputs: object) -> list[Fault]:
    """Find what no subject can be loaded with."""
    faults = axes_faults(axes)
    if isinstance(providers, str) or not isinstance(providers, Sequence):
        faults.append(Fault("providers", f"expected names of execution providers, found {shown(providers)}"))
    if inputs is not None and (not isinstance(inputs, str) or not inputs):
        faults.append(Fault("inputs", f"expected module:function or a file, found {shown(inputs)}"))
    return faults


@dataclass(frozen=True)
class SubjectRequest:
    """Which subject is to be loaded, and how. It travels to the process that serves it as JSON."""

    kind: str
    text: str  # A path, module:function, URL or command.
    threads: int | None = None
    providers: tuple[str, ...] = ()
    axes: dict[str, int] = field(default_factory=dict)  # Sizes of axes other than the batch's, by name.
    inputs: str | None = None  # Where inputs come from, instead of the signature.
    timeout_s: float = 60.0

    def to_document(self) -> dict[str, Any]:
        """Write it as a JSON-able mapping."""
        return {**asdict(self), "providers": list(self.providers)}

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> SubjectRequest:
        """Read what `to_document` wrote."""
        return cls(**{**document, "providers": tuple(document["providers"])})

    def refuse(self, **reasons: str) -> None:
        """Refuse what was asked for and means nothing for this kind of subject.

        Raises `InputError` with all of it; `reasons` say why, by argument.
        """
        InputError.raise_if(Fault(name, why) for name, why in reasons.items() if getattr(self, name))


class Subject(Protocol):
    """A model in service: batches are prepared, then run as often as is wanted."""

    is_remote: bool
    """Whether it runs outside the process that calls it and those it starts."""

    def prepare(self, batch: int) -> None:
        """Make the inputs of a batch; takes no part in the latency.

        Raises `SubjectError` or `InputError` if there are none of that size.
        """

    def run(self) -> None:
        """Serve the batch once: this is what is timed.

        Raises `SubjectError` if it fails.
        """

    def check(self) -> None:
        """Look at what the last run returned.

        Raises `SubjectError` if it cannot be the answer to the batch.
        """

    def cpu_ns(self) -> int | None:
        """CPU time used so far for serving; None if it is not known."""

    def versions(self) -> dict[str, str]:
        """Versions of what serves it, by name."""


class LocalSubject:
    """What subjects served by this very process have in common."""

    is_remote = False

    def check(self) -> None:
        """Take any answer."""

    def cpu_ns(self) -> int | None:
        """CPU time of all threads."""
        return time.process_time_ns()

    def versions(self) -> dict[str, str]:
        """Nothing besides Python and mipplan."""
        return {}
