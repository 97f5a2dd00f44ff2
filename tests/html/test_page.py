"""Pages are whole, say what the results say, and are read by people, screen readers and small screens."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import signal
import subprocess
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import networkx as nx
import numpy as np
import pytest
from matplotlib import style
from matplotlib.figure import Figure

import mipplan as mp
from drawn_plans import drawn_plan, drawn_replay, drawn_trace
from mipplan import plots
from mipplan.core import InputError, QuantileLimit, format_duration, quantile_ns
from mipplan.html import Page, Section, Sheet
from mipplan.plots import queries
from mipplan.profiles import Hardware, LatencyTable
from serving_plans import small_plan

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--enable-logging=stderr"),
)


#: Without the parts that take long.
QUICK: dict[str, Any] = {**dict.fromkeys(("costs", "compare", "perturb", "vary"), False), "time_limit_s": 2.0}


@cache
def axe() -> Path | None:
    """The file of axe-core that npm installed, here or for all."""
    npm = shutil.which("npm")
    if npm is None:
        return None
    told = subprocess.run(
        [npm, "root", "--global"], capture_output=True, text=True, check=False
    ).stdout.strip()
    places = [
        Path("node_modules"),
        Path(told),
        *map(Path, filter(None, os.environ.get("NODE_PATH", "").split(":"))),
    ]
    return next((file for place in places if (file := place / "axe-core" / "axe.min.js").is_file()), None)


@pytest.fixture(scope="module")
def page() -> Page:
    return mp.report(drawn_plan(), drawn_trace(), costs=False, time_limit_s=4.0)


@pytest.mark.parametrize(
    "after", ["planning under other guarantees", "varying prices, models and measurements"]
)
def test_ctrl_c_is_no_page(after: str) -> None:
    """Planners stop at Ctrl-C and return what they have: a page of that would not be what was asked for."""
    told: list[str] = []

    def progress(line: str) -> None:
        told.append(line)
        if line == after:
            signal.raise_signal(signal.SIGINT)

    def quiet(number: int, _frame: object) -> None:
        """Stand for a search: it takes Ctrl-C for a limit."""

    before = signal.signal(signal.SIGINT, quiet)
    try:
        with pytest.raises(KeyboardInterrupt):
            mp.report(
                drawn_plan(), drawn_trace(), perturb=False, compare=False, time_limit_s=2.0, progress=progress
            )
    finally:
        signal.signal(signal.SIGINT, before)
    assert after in told


class Reader(HTMLParser):
    """Collects identifiers, links, tags left open, and texts."""

    VOID = frozenset({"meta", "link", "br", "img", "input", "hr", "path", "use", "image", "rect"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.identifiers: list[str] = []
        self.links: list[str] = []
        self.open: list[str] = []
        self.outside: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        if given.get("id"):
            self.identifiers.append(str(given["id"]))
        if (given.get("href") or "").startswith("#"):
            self.links.append(str(given["href"])[1:])
        self.outside += [str(given[name]) for name in ("src", "href") if "//" in (given.get(name) or "")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attributes)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


def test_a_page_is_whole_and_needs_no_network(page: Page) -> None:
    read = Reader(page.html)
    assert read.open == []
    assert read.outside == []
    assert len(set(read.identifiers)) == len(read.identifiers)
    assert set(read.links) <= set(read.identifiers)
    assert "url(http" not in page.html


def test_a_page_says_what_the_results_say(page: Page) -> None:
    text = html.unescape(page.html)
    certificate = mp.certify(drawn_plan(), drawn_trace())
    assert f"{certificate.bound_s * 1e3:.4g} ms" in text
    assert f"{drawn_replay().quantile(0.99) * 1e3:.4g} ms" in text
    assert "4.00 $/h" in text
    assert drawn_trace().sha256 in text
    assert drawn_plan().to_json().rsplit('"checksum": "')[1][:64] in text
    titles = [section.title for section in page.sections]
    assert titles[:4] == ["The plan", "Why", "Replay", "What breaks it first"]
    assert titles[4:] == ["Compared with others", "What the cost depends on", "Where it comes from"]


def test_a_page_realises_tokens_once_for_a_query_and_its_table(
    page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    realised = Mock(side_effect=queries.realise)
    monkeypatch.setattr(queries, "realise", realised)
    mp.report(drawn_plan(), drawn_trace(), **QUICK)
    assert realised.call_count == 1


def test_what_is_left_out_is_not_there() -> None:
    made = mp.report(drawn_plan(), drawn_trace(), **QUICK)
    assert [part.title for part in made.sections] == ["The plan", "Why", "Replay", "Where it comes from"]


def test_the_same_page_is_the_same_text(page: Page) -> None:
    def made() -> str:
        figure = plots.figure_of(plots.draw_plan(drawn_plan()))
        return Page("a", "b", (), (Section("c", figures=((figure, "d"),)),)).html

    assert made() == made()
    assert str(page).startswith("Plan for small")


def test_texts_are_escaped() -> None:
    nasty = "<script>alert('&')</script>"
    figure = Figure()
    figure.add_subplot().set_title("a < b & c")
    section = Section(
        nasty, (nasty,), (Sheet(nasty, (nasty, f">{nasty}"), ((nasty, nasty),)),), ((figure, nasty),)
    )
    made = Page(nasty, nasty, ((nasty, nasty),), (section,), nasty)
    assert nasty not in made.html
    assert made.html.count("<script>") == 1
    assert Reader(made.html).open == []


def test_figures_are_as_large_as_their_letters_need_however_long() -> None:
    """One that is made to fit the page in height shows thirty stages in letters that nobody can read."""
    long, wide = Figure(figsize=(2.3, 35.0)), Figure(figsize=(20.0, 3.0))
    made = Page("a", "b", (), (Section("c", figures=((long, "long"), (wide, "wide"))),)).html
    widths = [float(told) for told in re.findall(r'<svg [^>]*style="width:([\d.]+)rem"', made)]
    assert widths[1] / widths[0] == pytest.approx(20.0 / 2.3, rel=1e-3)
    assert "max-height" not in made
    assert made.count('class="scroll" role="region" tabindex="0" aria-label="wide"') == 1
    assert 'aria-label="long"><svg' not in made


def test_figures_lie_on_light_paper_whatever_the_style_of_the_reader() -> None:
    light = mp.report(drawn_plan(), drawn_trace(), **QUICK).html
    with style.context("dark_background"):
        assert mp.report(drawn_plan(), drawn_trace(), **QUICK).html == light


def test_names_in_figures_stay_as_they_are() -> None:
    """Only identifiers are renamed, not what looks like one."""
    odd = 'url(#a) id="b" xlink:href="#c"'
    figure = Figure()
    figure.add_subplot().set_title(odd)
    made = Page("a", "b", (), (Section("c", figures=((figure, odd),)),)).html
    assert [text for text in re.findall(r"<text[^>]*>([^<]*)</text>", made) if "url" in text] == [odd]


def test_names_in_any_script_are_text_without_a_warning() -> None:
    """The browser has fonts for it, whatever this machine has."""
    figure = Figure()
    figure.add_subplot().set_title("検出")
    made = Page("a", "b", (), (Section("c", figures=((figure, "検出"),)),)).html
    assert re.findall(r"<text[^>]*>検出</text>", made)


def test_what_guarantees_cost_stands_there() -> None:
    """A plan that was made stands for its own, one that was given for none: what it costs proves nothing."""
    given, trace = drawn_plan(), drawn_trace()
    made = mp.plan(given.pipeline, given.profiles, trace, slo_s=0.3)
    assert made.status is mp.PlanStatus.OPTIMAL
    for plan, stands in ((given, False), (made, True)):
        page = mp.report(plan, trace, **QUICK | {"costs": True, "time_limit_s": 10.0})
        (prices,) = [section for section in page.sections if section.title.startswith("Guarantees")]
        names = [row[0] for row in prices.sheets[0].rows]
        assert any("certified, eager" in name for name in names)
        assert any("this plan" in name for name in names) == stands


def test_on_another_trace_nothing_is_proven_of_the_plan() -> None:
    """What the table calls proven there is planned there."""
    given, trace = drawn_plan(), drawn_trace()
    made = mp.plan(given.pipeline, given.profiles, trace, slo_s=0.3)
    other = trace.scale(3.0)
    page = mp.report(made, other, **QUICK | {"costs": True, "time_limit_s": 30.0})
    (prices,) = [section for section in page.sections if section.title.startswith("Guarantees")]
    names = [row[0] for row in prices.sheets[0].rows]
    assert any("certified, eager" in name for name in names)
    assert not any("this plan" in name for name in names)
    assert dict(page.tiles)["status"] == "optimal on another trace"
    # Both have the same name: what was done to the one is what tells them apart.
    assert page.lead.endswith(f"{trace.note}), this is '{trace.name}' ({len(trace):,} queries, {other.note})")


def test_a_timed_plan_is_certified_by_its_replay() -> None:
    timed = mp.Plan.from_choices(
        drawn_plan().pipeline, drawn_plan().profiles, drawn_plan().choices, slo_s=0.3, dispatch="timed"
    )
    made = mp.report(timed, drawn_trace(), **QUICK)
    assert ("certified P99", "by its replay") in made.tiles


def test_of_several_limits_every_quantile_is_told() -> None:
    """What is least left of any limit, as searches count, is no quantile."""
    plan, trace = drawn_plan(), drawn_trace()
    certificate, replayed = mp.certify(plan, trace), drawn_replay()
    half = QuantileLimit(0.5, 2 * int(np.quantile(certificate.latency_ns, 0.5, method="higher")))
    asked = replace(plan, objective=replace(plan.objective, slo_ns=2 * 10**9, others=(half,)))
    tiles = dict(mp.report(asked, trace, **QUICK).tiles)
    for name, latency_ns in (("certified", certificate.latency_ns), ("replayed", replayed.latency_ns)):
        told = (f"P{100 * q:g} {format_duration(quantile_ns(latency_ns, q))}" for q in (0.99, 0.5))
        assert tiles[name] == ", ".join(told)


def test_a_page_says_in_words_that_all_queries_come_at_once() -> None:
    plan = small_plan({"a": ([10.0], 1)})
    made = mp.report(plan, mp.Trace.from_seconds([0.0, 0.0]), **QUICK)
    assert made.lead == "1 stage on trace (2 queries, all at once)"


def test_a_plan_for_an_arrival_curve_is_held_to_every_query() -> None:
    """Within the curve no query may be late; on other traffic a P99 that is kept does not make that true."""
    given, trace = drawn_plan(), drawn_trace()
    made = mp.plan(given.pipeline, given.profiles, trace, slo_s=0.6, guarantee="envelope")
    slowest_ns = mp.replay(made, trace).latency_ns
    between_ns = (quantile_ns(slowest_ns, 0.99) + quantile_ns(slowest_ns, 1.0)) // 2
    for slo_ns, verdict in ((made.slo_ns, "kept"), (between_ns, "MISSED")):
        tiles = dict(mp.report(made.with_slo(slo_ns), trace, **QUICK).tiles)
        assert tiles["objective in the replay"] == verdict
        assert tiles["replayed for every query"] == format_duration(slowest_ns.max())


def test_of_several_draws_the_worst_is_told() -> None:
    plan, trace = drawn_plan(), drawn_trace()
    runs = (mp.replay(plan, trace, seed=seed) for seed in range(20))
    worst = next(later for run, later in pairwise(runs) if later.quantile_ns(0.99) > run.quantile_ns(0.99))
    asked = replace(plan, objective=replace(plan.objective, seed=worst.seed - 1, seeds=2))
    made = mp.report(asked, trace, **QUICK)
    tiles = dict(made.tiles)
    assert tiles["replayed P99"] == format_duration(worst.quantile_ns(0.99))
    assert tiles["certified P99"] == format_duration(mp.certify(asked, trace).bound_ns)
    (told,) = [section.words[0] for section in made.sections if section.title == "Replay"]
    assert f"of seed {worst.seed}" in told


def test_a_plan_needs_a_trace() -> None:
    with pytest.raises(InputError, match="is needed"):
        mp.report(drawn_plan())


@cache
def tuning_page() -> Page:
    return mp.report(mp.tune(drawn_plan(), drawn_trace(), policies=["static", "hpa"]))


@cache
def fleet_page() -> Page:
    pipelines = {
        name: (drawn_plan().pipeline, drawn_trace(), slo_s) for name, slo_s in (("a", 0.3), ("b", 0.5))
    }
    return mp.report(mp.plan_fleet(pipelines, drawn_plan().profiles, limits={"h": 40}))


PAGES = {"tuning": tuning_page, "fleet": fleet_page}


def test_a_tuning_has_a_page() -> None:
    tuning = mp.tune(drawn_plan(), drawn_trace(), policies=["static", "hpa"])
    made = mp.report(tuning)
    assert Reader(made.html).open == []
    assert all(f"{run.usd_per_hour:,.2f}" in made.html for run in tuning.runs)
    assert [part.title for part in made.sections] == ["Policies", "The plan", "Where it comes from"]
    counts = made.sections[0].sheets[1].rows
    assert len(counts) == 2 * len(drawn_plan().choices)
    for run in tuning.runs:
        begin_ns, end_ns = run.result.ingress_ns[0], (run.result.ingress_ns + run.result.latency_ns).max()
        for stage, schedule in run.schedules.items():
            told = [row[3] for row in counts if row[:2] == (run.policy, stage)]
            at_ns = np.linspace(begin_ns, end_ns, 20_001)[:-1]
            replicas = schedule.replicas[np.searchsorted(schedule.change_ns, at_ns, side="right")]
            assert [float(text) for text in told] == [pytest.approx(replicas.mean(), rel=2e-3)]


def test_a_fleet_has_a_page() -> None:
    made = fleet_page()
    assert Reader(made.html).open == []
    tiles = dict(made.tiles)
    assert tiles["status"] == "optimal"
    assert tiles["lower bound"] == tiles["cost"]
    assert [len(one.rows) for one in made.sections[0].sheets] == [2, 1]
    captions = [one.caption for one in made.sections[-1].sheets]
    assert captions == ["Traffic", "Latencies: where they come from", "Prices: where they come from"]
    # Two pipelines that share models and hardware have the same sources.
    assert len(made.sections[-1].sheets[2].rows) == 1


def test_a_page_has_the_title_that_it_is_given() -> None:
    made = mp.plan_fleet({"a": (drawn_plan().pipeline, drawn_trace(), 0.3)}, drawn_plan().profiles)
    named = mp.report(made, title='Fleet "prod" <eu>')
    assert "<h1>Fleet &#34;prod&#34; &lt;eu&gt;</h1>" in named.html
    assert (mp.report(made).title, named.lead) == ("Fleet", "1 pipeline on shared hardware")


def test_a_fleet_that_does_not_fit_says_what_would() -> None:
    pipelines = {name: (drawn_plan().pipeline, drawn_trace(), 0.3) for name in ("a", "b")}
    made = mp.report(mp.plan_fleet(pipelines, drawn_plan().profiles, limits={"h": 5}))
    assert ("status", "infeasible") in made.tiles
    (words,) = [part.words for part in made.sections if part.title == "What would fit"]
    assert words[0].startswith("Admit 1 of 2 pipelines")
    assert Reader(made.html).open == []


def test_devices_of_millionths_cost_something_wherever_they_are_told() -> None:
    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_node("only", model="m")
    pipeline = mp.Pipeline(graph, slo_s=0.1)
    tables = [LatencyTable("m", "nano", np.array([1, 2]), np.array([5.0, 8.0]))]
    profiles = mp.Profiles.from_parts([Hardware("nano", 3e-6)], tables)
    trace = mp.Trace.from_seconds(np.linspace(0.0, 1.0, 50))
    plan = mp.plan(pipeline, profiles, trace)
    told = [str(plan), mp.report(plan, trace, costs=False, compare=False).html]
    for text in told:
        assert "0.000003" in text
        assert not re.search(r"\b0\.0+ \$|<td[^>]*>0\.0+<", text)


def test_a_page_is_written_whole(page: Page, tmp_path: Path) -> None:
    page.save(tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == page.html
    with pytest.raises(InputError):
        page.save(tmp_path / "nowhere" / "page.html")


def browse(text: str, folder: Path, scheme: str) -> subprocess.CompletedProcess[str]:
    """Let a browser load a page; its answer is the page as it is then, and what was said on the console."""
    (folder / "outer.html").write_text(text, encoding="utf-8")
    dark = ("--blink-settings=preferredColorScheme=0",) if scheme == "dark" else ()
    return subprocess.run(
        [
            *(str(CHROMIUM), *QUIET, *dark, f"--user-data-dir={folder / 'user'}", "--window-size=1600,900"),
            *("--virtual-time-budget=20000", "--dump-dom", (folder / "outer.html").as_uri()),
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=240,
    )


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: CONTRIBUTING.md says how to install it")
@pytest.mark.parametrize(
    ("made", "width", "scheme"),
    [
        *(("plan", 375, "light"), ("plan", 1440, "light"), ("plan", 1440, "dark")),
        *(("tuning", 375, "dark"), ("fleet", 375, "light"), ("fleet", 1440, "dark")),
    ],
)
def test_a_browser_shows_it_without_complaint(
    page: Page, tmp_path: Path, made: str, width: int, scheme: str
) -> None:
    """No message on the console, nothing wider than the window, headings sort, and texts stand out from what is behind.

    A frame stands for the window, since windows have a least width.
    """
    probe = """<script>addEventListener("load", () => {
      const luminance = (colour) => {
        const [r, g, b] = colour.match(/[\\d.]+/g).slice(0, 3).map((v) => {
          v /= 255; return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; });
        return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
      const behind = (e) => { for (; e; e = e.parentElement) {
        const c = getComputedStyle(e).backgroundColor; if (!c.endsWith(", 0)") && c !== "transparent") return c; }
        return "rgb(255, 255, 255)"; };
      let least = 99;
      for (const e of document.querySelectorAll("h1,h2,p,td,th button,caption,figcaption,a,dt,dd,footer")) {
        const [x, y] = [luminance(getComputedStyle(e).color), luminance(behind(e))].sort((p, q) => q - p);
        least = Math.min(least, (x + 0.05) / (y + 0.05)); }
      const button = document.querySelector("th.number button"); button.click(); button.click();
      const rows = [...button.closest("table").tBodies[0].rows], column = button.parentElement.cellIndex;
      const cells = rows.map((r) => parseFloat(r.cells[column].textContent));
      const falls = cells.every((v, i) => !i || cells[i - 1] >= v);
      parent.postMessage([document.documentElement.scrollWidth, innerWidth, least, falls], "*"); });</script>"""
    shown = PAGES[made]() if made in PAGES else page
    inner = html.escape(shown.html.replace("</body>", f"{probe}</body>"))
    outer = f"""<body style="margin:0"><iframe style="border:0;width:{width}px;height:800px" srcdoc="{inner}"></iframe>
      <pre id="said"></pre><script>addEventListener("message", (e) => document.getElementById("said").textContent =
      JSON.stringify(e.data));</script></body>"""
    done = browse(outer, tmp_path, scheme)
    said = re.search(r'<pre id="said">\[(\d+),(\d+),([\d.]+),(true|false)\]', done.stdout)
    assert said is not None, done.stdout[-500:]
    assert int(said[1]) <= int(said[2])
    assert float(said[3]) >= 4.5
    assert said[4] == "true"
    assert "CONSOLE" not in done.stderr


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: CONTRIBUTING.md says how to install it")
def test_durations_are_sorted_by_their_length(tmp_path: Path) -> None:
    cells = ("94.94 ms", "1.294 s", "0 ns", "945.8 us", "–")
    table = Sheet("Waits", (">mean wait",), tuple((cell,) for cell in cells))
    page = Page("Waits", "", (), (Section("Waits", (), (table,)),), "")
    click = "document.querySelector('th.number button').click();"
    rising = ["0 ns", "945.8 us", "94.94 ms", "1.294 s"]
    for clicks, order in ((1, rising), (2, rising[::-1])):
        text = page.html.replace("</body>", f"<script>{clicks * click}</script></body>")
        shown = browse(text, tmp_path, "light").stdout
        assert re.findall(r'<td class="number">(.*?)</td>', shown) == [*order, "–"]


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: CONTRIBUTING.md says how to install it")
@pytest.mark.skipif(axe() is None, reason="no axe-core here: CONTRIBUTING.md says how to install it")
@pytest.mark.parametrize(
    ("made", "scheme"), [("plan", "light"), ("plan", "dark"), ("tuning", "light"), ("fleet", "dark")]
)
def test_axe_finds_nothing_serious(page: Page, tmp_path: Path, made: str, scheme: str) -> None:
    """The rules of axe-core: contrast, names for screen readers, order of headings, tables, regions, languages."""
    shown = PAGES[made]() if made in PAGES else page
    rules = str(axe() and axe().read_text(encoding="utf-8")).replace("</script", "<\\/script")  # type: ignore[union-attr]
    probe = """<pre id="said" hidden></pre><script>axe.run().then((found) => {
      const told = found.violations.map((v) => [v.impact, v.id, v.nodes.length, v.nodes[0].html.slice(0, 120)]);
      document.getElementById("said").textContent = JSON.stringify([found.passes.length, told]); });</script>"""
    text = shown.html.replace("</body>", f"<script>{rules}</script>{probe}</body>")
    done = browse(text, tmp_path, scheme)
    said = re.search(r'<pre id="said" hidden="">(.*?)</pre>', done.stdout, re.DOTALL)
    assert said is not None
    assert said[1], done.stderr[-500:]
    passed, violations = json.loads(html.unescape(said[1]))
    assert passed > 10
    assert [one for one in violations if one[0] in ("serious", "critical")] == []
