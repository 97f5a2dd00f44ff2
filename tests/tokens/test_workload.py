from __future__ import annotations

import networkx as nx
import numpy as np
import pytest

from campaigns import campaign_size
from mipplan.core import InputError
from mipplan.pipeline import Pipeline
from mipplan.tokens import Workload, realise
from mipplan.tokens import workload as workload_module
from mipplan.trace import Trace
from oracle_tokens import SlowToken, SlowTokens, slow_tokens
from random_pipelines import random_case


def pipeline(
    stages: dict[str, dict[str, object]], edges: dict[tuple[str, str], dict[str, object]]
) -> Pipeline:
    graph: nx.DiGraph[str] = nx.DiGraph()
    for name, attributes in stages.items():
        graph.add_node(name, model="m", **attributes)
    for (parent, child), attributes in edges.items():
        graph.add_edge(parent, child, **attributes)
    return Pipeline(graph)


def one_edge(**attributes: object) -> Pipeline:
    return pipeline({"a": {}, "b": {}}, {("a", "b"): attributes})


def trace(queries: int) -> Trace:
    return Trace.from_ns(np.arange(queries))


def as_slow(workload: Workload) -> SlowTokens:
    """The workload in the form of the oracle."""
    made = {stage: [SlowToken(int(q)) for q in tokens.query] for stage, tokens in workload.stages.items()}
    for stage, tokens in workload.stages.items():
        for messages in tokens.messages:
            for parent, child in zip(messages.parent.tolist(), messages.child.tolist(), strict=True):
                made[stage][child].senders.append((messages.edge.parent, parent, messages.edge.delay_ns))
    return made


def counts(workload: Workload, stage: str) -> np.ndarray:
    """Tokens per query at a stage."""
    return np.bincount(workload.stages[stage].query, minlength=workload.queries)


# ------------------------------------------------------------------------------- against the derivation


def test_equals_the_slow_derivation() -> None:
    for number in range(campaign_size(quick=200, deep=5_000)):
        rng = np.random.default_rng([11, number])
        case = random_case(rng)
        seed = int(rng.integers(0, 2**63))
        made = realise(case.pipeline, case.trace, seed)
        assert as_slow(made) == slow_tokens(case.pipeline, len(case.trace), seed), f"case {number}"


def test_stages_come_in_topological_order_and_tokens_by_query() -> None:
    for number in range(100):
        case = random_case(np.random.default_rng([12, number]))
        made = realise(case.pipeline, case.trace, number)
        seen: set[str] = set()
        for stage, tokens in made.stages.items():
            assert {edge.parent for edge in case.pipeline.incoming(stage)} <= seen
            seen.add(stage)
            assert np.all(np.diff(tokens.query) >= 0)
            starts = np.unique(tokens.query, return_index=True)[1]
            assert np.array_equal(tokens.first_of_query, starts)
            assert tokens.one_per_query == (tokens.query.tolist() == list(range(made.queries)))
            assert tokens.at_most_one == bool(counts(made, stage).max(initial=0) <= 1)
            for messages in tokens.messages:
                assert np.all(np.diff(messages.parent) >= 0)
                assert not messages.parent.flags.writeable


def kept_only(tokens: SlowTokens, kept: list[int]) -> SlowTokens:
    """Tokens of the kept queries, everything numbered anew."""
    old = {
        stage: [n for n, token in enumerate(made) if token.query in kept] for stage, made in tokens.items()
    }
    return {
        stage: [
            SlowToken(
                kept.index(made[number].query),
                [(name, old[name].index(sender), delay) for name, sender, delay in made[number].senders],
            )
            for number in old[stage]
        ]
        for stage, made in tokens.items()
    }


def test_restriction_keeps_the_tokens_of_some_queries() -> None:
    for number in range(100):
        rng = np.random.default_rng([13, number])
        case = random_case(rng, max_arrivals=20)
        whole = realise(case.pipeline, case.trace, number)
        kept = rng.random(whole.queries) < rng.choice([0.2, 0.8])
        kept[int(rng.integers(whole.queries))] = True
        part = whole.restricted(kept)
        assert as_slow(part) == kept_only(as_slow(whole), np.flatnonzero(kept).tolist()), f"case {number}"
        assert part.ingress_ns.tolist() == whole.ingress_ns[kept].tolist()
        assert {tokens.queries for tokens in part.stages.values()} == {int(kept.sum())}
        assert all(
            whole.stages[name].one_per_query <= part.stages[name].one_per_query for name in part.stages
        )


# ----------------------------------------------------------------------------------------------- by hand


def test_token_order_is_query_edge_parent_copy() -> None:
    made = realise(
        pipeline(
            {"a": {}, "b": {}, "c": {}, "d": {"join": "each"}},
            {("a", "b"): {"fanout": 2}, ("a", "c"): {}, ("b", "d"): {"fanout": 2}, ("c", "d"): {}},
        ),
        trace(2),
    )
    from_b, from_c = made.stages["d"].messages
    assert made.stages["d"].query.tolist() == [0] * 5 + [1] * 5
    assert from_b.parent.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert from_b.child.tolist() == [0, 1, 2, 3, 5, 6, 7, 8]
    assert (from_c.parent.tolist(), from_c.child.tolist()) == ([0, 1], [4, 9])


def test_join_all_merges_the_tokens_of_a_query() -> None:
    made = realise(
        pipeline(
            {"a": {}, "b": {}, "c": {}},
            {
                ("a", "b"): {"fanout": 3, "delay": "5ns"},
                ("a", "c"): {"delay": "1ns"},
                ("b", "c"): {"delay": "2ns"},
            },
        ),
        Trace.from_ns([10, 20]),
    )
    assert made.stages["c"].one_per_query
    exits = {"a": np.array([11, 21]), "b": np.array([17, 40, 18, 30, 29, 28])}
    assert made.arrival_ns("a", {}).tolist() == [10, 20]
    assert made.arrival_ns("b", exits).tolist() == [16, 16, 16, 26, 26, 26]
    assert made.arrival_ns("c", exits).tolist() == [42, 32]


def test_single_edge_merges_if_told_to() -> None:
    made = realise(
        pipeline({"a": {}, "b": {}, "c": {"join": "all"}}, {("a", "b"): {"fanout": 3}, ("b", "c"): {}}),
        trace(3),
    )
    assert made.stages["b"].count == 9
    assert made.stages["c"].one_per_query


def test_every_source_gets_every_query() -> None:
    made = realise(pipeline({"a": {}, "b": {}, "c": {}}, {("a", "c"): {}, ("b", "c"): {}}), trace(4))
    assert made.stages["a"].one_per_query
    assert made.stages["b"].one_per_query
    assert made.stages["c"].one_per_query


def test_latency_is_the_last_exit_of_any_token() -> None:
    """Queries 0 and 1 make no token beyond the first stage; the first of query 2's two tokens leaves last."""
    made = realise(one_edge(fanout={"values": [0, 2], "weights": [1, 1]}), Trace.from_ns([0, 5, 9]), seed=3)
    assert counts(made, "b").tolist() == [0, 0, 2]
    exits = {"a": np.array([3, 50, 20]), "b": np.array([40, 30])}
    assert made.latency_ns(exits).tolist() == [3, 45, 31]
    exits["a"][2] = 60  # a stage in the middle counts too
    assert made.latency_ns(exits).tolist() == [3, 45, 51]


def test_latency_needs_the_exits_of_the_last_stages_only() -> None:
    """Against the maximum over all stages, where each token leaves later than it came."""
    spared = 0
    for number in range(campaign_size(quick=200, deep=2_000)):
        rng = np.random.default_rng([13, number])
        case = random_case(rng)
        made = realise(case.pipeline, case.trace, number)
        exits: dict[str, np.ndarray] = {}
        last = [0] * made.queries
        for name, tokens in made.stages.items():
            exits[name] = made.arrival_ns(name, exits) + rng.integers(1, 50, tokens.count)
            for query, left in zip(tokens.query.tolist(), exits[name].tolist(), strict=True):
                last[query] = max(last[query], left)
        needed = {name: exits[name] for name in made.last_stages}
        spared += len(exits) - len(needed)
        assert (made.latency_ns(needed) + made.ingress_ns).tolist() == last, f"case {number}"
    assert spared > number / 10


def test_a_stage_follows_its_only_parent_if_that_passes_on_every_token() -> None:
    made = realise(
        pipeline(
            {"a": {}, "b": {}, "c": {}, "d": {}, "e": {}, "f": {}, "g": {}},
            {
                ("a", "b"): {"delay": "1ms"},
                ("b", "c"): {"probability": 0.5},
                ("c", "d"): {},
                ("b", "e"): {"fanout": 2},
                ("d", "g"): {},
                ("e", "g"): {},
                ("f", "g"): {},
            },
        ),
        trace(100),
    )
    assert made.stages["d"].query is made.stages["c"].query
    followed = {name: edge.parent for name in made.stages if (edge := made.follows(name)) is not None}
    # Not every token of b goes on to c, but every one of c to d; e has two for each; a, f are sources, g has parents.
    assert followed == {"b": "a", "d": "c"}
    assert made.last_stages == ("b", "d", "e", "g")
    part = made.restricted(np.arange(100) % 3 == 0)
    assert {name for name in part.stages if part.follows(name) is not None} == {"b", "d"}


def test_stage_without_tokens() -> None:
    made = realise(one_edge(probability=1e-12), trace(5))
    assert made.stages["b"].count == 0
    assert made.stages["b"].first_of_query.size == 0
    assert made.arrival_ns("b", {"a": np.arange(5)}).size == 0
    assert made.latency_ns({"a": np.arange(5) + 3, "b": np.empty(0, dtype=np.int64)}).tolist() == [3] * 5


# --------------------------------------------------------------------------------------------- the draws

QUERIES = 20_000


@pytest.mark.parametrize("probability", [0.02, 0.4, 0.97])
def test_share_of_tokens_taken(probability: float) -> None:
    made = counts(realise(one_edge(probability=probability), trace(QUERIES), seed=5), "b")
    spread = np.sqrt(probability * (1 - probability) / QUERIES)
    assert set(np.unique(made)) == {0, 1}
    assert abs(made.mean() - probability) < 4.5 * spread


@pytest.mark.parametrize(
    ("fanout", "mean", "variance"),
    [
        (2.6, 2.6, 0.24),
        (0.3, 0.3, 0.21),
        ({"values": [0, 2, 5], "weights": [0.2, 0.5, 0.3]}, 2.5, 3.25),
        ({"values": [5, 0, 2], "weights": [3, 2, 5]}, 2.5, 3.25),
        ({"poisson": 0.05}, 0.05, 0.05),
        ({"poisson": 2.6}, 2.6, 2.6),
        ({"poisson": 900.0}, 900.0, 900.0),
    ],
)
def test_fanout_has_its_mean_and_variance(fanout: object, mean: float, variance: float) -> None:
    made = counts(realise(one_edge(fanout=fanout), trace(QUERIES // 4), seed=6), "b")
    count = made.size
    assert abs(made.mean() - mean) < 4.5 * np.sqrt(variance / count)
    # The variance of a sample variance is (μ₄ − σ⁴)/n; 4σ⁴ + σ² covers every μ₄ of the table.
    assert abs(made.var() - variance) < 4.5 * np.sqrt((4 * variance**2 + variance) / count)


def test_probability_and_fanout_are_drawn_apart() -> None:
    both = counts(realise(one_edge(probability=0.5, fanout=1.5), trace(QUERIES)), "b")
    taken = both[both > 0]
    assert abs(taken.size / QUERIES - 0.5) < 0.02
    assert abs(taken.mean() - 1.5) < 0.03


def test_edges_are_independent() -> None:
    made = realise(
        pipeline(
            {"a": {}, "b": {}, "c": {}}, {("a", "b"): {"probability": 0.5}, ("a", "c"): {"probability": 0.5}}
        ),
        trace(QUERIES),
    )
    together = np.corrcoef(counts(made, "b"), counts(made, "c"))[0, 1]
    assert abs(together) < 4.5 / np.sqrt(QUERIES)


def test_tokens_of_one_query_are_independent() -> None:
    made = realise(
        pipeline({"a": {}, "b": {}, "c": {}}, {("a", "b"): {"fanout": 2}, ("b", "c"): {"probability": 0.5}}),
        trace(QUERIES),
    )
    # Two tokens each, kept with probability ½: 0, 1, 2 in the ratio 1 : 2 : 1.
    shares = np.bincount(counts(made, "c"), minlength=3) / QUERIES
    assert np.allclose(shares, [0.25, 0.5, 0.25], atol=0.015)


# --------------------------------------------------------------------------------------------- stability


def tree(**more: dict[str, object]) -> Pipeline:
    edges: dict[tuple[str, str], dict[str, object]] = {
        ("a", "b"): {"fanout": 1.7},
        ("b", "c"): {"probability": 0.6},
    }
    return pipeline({"a": {}, "b": {}, "c": {}, "d": {}}, {**edges, ("a", "d"): more.get("d", {})})


def test_cutting_the_trace_leaves_the_other_draws_alone() -> None:
    whole, cut = realise(tree(), trace(200), 4), realise(tree(), trace(90), 4)
    for stage in whole.stages:
        assert counts(whole, stage)[:90].tolist() == counts(cut, stage).tolist()
        kept = whole.stages[stage].query < 90
        assert whole.stages[stage].query[kept].tolist() == cut.stages[stage].query.tolist()


def test_draws_depend_on_the_query_not_on_its_time() -> None:
    shifted = realise(tree(), Trace.from_ns(np.arange(200) * 7 + 1_000), 4)
    assert as_slow(shifted) == as_slow(realise(tree(), trace(200), 4))


def test_another_edge_leaves_the_draws_of_the_others_alone() -> None:
    graph = nx.DiGraph(tree().graph)
    graph.add_node("z", model="m")
    graph.add_edge("a", "z", probability=0.5)
    with_edge, without = realise(Pipeline(graph), trace(200), 4), realise(tree(), trace(200), 4)
    for stage in without.stages:
        assert with_edge.stages[stage].query.tolist() == without.stages[stage].query.tolist()


def test_another_setting_of_one_edge_leaves_the_others_alone() -> None:
    some, all_of_them = realise(tree(d={"probability": 0.3}), trace(200), 4), realise(tree(), trace(200), 4)
    assert some.stages["d"].count < all_of_them.stages["d"].count
    for stage in ("b", "c"):
        assert some.stages[stage].query.tolist() == all_of_them.stages[stage].query.tolist()


def test_a_rarer_branch_keeps_a_subset() -> None:
    """Common random numbers: what is taken at 30 % is also taken at 60 %."""
    rare, often = (realise(one_edge(probability=p), trace(500), 4).stages["b"].query for p in (0.3, 0.6))
    assert set(rare.tolist()) < set(often.tolist())


def test_seed_is_used_and_reproducible() -> None:
    assert as_slow(realise(tree(), trace(50), 1)) == as_slow(realise(tree(), trace(50), 1))
    assert as_slow(realise(tree(), trace(50), 1)) != as_slow(realise(tree(), trace(50), 2))
    assert realise(tree(), trace(50), np.int64(1)).seed == 1  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------------ refusals


@pytest.mark.parametrize("seed", [-1, 1.5, True, "0", None])
def test_odd_seed_is_refused(seed: object) -> None:
    with pytest.raises(InputError, match="seed"):
        realise(tree(), trace(2), seed)  # type: ignore[arg-type]


@pytest.mark.parametrize("fanout", [3, 3.5, {"poisson": 4.0}])
def test_too_many_tokens_are_refused_before_they_are_made(
    fanout: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workload_module, "MAX_TOKENS", 150)
    with pytest.raises(InputError, match=r"edge a -> b.*more than the 150"):
        realise(one_edge(fanout=fanout), trace(60))


def test_too_many_tokens_over_several_edges_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each edge alone would do."""
    monkeypatch.setattr(workload_module, "MAX_TOKENS", 150)
    ways: dict[tuple[str, str], dict[str, object]] = {("a", "c"): {}, ("b", "c"): {}}
    merged = pipeline({"a": {}, "b": {}, "c": {}}, ways)
    assert realise(merged, trace(100)).stages["c"].count == 100
    with pytest.raises(InputError, match=r"stage c.*200 tokens"):
        realise(pipeline({"a": {}, "b": {}, "c": {"join": "each"}}, ways), trace(100))


def test_messages_that_are_counted_through_take_no_memory_of_their_own() -> None:
    """In a tree, token k of a branch follows message k: these numbers are those of the first queries."""
    graph: nx.DiGraph[str] = nx.DiGraph()
    for stage in "abc":
        graph.add_node(stage, model="m")
    graph.add_edge("a", "b", probability=0.5)
    graph.add_edge("b", "c", probability=0.5)
    workload = realise(Pipeline(graph), Trace.from_ns(range(40)), 1)
    queries = workload.stages["a"].query
    for stage in "bc":
        (messages,) = workload.stages[stage].messages
        assert np.shares_memory(messages.child, queries)
        assert messages.child.tolist() == list(range(workload.stages[stage].count))
        assert not messages.child.flags.writeable
