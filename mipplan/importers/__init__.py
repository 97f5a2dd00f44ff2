"""Importers: what other tools measured, and what clouds charge, as profiles; each figure with where it is from."""

from __future__ import annotations

from mipplan.importers.formats import AUTO, FORMATS, MeasurementFormat, Signs, read_measurements, recognise
from mipplan.importers.merging import FolderMerge, merge_rows
from mipplan.importers.prices import (
    HardwareMerge,
    PriceList,
    PriceTier,
    Share,
    merge_hardware,
    read_prices,
)
from mipplan.importers.reading import MeasurementFile
from mipplan.importers.rows import ImportedFile, ImportedRow, Stated

__all__ = [
    "AUTO",
    "FORMATS",
    "FolderMerge",
    "HardwareMerge",
    "ImportedFile",
    "ImportedRow",
    "MeasurementFile",
    "MeasurementFormat",
    "PriceList",
    "PriceTier",
    "Share",
    "Signs",
    "Stated",
    "merge_hardware",
    "merge_rows",
    "read_measurements",
    "read_prices",
    "recognise",
]
