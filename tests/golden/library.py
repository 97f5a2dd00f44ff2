"""Golden cases of the library: functions without arguments that return a document, by name."""

from __future__ import annotations

import dataclasses
import json
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np

import mipplan as mp
from golden.documents import document_of, hash_of, plan_document, replay_document
from golden.layout import (
    ROOT,
    fleets,
    instances,
    old_plan,
    old_trace,
    shipped_pipeline,
    shipped_profiles,
    shipped_trace,
)
from mipplan.profiles import Hardware, LatencyTable
from mipplan_formulations import (
    FORMULATIONS,
    PROGRAMME_FORMULATIONS,
    Activity,
    Arc,
    Programme,
    Resource,
    TimeCostProblem,
    solve_exhaustively,
)
from mipplan_formulations import (
    Path as ProblemPath,
)

SOLVERS = ("highs", "pulp_highs", "cbc", "cp_sat", "scip")
PROBLEM_SOLVERS = ("auto", "labels", "cp_sat_native", *SOLVERS)
#: Instances whose master problems take most solvers seconds.
HARD = ("diamond-09", "skip-54")
QUICK_SOLVERS = ("highs", "cp_sat")
ENGINES = ("python", "numpy", "numba")
DISCIPLINES = ("oldest_first", "fifo")
NS = 10**9


def _instance(name: str) -> tuple[mp.Pipeline, mp.Profiles, mp.Trace, dict[str, Any]]:
    document = instances()[name]
    return (
        mp.Pipeline.from_document(document["pipeline"]),
        mp.Profiles.from_document(document["profiles"]),
        mp.Trace.from_ns(np.array(document["arrival_ns"]), name="random"),
        {key: document[key] for key in ("slo_s", "quantile", "seed")},
    )


def _problem(name: str) -> TimeCostProblem:
    document = json.loads((ROOT / "formulations" / "golden" / f"{name}.json").read_text(encoding="utf-8"))
    return _problem_of(document["problem"])


def _problem_of(document: dict[str, Any]) -> TimeCostProblem:
    return TimeCostProblem(
        activities=tuple(
            Activity(a["name"], np.array(a["cost"]), np.array(a["duration"]), np.array(a["usage"]))
            for a in document["activities"]
        ),
        arcs=tuple(Arc(a["tail"], a["head"], a["lag"]) for a in document["arcs"]),
        paths=tuple(
            ProblemPath(tuple(p["activities"]), p["lag"], tuple(np.array(w) for w in p["waits"]))
            for p in document["paths"]
        ),
        deadline=document["deadline"],
        resources=tuple(Resource(r["name"], r["capacity"]) for r in document["resources"]),
    )


# Planning


def plan_every_way(name: str) -> Any:
    """One instance by every formulation and solver: the plan in full, and in what others differ from it."""
    pipeline, profiles, trace, arguments = _instance(name)
    plain = plan_document(mp.plan(pipeline, profiles, trace, **arguments))
    answers = {"auto": plain}
    for formulation in FORMULATIONS:
        for solver in SOLVERS if name not in HARD else QUICK_SOLVERS:
            plan = mp.plan(pipeline, profiles, trace, formulation=formulation, solver=solver, **arguments)
            answers[f"{formulation} {solver}"] = {
                key: value for key, value in plan_document(plan).items() if value != plain[key]
            }
    return answers


def plan_variants(name: str) -> Any:
    """One instance asked in every manner: headroom, margin, envelope, budget, quantiles, seeds; with explanations."""
    pipeline, profiles, trace, arguments = _instance(name)
    lines: list[str] = []
    answers: dict[str, Any] = {}
    for label, more in {
        "plain": {},
        "headroom": {"headroom": 1.25},
        "margin": {"margin_s": arguments["slo_s"] / 8},
        "loose": {"slo_s": arguments["slo_s"] * 4},
        "every query": {"quantile": 1.0},
        "seed": {"seed": 11},
        "envelope": {"guarantee": "envelope", "slo_s": arguments["slo_s"] * 6},
        "curve": {
            "guarantee": "envelope",
            "envelope": mp.ArrivalCurve.token_bucket(3, 60),
            "slo_s": arguments["slo_s"] * 6,
        },
        "budget": {"budget_usd_per_hour": 3.0},
        "small budget": {"budget_usd_per_hour": 0.05},
    }.items():
        plan = mp.plan(pipeline, profiles, trace, progress=lines.append, **{**arguments, **more})
        answers[label] = {"plan": plan_document(plan)}
        if plan.choices:
            explained = plan.explain()
            answers[label]["explanation"] = document_of(explained)
            answers[label]["lines"] = list(
                explained.lines() if callable(explained.lines) else explained.lines
            )
            answers[label]["explained"] = str(explained)
            answers[label]["certificate"] = document_of(mp.certify(plan, trace))
    answers["progress"] = lines
    return answers


def plan_files() -> Any:
    """Plan files and what is read back from them, to the byte."""
    answers = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in instances():
            pipeline, profiles, trace, arguments = _instance(name)
            plan = mp.plan(pipeline, profiles, trace, **arguments)
            path = Path(folder) / "plan.json"
            plan.save(path)
            text = path.read_text(encoding="utf-8")
            again = mp.Plan.load(path)
            verified = mp.verify(path, trace)
            answers[name] = {
                "file": hash_of(text),
                "again": hash_of(again.to_json()),
                "document": plan.to_document() if name == "hand-made" else None,
                "verified": verified.verified,
                "problems": list(verified.problems),
                "remarks": list(verified.remarks),
                "worst_case_ns": verified.worst_case_ns,
            }
    return answers


def certificates() -> Any:
    """Certificates of old plans on their own and on other traffic."""
    return {
        f"{name} on {label}": document_of(mp.certify(old_plan(name), trace, **more))
        for name in ("video", "cascade", "image")
        for label, trace, more in (
            ("its own", old_trace(name), {}),
            ("bursty", shipped_trace("bursty", 20.0, 35.0), {}),
            ("another seed", shipped_trace("steady", 20.0, 25.0), {"seed": 9}),
        )
    }


def given_plans() -> Any:
    """Plans from choices, and explanations of them."""
    profiles = shipped_profiles()
    trace = shipped_trace("steady", None, 6.0)
    plan = mp.Plan.from_choices(
        shipped_pipeline("image-processing"),
        profiles,
        {"preprocess": ("cpu", 4, 3), "classify": ("v100", 32, 2)},
    )
    return {
        "plan": plan_document(plan),
        "explanation": document_of(mp.explain(plan, trace)),
        "explained": str(mp.explain(plan, trace)),
        "old": str(mp.explain(old_plan("video"), old_trace("video"))),
    }


def time_cost_problems() -> Any:
    """Problems as planning poses them, their models, and the optimum of each."""
    answers: dict[str, Any] = {}
    for name in instances():
        pipeline, profiles, trace, arguments = _instance(name)
        answers[name] = _posed(partial(mp.time_cost_problem, pipeline, profiles, trace, **arguments))
    profiles = shipped_profiles()
    for name in ("cascade", "video-monitoring", "image-processing", "social-media"):
        trace = shipped_trace("bursty", None, 5.0)
        answers[name] = _posed(partial(mp.time_cost_problem, shipped_pipeline(name), profiles, trace))
    pipeline = shipped_pipeline("cascade")
    trace = shipped_trace("steady", None, 4.0)
    answers["budget"] = _posed(
        partial(mp.time_cost_problem, pipeline, profiles, trace, budget_usd_per_hour=6.0)
    )
    return answers


def _posed(pose: Callable[[], TimeCostProblem]) -> Any:
    try:
        problem = pose()
    except mp.MipplanError as error:
        return f"{type(error).__name__}: {error}"
    return {
        "problem": document_of(problem),
        "models": {
            name: hash_of(json.dumps(document_of(form.build(problem)))) for name, form in FORMULATIONS.items()
        },
        "formulation": mp.solvers.choose_formulation(problem),
        "optimum": document_of(mp.solvers.solve_problem(problem)),
    }


# Solvers


def solver_answers(name: str) -> Any:
    """A fixed problem by every solver, formulation and way of starting."""
    problem = _problem(name)
    best = solve_exhaustively(problem)
    answers: dict[str, Any] = {"exhaustive": document_of(best)}
    for solver in PROBLEM_SOLVERS:
        forms = ("auto",) if solver in {"auto", "labels", "cp_sat_native"} else tuple(FORMULATIONS)
        for form in forms:
            answers[f"{solver} {form}"] = document_of(
                mp.solvers.solve_problem(problem, solver, formulation=form)
            )
    if best is not None:
        answers["started"] = document_of(
            mp.solvers.solve_problem(problem, start=best.selection, shrinking=True)
        )
    for form_name, form in FORMULATIONS.items():
        model = form.build(problem)
        for solver in SOLVERS:
            answers[f"model {form_name} {solver}"] = document_of(mp.solvers.solve(model, solver))
        answers[f"relaxed {form_name}"] = document_of(mp.solvers.relax(model))
        answers[f"kept {form_name}"] = document_of(mp.solvers.KeptRelaxation().solve(model))
    shrunk = mp.solvers.shrink(problem)
    answers["shrunk"] = {
        "counts": document_of(shrunk.counts),
        "lower_bound": document_of(shrunk.lower_bound),
        "cost": document_of(shrunk.cost),
        "selection": document_of(shrunk.selection),
    }
    return answers


def programme_answers() -> Any:
    """Models of several projects on shared resources."""
    answers = {}
    for path in sorted((ROOT / "formulations" / "golden" / "projects").glob("*.json")):
        document = json.loads(path.read_text(encoding="utf-8"))["problem"]
        if "projects" not in document or "deadline" not in document["projects"][0]:
            continue
        problem = Programme(
            tuple(_problem_of(project) for project in document["projects"]),
            tuple(Resource(r["name"], r["capacity"]) for r in document["resources"]),
            None if document["forgone"] is None else tuple(document["forgone"]),
        )
        form = PROGRAMME_FORMULATIONS["joint"]
        model = form.build(problem)
        found = mp.solvers.solve(model, "highs")
        chosen = None if found.values is None else form.decode(problem, model, found.values)
        answers[path.stem] = {
            "model": document_of(model),
            "answer": document_of(found),
            "chosen": document_of(chosen),
            "evaluated": None if chosen is None else document_of(problem.evaluate(chosen)),
        }
    return answers


# Replays


def replays(name: str, discipline: str) -> Any:
    """One plan by every engine, on its own and on other traffic: the plain engine in full, hashes of others."""
    plan, trace = old_plan(name), old_trace(name).slice(0, 4)
    bursts = shipped_trace("bursty", 20.0, 23.0)
    return {
        f"{engine} on {label}": _in_short(
            engine,
            replay_document(
                mp.replay(plan, traffic, discipline=discipline, engine=engine, **more), plan.slo_s
            ),
        )
        for engine in ENGINES
        for label, traffic, more in (
            ("its own", trace, {}),
            ("bursts", bursts, {}),
            ("another seed", trace, {"seed": 3}),
        )
    }


def _in_short(engine: str, document: Any) -> Any:
    return document if engine == ENGINES[0] else hash_of(json.dumps(document))


def random_replays() -> Any:
    """Small pipelines of every shape, by every engine and discipline: a hash of each."""
    answers = {}
    for name in instances():
        pipeline, profiles, trace, arguments = _instance(name)
        plan = mp.plan(pipeline, profiles, trace, **{**arguments, "slo_s": 10 * arguments["slo_s"]})
        if not plan.choices:
            continue
        for engine in ENGINES:
            for discipline in DISCIPLINES:
                result = mp.replay(plan, trace, discipline=discipline, engine=engine)
                answers[f"{name} {engine} {discipline}"] = hash_of(
                    json.dumps(replay_document(result, plan.slo_s))
                )
    return answers


def noisy_replays() -> Any:
    """Random service times and changing replicas."""
    plan = old_plan("cascade")
    trace = old_trace("cascade").slice(0, 8)
    schedule = {
        "fast": mp.ReplicaSchedule.from_seconds([2, 4, 6], [2, 4, 1, 3], delay_s=0.7),
        "preprocess": mp.ReplicaSchedule.from_seconds([3], [3, 4]),
    }
    noise = mp.ServiceNoise
    answers = {}
    for engine in ENGINES:
        for label, more in {
            "lognormal": {"noise": noise.lognormal(0.3)},
            "uniform": {"noise": noise.uniform(0.8, 1.4, seed=5)},
            "factors": {"noise": noise.from_factors([0.9, 1.0, 1.0, 1.6])},
            "one stage": {"noise": {"fast": noise.lognormal(0.5, seed=1)}},
            "schedule": {"schedule": schedule},
            "both": {"schedule": schedule, "noise": noise.lognormal(0.2), "discipline": "fifo"},
        }.items():
            try:
                answers[f"{engine} {label}"] = _in_short(
                    engine, replay_document(mp.replay(plan, trace, engine=engine, **more))
                )
            except mp.MipplanError as error:
                answers[f"{engine} {label}"] = f"{type(error).__name__}: {error}"
    return answers


def replay_figures() -> Any:
    """Windows, statistics, utilisation, files: what a replay can be asked for."""
    plan = old_plan("video")
    result = mp.replay(plan, old_trace("video"))
    answers = {
        "windows": document_of(result.windows(2.0, plan.slo_s)),
        "statistics": document_of(result.statistics(plan.slo_s)),
        "quantiles_ns": [document_of(result.quantile_ns(q)) for q in (0.001, 0.5, 0.9, 0.99, 0.999, 1.0)],
        "miss_rate": result.miss_rate(plan.slo_s),
        "misses": document_of(result.misses(0.08)),
        "json": json.loads(result.to_json(plan.slo_s)),
        "columns": list(result.to_pandas().columns),
    }
    answers["table"] = hash_of(result.to_pandas().to_csv())
    return answers


def many_replays() -> Any:
    """Several plans on one trace, and verdicts on them."""
    plan, trace = old_plan("cascade"), old_trace("cascade").slice(0, 6)
    plans = [
        plan,
        *(
            mp.Plan.from_choices(
                plan.pipeline,
                plan.profiles,
                {stage: (c.hardware, c.batch, c.replicas + more) for stage, c in plan.choices.items()},
                slo_s=plan.slo_s,
            )
            for more in (1, 2)
        ),
    ]
    return {
        "results": [replay_document(result) for result in mp.replay_many(plans, trace)],
        "verdicts": document_of(mp.replay_many(plans, trace, slo_s=0.066)),
        "fifo": document_of(mp.replay_many(plans, trace, slo_s=0.06, quantile=0.9, discipline="fifo")),
    }


def streams() -> Any:
    """Replays piece by piece, of any length of pieces."""
    answers = {}
    for name in ("cascade", "video"):
        plan = old_plan(name)
        trace = old_trace(name).slice(0, 10)
        for engine in ENGINES[1:]:
            for chunk in (64, 1000, 65536):
                result = mp.replay_stream(plan, trace, engine=engine, chunk=chunk)
                answers[f"{name} {engine} {chunk}"] = document_of(result)
        answers[f"{name} fifo"] = document_of(mp.replay_stream(plan, trace, discipline="fifo", slo_s=0.05))
    plan = old_plan("cascade")
    flood = mp.Trace.from_ns(np.arange(6000) * 10_000)
    answers["overloaded"] = document_of(mp.replay_stream(plan, flood, chunk=500, backlog=2000))
    answers["noisy"] = document_of(
        mp.replay_stream(
            plan, old_trace("cascade").slice(0, 5), noise=mp.ServiceNoise.lognormal(0.2), chunk=100
        )
    )
    return answers


# Other planners


def refined(name: str) -> Any:
    """Refinement of a small instance under both disciplines."""
    pipeline, profiles, trace, arguments = _instance(name)
    plan = mp.plan(pipeline, profiles, trace, **{**arguments, "slo_s": 1.5 * arguments["slo_s"]})
    if not plan.choices:
        return plan_document(plan)
    lines: list[str] = []
    return {
        "plain": plan_document(mp.refine(plan, trace, progress=lines.append)),
        "fifo": plan_document(mp.refine(plan, trace, discipline="fifo")),
        "margin": plan_document(mp.refine(plan, trace, margin_s=plan.slo_s / 10, engine="numpy")),
        "quantile": plan_document(mp.refine(plan, trace, quantile=0.8, slo_s=plan.slo_s * 0.9, seed=2)),
        "progress": lines,
    }


def refined_shipped() -> Any:
    """Refinement of shipped pipelines."""
    cascade = shipped_trace("steady", None, 8.0)
    image = shipped_trace("bursty", None, 6.0)
    profiles = shipped_profiles()
    return {
        "cascade": plan_document(mp.refine(mp.plan(shipped_pipeline("cascade"), profiles, cascade), cascade)),
        "image": plan_document(
            mp.refine(mp.plan(shipped_pipeline("image-processing"), profiles, image), image)
        ),
    }


def baselines() -> Any:
    """Plans by other rules, of shipped pipelines and of random ones."""
    cases: dict[str, tuple[mp.Pipeline, mp.Profiles, mp.Trace, dict[str, Any]]] = {
        name: (shipped_pipeline(name), shipped_profiles(), shipped_trace(trace, None, 6.0), {})
        for name, trace in (
            ("cascade", "bursty"),
            ("video-monitoring", "steady"),
            ("image-processing", "bursty"),
        )
    }
    cases |= {name: _instance(name) for name in instances()}
    rules: dict[str, Callable[..., mp.Plan]] = {
        "inferline": mp.baselines.inferline,
        "coarse mean": mp.baselines.coarse_grained,
        "coarse peak": partial(mp.baselines.coarse_grained, mode="peak"),
        "half mean": mp.baselines.half_slo,
        "half peak": partial(mp.baselines.half_slo, mode="peak", window_s=0.5),
    }
    return {
        f"{name} {label}": {
            key: value
            for key, value in plan_document(rule(pipeline, profiles, trace, **more)).items()
            if key not in {"trace", "hashes"}
        }
        for name, (pipeline, profiles, trace, more) in cases.items()
        for label, rule in rules.items()
    }


def ipa() -> Any:
    """IPA's integer program."""
    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_node("detect", model="yolo-m")
    graph.add_node("classify", model="resnet")
    graph.add_edge("detect", "classify")
    pipeline = mp.Pipeline(graph, slo_s=0.1)
    sizes = np.array([1, 4])
    profiles = mp.Profiles.from_parts(
        [Hardware("gpu", 1.0)],
        [
            LatencyTable("yolo-s", "gpu", sizes, np.array([10.0, 25.0]), accuracy=np.array([0.60, 0.60])),
            LatencyTable("yolo-m", "gpu", sizes, np.array([22.0, 60.0]), accuracy=np.array([0.68, 0.68])),
            LatencyTable("resnet", "gpu", sizes, np.array([5.0, 12.0])),
        ],
    )
    trace = mp.Trace.gamma(rate_rps=150, cv=2, duration_s=10, seed=1)
    answers = {}
    for alpha in (1, 5, 50):
        for form in FORMULATIONS:
            found = mp.ipa.configure(
                pipeline,
                profiles,
                trace,
                weights=mp.ipa.Weights(accuracy=alpha),
                variants={"detect": ["yolo-s", "yolo-m"]},
                formulation=form,
            )
            answers[f"{alpha} {form}"] = document_of(found)
    answers["tight"] = document_of(mp.ipa.configure(pipeline, profiles, trace, slo_s=0.02))
    return answers


def comparisons() -> Any:
    """Planners beside each other."""
    trace = shipped_trace("bursty", None, 10.0)
    comparison = mp.compare(
        shipped_pipeline("cascade"),
        shipped_profiles(),
        trace,
        planners=("certified", "inferline", "half_slo"),
        seeds=(4, 5),
    )
    refined = mp.compare(
        shipped_pipeline("image-processing"),
        shipped_profiles(),
        trace,
        slo_s=0.2,
        split=0.4,
        discipline="fifo",
        planners=("refined", "coarse_peak", "certified"),
    )
    return {"cascade": document_of(comparison), "image": document_of(refined)}


def fleet(name: str) -> Any:
    """A fleet by both methods, with what is asked for besides."""
    document = fleets()[name]
    members = {
        member: (
            mp.Pipeline.from_document(part["pipeline"]),
            mp.Trace.from_ns(np.array(part["arrival_ns"]), name="random"),
            part["slo_s"],
            part["weight"],
        )
        for member, part in document["members"].items()
    }
    profiles = mp.Profiles.from_document(document["profiles"])
    lines: list[str] = []
    common = {"quantile": document["quantile"], "seed": document["seed"], "n_jobs": 1}
    answers = {}
    for label, more in {
        "auto": {"progress": lines.append},
        "columns": {"method": "columns", "gap": 0.0},
        "joint": {"method": "joint"},
        "budget": {"budget": 1.5},
        "limits": {"limits": {"t4": 1}},
    }.items():
        answers[label] = _fleet_document(mp.plan_fleet(members, profiles, **{**common, **more}))
    answers["progress"] = lines
    return answers


def _fleet_document(plan: mp.FleetPlan) -> Any:
    return {
        "fleet": document_of(plan),
        "gap": document_of(plan.gap),
        "usd_per_hour": plan.usd_per_hour,
        "binding": document_of(plan.binding),
    }


# Tuning


def _driven(tuner: mp.Tuner, *, more: dict[int, dict[str, Any]] | None = None) -> list[Any]:
    """Let a tuner see quiet, busy and bursty traffic, and retune every two seconds."""
    steps = []
    parts = [
        mp.Trace.gamma(rate_rps=rate, cv=cv, duration_s=4, seed=seed)
        for rate, cv, seed in ((60, 1, 1), (200, 1, 2), (350, 3, 3), (20, 1, 4))
    ]
    begin_ns = 0
    for part in parts:
        times = part.arrival_ns - part.arrival_ns[0] + begin_ns
        for half in (times[times < begin_ns + 2 * NS], times[times >= begin_ns + 2 * NS]):
            tuner.observe(half)
            number = len(steps)
            step = tuner.retune(**(more or {}).get(number, {}))
            tuner.accept(step)
            steps.append(
                {
                    **document_of(step),
                    "gap": document_of(step.gap),
                    "bound": document_of(step.latency_bound_s),
                }
            )
        begin_ns += 4 * NS
    return steps


def tuner_steps(name: str, keep: str, tokens: str) -> Any:
    """A tuner driven through traffic of all kinds."""
    plan, sample = old_plan(name), old_trace(name)
    try:
        tuner = mp.Tuner(plan, sample=sample, keep=keep, tokens=tokens)
    except mp.MipplanError as error:
        return f"{type(error).__name__}: {error}"
    curve = mp.ArrivalCurve.token_bucket(60, 300)
    return {
        "asked": {
            "replicas": document_of(tuner.replicas_for(curve)),
            "needs": document_of(tuner.needs(curve)),
            "service_time_ns": document_of(tuner.service_time_ns),
        },
        "steps": _driven(tuner),
    }


def tuner_under_conditions() -> Any:
    """Limits, budgets, changes, backlog and replicas that take time."""
    sample = shipped_trace("steady", None, 10.0)
    plan = mp.plan(shipped_pipeline("image-processing"), shipped_profiles(), sample, slo_s=0.2)
    answers: dict[str, Any] = {"plan": plan_document(plan)}
    for label, conditions in {
        "limits": mp.Conditions(limits={"v100": 1}, most_added=2, removed_usd_per_hour=0.05),
        "budget": mp.Conditions(budget_usd_per_hour=5, added_usd_per_hour=0.1),
        "slow": mp.Conditions(most_added=1, most_removed=1),
    }.items():
        answers[label] = _driven(mp.Tuner(plan, sample=sample, keep="objective", conditions=conditions))
    delayed = mp.Tuner(
        plan, sample=sample, keep="objective", activation_delay_s=5.0, margin_s=0.01, horizon_s=10
    )
    active = {"preprocess": 1, "classify": 1}
    answers["delayed"] = _driven(
        delayed,
        more={
            1: {"backlog": 200, "active": active},
            3: {"backlog": {"preprocess": 20, "classify": 50}, "active": active},
            5: {"traffic": mp.ArrivalCurve.token_bucket(80, 420), "ordered": {"classify": 1}},
        },
    )
    return answers


def joint_tuner() -> Any:
    """Two pipelines on shared devices."""
    sample = shipped_trace("steady", None, 10.0)
    profiles = shipped_profiles()
    plans = {
        "images": mp.plan(shipped_pipeline("image-processing"), profiles, sample, slo_s=0.2),
        "cascade": mp.plan(shipped_pipeline("cascade"), profiles, sample, slo_s=0.3),
    }
    conditions = mp.Conditions(limits={"v100": 2, "a100_80gb": 1}, budget_usd_per_hour=12)
    answers: dict[str, Any] = {}
    for label, more in {
        "share": {},
        "loss": {"loss_usd_per_hour": {"images": 50, "cascade": 5}},
    }.items():
        tuners = {name: mp.Tuner(plan, sample=sample, keep="objective") for name, plan in plans.items()}
        joint = mp.JointTuner(tuners, conditions=conditions, **more)
        curves = {
            "images": mp.ArrivalCurve.token_bucket(40, 300),
            "cascade": mp.ArrivalCurve.token_bucket(20, 100),
        }
        answers[label] = [
            document_of(joint.retune()),
            document_of(joint.retune(traffic=curves)),
            document_of(joint.retune(traffic=curves, backlog={"images": 30})),
        ]
    return answers


def tunings(policies: tuple[str, ...]) -> Any:
    """Policies in closed loop."""
    plan = old_plan("cascade")
    trace = shipped_trace("bursty", None, 25.0)
    answers = {}
    for label, more in {
        "plain": {},
        "sample": {"sample": old_trace("cascade"), "period_s": 2.0, "activation_delay_s": 1.5},
        "fifo": {"discipline": "fifo", "split": 0.4, "seed": 6, "engine": "numpy"},
    }.items():
        tuning = mp.tune(plan, trace, policies=policies, **more)
        answers[label] = [
            {
                **{
                    name: document_of(getattr(run, name))
                    for name in ("policy", "clairvoyant", "schedules", "misses")
                },
                **{
                    name: document_of(getattr(run, name))
                    for name in ("usd", "usd_per_hour", "reaction_s", "worst_window")
                },
                "missed_over_time": document_of(
                    run.missed_over_time() if callable(run.missed_over_time) else run.missed_over_time
                ),
                "latency_ns": document_of(run.result.latency_ns),
                "paid": document_of(run.result.paid_replica_ns),
            }
            for run in tuning.runs
        ]
    return answers


# Inputs


def traces() -> Any:
    """Traces made, changed and read."""
    make = mp.Trace
    bursty = shipped_trace("bursty")
    answers = {
        "bursty": bursty,
        "steady": shipped_trace("steady"),
        "window": shipped_trace("steady", 3.0, 7.5),
        "gamma": make.gamma(rate_rps=120, cv=3, duration_s=8, seed=2),
        "poisson": make.poisson(rate_rps=90, duration_s=8, seed=3),
        "diurnal": make.diurnal(100, 0.6, 5, 10, 4),
        "markov": make.markov_modulated([20, 200], 1.5, 12, 5),
        "ramp": make.ramp([50, 200, 80], [1, 3, 1], [3, 3, 3], 1.0, 6),
        "scaled": bursty.scale(1.7),
        "sliced": bursty.slice(4, 9),
        "joined": make.concatenate([bursty.slice(0, 2), bursty.slice(5, 6)], gap_s=0.5),
        "seconds": make.from_seconds([0.1, 0.2, 0.25]),
    }
    rates = bursty.slice(0, 10).rate_over_time(0.5)
    return {
        **{name: {**document_of(trace), "repr": repr(trace)} for name, trace in answers.items()},
        "rates": document_of(rates),
    }


def inputs() -> Any:
    """Shipped profiles and pipelines as they are read."""
    profiles = shipped_profiles()
    names = sorted(path.stem for path in (ROOT / "profiles" / "pipelines").glob("*.yaml"))
    pipelines = {name: shipped_pipeline(name) for name in names}
    return {
        "profiles": hash_of(json.dumps(profiles.to_document())),
        "models": document_of(profiles.models),
        "reprs": [repr(profiles), *(repr(pipeline) for pipeline in pipelines.values())],
        "pipelines": {name: pipeline.to_document() for name, pipeline in pipelines.items()},
        "orders": {name: document_of(pipeline.topological_order) for name, pipeline in pipelines.items()},
    }


def registers() -> Any:
    """Names that arguments and flags accept, in their order."""
    from mipplan import replayer, tuner

    return {
        "formulations": list(FORMULATIONS),
        "programme formulations": list(PROGRAMME_FORMULATIONS),
        "engines": list(replayer.ENGINES),
        "policies": list(tuner.POLICIES),
        "solvers": [solver.name for solver in mp.solvers.available_solvers()],
        "problem solvers": [solver.name for solver in mp.solvers.available_problem_solvers()],
    }


def refusals() -> Any:
    """What the library says to wrong arguments, every fault at once."""
    pipeline, profiles = shipped_pipeline("cascade"), shipped_profiles()
    trace = shipped_trace("steady", None, 3.0)
    plan = old_plan("cascade")
    plain: dict[str, Callable[[], object]] = {
        "plan": lambda: mp.plan(
            pipeline,
            profiles,
            trace,
            slo_s=-1,
            quantile=2,
            seed=-1,
            headroom=0,
            margin_s=-1,
            guarantee="no",
            formulation="path",
            time_limit_s=0,
            budget_usd_per_hour=-1,
        ),
        "plan true": lambda: mp.plan(pipeline, profiles, trace, quantile=True, seed=1.5, headroom="x"),  # type: ignore[arg-type]
        "plan solver": lambda: mp.plan(pipeline, profiles, trace, solver="gurobi"),
        "plan no objective": lambda: mp.plan(mp.Pipeline(pipeline.graph), profiles, trace),
        "from_choices": lambda: mp.Plan.from_choices(
            pipeline, profiles, {"preprocess": ("tpu", 0, -1), "fast": ("t4", 3, 1), "best": ("t4", 1, 1)}
        ),
        "require": lambda: mp.plan(pipeline, profiles, trace, slo_s=0.004).require(),
        "replay": lambda: mp.replay(plan, trace, discipline="lifo", engine="c", seed=-1),
        "replay schedule": lambda: mp.replay(
            plan, trace, schedule={"best": mp.ReplicaSchedule.from_seconds([1], [1, 2])}
        ),
        "replay p99": lambda: mp.replay(plan, trace, noise=mp.ServiceNoise.from_p99()),
        "schedule": lambda: mp.ReplicaSchedule.from_seconds([2, 1], [1, -2, 3], delay_s=-1),
        "noise": lambda: mp.ServiceNoise.uniform(2, 1),
        "noise cv": lambda: mp.ServiceNoise.lognormal(-1),
        "stream": lambda: mp.replay_stream(plan, trace, chunk=0, backlog=-1, discipline="lifo"),
        "certify": lambda: mp.certify(plan, trace, seed=-3),
        "certify plan": lambda: mp.certify(old_plan("infeasible"), trace),
        "refine": lambda: mp.refine(
            plan, trace, slo_s=0, quantile=3, discipline="lifo", margin_s=-1, time_limit_s=-1, engine="c"
        ),
        "compare": lambda: mp.compare(
            pipeline,
            profiles,
            trace,
            split=2,
            discipline="lifo",
            planners=("best", "certified", "certified"),
            seeds=(0,),
        ),
        "fleet": lambda: mp.plan_fleet(
            {"a": (pipeline, trace, -1, -1), "b": (pipeline,)},  # type: ignore[dict-item]
            profiles,
            limits={"tpu": 1, "t4": -1},
            budget=-1,
            gap=2,
            method="best",
        ),
        "fleet empty": lambda: mp.plan_fleet({}, profiles),
        "tune": lambda: mp.tune(
            plan, trace, policies=("best", "lp", "lp"), split=2, period_s=0, activation_delay_s=-1
        ),
        "tuner": lambda: mp.Tuner(
            plan, keep="all", tokens="some", margin_s=-1, horizon_s=0, activation_delay_s=-1
        ),
        "tuner sample": lambda: mp.Tuner(plan, keep="sample"),
        "tuner margin": lambda: mp.Tuner(plan, sample=trace, margin_s=1),
        "observe": lambda: mp.Tuner(plan, sample=trace).observe([3, 2, 1]),
        "retune": lambda: mp.Tuner(plan, sample=trace).retune(
            -5, backlog=-1, active={"best": 1}, ordered={"fast": -1}
        ),
        "conditions": lambda: mp.Conditions(
            limits={"t4": -1}, budget_usd_per_hour=-1, most_added=-1, added_usd_per_hour=-1
        ),
        "curve": lambda: mp.ArrivalCurve.token_bucket(0, -1),
        "trace": lambda: mp.Trace.from_ns([3, 1, 2]),
        "trace empty": lambda: mp.Trace.from_ns([]),
        "trace gamma": lambda: mp.Trace.gamma(rate_rps=-1, cv=0, duration_s=0, seed=-1),
        "trace slice": lambda: trace.slice(5, 1),
        "trace file": lambda: mp.Trace.read("nowhere.csv", expand="often", start_s=-1),
        "pipeline": lambda: mp.Pipeline.read("nowhere.yaml"),
        "profiles": lambda: mp.Profiles.read("nowhere"),
        "inferline": lambda: mp.baselines.inferline(pipeline, profiles, trace, slo_s=-1, quantile=0, seed=-1),
        "half_slo": lambda: mp.baselines.half_slo(pipeline, profiles, trace, mode="most", window_s=-1),
        "ipa": lambda: mp.ipa.configure(shipped_pipeline("video-monitoring"), profiles, trace),
        "solve_problem": lambda: mp.solvers.solve_problem(_problem("chain"), "gurobi"),
        "solve formulation": lambda: mp.solvers.solve_problem(_problem("chain"), formulation="path"),
        "time_cost_problem": lambda: mp.time_cost_problem(pipeline, profiles, trace, slo_s=0, quantile=7),
        "attribute": lambda: mp.Best,
    }
    return {name: _said(call) for name, call in plain.items()}


def _said(call: Callable[[], object]) -> Any:
    try:
        value = call()
    except mp.InputError as error:
        return {"InputError": str(error), "faults": [dataclasses.astuple(fault) for fault in error.faults]}
    except Exception as error:  # what is raised is the answer
        return {type(error).__name__: str(error)}
    return {"returned": type(value).__name__}


LIBRARY: dict[str, Callable[[], Any]] = {
    **{f"plan-every-way-{name}": partial(plan_every_way, name) for name in instances()},
    **{f"plan-variants-{name}": partial(plan_variants, name) for name in list(instances())[::2]},
    "plan-files": plan_files,
    "certificates": certificates,
    "given-plans": given_plans,
    "time-cost-problems": time_cost_problems,
    **{
        f"solvers-{name}": partial(solver_answers, name)
        for name in ("branches", "chain", "impossible", "shared")
    },
    "programmes": programme_answers,
    **{
        f"replays-{name}-{d}": partial(replays, name, d)
        for name in ("video", "cascade", "image")
        for d in DISCIPLINES
    },
    "random-replays": random_replays,
    "noisy-replays": noisy_replays,
    "replay-figures": replay_figures,
    "many-replays": many_replays,
    "streams": streams,
    **{f"refined-{name}": partial(refined, name) for name in list(instances())[1::3]},
    "refined-shipped": refined_shipped,
    "baselines": baselines,
    "ipa": ipa,
    "comparisons": comparisons,
    **{f"fleet-{name}": partial(fleet, name) for name in fleets()},
    **{
        f"tuner-{name}-{keep}-{tokens}": partial(tuner_steps, name, keep, tokens)
        for name, keep, tokens in (
            ("cascade", "objective", "most"),
            ("cascade", "sample", "mean"),
            ("image", "objective", "most"),
            ("image", "objective", "mean"),
            ("video", "sample", "most"),
            ("video", "objective", "mean"),
        )
    },
    "tuner-conditions": tuner_under_conditions,
    "joint-tuner": joint_tuner,
    "tunings-rules": partial(tunings, ("inferline", "hpa", "ray", "ray-tuned", "static")),
    "tunings-lp": partial(tunings, ("lp", "lp-lean", "oracle")),
    "traces": traces,
    "inputs": inputs,
    "registers": registers,
    "refusals": refusals,
}
