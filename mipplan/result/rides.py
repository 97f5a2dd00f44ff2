"""Which token rode in which batch of a stage: all that happened there, in little memory.

Times per token follow from those of the batches, and are written out only when somebody asks for them. A replay of
a chain asks for those of its last stage alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from mipplan.core import Int64

Numbers: TypeAlias = NDArray[np.int32] | NDArray[np.int64]

#: Dispatch and exit of a token that was left waiting.
NEVER = int(np.iinfo(np.int64).max)
#: Batches spread over their tokens at once: what is read and written stays in the cache.
_BLOCK = 1 << 13


@dataclass(frozen=True, eq=False)
class Rides:
    """The batches of one stage, and who rode in them.

    Attributes
    ----------
    tokens : int
        Those that the stage was asked to serve.
    rider : int32 or int64, shape (served,), or None
        Token at each place, batch after batch; None if places are in token order. Tokens beyond the last batch were
        left waiting.
    batch_start_ns, batch_size, batch_service_ns : int64, shape (batches,)
        In order of dispatch.
    by_end : int32, shape (batches,), or None
        The batches in order of their ends, those of one instant in order of dispatch; None if nobody noted it.
    """

    tokens: int
    rider: Numbers | None
    batch_start_ns: Int64
    batch_size: Int64
    batch_service_ns: Int64
    by_end: NDArray[np.int32] | None = None

    def __post_init__(self) -> None:
        for array in (self.rider, self.batch_start_ns, self.batch_size, self.batch_service_ns, self.by_end):
            if array is not None:
                array.flags.writeable = False

    @cached_property
    def dispatch_ns(self) -> Int64:
        """When each token was taken into a batch, shape (tokens,); `NEVER` if it was left waiting."""
        return _frozen(self._per_token(self.batch_start_ns))

    @cached_property
    def exit_ns(self) -> Int64:
        """When the batch of each token was done, shape (tokens,); `NEVER` if it was left waiting."""
        return _frozen(self._per_token(self.batch_start_ns + self.batch_service_ns))

    @property
    def last_exit_ns(self) -> int:
        """When the last batch was done; there must be one."""
        return int(np.max(self.batch_start_ns + self.batch_service_ns))

    def _per_token(self, instant_ns: Int64) -> Int64:
        """An instant of each batch for each of its riders, in token order."""
        if self.rider is None and instant_ns.size == self.tokens:
            return instant_ns.view()  # Each rides alone.
        by_token = np.empty(self.tokens, dtype=np.int64)
        if int(self.batch_size.sum()) < self.tokens:
            by_token.fill(NEVER)
        self._hand_out(instant_ns, by_token)
        return by_token

    def _hand_out(self, instant_ns: Int64, by_token: Int64) -> None:
        """Write an instant of each batch down for each of its riders."""
        place = 0
        for low in range(0, instant_ns.size, _BLOCK):
            instants, size = instant_ns[low : low + _BLOCK], self.batch_size[low : low + _BLOCK]
            upto = place + int(size.sum())
            riding = slice(place, upto) if self.rider is None else self.rider[place:upto]
            by_token[riding] = instants if upto - place == size.size else np.repeat(instants, size)
            place = upto


@dataclass(frozen=True, eq=False)
class Following:
    """Arrivals of tokens that each follow the same token of a stage above.

    Attributes
    ----------
    above : Rides
    delay_ns : int
        From exit to arrival.
    """

    above: Rides
    delay_ns: int

    @cached_property
    def at_ns(self) -> Int64:
        """When each token arrives, shape (tokens,)."""
        exit_ns = self.above.exit_ns
        return _frozen(exit_ns + np.int64(self.delay_ns)) if self.delay_ns else exit_ns


def _frozen(array: Int64) -> Int64:
    array.flags.writeable = False
    return array
