"""Replicas on the machines of a Ray cluster: each is an actor, which holds a model and runs the batches it is given.

The dispatcher stays in one process, where the host is: a script that calls `serve`, or a deployment of Ray Serve with
one replica that holds a `ServingHost`. Serve's own batching and routing have no part in it: ``@serve.batch`` closes a
batch also while its replica is busy, and a router that does not see all queues cannot keep an order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mipplan.serving.dispatching import ServedBatch
from mipplan.serving.workers import BatchFailedError, BatchFunction, ReplicaGoneError


class RayWorker:
    """Runs batches on Ray actors; Ray must have been started (``ray.init``).

    Parameters
    ----------
    models : mapping of str to callable
        By stage: makes, inside the actor, the function that serves a batch (as for `CallableWorker`). A class whose
        instances can be called will do: its constructor loads the model.
    options : mapping of str to mapping, optional
        By stage: what an actor asks of Ray, such as ``{"num_gpus": 1, "resources": {"t4": 1}}``. By default no CPU is
        reserved.
    """

    def __init__(
        self,
        models: Mapping[str, Callable[[], BatchFunction]],
        options: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        self._models = dict(models)
        self._options = {stage: {"num_cpus": 0, **(options or {}).get(stage, {})} for stage in self._models}
        self._actors: dict[tuple[str, int], Any] = {}

    async def start(self, stage: str, replica: int) -> None:
        """Start the actor of a replica, and wait until its model is loaded; an earlier one is killed."""
        import ray

        self._kill((stage, replica))
        actor: Any = ray.remote(_RayModel).options(**self._options[stage]).remote(self._models[stage])
        self._actors[stage, replica] = actor
        await self._answer(actor.run.remote(None))

    async def run(self, stage: str, replica: int, batch: ServedBatch) -> Sequence[Any]:
        """Have the actor of the replica call its model."""
        inputs = [[value for _, value in token.inputs] for token in batch.tokens]
        error, outputs = await self._answer(self._actors[stage, replica].run.remote(inputs))
        if error is not None:
            raise BatchFailedError(error)
        return list(outputs)

    async def _answer(self, reference: Any) -> tuple[str | None, Sequence[Any]]:
        import ray

        try:
            answer: tuple[str | None, Sequence[Any]] = await reference
        except ray.exceptions.RayTaskError as error:  # outputs that cannot be sent; the actor is there
            return f"{type(error.cause).__name__}: {error.cause}", []
        except ray.exceptions.RayError as error:
            raise ReplicaGoneError(f"its actor has gone: {_reason(error)}") from None
        return answer

    def _kill(self, place: tuple[str, int]) -> None:
        import ray

        if (actor := self._actors.pop(place, None)) is not None:
            ray.kill(actor)

    async def stop(self, stage: str, replica: int) -> None:
        """Kill the actor of a replica."""
        self._kill((stage, replica))

    async def close(self) -> None:
        """Kill all actors."""
        for place in list(self._actors):
            self._kill(place)


def _reason(error: Exception) -> str:
    """One line of what Ray says: the first, or, where a model could not be made, the last, which is its error."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    return lines[-1] if "creation task" in lines[0] else lines[0]


class _RayModel:
    """What runs in an actor."""

    def __init__(self, make: Callable[[], BatchFunction]) -> None:
        self._function = make()

    def run(self, inputs: list[list[Any]] | None) -> tuple[str | None, list[Any]]:
        """Serve a batch, and return an error or the outputs; with None, only say that it is there."""
        try:
            return None, [] if inputs is None else list(self._function(inputs))
        except Exception as error:
            return f"{type(error).__name__}: {error}", []
