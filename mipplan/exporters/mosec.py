"""mosec: a service of one file, with a group of worker processes per stage; chains only.

What the server does was read in ``src/tasks.rs``, ``src/protocol.rs`` and ``mosec/server.py`` of its public sources:
one central queue per stage, fifo; an idle worker takes a task and collects up to the cap for ``max_wait_time``.
"""

from __future__ import annotations

import math
from string import Template

from mipplan.core import Fault
from mipplan.exporters.departures import Departure, ServingRules, departures_of, several_machines
from mipplan.exporters.deployment import (
    SLEEP,
    DeployedStage,
    Deployment,
    FlowShape,
    is_certain,
    quoted,
    remark,
)
from mipplan.pipeline import Edge

#: The least that can be asked for, 1 ms, and the granularity of the server's timer, 1.2 ms. Outputs of a batch go on
#: one by one, without a gap that could be measured.
RULES = ServingRules("mosec", window_ns=2_200_000, stagger_ns=1_000)

#: A query that takes ten times the objective has lost its client; nothing is refused before.
_TIMES_OBJECTIVE = 10
#: mosec's own bound on the queries under way is kept where the plan asks for no more.
_LEAST_CAPACITY = 1024

_SERVICE = Template('''\
"""$pipeline as a mosec service: $what

Start it by `python server.py --port 8000`.
"""

import os
$imports
from mosec import Server, Worker

$limits

$workers


def make_server() -> Server:
    """Line up the stages: mosec sends every query through all of them, in this order."""
    server = Server()
$lines    return server


if __name__ == "__main__":
    make_server().run()
''')
_PLACEHOLDER = Template('''\
class $name(Worker):
    """Stage $stage: model $model, $text."""

    def __init__(self):
        """Load the model; CUDA_VISIBLE_DEVICES is set for stages on GPUs."""
        super().__init__()

    def forward(self, data):
        """Serve $served."""
        raise NotImplementedError("put the model of this stage in here")''')
_EMULATED = Template('''\
class $name(Worker):
    """Stage $stage: model $model, $text; emulated."""

    # ℓ(1), ℓ(2), … in ns.
    service_ns = (
$table    )

    def forward(self, data):
        """Sleep as long as the plan's table says; answer what came in."""
        sleep_until(time.monotonic_ns() + self.service_ns[$index])
        return data''')


class Mosec:
    """``--to mosec``."""

    name = "mosec"
    title = "mosec service"
    rules = RULES

    def faults(self, deployment: Deployment) -> list[Fault]:
        """Name everything that makes a pipeline more than a chain."""
        pipeline = deployment.plan.pipeline
        if deployment.shape is FlowShape.CHAIN:
            return []
        what = "mosec serves chains, where every query visits every stage once"
        found = [_edge_fault(pipeline.name, edge, what) for edge in pipeline.edges if not is_certain(edge)]
        for name in pipeline.topological_order:
            for ways, verb in ((pipeline.outgoing(name), "branches"), (pipeline.incoming(name), "merges")):
                if len(ways) > 1:
                    found.append(Fault(f"{pipeline.name}: stage {name}", f"{verb}: {what}"))
        if len(pipeline.sources) > 1:
            entries = ", ".join(pipeline.sources)
            found.append(Fault(f"{pipeline.name}: stages", f"queries enter at several ({entries}): {what}"))
        return found

    def departures(self, deployment: Deployment) -> list[Departure]:
        """What mosec does not keep of a plan."""
        found = departures_of(deployment, self.rules)
        found += several_machines(
            deployment,
            "One service cannot serve the plan unless one machine holds them all; plan with `hardware: […]` per stage, "
            "or export to another system",
        )
        found.append(
            Departure(
                "bounds",
                f"queries are refused (429) where {_capacity(deployment):,} are under way, and given up (408) after "
                f"{_timeout_ms(deployment):,} ms",
                "The plan counts every query; those are misses. `MOSEC_CAPACITY` and `MOSEC_TIMEOUT` set others",
            )
        )
        return found

    def files(self, deployment: Deployment) -> dict[str, str]:
        """The service."""
        emulate = deployment.emulate
        text = _SERVICE.substitute(
            pipeline=quoted(deployment.plan.pipeline.name),
            what="models only sleep." if emulate else "put your models into the classes below.",
            imports="import time\n" if emulate else "",
            limits=_limits(deployment) + (f"\n{SLEEP}" if emulate else ""),
            workers="\n\n\n".join(_worker(stage, emulate) for stage in deployment.stages),
            lines="".join(_append(stage, emulate) for stage in deployment.stages),
        )
        return {"server.py": text}

    def settings(self, stage: DeployedStage) -> str:
        """Say where a stage's figures went."""
        return f"`server.py`: `append_worker({stage.texts['name']}, …)`"

    def start(self, deployment: Deployment) -> str:
        """Say how to start it."""
        first = (
            "Models sleep as long as the plan's tables say; no GPU is needed."
            if deployment.emulate
            else "Put your models into the classes of `server.py` first."
        )
        return f"""\
{first}

```bash
pip install mosec
python server.py --port 8000
curl -X POST localhost:8000/inference -d '0'
```

mosec cannot change the number of workers while it runs: for other counts, start it again.
"""


def _edge_fault(pipeline: str, edge: Edge, what: str) -> Fault:
    taken = "" if edge.probability == 1.0 else f"is taken with probability {edge.probability:g}"
    tokens = "" if edge.fanout.values == (1,) else f"makes {edge.fanout.mean:g} tokens in the mean"
    how = " and ".join(word for word in (taken, tokens) if word)
    return Fault(f"{pipeline}: edge {edge.parent} -> {edge.child}", f"{how}: {what}")


def _limits(deployment: Deployment) -> str:
    timeout = (
        f"A query is given up after {_TIMES_OBJECTIVE} times the objective of {deployment.plan.slo_s:g} s, in ms; "
        "mosec's own limit of 3 s knows nothing of it."
    )
    capacity = (
        "Queries under way before one is refused: as many as come within that time at the planned rate, and no fewer "
        "than mosec allows by itself. The plan refuses none."
    )
    return (
        remark(timeout)
        + f'os.environ.setdefault("MOSEC_TIMEOUT", "{_timeout_ms(deployment)}")\n'
        + remark(capacity)
        + f'os.environ.setdefault("MOSEC_CAPACITY", "{_capacity(deployment)}")\n'
    )


def _timeout_ms(deployment: Deployment) -> int:
    return max(1, math.ceil(_TIMES_OBJECTIVE * deployment.plan.slo_s * 1_000))


def _capacity(deployment: Deployment) -> int:
    rate_rps = deployment.rate_rps or 0.0
    return max(_LEAST_CAPACITY, math.ceil(rate_rps * _timeout_ms(deployment) / 1_000))


def _worker(stage: DeployedStage, emulate: bool) -> str:
    # mosec hands a list to workers that batch, and the task itself to others.
    batches = stage.choice.batch > 1
    if emulate:
        table = remark(", ".join(map(str, stage.service_ns.tolist())) + ",", "        ", "")
        return _EMULATED.substitute(stage.texts, table=table, index="len(data) - 1" if batches else "0")
    served = "a batch: a list of at most the cap, answered in the same order" if batches else "one query"
    return _PLACEHOLDER.substitute(stage.texts, served=served)


def _append(stage: DeployedStage, emulate: bool) -> str:
    choice = stage.choice
    text = (
        f"{stage.name}: {stage.text}. num is the plan's replicas, one process each; max_batch_size its cap; "
        "max_wait_time (ms) the least there is, since 0 means mosec's default of 10 ms; timeout (s) the query's."
    )
    arguments = [
        stage.texts["name"],
        f"num={choice.replicas}",
        f"max_batch_size={choice.batch}",
        "max_wait_time=1",
        'timeout=int(os.environ["MOSEC_TIMEOUT"]) / 1000',
    ]
    if stage.is_gpu and not emulate:
        gpus = ", ".join(f'{{"CUDA_VISIBLE_DEVICES": "{gpu}"}}' for gpu in stage.gpus)
        arguments.append(f"env=[{gpus}]")
    lines = "".join(f"        {argument},\n" for argument in arguments)
    return f"{remark(text, '    ')}    server.append_worker(\n{lines}    )\n"
