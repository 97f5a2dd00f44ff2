"""Trace files of the Triton Inference Server as a log of stages.

The form: docs/user_guide/trace.md of github.com/triton-inference-server/server (read at 024377a). A file is a JSON
list; entries of one ``id`` belong together: one names the model and the request, others hold time stamps. A model of an
ensemble is a stage, and its ``parent_id`` leads to the query. A backend runs the requests of one batch from one
``COMPUTE_START`` on, so those of a model that have it in common are a batch. That is all of the batch only if every
request is traced (``rate=1``).

Times are of a clock that nobody sets, and that begins at the start of the machine. Where the requests have numbers as
their ids, as those of `mipplan drive` have, the times are moved onto the sender's clock.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mipplan.core import Fault, InputError, is_whole, listed, shown
from mipplan.documents import decode_text, read_bytes
from mipplan.logs.rows import MISSING, LogMetadata, StageLog

#: Triton's own name for the clock of its time stamps.
STEADY_CLOCK = "steady clock of Triton"
_MOST_BYTES = 512 * 1024**2
_NEEDED = ("QUEUE_START", "COMPUTE_START", "COMPUTE_END")


@dataclass
class _Request:
    """What the entries of one id say."""

    model: str = ""
    number: str = ""  # What the client calls the request.
    parent: int | None = None
    stamps: dict[str, int] = field(default_factory=dict)

    @property
    def is_served(self) -> bool:
        """Whether a model computed for it: an ensemble does not, nor does an answer from the cache."""
        return bool(self.model) and all(name in self.stamps for name in _NEEDED)


def read_triton(paths: Sequence[Path]) -> StageLog:
    """Read the trace files of one server.

    Raises `InputError` with every file that is no such file, or if no request was traced from queue to end.
    """
    requests: dict[int, _Request] = {}
    faults = [fault for path in paths for fault in _collect(path, requests)]
    InputError.raise_if(faults)
    served = {number: request for number, request in requests.items() if request.is_served}
    place = listed(map(str, paths), 3)
    if not served:
        needed = ", ".join(_NEEDED)
        raise InputError.one(place, f"no request has the time stamps {needed}: trace with level=TIMESTAMPS")
    query = _queries(requests)
    rows = list(served.items())
    starts = np.array([request.stamps["COMPUTE_START"] for _, request in rows], dtype=np.int64)
    models = np.array([request.model for _, request in rows])
    _, batch, counts = np.unique(
        np.stack([np.unique(models, return_inverse=True)[1], starts]),
        axis=1, return_inverse=True, return_counts=True,
    )  # fmt: skip
    return StageLog.from_columns(
        {
            "query": [query[_root(number, requests)] for number, _ in rows],
            "stage": models.tolist(),
            "arrival_ns": [request.stamps["QUEUE_START"] for _, request in rows],
            "dispatch_ns": starts,
            "finish_ns": [request.stamps["COMPUTE_END"] for _, request in rows],
            "batch": batch.ravel().astype(np.int64),
            "batch_size": counts[batch.ravel()].astype(np.int64),
            "replica": np.full(len(rows), MISSING, dtype=np.int64),
            "error": [None] * len(rows),
        },
        LogMetadata("triton", STEADY_CLOCK, run="triton"),
    )


def _collect(path: Path, requests: dict[int, _Request]) -> list[Fault]:
    """Add the entries of a file to what is known of each request."""
    try:
        entries = json.loads(decode_text(read_bytes(path, limit=_MOST_BYTES), str(path)))
    except InputError as error:
        return list(error.faults)
    except (ValueError, RecursionError) as error:
        return [
            Fault(str(path), f"is no whole JSON document ({error}): let Triton end, or set log-frequency")
        ]
    if not isinstance(entries, list):
        return [Fault(str(path), "expected a list, as Triton's trace files hold")]
    faults = []
    for place, entry in enumerate(entries):
        try:
            _add(entry, requests)
        except (KeyError, TypeError, ValueError):
            faults.append(Fault(f"{path}[{place}]", f"is no entry of a trace of Triton: {shown(entry)}"))
            if len(faults) == 5:
                break
    return faults


def _add(entry: dict[str, object], requests: dict[int, _Request]) -> None:
    number, parent, stamps = entry["id"], entry.get("parent_id"), entry.get("timestamps", [])
    if not is_whole(number) or not isinstance(stamps, list):
        raise TypeError
    request = requests.setdefault(number, _Request())
    if "model_name" in entry:
        request.model, request.number = str(entry["model_name"]), str(entry.get("request_id", ""))
        request.parent = parent if is_whole(parent) else None
    for stamp in stamps:
        # Older versions write the names in small letters, with blanks.
        name, at_ns = str(stamp["name"]).upper().replace(" ", "_"), stamp["ns"]
        if not is_whole(at_ns) or abs(at_ns) >= 2**63:
            raise TypeError
        request.stamps.setdefault(name, at_ns)


def _root(number: int, requests: dict[int, _Request]) -> int:
    """Return the request that a client made, from that of a model inside an ensemble."""
    seen = {number}
    while (parent := requests[number].parent) in requests and parent not in seen:
        number = parent
        seen.add(number)
    return number


def _queries(requests: dict[int, _Request]) -> dict[int, int]:
    """Number the queries as their sender does, if it gives each a number; else in the order of their ids."""
    roots = sorted({_root(number, requests) for number in requests})
    given = [requests[root].number for root in roots]
    if len(set(given)) == len(given) and all(
        text.isascii() and text.isdecimal() and len(text) < 19 for text in given
    ):
        return dict(zip(roots, map(int, given), strict=True))
    return {root: place for place, root in enumerate(roots)}
