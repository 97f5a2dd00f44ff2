"""The work of three stages: lines are found on pages, turned if they are upside down, and read.

Each is there three times: on a batch; on the next batch of its samples, to be measured by ``mipplan profile``; and as
it is put into what ``mipplan export`` writes. On Ray a token of `turn` and `read` is a line. mosec serves chains only:
there every token is a page, with all of its lines.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from benchmarks.models import ocr
from benchmarks.models.ocr import Tensor
from mipplan.serving import Routed

#: A query is the number of a page; there are so many, and then the first again.
PAGES = 200
#: Lines of a page are served so many at a time where a token is a page.
_AT_ONCE = 8
#: Of how many pages lines are taken to measure what is done with them.
_SAMPLED = 40


_MODELS = {"find": "ppocr-detect", "turn": "ppocr-classify", "read": "ppocr-recognise"}


@cache
def files() -> list[bytes]:
    """The pages, as files."""
    return ocr.pages(PAGES)


def load(stage: str) -> None:
    """Load what a stage needs, before it is asked for the first time."""
    ocr.session(_MODELS[stage])
    if stage == "find":
        files()


def find(numbers: Sequence[int]) -> list[list[Tensor]]:
    """Find the lines on pages, and cut them out."""
    tensors = ocr.decode([files()[number % PAGES] for number in numbers])
    maps = ocr.run_model("ppocr-detect", tensors)[:, 0]
    return ocr.crop(list(zip(tensors, maps, strict=True)))


def turn(lines: Sequence[Tensor]) -> list[Tensor]:
    """Turn the lines that are upside down."""
    scores = ocr.run_model("ppocr-classify", np.stack(lines)[:, :, :, : ocr.TURN_WIDTH])[:, 1]
    return [
        line[:, ::-1, ::-1].copy() if score > ocr.TURNED else line
        for line, score in zip(lines, scores, strict=True)
    ]


def read(lines: Sequence[Tensor]) -> list[str]:
    """Read lines."""
    return ocr.read_text(list(ocr.run_model("ppocr-recognise", np.stack(lines))))


def turn_page(pages: Sequence[Sequence[Tensor]]) -> list[list[Tensor]]:
    """Turn all lines of pages."""
    return _by_page(turn, pages)


def read_page(pages: Sequence[Sequence[Tensor]]) -> list[list[str]]:
    """Read all lines of pages."""
    return _by_page(read, pages)


def _by_page(work: Any, pages: Sequence[Sequence[Any]]) -> list[list[Any]]:
    """Do work on the lines of pages, some at a time, and hand them back by page."""
    lines = [line for page in pages for line in page]
    parts = [lines[first : first + _AT_ONCE] for first in range(0, len(lines), _AT_ONCE)]
    left = iter([one for part in parts for one in work(part)])
    return [list(itertools.islice(left, len(page))) for page in pages]


# --- measured: the next batch of the samples at every call -----------------------------------------------------------


@cache
def _found() -> list[list[Tensor]]:
    return [page for number in range(_SAMPLED) for page in find([number])]


@cache
def _endless(what: str) -> Any:
    samples: Mapping[str, Any] = {
        "numbers": lambda: range(PAGES),
        "pages": _found,
        "lines": lambda: [line for page in _found() for line in page],
    }
    return itertools.cycle(samples[what]())


def _next(what: str, batch: int) -> list[Any]:
    return list(itertools.islice(_endless(what), batch))


def prepared(batch: int) -> int:
    """Make the samples, before anything is timed: what is measured takes a batch size."""
    files(), _found()
    return batch


def find_next(batch: int) -> None:
    """Find the lines on the next pages."""
    find(_next("numbers", batch))


def turn_next(batch: int) -> None:
    """Turn the next lines."""
    turn(_next("lines", batch))


def read_next(batch: int) -> None:
    """Read the next lines."""
    read(_next("lines", batch))


def turn_page_next(batch: int) -> None:
    """Turn the lines of the next pages."""
    turn_page(_next("pages", batch))


def read_page_next(batch: int) -> None:
    """Read the lines of the next pages."""
    read_page(_next("pages", batch))


def step(stage: str, token: Any) -> Mapping[str, Sequence[Any]]:
    """Do a stage's work on one token, for the scale factors."""
    if stage == "find":
        return {"turn": find([token])[0]}
    return {"read": turn([token])} if stage == "turn" else {}


# --- served on Ray: the inputs of every token, one each --------------------------------------------------------------


def serve_find(batch: Sequence[Sequence[Any]]) -> list[Routed]:
    """Find the lines on pages; each goes on by itself."""
    return [Routed(len(lines), {"turn": lines}) for lines in find([number for (number,) in batch])]


def serve_turn(batch: Sequence[Sequence[Any]]) -> list[Tensor]:
    """Turn lines."""
    return turn([line for (line,) in batch])


def serve_read(batch: Sequence[Sequence[Any]]) -> list[str]:
    """Read lines."""
    return read([line for (line,) in batch])
