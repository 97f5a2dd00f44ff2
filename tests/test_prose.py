"""The documentation is short enough to be read: at most 25,000 words of prose, and 2,500 on a page but the theory.

*Pages* are those of `docs/`, with what they take in of `formulations/` (``--8<-- "formulations/paths.md"``), and the
README there. Left out are the references, which are made of types and docstrings or held to them field by field
(`docs/json.md`, `docs/api.md`). `README.md`, `CHANGELOG.md` and the results that programs write under `benchmarks/` are
no part of it.

*Prose* is what is left of a page without front matter, HTML, code blocks, directives (``--8<--``, ``:::``), tables,
formulas (``$…$``, ``$$…$$``), and the addresses, anchors and labels of links. Headings and lists count. A word begins
with a letter; code within a line is one word.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
REFERENCES = {"docs/json.md", "docs/api.md"}
README = "formulations/README.md"
PAGES = {
    path.relative_to(ROOT).as_posix(): path for path in [*sorted(ROOT.glob("docs/**/*.md")), ROOT / README]
}
TAKEN_IN = re.compile(r'^--8<-- "(formulations/\w+\.md)"$', re.MULTILINE)
#: Of all 25,000 words until servers that collect batches had their theorem.
MOST_OF_ALL, MOST_OF_A_PAGE = 25_500, 2_500
THEORY = "docs/theory.md"

#: What is no prose, in the order in which it is taken away, and what stands in its place.
NO_PROSE = [
    (re.compile(r"\A---\n.*?\n---\n", re.DOTALL), ""),
    (re.compile(r"^ *(```+|~~~+).*?^ *\1[`~]* *$", re.DOTALL | re.MULTILINE), ""),
    (re.compile(r"^(--8<--|:::|\s*\|).*$", re.MULTILINE), ""),
    (re.compile(r"<!--.*?-->|</?[a-z][^>]*>", re.DOTALL), " "),
    (re.compile(r"`[^`]*`"), " code "),
    (re.compile(r"\$\$.*?\$\$", re.DOTALL), " "),
    (re.compile(r"\$[^$\n]+\$"), " "),
    (re.compile(r"\]\([^)]*\)|\]\[[a-z0-9-]+\]"), "]"),
    (re.compile(r"\{[#:.][^}\n]*\}"), ""),
]
WORD = re.compile(r"[^\W\d_][\w'’-]*")


def text_of(path: Path) -> str:
    """A page with the formulations that it takes in."""
    text = path.read_text(encoding="utf-8")
    return TAKEN_IN.sub(lambda found: (ROOT / found[1]).read_text(encoding="utf-8"), text)


def words_of(text: str) -> int:
    """Count the words of a page's prose."""
    for pattern, instead in NO_PROSE:
        text = pattern.sub(instead, text)
    return len(WORD.findall(text))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("# A title\n\nWords, and well-known ones: don't count 42 or —.\n", 9),
        (
            "---\ntitle: x\n---\none\n\n```python\nimport mipplan\n```\n\n  ````text\n```\nall code\n  ````\ntwo\n",
            2,
        ),
        ("| a | table |\n|---|---|\n\none `mp.plan(x, y)`\n", 2),
        ("one $x \\le y$ two\n\n$$ \\text{not this} $$\n\n$$\nnor this\n$$\n", 2),
        (
            '[one](page.md#at "no"), [two][label-of-it], [](){#anchor-here} <a href="x">three</a> <!-- no -->\n',
            3,
        ),
        ('--8<-- "formulations/paths.md"\n\n::: mipplan.plan\n\none\n', 1),
    ],
    ids=["words", "code", "table", "formulas", "links", "directives"],
)
def test_prose_is_what_is_read_as_text(text: str, words: int) -> None:
    assert words_of(text) == words


def test_pages_are_found() -> None:
    assert {THEORY, "docs/how-to/replay.md", *REFERENCES} < set(PAGES)
    taken_in = {
        name for path in PAGES.values() for name in TAKEN_IN.findall(path.read_text(encoding="utf-8"))
    }
    formulations = {path.relative_to(ROOT).as_posix() for path in ROOT.glob("formulations/*.md")}
    assert taken_in == formulations - {README}


@pytest.mark.parametrize("name", [name for name in PAGES if name not in REFERENCES | {THEORY}])
def test_a_page_can_be_read_at_one_sitting(name: str) -> None:
    assert words_of(text_of(PAGES[name])) <= MOST_OF_A_PAGE


def test_the_documentation_is_short_enough_to_be_read() -> None:
    words = {name: words_of(text_of(path)) for name, path in PAGES.items() if name not in REFERENCES}
    total, longest = sum(words.values()), sorted(words.items(), key=lambda page: -page[1])
    assert total <= MOST_OF_ALL, longest[:10]
