"""How long queries are under way between stages: from one stage's finish to the next stage's arrival."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from mipplan.core import Int64
from mipplan.logs import MISSING, QueryLog, StageLog

#: Stand for the sender of the queries, at the two ends of their way.
SENT, ANSWERED = "sent", "answered"


def hops_of(
    queries: QueryLog, stages: StageLog, edges: Iterable[tuple[str, str]] | None = None
) -> dict[tuple[str, str], Int64]:
    """Time each hop: of every token, from the last finish before its arrival, of its query at a stage above.

    Parameters
    ----------
    queries : QueryLog
        May be empty: then nothing is known about the ways from and to the sender.
    stages : StageLog
    edges : iterable of (str, str), optional
        Which stages feed which. Without them a token is taken to come from wherever its query was last.

    Returns
    -------
    mapping of (str, str) to int64, shape (tokens,)
        Nanoseconds of the hops along each edge, in order of arrival; from `SENT` to the stages where queries enter, and
        from those where they end to `ANSWERED`.
    """
    import pandas as pd

    known = None if edges is None else set(edges)
    names = stages.stages
    ended = stages.finish_ns != MISSING
    whole = stages.taken(~stages.has_error)
    all_rows = pd.DataFrame(
        {"query": whole.query, "stage": whole.stage.astype(str), "arrival": whole.arrival_ns}
    )
    finished = pd.DataFrame(
        {
            "query": stages.query[ended],
            "from": stages.stage[ended].astype(str),
            "finish": stages.finish_ns[ended],
            # Where some tokens came from nowhere, the one above is a float, which rounds instants to 256 ns.
            "finished": stages.finish_ns[ended].astype("timedelta64[ns]"),
        }
    ).sort_values("finish", kind="stable")
    sent = pd.DataFrame({"query": queries.query, "sent_ns": queries.sent_ns})
    hops: dict[tuple[str, str], Int64] = {}
    for stage in names:
        above = [name for name in names if name != stage and (known is None or (name, stage) in known)]
        arrived = all_rows[all_rows["stage"] == stage].sort_values("arrival", kind="stable")
        came = pd.merge_asof(
            arrived, finished[finished["from"].isin(above)], left_on="arrival", right_on="finish", by="query"
        )
        has_parent = came["from"].notna()
        for parent, tokens in came[has_parent].groupby("from", sort=False):
            hops[str(parent), stage] = (tokens["arrival"] - tokens["finished"].astype(np.int64)).to_numpy()
        if known is None or not above:
            entered = came.loc[~has_parent, ["query", "arrival"]].merge(sent, on="query")
            if len(entered):
                hops[SENT, stage] = (entered["arrival"] - entered["sent_ns"]).to_numpy(np.int64)
    answered = pd.DataFrame({"query": queries.query[queries.ok], "answered": queries.answered_ns[queries.ok]})
    left = finished.groupby("query", sort=False).last().reset_index().merge(answered, on="query")
    for last, tokens in left.groupby("from", sort=False):
        hops[str(last), ANSWERED] = (tokens["answered"] - tokens["finish"]).to_numpy(np.int64)
    order = [SENT, *names, ANSWERED]
    return dict(sorted(hops.items(), key=lambda hop: (order.index(hop[0][0]), order.index(hop[0][1]))))
