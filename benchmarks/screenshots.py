"""``python -m benchmarks.screenshots [NAME …]``: pictures for the documentation, written to docs/images.

``report`` (light, dark, narrow) and ``docs`` (the first page; needs mkdocs) are taken by Chromium, ``figures`` drawn.
"""

from __future__ import annotations

import argparse
import html
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from matplotlib.figure import Figure
from PIL import Image

import mipplan as mp
from mipplan import plots

ROOT = Path(__file__).resolve().parents[1]
IMAGES = ROOT / "docs" / "images"
#: Pictures in a repository stay small: so many colours are enough for text and lines, if rare ones are kept.
COLOURS = 64
MOST_BYTES = 200_000
#: Of the gallery, pixels: a figure's width, and the space between two.
WIDTH, SPACE, COLUMNS = 370, 14, 3


def write(image: Image.Image, name: str) -> None:
    """Write a picture with few colours."""
    path = IMAGES / f"{name}.png"
    few = image.convert("RGB").quantize(COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    few.save(path, optimize=True)
    print(f"{path.relative_to(ROOT)}: {image.width} x {image.height}, {path.stat().st_size:,} bytes")
    if path.stat().st_size > MOST_BYTES:
        sys.exit(f"{path} is larger than {MOST_BYTES:,} bytes")


def browse(address: str, width: int, height: int, *, dark: bool = False) -> Image.Image:
    """Return what Chromium shows of a page."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        sys.exit("there is no Chromium: apt-get install chromium")
    with tempfile.TemporaryDirectory() as folder:
        shot = Path(folder) / "shot.png"
        # A frame stands for the window, since windows have a least width.
        size = f'width="{width}" height="{height}"'
        frame = f'<body style="margin:0"><iframe src="{html.escape(address)}" {size} style="border:0">'
        outer = Path(folder) / "outer.html"
        outer.write_text(frame, encoding="utf-8")
        flags = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            "--virtual-time-budget=8000",
        ]
        flags += ["--blink-settings=preferredColorScheme=0"] if dark else []
        flags += [
            f"--user-data-dir={folder}/user",
            f"--window-size={max(width, 600)},{height}",
            f"--screenshot={shot}",
        ]
        subprocess.run([found, *flags, outer.as_uri()], check=True, capture_output=True, timeout=240)
        with Image.open(shot) as image:
            return image.crop((0, 0, width, height))


def problem() -> tuple[mp.Pipeline, mp.Profiles, mp.Trace]:
    """What all pictures are of: a shipped pipeline on a minute of a shipped trace."""
    return mp.Pipeline.read("video-monitoring"), mp.Profiles.default(), mp.Trace.read("bursty", end_s=60.0)


def report() -> None:
    """Take the report in light, in dark, and on a phone."""
    plan, trace = mp.plan(*problem()), problem()[2]
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "report.html"
        mp.report(plan, trace).save(page)
        write(browse(page.as_uri(), 1000, 1200), "report-light")
        write(browse(page.as_uri(), 1000, 1200, dark=True), "report-dark")
        write(browse(page.as_uri(), 375, 1200), "report-narrow")


def docs() -> None:
    """Take the first page of the documentation."""
    with tempfile.TemporaryDirectory() as folder:
        build = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", folder]
        subprocess.run(build, check=True, cwd=ROOT)
        write(browse((Path(folder) / "index.html").as_uri(), 1100, 900), "docs-first-page")


def figures() -> None:
    """Draw the gallery: figures below each other in columns, each where there is most room."""
    heights = [SPACE] * COLUMNS
    placed: list[tuple[int, int, Image.Image]] = []
    with tempfile.TemporaryDirectory() as folder:
        for figure in drawn():
            path = Path(folder) / f"{len(placed)}.png"
            figure.savefig(path, dpi=2 * WIDTH / max(figure.get_figwidth(), plots.WIDTH))
            with Image.open(path) as image:
                small = image.convert("RGB").resize(
                    (image.width // 2, image.height // 2), Image.Resampling.LANCZOS
                )
            column = heights.index(min(heights))
            placed.append((column, heights[column], small))
            heights[column] += small.height + SPACE
    sheet = Image.new("RGB", (COLUMNS * (WIDTH + SPACE) + SPACE, max(heights)), "white")
    for column, top, image in placed:
        sheet.paste(image, (SPACE + column * (WIDTH + SPACE) + (WIDTH - image.width) // 2, top))
    write(sheet, "figures")


def drawn() -> Iterator[Figure]:
    """Every kind of figure, of one problem."""
    pipeline, profiles, trace = problem()
    plan = mp.plan(pipeline, profiles, trace)
    replayed = mp.replay(plan, trace)
    yield plan.plot()
    yield plots.figure_of(plots.draw_latency(plan, mp.certify(plan, trace), replayed))
    yield mp.frontier(pipeline, profiles, trace, start=0.12, end=0.2, time_limit_s=None).plot()
    yield plots.draw_queues(plan, replayed)
    yield plots.figure_of(plots.draw_curves(plan, trace, "detect"))
    yield plots.figure_of(plots.draw_waterfall(plan, trace, replayed))
    yield replayed.plot(plan.slo_s)
    yield mp.sensitivity(
        mp.Pipeline.read("cascade"), profiles, trace.slice(0.0, 20.0), time_limit_s=None
    ).plot()
    yield mp.compare(
        pipeline, profiles, trace, planners=["certified", "inferline", "coarse_peak", "half_slo"]
    ).plot()
    fleet = {"video": (pipeline, trace), "cascade": (mp.Pipeline.read("cascade"), mp.Trace.read("steady"))}
    yield mp.plan_fleet(fleet, profiles, limits={"t4": 6, "a100": 4}).plot()
    yield mp.fragility(plan, trace).plot()
    yield mp.tune(plan, mp.Trace.read("bursty"), policies=["newsvendor", "lp", "hpa", "static"]).plot()
    yield mp.pareto(mp.Pipeline.read("video"), profiles, trace).plot("video")


PICTURES = {"report": report, "docs": docs, "figures": figures}


def main() -> None:
    """Make the pictures asked for, all by default."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.screenshots", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(PICTURES)}; all by default")
    for name in parser.parse_args().names or PICTURES:
        PICTURES[name]()


if __name__ == "__main__":
    main()
