"""The command line: files in, tables or one JSON document out. Commands import what they need when they run."""

from mipplan.cli.app import main

__all__ = ["main"]
