"""Metrics in Prometheus' text format: read with every value checked, and counters that survive restarts."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from mipplan.core import Fault, InputError, shown

_NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
#: Labels in braces are looked at by `_LABEL`; a value may hold any sign, with \, " and line ends escaped.
_LABELS = r'(?:\{(?P<labels>(?:[^"}]|"(?:[^"\\]|\\.)*")*)\})?'
_LINE = re.compile(rf"(?P<name>{_NAME}){_LABELS}\s+(?P<value>\S+)(?:\s+-?\d+)?")
_LABEL = re.compile(rf'\s*(?P<key>{_NAME})\s*=\s*"(?P<text>(?:[^"\\]|\\.)*)"\s*(?:,|$)')
_ESCAPED = re.compile(r"\\(.)")
#: Text of more than this is no metrics of ours.
_MOST_CHARACTERS = 64 * 2**20
#: At most so many lines are told of.
_TOLD = 3
#: Of more series than these the oldest are forgotten: labels that never come again must not fill the memory.
_MOST_SERIES = 100_000


class MetricSample(NamedTuple):
    """One value of one series."""

    name: str
    labels: Mapping[str, str]
    value: float


def parse_metrics(text: str) -> list[MetricSample]:
    """Read metrics in Prometheus' text format; comments and blank lines are skipped.

    Raises
    ------
    InputError
        If a line is none, or the text does not end with a line end, so that some of it is missing.
    """
    if len(text) > _MOST_CHARACTERS:
        raise InputError.one("metrics", f"are larger than {_MOST_CHARACTERS // 2**20} MiB")
    if text.lstrip().startswith("<"):
        raise InputError.one("metrics", f"are a page for a browser, not metrics: {shown(text.lstrip(), 40)}")
    if text and not text.endswith("\n"):
        raise InputError.one("metrics", "end in the middle of a line: the answer is not whole")
    found: list[MetricSample] = []
    faults: list[Fault] = []
    for number, line in enumerate(text.split("\n"), 1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        sample = _sample(stripped)
        if sample is None:
            faults.append(
                Fault(f"metrics:{number}", f"expected NAME{{LABELS}} VALUE, found {shown(stripped)}")
            )
        else:
            found.append(sample)
    InputError.raise_if(faults[:_TOLD])
    return found


def parse_answers(answers: Iterable[bytes]) -> list[MetricSample]:
    """Read what several places answered; their series stay apart, though they may have the same labels.

    Raises `InputError` if one is no text, or as `parse_metrics`.
    """
    found: list[MetricSample] = []
    for place, answer in enumerate(answers):
        try:
            samples = parse_metrics(answer.decode())
        except UnicodeDecodeError:
            raise InputError.one("metrics", "are no text") from None
        found += [one._replace(labels={**one.labels, "": str(place)}) for one in samples]
    return found


def _sample(line: str) -> MetricSample | None:
    match = _LINE.fullmatch(line)
    if match is None:
        return None
    labels: dict[str, str] = {}
    rest = match["labels"] or ""
    place = 0
    while place < len(rest) and rest[place:].strip():
        label = _LABEL.match(rest, place)
        if label is None:
            return None
        labels[label["key"]] = _ESCAPED.sub(lambda sign: "\n" if sign[1] == "n" else sign[1], label["text"])
        place = label.end()
    try:
        value = float(match["value"])
    except ValueError:
        return None
    # Python alone reads 1_000 and digits of other scripts as numbers, too.
    is_plain = match["value"].isascii() and "_" not in match["value"]
    return MetricSample(match["name"], labels, value) if is_plain else None


def having(samples: Iterable[MetricSample], *names: str, **labels: str) -> Iterator[MetricSample]:
    """Samples of one of these names (counters also as NAME_total) that have these labels."""
    wanted = {*names, *(f"{name}_total" for name in names)}
    for sample in samples:
        if sample.name in wanted and all(sample.labels.get(key) == value for key, value in labels.items()):
            yield sample


def gauge(samples: Iterable[MetricSample], *names: str, **labels: str) -> float | None:
    """Sum of gauges over their series; None if there is none.

    Raises `InputError` if one is negative, infinite or no number.
    """
    found = [_checked(sample) for sample in having(samples, *names, **labels)]
    return sum(found) if found else None


def _checked(sample: MetricSample) -> float:
    if not (math.isfinite(sample.value) and sample.value >= 0):
        message = f"expected a finite number of at least 0, found {sample.value}"
        raise InputError.one(f"metrics: {sample.name}", message)
    return sample.value


class CounterMemory:
    """How much counters went up since the last look, series by series.

    A series that falls began anew at 0, as its process was started again: what it shows has come since. One that is new
    began at 0, too, unless it was there at the first look. One that was away, because an answer was not whole, goes on
    where it was.
    """

    def __init__(self) -> None:
        self._last: dict[tuple[object, ...], float] = {}
        self._known: set[tuple[object, ...]] = set()
        #: How many series began anew so far.
        self.restarts = 0

    def copy(self) -> CounterMemory:
        """Return one that remembers the same, to go back to."""
        made = CounterMemory()
        made._last, made._known, made.restarts = dict(self._last), set(self._known), self.restarts
        return made

    def increase(self, samples: Iterable[MetricSample], *names: str, **labels: str) -> float | None:
        """Sum of increases since the call before with the same arguments; 0 at first, None if there is no series.

        Raises `InputError` if a counter is negative, infinite or no number; nothing is remembered then.
        """
        found = list(having(samples, *names, **labels))
        asked = (names, *sorted(labels.items()))
        if not found:
            self._known.add(asked)
            return None
        values: dict[tuple[object, ...], float] = {}
        # Ray exports a counter under both names: it is one series, and the one as NAME_total stands.
        for one in sorted(found, key=lambda sample: sample.name):
            values[asked, one.name.removesuffix("_total"), *sorted(one.labels.items())] = _checked(one)
        total = 0.0
        for series, value in values.items():
            last = self._last.get(series)
            if last is None:
                total += value if asked in self._known else 0.0
            elif value >= last:
                total += value - last
            else:
                total += value
                self.restarts += 1
        for series, value in values.items():  # those that were not seen for longest stand first, and go first
            self._last.pop(series, None)
            self._last[series] = value
        for series in list(itertools.islice(self._last, max(0, len(self._last) - _MOST_SERIES))):
            del self._last[series]
        self._known.add(asked)
        return total
