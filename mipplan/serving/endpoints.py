"""The worker for stages that are served elsewhere: by servers of the Open Inference Protocol such as Triton or KServe,
or by mosec, whose service then takes and gives that protocol's documents.

Each replica is an endpoint of its own, to which a whole batch goes as one request. The server must not batch or queue
by itself: one instance of the model behind each endpoint, no dynamic batching.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mipplan.core import Fault, Faults, InputError, shown, split_url
from mipplan.serving.dispatching import ServedBatch
from mipplan.serving.tensors import InferTensor, apart, named_as, read_tensors, tensor_document, together
from mipplan.serving.workers import BatchFailedError, ReplicaGoneError

if TYPE_CHECKING:
    import aiohttp

_MOSEC = "/inference"
_FORM = f"http://HOST:PORT/v2/models/NAME, or http://HOST:PORT{_MOSEC} of mosec"
#: A server that is asked whether it is ready answers within this time, or is not.
_READY_S = 2.0
#: One that does not take a connection within this time has gone.
_CONNECT_S = 30.0


class EndpointWorker:
    """Sends batches to endpoints.

    Parameters
    ----------
    urls : mapping of str to sequence of str
        By stage, one URL for each replica: ``http://HOST:PORT/v2/models/NAME``, or ``http://HOST:PORT/inference``.

    most_answer_bytes : int
        Answers beyond fail their batch: a server that never stops must not fill the memory of who serves all others.

    Raises
    ------
    InputError
        Listing every URL that is none.
    """

    def __init__(self, urls: Mapping[str, Sequence[str]], *, most_answer_bytes: int = 2**30) -> None:
        faults = Faults()
        for stage, given in urls.items():
            for number, url in enumerate(given):
                known = "/v2/models/" in url or url.rstrip("/").endswith(_MOSEC)
                if split_url(url) is None or not known:
                    faults.add(Fault(f"urls.{stage}[{number}]", f"expected {_FORM}, found {shown(url)}"))
        faults.check()
        self._urls = {stage: [url.rstrip("/") for url in given] for stage, given in urls.items()}
        self._most_bytes = most_answer_bytes
        self._inputs: dict[str, list[str]] = {}
        self._opened: aiohttp.ClientSession | None = None

    @property
    def _session(self) -> aiohttp.ClientSession:
        if self._opened is None:
            import aiohttp

            # Each replica has one batch at a time, so no limit is needed, and none shall make a batch wait.
            # Nor shall one end after aiohttp's five minutes: the host knows how long a batch may take.
            self._opened = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S),
            )
        return self._opened

    def most_replicas(self, stage: str) -> int:
        """As many as there are endpoints."""
        return len(self._urls.get(stage, ()))

    async def start(self, stage: str, replica: int) -> None:
        """Ask an endpoint whether it is ready, and a model what it takes; raises `ReplicaGoneError` if it is not."""
        import aiohttp

        if replica >= len(self._urls.get(stage, ())):
            raise InputError.one(f"urls.{stage}", f"there is no endpoint for replica {replica}")
        url = self._urls[stage][replica]
        try:
            timeout = aiohttp.ClientTimeout(total=_READY_S)
            async with self._session.get(_routes(url)[0], timeout=timeout) as response:
                status = response.status
            if status == 200 and not _is_mosec(url):
                self._inputs[url] = await self._inputs_of(url)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise ReplicaGoneError(f"{url} cannot be reached: {str(error) or type(error).__name__}") from None
        if status != 200:
            raise ReplicaGoneError(f"{url} is not ready: it answers {status}")

    async def _inputs_of(self, url: str) -> list[str]:
        """Ask a model what it calls its inputs; empty where it does not say."""
        import aiohttp

        try:
            async with self._session.get(url, timeout=aiohttp.ClientTimeout(total=_READY_S)) as response:
                document = json.loads(await self._whole(url, response))
            return [str(entry["name"]) for entry in document["inputs"]]
        except (BatchFailedError, KeyError, RecursionError, TypeError, ValueError):
            return []

    async def run(self, stage: str, replica: int, batch: ServedBatch) -> Sequence[Any]:
        """Send a batch as one request, and take its answer apart."""
        import aiohttp

        queries = [[tensor for _, tensors in token.inputs for tensor in tensors] for token in batch.tokens]
        place = self._urls[stage][replica]
        # What the models above call their outputs is not what this one calls its inputs.
        tensors = named_as(self._inputs.get(place, []), together(queries))
        entries = [tensor_document(tensor) for tensor in tensors]
        _, url = _routes(place)
        try:
            async with self._session.post(url, json={"inputs": entries}) as response:
                body = await self._whole(url, response)
        except aiohttp.ClientError as error:
            raise ReplicaGoneError(f"{url} breaks off: {str(error) or type(error).__name__}") from None
        if response.status != 200:
            told = body[:200].decode("utf-8", "replace")
            raise BatchFailedError(f"{url} answers {response.status}: {told}")
        return apart(self._answer(body, len(batch.tokens)), len(batch.tokens))

    async def _whole(self, url: str, response: aiohttp.ClientResponse) -> bytes:
        pieces = bytearray()
        async for piece in response.content.iter_any():
            pieces += piece
            if len(pieces) > self._most_bytes:
                response.close()
                raise BatchFailedError(f"{url} answers more than {self._most_bytes:,} bytes")
        return bytes(pieces)

    def _answer(self, body: bytes, rows: int) -> list[InferTensor]:
        try:
            document = json.loads(body)
        except ValueError:
            raise InputError.one("answer", "is no JSON") from None
        entries = document.get("outputs") if isinstance(document, dict) else document
        return read_tensors(entries, "outputs", rows)

    async def stop(self, stage: str, replica: int) -> None:
        """Do nothing: who runs the endpoint stops it."""

    async def close(self) -> None:
        """Close all connections."""
        if self._opened is not None:
            await self._opened.close()
            self._opened = None


def _is_mosec(url: str) -> bool:
    """Whether it is mosec's; a model of the protocol may be called ``inference``, too."""
    return url.endswith(_MOSEC) and "/v2/models/" not in url


def _routes(url: str) -> tuple[str, str]:
    """Where an endpoint says that it is ready, and where it takes batches."""
    return (url.removesuffix(_MOSEC), url) if _is_mosec(url) else (f"{url}/ready", f"{url}/infer")
