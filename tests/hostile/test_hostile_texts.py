"""Texts of others in messages: printable, in one line, without secrets; and one function for it."""

from __future__ import annotations

import ast
import pickle
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import fasttile
from fasttile import errors
from fasttile.errors import FasttileError, one_line, printable, redact_url
from fasttile.storage.object_store import StoreError
from fasttile.workers import LostWorkerError, WorkerError

PACKAGE = Path(fasttile.__file__).parent

FORBIDDEN_CATEGORIES = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
"""Control, format, surrogate, private, unassigned; separators of lines and paragraphs."""


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ünïcødé 地図.png", "plain ünïcødé 地図.png"),
        ("\x1b[31mred\x07", "\\x1b[31mred\\x07"),
        ("a\r\n\tb", "a\\r\\n\\tb"),
        ("\x7f\x9b2J", "\\x7f\\x9b2J"),
        ("photo\u202egnp.exe\u2066\u200d", "photo\\u202egnp.exe\\u2066\\u200d"),
        ("not utf-8 \udcff", "not utf-8 \\udcff"),
        ("\U000e0041\u2028\ufeff", "\\U000e0041\\u2028\\ufeff"),
        ("Screenshot\u202fAM 漢\u3000字\xa0.png", "Screenshot\u202fAM 漢\u3000字\xa0.png"),
    ],
)
def test_control_and_format_characters_are_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert str(FasttileError(text)) == shown


@given(st.text() | st.text(st.sampled_from("ab:/?#@=&\x1b\udcff. ")))
def test_all_texts_become_one_printable_line(text: str) -> None:
    shown = printable(text)
    assert not {unicodedata.category(one) for one in shown} & FORBIDDEN_CATEGORIES
    assert printable(shown) == shown
    assert printable(one_line(text)) == one_line(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://me:secret@h:80/a.png?token=secret: no", "http://h:80/a.png?…: no"),
        ("http://me:sec ret@h/a b.png?token=secret", "http://h/a b.png?…"),
        ("http:/me:secret@h/a.png?token=secret is missing", "http:/h/a.png?… is missing"),
        ("http://me:secret/a.png", "http://…"),
        ("http://me:1?secret@h/a.png", "http://me:1?…"),
        ("HTTPS://secret@h/a@2x.png#secret", "HTTPS://h/a@2x.png?…"),
        ("s3://AKIA:secret@bucket/a.png", "s3://bucket/a.png"),
        ("s3://bucket/a.png?X-Amz-Signature=secret&b=secret", "s3://bucket/a.png?…"),
        ("dask://me:secret@host:8786: no scheduler", "dask://host:8786: no scheduler"),
        ("for url (https://h/a?sig=secret), 'http://h/?b=secret'", None),
        ("expected dask://HOST:PORT or dask://local:NUMBER", None),
        ("C:/maps?/a.tif is a path, and http://[::1]:80/a has a port", None),
    ],
)
def test_addresses_lose_credentials_and_queries(text: str, shown: str | None) -> None:
    assert "secret" not in printable(text)
    if shown is not None:
        assert printable(text) == shown
    elif "secret" not in text:
        assert printable(text) == text


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://me:secret@example.org/map.tif", "https://example.org/map.tif"),
        ("https://h/my map.tif?sig=secret with spaces", "https://h/my map.tif?…"),
        ("s3://AKIA:se cret@bucket/map.tif", "s3://bucket/map.tif"),
        ("http://me:secret", "http://…"),
        ("maps/what?.tif", "maps/what?.tif"),
        ("maps/\x1b.tif", "maps/\\x1b.tif"),
    ],
)
def test_one_address_is_read_to_its_end(url: str, shown: str) -> None:
    assert redact_url(url) == shown


def test_texts_of_libraries_become_one_line() -> None:
    assert one_line(ValueError("first\n\n  second\x1b")) == "first second\\x1b"
    assert one_line("x" * 100, 80) == "x" * 79 + "…"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://x?" + ")" * 10**6, "http://x?…" + ")" * 10**6),
        ("a." * 10**6, "a." * 10**6),
        ("http://" + "x@" * 10**6, "http://"),
        ("?a" * 10**6 + ":/", "?a" * 10**6 + ":/"),
    ],
    ids=["punctuation", "schemes", "credentials", "queries"],
)
def test_long_texts_do_not_hang(text: str, shown: str) -> None:
    """With a pattern of quadratic time they take an hour, and the test run is ended."""
    assert printable(text) == shown


def test_all_errors_are_printable() -> None:
    kinds: set[type[FasttileError]] = {WorkerError, LostWorkerError, StoreError}
    kinds |= {
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, FasttileError)
    }
    assert len(kinds) >= 9
    for kind in kinds:
        error = kind("\x1b[m http://a:b@c/", *([7] if kind is errors.TruncatedError else []))
        assert str(error) == "\\x1b[m http://c/"
        assert str(pickle.loads(pickle.dumps(error))) == str(error)


OUTPUT_FUNCTIONS = ("print_line", "write_text", "TolerantStream", "_print_numbers")
"""What writes to the terminal: lines of texts of others; texts of fasttile; bars and numbers."""


def raw_outputs() -> Iterator[str]:
    """Calls in the package that write to the terminal by other ways."""
    for path in PACKAGE.rglob("*.py"):
        tree = ast.parse(path.read_text())
        for function in ast.walk(tree):
            is_definition = isinstance(function, ast.FunctionDef | ast.ClassDef)
            if is_definition and function.name in OUTPUT_FUNCTIONS:
                function.body.clear()
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                if called in ("print", "tqdm.write") or called.startswith(
                    ("sys.stdout.write", "sys.stderr.write", "traceback.print")
                ):
                    yield f"{path.relative_to(PACKAGE)}:{node.lineno}: {called}"


@pytest.mark.slow
def test_one_function_prints() -> None:
    assert list(raw_outputs()) == []
