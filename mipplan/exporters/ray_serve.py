"""Ray Serve: an application whose ingress dispatches by the plan, in front of actors that run whole batches.

Never ``@serve.batch``: it closes a batch at its first query plus a wait, also while the replica is busy, so that a plan
that keeps its objective may diverge (measured: batches of exactly one query where the plan has 1.8). Serve's router has
no part in it either: the dispatcher knows which replica is idle.
"""

from __future__ import annotations

import json
import shlex
from string import Template

from mipplan.core import NS_PER_S, Fault, format_duration, listed
from mipplan.exporters.departures import Departure, ServingRules, departures_of
from mipplan.exporters.deployment import SLEEP, DeployedStage, Deployment, FlowShape, quoted, remark
from mipplan.pipeline import DispatchLaw

#: The dispatcher of `mipplan.serving` keeps every law and either order, and enqueues the outputs of a batch at once.
RULES = ServingRules("Ray Serve", is_oldest_first=True, is_ours=True, laws=frozenset(DispatchLaw))

_INGRESS = "Ingress"
#: Accelerators that Ray finds and counts itself: a machine that says it has one is not looked at for GPUs any more.
_RAY_ACCELERATORS = {"FURIOSA", "HPU", "MBLT", "NPU", "RBLN", "TPU", "TTNPU", "neuron_cores"}
#: What Ray itself counts, and refuses as a resource of one's own or takes for bytes.
_RAY_RESOURCES = {"CPU", "GPU", "memory", "object_store_memory"} | _RAY_ACCELERATORS

_ALLOWANCE = (
    "What a batch may take beyond its table before it counts as an overrun, s: for Ray's way to the actor and back. "
    "Guaranteed is what holds for `mipplan.serving.with_allowance(PLAN, ALLOWANCE_S)`."
)

_APPLICATION = Template('''\
"""$pipeline on Ray Serve: $what

Start it by `serve run serve.yaml`. The ingress makes the batches, as the plan says: see `mipplan.serving`. With
MIPPLAN_LOG in its environment, what each stage did is logged into that folder, for `mipplan truth` and `observe`.
"""

import os
from pathlib import Path

from ray import serve
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

import mipplan as mp
from mipplan.serving import (
    AdmissionParams, ${drawn}RayWorker, RejectedError, ServingHost, ServingMetrics, StageRecorder, query_number,
    read_body, route_headers,
)

PLAN = mp.Plan.load(Path(__file__).with_name("plan.json"))
$allowance# As by default in `mipplan serve` there are no limits (None). Queries are turned away beyond MOST_IN_FLIGHT,
# and while more tokens than MOST_WAITING wait at some stage; they are given up after TIMEOUT_S, and when
# their client goes.
MOST_IN_FLIGHT, MOST_WAITING, TIMEOUT_S = None, None, None
$constants
$stages


# What makes the model of a stage, inside the actor of a replica.
MODELS = {
$models}
# What Ray is asked for, for each replica. plan.json says how many replicas a stage has, and its batch cap.
OPTIONS = {
$options}


@serve.deployment
class $ingress:
    """Answers queries; all queues are here, so there is one of it."""

    async def __init__(self):
        """Start replicas and dispatcher, in the event loop that serves: the application is ready when they are.

        They are actors of this one, and end with it.
        """
        observers = []
        host = ServingHost(
            PLAN, RayWorker(MODELS, OPTIONS), allowance_s=ALLOWANCE_S, $arguments, observers=observers,
            admission=AdmissionParams(MOST_IN_FLIGHT, MOST_WAITING),
        )
        self.metrics = ServingMetrics(host.promised, host.dispatcher, host.told)
        log = os.environ.get("MIPPLAN_LOG")
        self.recorder = None if log is None else StageRecorder(log, PLAN, "ray", allowance_s=ALLOWANCE_S)
        observers += [self.metrics] if self.recorder is None else [self.metrics, self.recorder]
        self.host = await host.__aenter__()

    def __del__(self):
        """Write what is left of the log; Serve calls this when it stops an application, with nothing in flight."""
        if getattr(self, "recorder", None) is not None:
            self.recorder.close()

    async def __call__(self, request: Request):
        """Serve one query, a JSON document; 400 if it is none, 503 if turned away, 504 if given up, 500 if it fails.

        GET /metrics and POST /scale are for `mipplan follow`; GET /ready says whether a query would be taken now, and
        POST /drain has all in flight answered and no more taken.
        """
        match request.method, request.url.path.rpartition("/")[2]:
            case _, "metrics":
                return Response(self.metrics.text(), media_type="text/plain")
            case "GET", "ready":
                found = {} if self.host.problem is None else {"error": self.host.problem}
                return JSONResponse({"ready": not found, **found}, 503 if found else 200)
            case "POST", "drain":
                await self.host.drain()
                return JSONResponse({"drained": True})
        try:
            payload = read_body(body) if (body := await request.body()) else None
            if request.url.path.endswith("/scale"):
                self.host.scale(payload)
                return JSONResponse({"replicas": self.host.told})
        except ValueError as error:  # it is no JSON, or asks for counts that cannot be
            return JSONResponse({"error": str(error)}, 400)
        try:
            answered = await self.host.infer(payload, number=query_number(request.headers), timeout_s=TIMEOUT_S)
        except RejectedError as error:
            return JSONResponse({"error": str(error)}, 503, {"Retry-After": "1"})
        document = {
            "outcome": answered.outcome,
            "outputs": answered.query.outputs,
            "ingress_ns": answered.query.ingress_ns,
            "latency_ns": answered.latency_ns,
            # Whether something was not as planned, and the query has lost its guarantee.
            "void": answered.query.is_void,
        }
        status = {"served": 200, "timed_out": 504}.get(answered.outcome, 500)
        try:
            return JSONResponse(document, status, route_headers(answered))
        except (TypeError, ValueError) as error:
            return JSONResponse({"error": f"outputs that JSON cannot hold: {error}"}, 500, route_headers(answered))


application = $ingress.bind()
''')
_PLACEHOLDER = Template('''
class $name:
    """Stage $stage: model $model, $text."""

    def __init__(self):
        """Load the model."""

    def __call__(self, batch):
        """Serve a batch: for each token the list of what was sent to it; returns an output for each."""
        raise NotImplementedError("put the model of this stage in here")
''')
_EMULATED = Template('''
class $name:
    """Stage $stage: model $model, $text; emulated."""

    def __init__(self):
        self.service_ns = PLAN.service_ns($quoted).tolist()

    def __call__(self, batch):
        """Sleep as long as the plan's table says; answer what came in."""
        sleep_until(time.monotonic_ns() + self.service_ns[len(batch) - 1])
        return [values[0] for values in batch]
''')


class RayServe:
    """``--to ray``."""

    name = "ray"
    title = "Ray Serve application"
    rules = RULES

    def faults(self, deployment: Deployment) -> list[Fault]:
        """Name hardware that is no GPU to Ray: replicas that ask for one there would wait for ever."""
        return [
            Fault("cpu", f"{name} is an accelerator to Ray, which finds no GPU there: say that it is none")
            for name in dict.fromkeys(stage.choice.hardware for stage in deployment.stages if stage.is_gpu)
            if name in _RAY_ACCELERATORS and not deployment.emulate
        ]

    def departures(self, deployment: Deployment) -> list[Departure]:
        """What Ray Serve with our dispatcher does not keep of a plan."""
        return [
            *departures_of(deployment, self.rules),
            Departure(
                "turnaround",
                "Ray takes 4 to 8 ms for a batch on top of the model's time, more on a contended machine",
                "An allowance below that lets batches overrun, which voids their queries"
                if deployment.allowance_s
                else "Nearly every batch overruns a table that was measured without Ray, and voids its queries: export "
                "with `--allowance`",
                voids=not deployment.allowance_s,  # else the allowance voids it, and says what holds instead
            ),
            *_allowance(deployment.allowance_s),
            *_devices(deployment),
            Departure(
                "ingress",
                "all queues are in one process: when it dies, the queries in it are lost to their clients",
                "Serve starts it again with empty queues; the certificate is about runs without that. A replica that "
                "dies is started again, and its batch tried once more",
            ),
        ]

    def files(self, deployment: Deployment) -> dict[str, str]:
        """The application and its configuration."""
        return {"app.py": _application(deployment), "serve.yaml": _configuration(deployment)}

    def settings(self, stage: DeployedStage) -> str:
        """Say where a stage's figures went."""
        return f"`app.py`: `{stage.texts['name']}` and `OPTIONS`; replicas and cap are those of `plan.json`"

    def start(self, deployment: Deployment) -> str:
        """Say how to start it."""
        first = (
            "Replicas sleep as long as the plan's tables say; no GPU is needed."
            if deployment.emulate
            else "Put your models into the classes of `app.py` first."
        )
        names = deployment.hardware_names(_resource)
        devices = {names[name]: count for name, count in deployment.devices().items()}
        text = json.dumps(devices, ensure_ascii=False)
        resources = "" if deployment.emulate else f" --resources {shlex.quote(text)}"
        return f"""\
{first}

```bash
pip install 'mipplan[serve]' 'ray[serve]'
export PYTHONPATH="$PWD"
ray start --head{resources}
serve run serve.yaml
curl -X POST localhost:8000/ -d '0'
```

`mipplan follow plan.json --target mipplan:http://localhost:8000` has its replicas follow the traffic; it looks at
`/metrics` and tells counts at `/scale`. `GET /ready` says whether a query would be taken now. `serve shutdown` cuts
connections: first `curl -X POST localhost:8000/drain`, which takes no more queries and waits for those in flight.

On several machines each says with `--resources` which devices it has, and `working_dir` in `serve.yaml` names this
folder as Ray wants it. Plain `@serve.batch` would not keep the plan: it makes batches of what comes within its wait to
one replica, not of what waits.
"""


def _allowance(allowance_s: float) -> list[Departure]:
    if not allowance_s:
        return []
    judged = f"`mipplan.certify(mipplan.serving.with_allowance(plan, {allowance_s!r}), trace)`"
    what = (
        f"a batch may take {format_duration(round(allowance_s * NS_PER_S))} beyond its table (`ALLOWANCE_S`)"
    )
    return [Departure("allowance", what, f"The certificate is without it; {judged} is with it", voids=True)]


def _devices(deployment: Deployment) -> list[Departure]:
    gpus = {stage.choice.hardware: None for stage in deployment.stages if stage.is_gpu}
    if deployment.emulate or not gpus:
        return []
    count = sum(len(stage.gpus) for stage in deployment.stages)
    what = f"replicas on {listed(gpus)} ask for GPUs that Ray itself finds: {count} in all"
    effect = "Where `ray status` has fewer, some wait for ever, in silence; name a type that is no GPU with `--cpu`"
    return [Departure("devices", what, effect)]


def _resource(hardware: str) -> str:
    """Name a hardware type for Ray, which has resources of its own."""
    name = hardware.replace(":", " ")  # accelerator_type:…, node:…
    return f"{name} device" if name in _RAY_RESOURCES else name


def _application(deployment: Deployment) -> str:
    emulate, is_drawn = deployment.emulate, deployment.shape is FlowShape.DRAWN
    drawn = "DrawnDecisions, " if is_drawn else ""
    # Emulated stages are all on one machine: nothing but the dispatcher makes the delays of edges.
    arguments, constants = f"hold_delays={emulate}", ""
    if is_drawn:
        arguments += ", decide=DECISIONS.__getitem__"
        constants = remark(
            "Which tokens a query makes, drawn as the plan assumes. Yours to replace: leave `decide` out below, and "
            "have stages return `mipplan.serving.Routed(output, copies)`: by child stage how many tokens, or what each "
            "gets."
        )
        constants += "DECISIONS = DrawnDecisions(PLAN.pipeline, PLAN.seed)\n"
    text = _APPLICATION.substitute(
        pipeline=quoted(deployment.plan.pipeline.name),
        what="replicas only sleep." if emulate else "put your models into the classes below.",
        drawn=drawn,
        allowance=remark(_ALLOWANCE) + f"ALLOWANCE_S = {deployment.allowance_s!r}\n",
        constants=constants + (f"\n{SLEEP}\n" if emulate else ""),
        stages="\n".join(_stage(deployment, stage) for stage in deployment.stages).rstrip(),
        models="".join(f"    {stage.name!r}: {stage.texts['name']},\n" for stage in deployment.stages),
        options="".join(_options(deployment, stage) for stage in deployment.stages),
        ingress=_INGRESS,
        arguments=arguments,
    )
    return text.replace("from pathlib", "import time\nfrom pathlib", 1) if emulate else text


def _stage(deployment: Deployment, stage: DeployedStage) -> str:
    template = _EMULATED if deployment.emulate else _PLACEHOLDER
    return template.substitute(stage.texts, quoted=repr(stage.name))


def _options(deployment: Deployment, stage: DeployedStage) -> str:
    text = f"{stage.text}; {stage.table_text}. A device for each: `ray start --resources` says what machines have."
    options: dict[str, object] = {
        "resources": {deployment.hardware_names(_resource)[stage.choice.hardware]: 1}
    }
    if stage.is_gpu:
        options = {"num_gpus": 1, **options}
    if deployment.emulate:
        text, options = f"{stage.text}; {stage.table_text}. Emulated: it sleeps, and needs nothing.", {}
    return f"{remark(text, '    ')}    {stage.name!r}: {options!r},\n"


def _configuration(deployment: Deployment) -> str:
    head = f"{deployment.plan.pipeline.name} on Ray Serve, for `serve run serve.yaml`. app.py has the stages."
    one = "One: all queues of the plan are in it."
    many = "The dispatcher takes queries or turns them away, as `app.py` says; Serve wants a bound."
    return (
        remark(head)
        + "applications:\n"
        + f"  - name: {deployment.name}\n    route_prefix: /\n    import_path: app:application\n"
        + remark("On several machines: {working_dir: ...}, where this folder is as a .zip.", "    ")
        + "    runtime_env: {}\n    deployments:\n"
        + f"      - name: {_INGRESS}\n"
        + remark(one, "        ")
        + "        num_replicas: 1\n"
        + remark(many, "        ")
        + "        max_ongoing_requests: 1000000\n"
        + remark("Replicas of stages are actors of their own; the ingress only hands batches on.", "        ")
        + "        ray_actor_options: {num_cpus: 0}\n"
    )
