"""What has been asked for lately: counts that are held for a while before they go down."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping


class Held:
    """Largest counts of each stage in the last so many nanoseconds.

    Parameters
    ----------
    hold_ns : int
    start_ns : int
    counts : mapping of str to int
        Counts as at the start, if there were any.
    """

    def __init__(self, hold_ns: int, start_ns: int, counts: Mapping[str, int]) -> None:
        self._hold_ns = hold_ns
        # Of each stage instants and counts, the counts decreasing: the first is the largest.
        self._found = {stage: deque([(start_ns, count)]) for stage, count in counts.items()}

    def most(self, now_ns: int, counts: Mapping[str, int]) -> dict[str, int]:
        """Take in the counts of now, and return the largest since `hold_ns` ago."""
        for stage, count in counts.items():
            found = self._found.setdefault(stage, deque())
            while found and found[-1][1] <= count:
                found.pop()
            found.append((now_ns, count))
            while found[0][0] < now_ns - self._hold_ns:
                found.popleft()
        return {stage: self._found[stage][0][1] for stage in counts}
