"""Looks at a running system: its metrics from all places at once, and the replicas that serve, each within a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, wait
from typing import Any

from mipplan.core import InputError, begun
from mipplan.following.readings import MetricsReader, Scrape
from mipplan.following.samples import parse_answers
from mipplan.following.targets import FollowTarget
from mipplan.following.web import WebError, fetch

#: More replicas of a stage than this are a lie.
_MOST_REPLICAS = 1_000_000


class Scraper:
    """Looks at metrics and replicas.

    Parameters
    ----------
    target : FollowTarget
    reader : MetricsReader
    urls : sequence of str
        Where metrics are; all of them make one look.
    timeout_s : float
        For each look.
    """

    def __init__(
        self, target: FollowTarget, reader: MetricsReader, urls: Sequence[str], timeout_s: float
    ) -> None:
        self._target, self._reader, self._timeout_s = target, reader, timeout_s
        self._jobs: list[Callable[[], Any]] = [
            *(lambda url=url: fetch(url, timeout_s=timeout_s) for url in urls),
            lambda: target.serving(timeout_s),
        ]
        #: Whoever does not answer is not asked again before he has: threads must not pile up.
        self._open: dict[int, Future[Any]] = {}

    def look(self) -> tuple[Scrape, Mapping[str, int]]:
        """Return what metrics say, and replicas that serve where they do not.

        Raises
        ------
        WebError
            If somebody does not answer in time, or not well.
        InputError
            If what is answered is no metrics, not whole, or cannot be.
        """
        for number, job in enumerate(self._jobs):
            if number not in self._open:
                self._open[number] = begun(job, "mipplan-request")
        asked = dict(self._open)
        _, late = wait(asked.values(), self._timeout_s)
        self._open = {number: future for number, future in asked.items() if future in late}
        if late:
            raise WebError(f"{len(late)} of {len(self._jobs)} did not answer within {self._timeout_s:g} s")
        *texts, active = (asked[number].result() for number in sorted(asked))
        scrape = self._reader.read(parse_answers(texts))
        for stage, figures in scrape.stages.items():
            count = active.get(stage, 0) if figures.active is None else figures.active
            if not 0 <= count <= _MOST_REPLICAS:
                raise InputError.one(f"metrics: replicas of {stage}", f"cannot be {count}")
        return scrape, active
