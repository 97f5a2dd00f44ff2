"""What is done while the site is built: commands, tables of results, a notebook, and formulas that need no network."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parents[1] / "benchmarks" / "results"
#: How a table of results begins, and the first cells of the rows that are wanted.
ROWS = re.compile(r'^<!-- rows of (\S+) under "([^"\n]+)": (.+) -->$', re.MULTILINE)
#: A whole summary, whose sections are parts of the section that takes it in.
SUMMARY = re.compile(r'^--8<-- "benchmarks/results/(\S+/summary\.md)"$', re.MULTILINE)
#: What the extension arithmatex makes of ``$…$`` and ``$$…$$``.
FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)
#: What the converter does not know, in words that it does.
SAME = [(r"\\(begin|end){aligned}", r"\\\1{split}"), (r"\\tag{(.*?)}", r"\\qquad (\1)")]
#: As large as a prime beside the letter, since many fonts have no smaller one that could be read.
PRIME = r'<mpadded voffset="-0.5em" height="0.3em"><mi class="prime">\1</mi></mpadded>'
#: `\setminus` comes as a letter that most fonts lack.
SETMINUS = "<mi>&#x029F5;</mi>", "<mo>&#x02216;</mo>"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def commands(command: Any, name: str) -> Iterator[str]:
    """Write each command with its arguments and options as a table, those of groups after the group."""
    rows = [
        f"| {written(parameter)} | {cell(parameter.help)} |"
        for parameter in command.params
        if not parameter.hidden and parameter.help
    ]
    table = ["| argument, option | meaning |", "| --- | --- |", *rows, ""] if rows else []
    yield "\n".join([f"## {name}", "", command.help or "", "", *table])
    for part in getattr(command, "commands", {}).values():
        yield from commands(part, f"{name} {part.name}")


def written(parameter: Any) -> str:
    """Write a parameter as it is typed: an argument by its name, an option by all of its spellings."""
    if parameter.param_type_name == "argument":
        return f"`{parameter.metavar or parameter.name.upper()}`"
    return ", ".join(f"`{option}`" for option in (*parameter.opts, *parameter.secondary_opts))


def cell(text: str) -> str:
    """Put a text on one line that a table can hold."""
    return " ".join(text.split()).replace("|", "\\|")


def rows(marker: re.Match[str]) -> str:
    """Find a table of a summary by its head, and keep the rows that begin with one of the cells named."""
    lines = (RESULTS / marker[1]).read_text(encoding="utf-8").splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(f"| {marker[2]} |"))
    table = lines[start:]
    table = table[: next((number for number, line in enumerate(table) if not line), len(table))]
    wanted = [name.strip() for name in marker[3].split(";")]
    found = {name: [line for line in table[2:] if line.startswith(f"| {name} |")] for name in wanted}
    if missing := [name for name in wanted if not found[name]]:
        raise LookupError(f"{marker[1]} has no rows {missing} under '{marker[2]}'")
    return "\n".join([*table[:2], *(line for name in wanted for line in found[name])])


def summary(marker: re.Match[str]) -> str:
    """Take a summary in, its headings one level deeper."""
    return re.sub("^##", "###", (RESULTS / marker[1]).read_text(encoding="utf-8"), flags=re.MULTILINE)


def formula(found: re.Match[str]) -> str:
    """Write a formula as MathML, which browsers set by themselves."""
    from latex2mathml.converter import convert

    text = html.unescape(found[2])
    for pattern, instead in SAME:
        text = re.sub(pattern, instead, text)
    written: str = convert(text, display="block" if found[1] == "div" else "inline")
    written = re.sub(r">\\([{}])<", r">\1<", written)
    written = re.sub(r"<mi>(&#x0203[23];)</mi>", PRIME, written.replace(*SETMINUS))
    if "\\" in written or "<mi>&</mi>" in written:
        raise ValueError(f"the converter does not know all of {text}")
    return written


def notebook(page: str) -> str:
    """Turn a page into a notebook: prose and code as they are, commands behind ``!``, without outputs."""
    cells: list[dict[str, Any]] = []

    def add(kind: str, text: str) -> None:
        if text.strip():
            code = {"execution_count": None, "outputs": []} if kind == "code" else {}
            source = text.strip("\n").splitlines(keepends=True)
            cells.append(
                {"cell_type": kind, "id": f"cell-{len(cells)}", "metadata": {}, "source": source, **code}
            )

    end = 0
    for block in BLOCK.finditer(page):
        add("markdown", page[end : block.start()])
        end = block.end()
        if block[1] in ("python", "bash"):
            add("code", re.sub("^", "!", block[2].strip(), flags=re.M) if block[1] == "bash" else block[2])
    add("markdown", page[end:])
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    whole = {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(whole, ensure_ascii=False, indent=1)


def on_files(files: Any, config: Any) -> Any:
    """Add the tutorial as a notebook (called by MkDocs, as those below)."""
    from mkdocs.structure.files import File

    page = (Path(config.docs_dir) / "tutorial.md").read_text(encoding="utf-8")
    files.append(File.generated(config, "tutorial.ipynb", content=notebook(page)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Write tables and summaries of results into a page, and the commands into theirs."""
    markdown = SUMMARY.sub(summary, ROWS.sub(rows, markdown))
    if page.file.src_uri != "commands.md":
        return markdown
    import typer

    from mipplan.cli.app import app

    return "\n\n".join([markdown, *commands(typer.main.get_command(app), "mipplan")])


def on_page_content(content: str, page: Any, **_: Any) -> str:
    """Set a page's formulas; a fence that is still one after rendering is code that readers would see as prose."""
    if "<p>```" in content:
        raise ValueError(f"{page.file.src_uri}: a block of code is not known as one; see its first line")
    return FORMULA.sub(formula, content)
