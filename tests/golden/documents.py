"""Any answer of the library as a plain JSON document: numbers exactly, large arrays as hashes of their bytes."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from fractions import Fraction
from typing import Any

import numpy as np

import mipplan as mp
from mipplan_formulations import LinearModel

#: Arrays with more entries than this are kept as a hash.
_LISTED = 24


def document_of(value: Any) -> Any:
    """Return the value as dictionaries, lists, strings and numbers."""
    if isinstance(value, Enum):
        return value.value
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, np.generic):
        return document_of(value.item())
    if isinstance(value, np.ndarray):
        return _array_document(value)
    if isinstance(value, Fraction):
        return f"{value.numerator}/{value.denominator}"
    for kind, special in _SPECIAL.items():
        if isinstance(value, kind):
            return special(value)
    if isinstance(value, Mapping):
        return {str(document_of(key)): document_of(part) for key, part in value.items()}
    if isinstance(value, set | frozenset):
        return sorted(document_of(part) for part in value)
    if isinstance(value, list | tuple):
        return [document_of(part) for part in value]
    if is_dataclass(value):
        return {
            part.name: document_of(getattr(value, part.name))
            for part in fields(value)
            if not part.name.startswith("_")
        }
    raise TypeError(f"no document for {type(value)}")


def _array_document(array: np.ndarray[Any, Any]) -> Any:
    if array.size <= _LISTED:
        return document_of(array.tolist())
    little = np.ascontiguousarray(array.astype(array.dtype.newbyteorder("<"), copy=False))
    return {
        "dtype": array.dtype.str,
        "shape": list(array.shape),
        "sha256": hashlib.sha256(little.tobytes()).hexdigest(),
    }


def hash_of(text: str) -> str:
    """Return the SHA-256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()


def plan_document(plan: mp.Plan) -> dict[str, Any]:
    """A plan: its file without the inputs, and the hash of the whole file."""
    document = plan.to_document()
    return {
        **{key: value for key, value in document.items() if key not in {"pipeline", "profiles"}},
        "gap": document_of(plan.gap),
        "estimator_calls": None if plan.effort is None else plan.effort.estimator_calls,
        "refinement": document_of(plan.refinement),
        "file_sha256": hash_of(plan.to_json()),
    }


def _trace_document(trace: mp.Trace) -> dict[str, Any]:
    return {
        "name": trace.name,
        "note": trace.note,
        "queries": len(trace),
        "span_ns": document_of(trace.span_ns),
        "cv": document_of(trace.cv),
        "sha256": trace.sha256,
    }


def replay_document(result: mp.ReplayResult, slo_s: float | None = None) -> dict[str, Any]:
    """A replay: every latency and all that happened at every stage."""
    return {
        "summary": document_of(result.summary(slo_s)),
        "latency_ns": document_of(result.latency_ns),
        "ingress_ns": document_of(result.ingress_ns),
        "in_flight": document_of(result.in_flight),
        "paid_replica_ns": document_of(result.paid_replica_ns),
        "usd": result.usd,
        "service": result.service,
        "certificate_applies": result.certificate_applies,
        "stages": {
            name: {what: document_of(getattr(stage, what)) for what in _STAGE_FIGURES}
            for name, stage in result.stages.items()
        },
    }


_STAGE_FIGURES = (
    "replicas",
    "tokens",
    "batches",
    "arrival_ns",
    "dispatch_ns",
    "exit_ns",
    "wait_ns",
    "batch_size",
    "batch_start_ns",
    "batch_service_ns",
    "batch_sizes",
    "busy_replicas",
    "queue_length",
    "max_queue",
    "mean_queue",
    "max_wait_s",
    "mean_wait_s",
    "mean_batch",
    "total_wait_ns",
    "total_service_ns",
)


def _model_document(model: LinearModel) -> dict[str, Any]:
    return {
        "name": model.name,
        "size": [model.num_rows, model.num_columns, int(model.matrix.nnz)],
        "matrix": [
            document_of(part) for part in (model.matrix.indptr, model.matrix.indices, model.matrix.data)
        ],
        "numbers": [
            document_of(part)
            for part in (
                model.objective,
                model.row_lower,
                model.row_upper,
                model.column_lower,
                model.column_upper,
                model.integrality,
            )
        ],
        "names": [hash_of("\n".join(model.column_names)), hash_of("\n".join(model.row_names))],
    }


_SPECIAL: dict[type, Any] = {
    mp.Plan: plan_document,
    mp.Trace: _trace_document,
    mp.ReplayResult: replay_document,
    LinearModel: _model_document,
}
