"""The command line: files in, tables or one JSON document out. Commands import what they need when they run."""

from __future__ import annotations

import contextlib
import os
import sys

__all__ = ["main"]


def main() -> None:
    """Entry point of the ``mipplan`` command."""
    if not os.environ.get("COLUMNS", "1").strip("0"):
        del os.environ["COLUMNS"]  # nothing fits into no columns: the width is not known
    try:
        from mipplan.cli.app import app
    except KeyboardInterrupt:  # before there is anybody to say so
        sys.exit(130)
    try:
        app()
    except OSError as error:
        # Commands tell of their output themselves: what is left without a file's name is help, or the version.
        if error.filename is not None or error.strerror is None:
            raise
        # What is still buffered would be a complaint at the end.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        with contextlib.suppress(OSError):
            sys.stderr.write(f"mipplan: the output cannot be written: {error.strerror}\n")
        sys.exit(2)
