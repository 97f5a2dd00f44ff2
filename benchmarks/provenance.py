"""Which code a result is of: the commit, and a key of exactly those files that a benchmark measures.

Two commits with the same key measure the same thing, so rows are keyed by it and results are held against it: it needs
no history, only the files of a checkout.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).resolve().parents[1]


def _rooms(*names: str) -> tuple[str, ...]:
    return tuple(f"mipplan/{name}" for name in names)


# Rooms with all that they import; a test holds the lists to the imports.
_DATA = _rooms("core", "documents", "pipeline", "profiles", "trace", "tokens", "result")
_SOLVERS = ("formulations/mipplan_formulations", *_rooms("core", "documents", "solvers"))
_CERTIFYING = (*_DATA, *_rooms("calculus", "certificate", "options"), "formulations/mipplan_formulations")
_PLANNER = (*_CERTIFYING, *_rooms("solvers", "planner"))
_REPLAYER = (*_DATA, *_rooms("replayer"))
_GREEDY = (*_CERTIFYING, *_rooms("replayer", "baselines"))
_TUNER = (*_REPLAYER, *_SOLVERS, *_rooms("calculus", "certificate", "tuner"))
_ASKING = ("questions", "verification", "refinement", "perturbation", "reliability", "variants", "ipa")
_QUESTIONS = (*_GREEDY, *_rooms(*_ASKING))
# The command line, by which servers and drivers are started, only hands on what it is told: it is in none.
_SERVED = (
    *_PLANNER,
    *_REPLAYER,
    *_rooms("logs", "profiling", "serving", "exporters", "driving", "observing"),
)
_WHOLE = ("mipplan", "formulations/mipplan_formulations")
_RACE = (*_PLANNER, *_TUNER, *_GREEDY, "profiles", "benchmarks/race", "benchmarks/tuner/traffic.py")

#: What each benchmark measures: files and folders, its own among them. `campaigns` are those of ``make deep``, `ties`
#: the greedy rules of `benchmarks.compare.ties`,
#: `shipped` the pipelines and traces of this repository in `benchmarks.compare.shipped`.
SUBJECTS: dict[str, tuple[str, ...]] = {
    "motivation": (
        *_PLANNER,
        *_QUESTIONS,
        "profiles",
        "benchmarks/motivation",
    ),
    "planning": (*_PLANNER, "benchmarks/planning"),
    "replay": (*_REPLAYER, "benchmarks/replay"),
    "limits": (*_WHOLE, "benchmarks/limits.py"),
    "compare": (*_PLANNER, *_GREEDY, *_rooms("refinement"), "benchmarks/compare"),
    "reliability": (
        *_PLANNER,
        *_GREEDY,
        *_rooms("refinement", "reliability"),
        "profiles",
        "benchmarks/compare",
        "benchmarks/reliability",
    ),
    "ties": (*_GREEDY, "benchmarks/compare"),
    "shipped": (*_PLANNER, *_GREEDY, *_rooms("refinement"), "profiles", "benchmarks/compare"),
    "solvers": (*_SOLVERS, "benchmarks/instances", "benchmarks/solvers"),
    "resolve": (*_TUNER, "benchmarks/resolve"),
    "tuner": (*_PLANNER, *_TUNER, "profiles", "benchmarks/tuner"),
    "race": _RACE,
    "race_days": (*_RACE, "benchmarks/race_days"),
    "frontier": (
        *_PLANNER,
        *_QUESTIONS,
        "profiles",
        "benchmarks/frontier",
    ),
    "fleet": (*_PLANNER, *_GREEDY, *_rooms("refinement", "fleet"), "profiles", "benchmarks/fleet"),
    "ipa": (
        *_PLANNER,
        *_GREEDY,
        *_rooms("refinement", "reliability", "variants", "ipa"),
        "profiles",
        "benchmarks/ipa",
    ),
    "environment": ("pyproject.toml", "benchmarks/environment"),
    "truth": (*_SERVED, "profiles", "benchmarks/truth"),
    "faults": (*_SERVED, "profiles", "benchmarks/faults", "benchmarks/truth"),
    "ocr": (*_SERVED, "benchmarks/ocr", "benchmarks/models", "benchmarks/truth"),
    "follow": (
        *_SERVED,
        *_TUNER,
        *_rooms("following"),
        "profiles",
        "benchmarks/follow",
        "benchmarks/truth",
        "benchmarks/tuner/traffic.py",
    ),
    "house": (*_WHOLE, "profiles", "benchmarks/house"),
    "models": (*_PLANNER, *_rooms("profiling"), "benchmarks/models"),
    "mutants": (*_WHOLE, "profiles", "tests", "benchmarks/mutants"),
    "campaigns": (*_WHOLE, "profiles", "tests"),
}
#: Files of a benchmark that only tell what its rows say, or draw what is frozen with a fingerprint of its own.
TELLING = (
    "aims",
    "beginnings",
    "comparing",
    "drawing",
    "figures",
    "plots",
    "report",
    "summary",
    "ties",
    "verdicts",
)
#: Source code, and data that are measured with; frozen instances (JSON) have fingerprints of their own.
SUFFIXES = (".py", ".yaml", ".csv", ".gz", ".toml")
#: What benchmarks write themselves does not make a tree dirty.
WRITTEN = ("benchmarks/results", "benchmarks/instances/best_known.json", "docs/images")


def files_of(subject: str, root: Path = ROOT) -> Iterator[Path]:
    """Files that count of one file or folder, in the order of their names."""
    place = root / subject
    for path in [place] if place.is_file() else sorted(place.rglob("*")):
        is_telling = subject.startswith("benchmarks/") and path.stem in TELLING
        if path.suffix in SUFFIXES and path.is_file() and not is_telling:
            yield path


def code_parts(benchmark: str, root: Path = ROOT) -> dict[str, str]:
    """Key of each file or folder that a benchmark measures: of names and contents."""
    return {
        subject: key_of_files(files_of(subject, root), root) for subject in sorted(set(SUBJECTS[benchmark]))
    }


def code_key(benchmark: str, root: Path = ROOT) -> str:
    """Key of all that a benchmark measures, 16 hexadecimal digits."""
    return key_of_parts(code_parts(benchmark, root))


def key_of_parts(parts: dict[str, str]) -> str:
    """Put the keys of parts together."""
    return hashlib.blake2b(repr(sorted(parts.items())).encode(), digest_size=8).hexdigest()


def key_of_files(files: Iterable[Path], root: Path = ROOT) -> str:
    """Key of the names and contents of files, 16 hexadecimal digits."""
    digest = hashlib.blake2b(digest_size=8)
    for path in files:
        content = path.read_bytes()
        digest.update(f"{path.relative_to(root).as_posix()} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def commit_of(root: Path = ROOT) -> str | None:
    """The commit that is checked out, 40 hexadecimal digits; None outside a checkout."""
    top = _git(root, "rev-parse", "--show-toplevel")
    # An unpacked source distribution may lie in somebody else's repository.
    return _git(root, "rev-parse", "HEAD") if top and Path(top) == root.resolve() else None


def is_dirty(root: Path = ROOT) -> bool | None:
    """Whether files differ from the commit, other than what benchmarks write; None outside a checkout."""
    if commit_of(root) is None:
        return None
    return bool(_git(root, "status", "--porcelain", "--", ".", *(f":(exclude){path}" for path in WRITTEN)))


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False
        )
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def stamp(benchmark: str) -> dict[str, object]:
    """What every row carries where rows of several runs can meet."""
    return {"commit": commit_of(), "dirty": is_dirty(), "code": code_key(benchmark)}


#: Columns of a stamp.
STAMP = ("commit", "dirty", "code")


def same_code(table: pd.DataFrame, benchmark: str) -> pd.DataFrame:
    """Rows of today's code; how many others there are is said on stderr."""
    key = code_key(benchmark)
    own = table[table["code"] == key] if "code" in table else table.iloc[:0]
    tell_left_out(len(table) - len(own))
    return own


def keep_same_code(path: Path, benchmark: str) -> None:
    """Take the rows of other code out of a file of rows that a run is about to go on with; there may be none."""
    if not path.exists():
        return
    rows = pd.read_csv(path, dtype=str, keep_default_na=False)
    own = same_code(rows, benchmark)
    if own.empty:
        path.unlink()
    elif len(own) < len(rows):
        own.to_csv(path, index=False)


def tell_left_out(rows: int) -> None:
    """Say how many rows of other code are not used."""
    if rows:
        print(f"{rows} rows were measured on other code and are left out", file=sys.stderr, flush=True)
