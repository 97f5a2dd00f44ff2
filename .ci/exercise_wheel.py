"""Exercise an installed mipplan as a user would, from a folder that is not the checkout.

Run it with the Python of an environment that holds nothing but the wheel and what the wheel asks for. It
needs no test tools, and it stops at the first thing that is wrong.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from importlib import metadata, resources
from pathlib import Path

import mipplan
import mipplan_formulations

BIN = Path(sys.executable).parent
CHECKOUT = Path(__file__).resolve().parents[1]


def expect(condition: bool, complaint: str) -> None:
    """Stop with the complaint unless the condition holds (an assert may be switched off)."""
    if not condition:
        sys.exit(f"exercise_wheel: {complaint}")


def run_mipplan(*arguments: str, exit_code: int = 0) -> str:
    """Run the installed command; return its standard output."""
    done = subprocess.run(
        [str(BIN / "mipplan"), *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    spoken = f"`mipplan {' '.join(arguments)}`: exit code {done.returncode}\n{done.stdout}{done.stderr}"
    expect(done.returncode == exit_code, f"{spoken}\nexpected exit code {exit_code}")
    expect("Traceback" not in done.stderr, spoken)
    expect(bool(done.stdout.strip() or done.stderr.strip()), f"{spoken}\nsaid nothing")
    return done.stdout


def check_packages() -> Path:
    """Check where the packages come from and what lies in them; return the shipped profiles' folder."""
    for package in (mipplan, mipplan_formulations):
        place = Path(str(package.__file__)).resolve()
        expect(
            CHECKOUT not in place.parents, f"{package.__name__} comes from the checkout, not from the wheel"
        )
        expect(resources.files(package).joinpath("py.typed").is_file(), f"{package.__name__} has no py.typed")
    expect(metadata.version("mipplan") == mipplan.__version__, "the version differs from the distribution's")
    shipped = Path(str(resources.files(mipplan).joinpath("shipped_profiles")))
    for name in ("hardware.yaml", "pipelines/video-monitoring.yaml", "traces/bursty.csv.gz"):
        expect((shipped / name).is_file(), f"shipped_profiles/{name} is missing")
    expect(bool(mipplan.Profiles.default().models), "the default profiles hold no model")
    return shipped


def check_command(shipped: Path) -> None:
    """Plan, verify and replay a shipped pipeline; see bad input refused."""
    expect("plan" in run_mipplan("--help"), "--help does not mention plan")
    run_mipplan("profiles")
    pipeline, trace = str(shipped / "pipelines/video-monitoring.yaml"), str(shipped / "traces/bursty.csv.gz")
    answer = run_mipplan("plan", pipeline, "--trace", trace, "--out", "plan.json", "--json")
    expect(isinstance(json.loads(answer), dict), "plan --json did not print one JSON document")
    expect(Path("plan.json").is_file(), "plan --out wrote no file")
    run_mipplan("verify", "plan.json", "--trace", trace)
    run_mipplan("replay", "plan.json", "--trace", trace)
    run_mipplan("plan", "no-such-pipeline.yaml", "--trace", trace, exit_code=2)


def main() -> None:
    """Do all of it in the current folder."""
    shipped = check_packages()
    check_command(shipped)
    print(f"the wheel works: mipplan {mipplan.__version__} on Python {sys.version.split()[0]}")  # noqa: T201


if __name__ == "__main__":
    expect(Path.cwd() not in (CHECKOUT, *CHECKOUT.parents), f"run me from another folder than {Path.cwd()}")
    with tempfile.TemporaryDirectory() as cache:
        sys.pycache_prefix = cache  # leaves the environment as pip laid it
        main()
