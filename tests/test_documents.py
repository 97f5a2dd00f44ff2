from __future__ import annotations

import os
import threading
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mipplan.core import InputError, field_text, name_problem, plain, shown, suggestion
from mipplan.documents import (
    FAULTS_TOLD,
    MAX_DOCUMENT_BYTES,
    Document,
    decode_text,
    folder_locked,
    output_problem,
    parse_yaml,
    read_bytes,
    read_yaml,
    write_text_atomically,
)


def faults_of(text: str) -> list[str]:
    """Return the faults of form of a text, whether they are raised or kept."""
    try:
        document = parse_yaml(text, "f.yaml")
    except InputError as error:
        return [str(fault) for fault in error.faults]
    return [str(fault) for fault in document.faults([])]


def test_values_and_lines() -> None:
    document = parse_yaml('a: 1\nb:\n  - x\n  - {c: 2.5, d: null}\n"e": yes\nf: 2024-01-01\n', "f.yaml")
    assert document.value == {"a": 1, "b": ["x", {"c": 2.5, "d": None}], "e": True, "f": "2024-01-01"}
    assert document.line(("b", 1, "d")) == 4
    assert document.place(("b", 1, "nothing", "there")) == "f.yaml:4: b[1].nothing.there"
    assert document.place(()) == "f.yaml:1"
    assert document.faults([]) == []


def test_a_document_without_lines_names_its_origin() -> None:
    assert Document({}, "plan").place(("a", 0)) == "plan: a[0]"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1\nb: 2\na: 3\n", "f.yaml:1: a: the key is given twice: here and again on line 3"),
        ("a: {x: 1, x: [1, {y: 2}]}\n", "f.yaml:1: a.x: the key is given twice: here and again on line 1"),
        ("a: &q 1\n", "f.yaml:1: a: the anchor &q is not accepted: remove it"),
        ("a: !!python/object:os.system x\n", "is not accepted: write a plain value"),
        ("a: !!int 5\n", "is not accepted: write a plain value"),
        ("b:\n  <<: {x: 1}\n", "f.yaml:2: b.<<: merge keys are not accepted"),
        ("on: 1\n", 'f.yaml:1: on: YAML reads this key as a truth value: put it in quotes ("on")'),
        ("3: 1\n", "as a number"),
        ("~: 1\n", "as nothing"),
        ("? [a, b]\n: 1\n", "a key must be a plain name"),
        ("a: [1\n", "f.yaml:2: is not valid YAML"),
        ("a: 1\n b: 2\n", "f.yaml:2: is not valid YAML"),
        ("a: b\n---\nc: d\n", "a second document begins here; keep one per file"),
        ("", "f.yaml: is empty"),
        ("# only a comment\n", "f.yaml: is empty"),
        ("[" * 100 + "]" * 100, "nested more than 24 levels deep"),
        ("a: 0b2x\nb: " + "9" * 5000 + "\n", "f.yaml:2: b: '9999999999999999999… is no usable number"),
        ("a: 1\nb: \x01\n", "f.yaml:2: holds the character U+0001, which YAML does not allow"),
    ],
)
@pytest.mark.parametrize("library", ["with libyaml", "without libyaml"])
def test_bad_form_is_named(text: str, expected: str, library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if library == "without libyaml":
        monkeypatch.delattr(yaml, "CSafeLoader", raising=False)
    faults = faults_of(text)
    assert len(faults) == 1
    assert expected in faults[0]


def test_aliases_are_refused_before_they_multiply() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    faults = faults_of("\n".join(lines))
    assert len(faults) == FAULTS_TOLD + 1  # 12 + 11 · 9 there are
    assert faults[-1] == "f.yaml: has more faults; only the first 100 are told"
    assert "f.yaml:2: a1[0]: the alias *a0 is not accepted: write the value out" in faults


def test_nothing_more_is_said_about_an_unreadable_value() -> None:
    document = parse_yaml("a: !t 1\nb: 1\n", "f.yaml")
    faults = document.faults([(("a",), "expected text"), (("a", "deep"), "too"), (("b",), "said")])
    assert [fault.place for fault in faults] == ["f.yaml:1: a", "f.yaml:2: b"]


def test_faults_come_in_the_order_of_the_file_and_once() -> None:
    document = parse_yaml("a: 1\nb: 2\n", "f.yaml")
    faults = document.faults([(("b",), "two"), (("a",), "one"), (("b",), "two")])
    assert [fault.message for fault in faults] == ["one", "two"]


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(10**12), 10**12) | st.text("ab :#-'\"é", max_size=6),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.text("xyz", min_size=1), inner, max_size=3)
        ),
        max_leaves=8,
    )
)
def test_what_a_yaml_writer_writes_is_read_back(value: object) -> None:
    text = yaml.safe_dump({"value": value}, allow_unicode=True)
    document = parse_yaml(text, "f.yaml")
    keys_not_text = [message for _, message in document.findings if "YAML reads this key" in message]
    assert len(keys_not_text) == len(document.findings)  # such as a key called y
    assert document.value == {"value": value}


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused_with_a_place(text: str) -> None:
    for fault in faults_of(text):
        assert fault.startswith("f.yaml")


def test_missing_file_suggests_a_close_name(tmp_path: Path) -> None:
    (tmp_path / "video.yaml").write_text("a: 1")
    with pytest.raises(InputError, match=r"there is no such file; did you mean 'video.yaml'\?"):
        read_yaml(tmp_path / "vidoe.yaml")
    with pytest.raises(InputError, match="nor a folder"):
        read_yaml(tmp_path / "none" / "video.yaml")
    with pytest.raises(InputError, match=r"there is no such file$"):
        read_yaml(tmp_path / "zzz")


def test_a_folder_is_not_a_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a folder; a file was expected"):
        read_bytes(tmp_path)


def test_a_path_no_system_accepts() -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_bytes("a\0b")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_file_one_may_not_read(tmp_path: Path) -> None:
    path = tmp_path / "secret.yaml"
    path.write_text("a: 1")
    path.chmod(0)
    with pytest.raises(InputError, match="cannot be read"):
        read_bytes(path)


def test_a_large_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "large.yaml"
    path.write_bytes(b"#" * MAX_DOCUMENT_BYTES)
    assert len(read_bytes(path)) == MAX_DOCUMENT_BYTES
    path.write_bytes(b"#" * (MAX_DOCUMENT_BYTES + 1))
    with pytest.raises(InputError, match="is larger than 4 MiB"):
        read_bytes(path)


def test_text_that_is_not_utf8_is_refused_with_its_line() -> None:
    assert decode_text("\ufeffé".encode(), "f") == "é"
    with pytest.raises(InputError, match=r"f:2: is not UTF-8 text \(byte 0xe9\)"):
        decode_text(b"a\nb\xe9\n", "f")


def test_suggestions() -> None:
    assert suggestion("hardwear", ["hardware", "model"]) == "; did you mean 'hardware'?"
    assert suggestion("MODEL", ["hardware", "model"]) == "; did you mean 'model'?"
    assert suggestion("zebra", ["hardware", "model"]) == ""


@pytest.mark.parametrize("name", ["a", "a b", "é", "decode-1", "x" * 200])
def test_good_names(name: str) -> None:
    assert name_problem(name) is None


@pytest.mark.parametrize(
    "name", ["", " ", " a", "a\n", "a\tb", "a\x00b", "a\u200bb", "\ud800", "x" * 201, 3, None]
)
def test_bad_names(name: object) -> None:
    assert name_problem(name) is not None


def test_values_are_shown_short_and_on_one_line() -> None:
    assert len(shown("x" * 10**6)) < 70
    assert shown([1] * 9) == "a list of 9 entries"
    assert shown(None) == "nothing"
    assert "\n" not in shown("a\nb")


def test_python_values_become_document_values() -> None:
    value = {"a": (1, np.int64(2)), "b": np.array([0.5, 1.0]), "c": {"d": np.float64(0.25)}}
    assert plain(value) == {"a": [1, 2], "b": [0.5, 1.0], "c": {"d": 0.25}}
    assert type(plain(value)["a"][1]) is int


def test_field_paths() -> None:
    assert field_text(("stages", "a b", "batch", 2)) == "stages.a b.batch[2]"
    assert field_text(("a\n",)) == "a?"


def test_numbers_are_read_as_their_writer_means_them() -> None:
    document = parse_yaml("a: 1e-3\nb: 1:30\nc: '1e3'\nd: 1e3\ne: 12\n", "f.yaml")
    assert document.value == {"a": 0.001, "b": "1:30", "c": "1e3", "d": 1000.0, "e": 12}
    assert faults_of("a: 010\n") == [
        "f.yaml:1: a: 010 begins with a zero, which YAML reads as octal: leave it out"
    ]


def test_a_pipe_is_read_and_a_device_is_not(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.write(writing, b"a: 1")
    os.close(writing)
    try:
        assert read_bytes(f"/dev/fd/{reading}") == b"a: 1"
    finally:
        os.close(reading)
    with pytest.raises(InputError, match="is a device; a file was expected"):
        read_bytes("/dev/zero")


def test_of_a_link_the_folder_that_it_leads_to_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was the link's own folder: of one that can be written to, it was said that it cannot."""
    monkeypatch.chdir(tmp_path)
    Path("link").symlink_to("nowhere/file")
    Path("second").symlink_to("link")
    Path("there").symlink_to("made/file")
    Path("made").mkdir()
    for link in ("link", "second"):
        assert (
            output_problem(link) == f"there is no folder {str(tmp_path.resolve() / 'nowhere')!r} to write to"
        )
    assert output_problem("nowhere/file") == "there is no folder 'nowhere' to write to"
    assert "is standard output elsewhere" in str(output_problem("-"))
    assert output_problem("./-") is None
    write_text_atomically("there", "whole")
    assert Path("made/file").read_text() == "whole"
    monkeypatch.setattr(os, "access", lambda *_: False)
    for link, folder in (("there", str(tmp_path.resolve() / "made")), ("made/file", "made")):
        assert output_problem(link) == f"the folder {folder!r} cannot be written to"


@pytest.mark.skipif(os.name != "posix", reason="folders are locked on POSIX systems only")
def test_a_folder_is_locked_for_one_at_a_time(tmp_path: Path) -> None:
    order = list[str]()

    def second() -> None:
        with folder_locked(tmp_path):
            order.append("second")

    waiting = threading.Thread(target=second)
    with folder_locked(tmp_path):
        waiting.start()
        waiting.join(0.2)
        order.append("first")
    waiting.join(10)
    assert order == ["first", "second"]
    assert not list(tmp_path.iterdir())
    with folder_locked(tmp_path / "gone"):  # What is written there says that there is no such folder.
        pass
