"""The command line: files in, tables or one JSON document out. Commands import what they need when they run."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Entry point of the ``mipplan`` command."""
    try:
        from mipplan.cli.app import app
    except KeyboardInterrupt:  # before there is anybody to say so
        sys.exit(130)
    app()
