"""The HTTP front of a host: the Open Inference Protocol v2, metrics and draining.

Routes: ``GET /v2``, ``/v2/health/live``, ``/v2/health/ready``, ``/v2/models/PIPELINE``, ``/v2/models/PIPELINE/ready``,
``/metrics``; ``POST /v2/models/PIPELINE/infer``, ``/scale``, ``/drain``. The only version of the pipeline may be named:
``/v2/models/PIPELINE/versions/1``. A request is one query: the first dimension of each tensor is 1.
"""

from __future__ import annotations

import json
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from mipplan.core import InputError, is_finite, shown, version_of
from mipplan.serving.dispatching import Answered, Decisions, Outcome
from mipplan.serving.host import RejectedError, ServingHost
from mipplan.serving.records import ServingMetrics
from mipplan.serving.tensors import InferTensor, read_tensors, tensor_document

if TYPE_CHECKING:
    from aiohttp import web

#: A client's number of its query, and the branches that it took: a JSON object of "parent -> child" to counts.
QUERY_HEADER = "Mipplan-Query"
ROUTE_HEADER = "Mipplan-Route"
#: Larger requests are refused before they are read.
_MOST_BYTES = 256 * 2**20
#: A route of more signs is not told, because clients refuse long headers.
_LONGEST_ROUTE = 4_096
#: Of requests with tensors behind their JSON, an extension of the protocol that we say we do not have (``GET /v2``).
_BINARY_HEADER = "Inference-Header-Content-Length"
#: HTTP status of what did not end well.
_STATUS = {Outcome.FAILED: 500, Outcome.TIMED_OUT: 504, Outcome.CANCELLED: 499}


def serving_app(
    host: ServingHost,
    metrics: ServingMetrics,
    *,
    inputs: Sequence[Mapping[str, Any]] | None = None,
    outputs: Sequence[Mapping[str, Any]] | None = None,
) -> web.Application:
    """Make the aiohttp application of a host that runs in the same event loop.

    Parameters
    ----------
    host : ServingHost
    metrics : ServingMetrics
    inputs, outputs : sequence of mappings, optional
        What the pipeline takes and gives, as the protocol describes it (``name``, ``datatype``, ``shape``); by default
        that of emulated devices, which read nothing: one INT64.
    """
    from aiohttp import web

    described = {
        "name": host.plan.pipeline.name,
        "versions": ["1"],
        "platform": "mipplan",
        "inputs": list(inputs or [{"name": "input", "datatype": "INT64", "shape": [-1, 1]}]),
        "outputs": list(outputs or [{"name": "latency_ns", "datatype": "INT64", "shape": [-1, 1]}]),
    }
    front = _Front(host, metrics, described)
    app = web.Application(client_max_size=_MOST_BYTES, middlewares=[web.middleware(_reasons)])
    app.add_routes(
        [
            web.get("/v2", front.server),
            web.get("/v2/health/live", front.live),
            web.get("/v2/health/ready", front.ready),
            web.get("/metrics", front.metrics_text),
            web.post("/scale", front.scale),
            web.post("/drain", front.drain),
        ]
    )
    for model in ("/v2/models/{name}", "/v2/models/{name}/versions/1"):
        ready, infer = web.get(f"{model}/ready", front.model_ready), web.post(f"{model}/infer", front.infer)
        app.add_routes([web.get(model, front.model), ready, infer])
    return app


async def _reasons(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Say what is wrong as the protocol does: ``{"error": …}``."""
    from aiohttp import web

    try:
        return await handler(request)
    except InputError as error:
        return web.json_response({"error": "; ".join(str(fault) for fault in error.faults)}, status=400)
    except RejectedError as error:
        return web.json_response({"error": str(error)}, status=503, headers={"Retry-After": "1"})
    except web.HTTPException as error:
        kept = {name: value for name, value in error.headers.items() if name == "Allow"}
        return web.json_response({"error": error.reason}, status=error.status, headers=kept)
    except web.RequestPayloadError:
        told = "request: its body is not in the encoding that its headers name, or not whole"
        return web.json_response({"error": told}, status=400)


class _Front:
    def __init__(self, host: ServingHost, metrics: ServingMetrics, described: dict[str, Any]) -> None:
        self._host, self._metrics, self._described = host, metrics, described

    async def server(self, _request: web.Request) -> web.Response:
        """Describe the server."""
        return _answer({"name": "mipplan", "version": version_of("mipplan"), "extensions": []})

    async def live(self, _request: web.Request) -> web.Response:
        """The process is alive if it answers."""
        return _answer({"live": True})

    async def ready(self, _request: web.Request) -> web.Response:
        """Whether a query would be accepted now."""
        problem = self._host.problem
        if problem is None:
            return _answer({"ready": True})
        return _answer({"ready": False, "error": problem}, 503)

    async def model(self, request: web.Request) -> web.Response:
        """Describe the pipeline."""
        self._check_name(request)
        return _answer(self._described)

    async def model_ready(self, request: web.Request) -> web.Response:
        """As the server."""
        self._check_name(request)
        return await self.ready(request)

    async def metrics_text(self, _request: web.Request) -> web.Response:
        """All metrics."""
        from aiohttp import web

        return web.Response(body=self._metrics.text(), headers={"Content-Type": "text/plain; version=0.0.4"})

    async def scale(self, request: web.Request) -> web.Response:
        """Have other numbers of replicas: a JSON object of counts by stage."""
        self._host.scale(read_body(await request.read()))
        return _answer({"replicas": self._host.told})

    async def drain(self, _request: web.Request) -> web.Response:
        """Accept nothing more, and answer when nothing is in flight."""
        await self._host.drain()
        return _answer({"drained": True})

    async def infer(self, request: web.Request) -> web.Response:
        """Serve one query."""
        self._check_name(request)
        if _BINARY_HEADER in request.headers:
            raise InputError.one("request", "holds binary tensors, which are not supported here")
        document = read_body(await request.read())
        if not isinstance(document, dict):
            raise InputError.one("request", f"expected a JSON object with inputs, found {shown(document)}")
        tensors = read_tensors(document.get("inputs"), "inputs")
        parameters = document.get("parameters") or {}
        decisions, timeout_s = _parameters(parameters)
        answered = await self._host.infer(
            tensors,
            decisions=decisions,
            timeout_s=timeout_s,
            number=query_number(request.headers),
        )
        headers = route_headers(answered)
        if answered.outcome is not Outcome.SERVED:
            return _answer({"error": answered.reason}, _STATUS[answered.outcome], headers)
        made = {"model_name": self._described["name"], "model_version": "1", "outputs": _outputs(answered)}
        if "id" in document:
            made["id"] = document["id"]
        try:
            return _answer(made, 200, headers)
        except (TypeError, ValueError) as error:
            return _answer({"error": f"outputs that JSON cannot hold: {error}"}, 500, headers)

    def _check_name(self, request: web.Request) -> None:
        from aiohttp import web

        name = request.match_info["name"]
        if name != self._described["name"]:
            raise web.HTTPNotFound(reason=f"there is no model {name!r}, only {self._described['name']!r}")


def _answer(
    document: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    from aiohttp import web

    dumps = partial(json.dumps, allow_nan=False)
    return web.json_response(document, status=status, headers=headers, dumps=dumps)


def read_body(body: bytes) -> Any:
    """Read what a client sent as JSON, which has neither NaN nor infinity.

    Raises
    ------
    InputError
        If it is none.
    """
    try:
        return json.loads(body, parse_constant=_refuse, parse_float=_finite)
    except RecursionError:
        raise InputError.one("request", "is no JSON: nested too deeply") from None
    except ValueError as error:
        raise InputError.one("request", f"is no JSON: {error}") from None


def _refuse(word: str) -> NoReturn:
    raise ValueError(f"it holds {word}")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"it holds a number beyond what a float can be, {shown(digits)}")
    return number


def query_number(headers: Mapping[str, str]) -> int | None:
    """Return the client's number of a query (`QUERY_HEADER`), if it gives a usable one."""
    text = headers.get(QUERY_HEADER, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None


def route_headers(answered: Answered) -> dict[str, str]:
    """Return the header that tells what the edges that decide made of a query's tokens, if it is not too long."""
    counts = {f"{parent} -> {child}": list(made) for (parent, child), made in answered.query.route.items()}
    route = json.dumps(counts)
    return {ROUTE_HEADER: route} if len(route) <= _LONGEST_ROUTE else {}


def _parameters(parameters: object) -> tuple[Decisions | None, float | None]:
    """Read what a request says of its route and its patience."""
    if not isinstance(parameters, dict):
        raise InputError.one("parameters", f"expected a JSON object, found {shown(parameters)}")
    timeout_ms, route = parameters.get("timeout_ms"), parameters.get("route")
    if timeout_ms is not None and not (is_finite(timeout_ms) and timeout_ms > 0):
        message = f"expected milliseconds above 0, found {shown(timeout_ms)}"
        raise InputError.one("parameters.timeout_ms", message)
    timeout_s = None if timeout_ms is None else float(timeout_ms) / 1e3
    if route is None:
        return None, timeout_s
    if not isinstance(route, dict) or not all(" -> " in arc for arc in route):
        message = f'expected an object such as {{"detect -> plates": [1]}}, found {shown(route)}'
        raise InputError.one("parameters.route", message)
    decisions = {}
    for arc, counts in route.items():
        parent, _, child = arc.partition(" -> ")
        decisions[parent, child] = counts
    return decisions, timeout_s


def _outputs(answered: Answered) -> list[dict[str, Any]]:
    """Tensors of all tokens that nothing follows; how long the query took, where these are none."""
    made: list[InferTensor] = []
    for _, output in answered.query.outputs:
        if isinstance(output, list) and output and all(isinstance(tensor, InferTensor) for tensor in output):
            made += output
    return [
        tensor_document(tensor)
        for tensor in made or [InferTensor("latency_ns", "INT64", (1, 1), [answered.latency_ns])]
    ]
