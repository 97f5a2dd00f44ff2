"""Memory that a replay may expect to find when the next one comes."""

from __future__ import annotations

import numpy as np

#: The largest piece that glibc takes as a measure is 32 MiB.
_LARGEST_MEASURE = 31 << 20


def hold_on_to_memory() -> None:
    """Let freed memory stay with the process, some 60 MiB of it, for the next arrays.

    Pages that are new to a process cost as much as serving the tokens whose times they hold. By default glibc returns
    memory to the system beyond twice the largest piece that was ever freed, so freeing a large one is enough; it is
    never written to, and takes no memory itself. Elsewhere this does nothing.
    """
    np.empty(_LARGEST_MEASURE, dtype=np.uint8)
