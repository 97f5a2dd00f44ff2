"""Where a fleet's planning stands, as a file: a run that is killed goes on from its last round.

The file holds all that decides how the search goes on: the known plans of every pipeline in the order in which they
were found, what pricing has learnt of it, the prices and the bound they prove, and the best fleet. It is written
beside and renamed, so that there is always a whole one.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mipplan.core import InputError
from mipplan.documents import write_text_atomically
from mipplan.fleet.columns import Column, Memory
from mipplan.fleet.generation import Pool, Progress
from mipplan.fleet.request import Fleet
from mipplan.fleet.selection import Chosen
from mipplan.result import Choice

_FORMAT = 1


@dataclass(frozen=True)
class Checkpoint:
    """What a file holds.

    Attributes
    ----------
    pool : Pool
    memories : list of Memory
    progress : Progress
    best : Chosen or None
    """

    pool: Pool
    memories: list[Memory]
    progress: Progress
    best: Chosen | None


def fleet_fingerprint(fleet: Fleet, gap: float) -> str:
    """SHA-256 of everything that decides how a search goes."""
    digest = hashlib.sha256()
    parts: list[Any] = [fleet.profiles.to_document(), fleet.quantile, fleet.seed, fleet.budget, gap]
    for member in fleet.members:
        parts += [
            member.name,
            member.pipeline.to_document(),
            member.trace.sha256,
            member.slo_ns,
            member.weight,
        ]
    for part in parts:
        digest.update(json.dumps(part, sort_keys=True).encode())
    return digest.hexdigest()


def write_checkpoint(path: str | Path, fingerprint: str, checkpoint: Checkpoint) -> None:
    """Write a checkpoint, whole or not at all."""
    progress = checkpoint.progress
    document = {
        "format": _FORMAT,
        "fleet": fingerprint,
        "columns": [[_column_document(c) for c in known] for known in checkpoint.pool.columns],
        "hopeless": sorted(checkpoint.pool.hopeless),
        "memories": [
            [memory.refused, memory.multipliers, {k: list(v) for k, v in memory.caps.items()}]
            for memory in checkpoint.memories
        ],
        "progress": {**asdict(progress), "duals": progress.duals.tolist()},
        "best": None if checkpoint.best is None else _places(checkpoint.best, checkpoint.pool),
        "cost": None if checkpoint.best is None else checkpoint.best.cost,
    }
    write_text_atomically(path, json.dumps(document, separators=(",", ":")))


def read_checkpoint(path: str | Path, fingerprint: str) -> Checkpoint | None:
    """Read a checkpoint; None if there is no such file.

    Raises
    ------
    InputError
        If the file is no checkpoint, or one of another fleet.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError.one(str(path), f"cannot be read: {error}") from error
    try:
        document = json.loads(text)
        if document["format"] != _FORMAT:
            raise InputError.one(
                str(path), f"is a checkpoint of format {document['format']!r}, not {_FORMAT}"
            )
        if document["fleet"] != fingerprint:
            message = (
                "is the checkpoint of another fleet, or of this one with other settings; name another file"
            )
            raise InputError.one(str(path), message)
        return _checkpoint(document)
    except (ValueError, KeyError, TypeError, IndexError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError.one(
            str(path), "is no checkpoint of a fleet; remove it or name another file"
        ) from error


def _checkpoint(document: dict[str, Any]) -> Checkpoint:
    columns = [[_column(entry) for entry in known] for known in document["columns"]]
    progress = Progress(
        **{**document["progress"], "duals": np.array(document["progress"]["duals"], dtype=np.int64)}
    )
    best = None
    if document["best"] is not None:
        chosen = [
            None if place is None else known[place]
            for known, place in zip(columns, document["best"], strict=True)
        ]
        best = Chosen(tuple(chosen), document["cost"])
    return Checkpoint(
        Pool(columns, set(document["hopeless"])),
        [_memory(entry) for entry in document["memories"]],
        progress,
        best,
    )


def _memory(entry: list[Any]) -> Memory:
    refused, multipliers, caps = entry
    return Memory(
        tuple(tuple((s, int(t), int(p), int(n)) for s, t, p, n in cut) for cut in refused),
        tuple(multipliers),
        {stage: tuple(most) for stage, most in caps.items()},
    )


def _column_document(column: Column) -> list[Any]:
    return [[[c.hardware, c.batch, c.replicas] for c in column.choices], list(column.devices)]


def _column(entry: list[Any]) -> Column:
    choices, devices = entry
    return Column(tuple(Choice(*choice) for choice in choices), tuple(devices))


def _places(chosen: Chosen, pool: Pool) -> list[int | None]:
    return [
        None if column is None else known.index(column)
        for column, known in zip(chosen.columns, pool.columns, strict=True)
    ]
