"""What survives a restart, and what was done and why: the state file and the audit log."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from io import TextIOWrapper
from pathlib import Path
from typing import Self

from mipplan.core import Fault, Faults, InputError, is_whole, shown
from mipplan.documents import AnyPath, check_path, is_folder, is_there, read_bytes, write_text_atomically

_FORMAT = 1


@dataclass(frozen=True)
class FollowState:
    """The last good decision.

    Attributes
    ----------
    plan : str
        Fingerprint of the plan that is followed.
    target, policy : str
    replicas : mapping of str to int
        What stages were told to have.
    written : str
        When, UTC.
    """

    plan: str
    target: str
    policy: str
    replicas: Mapping[str, int]
    written: str = ""

    def save(self, path: AnyPath) -> None:
        """Write it, whole or not at all; raises `InputError` if that is not possible."""
        document = {"format": _FORMAT, **asdict(self), "written": now_text()}
        write_text_atomically(Path(path), json.dumps(document, indent=1) + "\n")

    @classmethod
    def load(cls, path: AnyPath, like: FollowState) -> Self | None:
        """Read it; None if there is no file.

        Raises
        ------
        InputError
            With every fault: also if it is of another plan or target than `like`.
        """
        place = os.fspath(path)
        if not is_there(path):
            return None
        try:
            document = json.loads(read_bytes(path))
        except (ValueError, RecursionError):
            raise InputError.one(
                place, "is no state of mipplan follow; remove it, or name another file"
            ) from None
        if not isinstance(document, dict) or document.pop("format", None) != _FORMAT:
            raise InputError.one(place, "is no state of mipplan follow of this version; remove it")
        faults = Faults()
        names = {"plan", "target", "policy", "replicas", "written"}
        if document.keys() != names:
            odd = shown(sorted(document.keys() ^ names)[0])
            raise InputError.one(place, f"is no state of mipplan follow: see {odd}; remove it")
        if document["plan"] != like.plan:
            faults.add(Fault(place, "is of another plan; remove it, or name another file"))
        if document["target"] != like.target:
            faults.add(
                Fault(place, f"is of target {shown(document['target'])}; remove it, or name another file")
            )
        counts = document["replicas"]
        if not isinstance(counts, dict) or counts.keys() != like.replicas.keys():
            faults.add(Fault(place, "has other stages than the plan; remove it"))
        else:
            faults.add(
                *(
                    Fault(
                        f"{place}: replicas.{stage}", f"expected a whole number above 0, found {shown(count)}"
                    )
                    for stage, count in counts.items()
                    if not is_whole(count) or count < 1
                )
            )
        faults.check()
        return cls(**document)


def audit_problem(path: AnyPath) -> str | None:
    """Say what keeps lines from being put behind a file, as far as can be told beforehand; a device takes them, too."""
    try:
        if is_folder(check_path(path)):
            return "is a folder; name a file to write to"
    except InputError as error:
        return error.faults[0].message
    folder = Path(path).parent
    return None if folder.is_dir() else f"there is no folder {str(folder)!r} to write to"


class AuditLog:
    """JSON lines: what was decided, told, refused and held, and when.

    Parameters
    ----------
    path : path or None
        Lines are put behind those that are there; None for no log.

    Raises
    ------
    InputError
        If it cannot be written to.
    """

    def __init__(self, path: AnyPath | None) -> None:
        self._stream: TextIOWrapper | None = None
        self.lost = 0
        """Lines that could not be written: following goes on without them."""
        if path is not None:
            try:
                self._stream = Path(path).open("a", encoding="utf-8")  # noqa: SIM115 -- closed by `close`
            except OSError as error:
                place = os.fspath(path)
                raise InputError.one(place, f"cannot be written: {error.strerror or error}") from None

    def write(self, event: str, **fields: object) -> None:
        """Write one line; a full disk must not stop following."""
        if self._stream is None:
            return
        try:
            self._stream.write(json.dumps({"time": now_text(), "event": event, **fields}) + "\n")
            self._stream.flush()
        except OSError:
            self.lost += 1

    def close(self) -> None:
        """Close the file; what a full disk did not take is in `lost`, and must not cost the summary now."""
        if self._stream is not None:
            with contextlib.suppress(OSError):
                self._stream.close()
            self._stream = None


def now_text() -> str:
    """The present instant, UTC, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
