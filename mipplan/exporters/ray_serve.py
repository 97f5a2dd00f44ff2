"""Ray Serve: an application whose ingress dispatches by the plan, in front of replicas that run whole batches.

Never ``@serve.batch``: it closes a batch at its first query plus a wait, also while the replica is busy, so that a plan
that keeps its objective may diverge (measured: batches of exactly one query where the plan has 1.8). What Serve's
router does was read in ``request_router.py``: of the candidates that a router names, the one with the fewest queries.
"""

from __future__ import annotations

from string import Template

from mipplan.core import Fault
from mipplan.exporters.departures import Departure, ServingRules, departures_of
from mipplan.exporters.deployment import DeployedStage, Deployment, FlowShape, quoted, remark
from mipplan.pipeline import DispatchLaw

#: The dispatcher of `mipplan.serving` keeps every law and either order; outputs of a batch are enqueued at once.
RULES = ServingRules("Ray Serve", is_oldest_first=True, laws=frozenset(DispatchLaw))

_INGRESS = "Ingress"

_APPLICATION = Template('''\
"""$pipeline on Ray Serve: $what

Start it by `serve run serve.yaml`. The ingress makes the batches, as the plan says: see `mipplan.serving`.
"""

import asyncio
from pathlib import Path

from ray import serve
from ray.serve.config import RequestRouterConfig
from ray.serve.request_router import RequestRouter
from starlette.requests import Request
from starlette.responses import JSONResponse

import mipplan as mp
from mipplan.serving import $names, ServingHost

PLAN = mp.Plan.load(Path(__file__).with_name("plan.json"))
$constants

class LeastLoaded(RequestRouter):
    """Names all replicas, of which Serve takes the least loaded; its own looks at two, and waits if both are busy."""

    async def choose_replicas(self, candidate_replicas, pending_request=None):
        """Offer all."""
        return [list(candidate_replicas)]


def replicas(function):
    """Make a deployment of a class whose replicas run one batch at a time; serve.yaml says how many."""
    router = RequestRouterConfig(request_router_class=LeastLoaded)
    return serve.deployment(function, max_ongoing_requests=1, request_router_config=router)

$stages

class Replicas:
    """Sends batches to the replicas of Ray Serve: never more at a time than there are, each to one that is idle."""

    def __init__(self, handles):
        self.handles = handles

    async def start(self, stage, replica):
        """Serve starts replicas by itself, and others for those that die."""

    async def run(self, stage, replica, batch):
        """Return an output for each token."""
        return await self.handles[stage].remote([[value for _, value in token.inputs] for token in batch.tokens])

    async def close(self):
        """Serve stops them."""


@serve.deployment
class $ingress:
    """Answers queries; all queues are here, so there is one of it."""

    def __init__(self, handles):
        self.workers = Replicas(handles)
        self.lock, self.host = asyncio.Lock(), None

    async def ready(self):
        """Set up the dispatcher in the event loop that serves."""
        async with self.lock:
            if self.host is None:
                host = ServingHost(PLAN, self.workers, $arguments)
                self.host = await host.__aenter__()
        return self.host

    async def __call__(self, request: Request):
        """Serve one query, a JSON document; 503 if it is turned away, 500 if it fails."""
        host = await self.ready()
        payload = await request.json() if await request.body() else None
        try:
            answered = await host.infer(payload)
        except RejectedError as error:
            return JSONResponse({"error": str(error)}, 503)
        document = {"outcome": answered.outcome, "outputs": answered.query.outputs}
        return JSONResponse(document, 200 if answered.outcome == "served" else 500)


application = $ingress.bind(
    {
$handles    }
)
''')
_PLACEHOLDER = Template('''
@replicas
class $name:
    """Stage $stage: model $model, $text."""

    def __init__(self):
        """Load the model."""

    def __call__(self, batch):
        """Serve a batch: for each token the list of what was sent to it; returns an output for each."""
        raise NotImplementedError("put the model of this stage in here")
''')
_EMULATED = Template('''
@replicas
class $name:
    """Stage $stage: model $model, $text; emulated."""

    def __init__(self):
        self.service_ns = PLAN.service_ns($quoted).tolist()

    def __call__(self, batch):
        """Sleep as long as the plan's table says; answer what came in."""
        sleep_until(time.monotonic_ns() + self.service_ns[len(batch) - 1])
        return [values[0] for values in batch]
''')
_SLEEP = '''\
# A sleep ends late: the last 0.3 ms are waited for in a loop.
WATCHED_NS = 300_000


def sleep_until(end_ns):
    """Wait for an instant of the monotonic clock."""
    time.sleep(max(0, end_ns - WATCHED_NS - time.monotonic_ns()) / 1e9)
    while time.monotonic_ns() < end_ns:
        continue

'''


class RayServe:
    """``--to ray``."""

    name = "ray"
    title = "Ray Serve application"

    def faults(self, _deployment: Deployment) -> list[Fault]:
        """Nothing keeps a plan from being written for Ray Serve."""
        return []

    def departures(self, deployment: Deployment) -> list[Departure]:
        """What Ray Serve with our dispatcher does not keep of a plan."""
        return [
            *departures_of(deployment, RULES),
            Departure(
                "turnaround",
                "Ray takes 4 to 8 ms for a batch on top of the model's time, more on a contended machine",
                "Tables that were measured without Ray are too short by that: add it to them, or start the host with "
                "`allowance_s`, which the certificate has to be judged with (`mipplan.serving.with_allowance`)",
            ),
            Departure(
                "ingress",
                "all queues are in one process: when it dies, the queries in it are lost to their clients",
                "Serve starts it again with empty queues; the certificate is about runs without that",
            ),
        ]

    def files(self, deployment: Deployment) -> dict[str, str]:
        """The application and its configuration."""
        return {"app.py": _application(deployment), "serve.yaml": _configuration(deployment)}

    def settings(self, stage: DeployedStage) -> str:
        """Say where a stage's figures went."""
        return f"`serve.yaml`: `{_class_name(stage)}.num_replicas`; the cap is in `plan.json`"

    def start(self, deployment: Deployment) -> str:
        """Say how to start it."""
        first = (
            "Replicas sleep as long as the plan's tables say; no GPU is needed."
            if deployment.emulate
            else "Put your models into the classes of `app.py` first."
        )
        devices = "{" + ", ".join(f'"{name}": {count}' for name, count in deployment.devices().items()) + "}"
        resources = "" if deployment.emulate else f" --resources '{devices}'"
        return f"""\
{first}

```bash
pip install 'mipplan[serve]' 'ray[serve]'
ray start --head{resources}
serve run serve.yaml
curl -X POST localhost:8000/ -d '0'
```

On several machines each says with `--resources` which devices it has. `num_replicas` is what the dispatcher counts on:
other numbers belong in the plan, not here. Plain `@serve.batch` would not keep the plan: it makes batches of what comes
within its wait to one replica, not of what waits.
"""


def _class_name(stage: DeployedStage) -> str:
    return f"Stage_{stage.python_name}"


def _application(deployment: Deployment) -> str:
    emulate, is_drawn = deployment.emulate, deployment.shape is FlowShape.DRAWN
    arguments = "hold_delays=True" if emulate else "hold_delays=False"
    names = ["RejectedError"]
    constants = ""
    if is_drawn:
        names.append("DrawnDecisions")
        arguments += ", decide=DECISIONS.__getitem__"
        constants = remark(
            "Which tokens a query makes, drawn as the plan assumes. Yours to replace: leave `decide` out below, and "
            "have stages return `mipplan.serving.Routed(output, copies)`, with tokens by child stage."
        )
        constants += "DECISIONS = DrawnDecisions(PLAN.pipeline, PLAN.seed)\n"
    stages = "\n".join(_stage(deployment, stage) for stage in deployment.stages)
    handles = "".join(
        f"        {stage.name!r}: {_class_name(stage)}.bind(),\n" for stage in deployment.stages
    )
    text = _APPLICATION.substitute(
        pipeline=quoted(deployment.plan.pipeline.name),
        what="replicas only sleep." if emulate else "put your models into the classes below.",
        names=", ".join(sorted(names)),
        constants=constants + (f"\n{_SLEEP}" if emulate else ""),
        stages=stages,
        ingress=_INGRESS,
        arguments=arguments,
        handles=handles,
    )
    return text.replace("import asyncio\n", "import asyncio\nimport time\n", 1) if emulate else text


def _stage(deployment: Deployment, stage: DeployedStage) -> str:
    texts = {
        "name": _class_name(stage),
        "stage": quoted(stage.name),
        "model": quoted(stage.stage.model),
        "text": quoted(stage.text),
    }
    if deployment.emulate:
        return _EMULATED.substitute(texts, quoted=repr(stage.name))
    return _PLACEHOLDER.substitute(texts)


def _configuration(deployment: Deployment) -> str:
    plan = deployment.plan
    head = f"{plan.pipeline.name} on Ray Serve, for `serve run serve.yaml`."
    one = "One: all queues of the plan are in it."
    many = "No bound: the dispatcher takes every query, as the plan counts every query; 1e6 stands for that."
    text = (
        remark(head)
        + "applications:\n"
        + f"  - name: {deployment.name}\n    route_prefix: /\n    import_path: app:application\n"
        + "    runtime_env: {}\n    deployments:\n"
        + f"      - name: {_INGRESS}\n"
        + remark(one, "        ")
        + "        num_replicas: 1\n"
        + remark(many, "        ")
        + "        max_ongoing_requests: 1000000\n"
    )
    for stage in deployment.stages:
        choice = stage.choice
        replicas = f"{stage.name}: {stage.text}; {stage.table_text}. num_replicas is the plan's."
        busy = "A replica runs one batch at a time, and the ingress makes batches up to the cap when one is idle."
        text += (
            remark(replicas, "      ")
            + f"      - name: {_class_name(stage)}\n        num_replicas: {choice.replicas}\n"
            + remark(busy, "        ")
            + "        max_ongoing_requests: 1\n"
            + _options(deployment, stage)
        )
    return text


def _options(deployment: Deployment, stage: DeployedStage) -> str:
    if deployment.emulate:
        text = "Emulated: a replica sleeps, and needs no processor of its own."
        return remark(text, "        ") + "        ray_actor_options: {num_cpus: 0}\n"
    hardware = stage.choice.hardware.replace("\\", "\\\\").replace('"', '\\"')
    text = "A device for each replica: machines say by `ray start --resources` which they have."
    gpus = "num_gpus: 1, " if stage.is_gpu else ""
    return (
        remark(text, "        ")
        + f'        ray_actor_options: {{{gpus}num_cpus: 1, resources: {{"{hardware}": 1}}}}\n'
    )
