"""Where the data folder that comes with mipplan lies."""

from __future__ import annotations

from pathlib import Path

from mipplan.errors import InputError


def shipped_folder() -> Path:
    """Find the shipped profiles, pipelines and traces.

    Returns
    -------
    pathlib.Path
        ``mipplan/shipped_profiles`` of an installed package, else ``profiles/`` beside the package in a
        checkout.

    Raises
    ------
    InputError
        If neither exists.
    """
    package = Path(__file__).resolve().parent
    for folder in (package / "shipped_profiles", package.parent / "profiles"):
        if (folder / "hardware.yaml").is_file():
            return folder
    raise InputError.one(
        "shipped profiles",
        "this installation holds no profile folder; install mipplan again, or name a folder of your own",
    )
