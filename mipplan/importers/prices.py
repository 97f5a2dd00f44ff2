"""Cloud price lists: what instances cost by region, on demand, spot or reserved, as entries of ``hardware.yaml``."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from mipplan.core import Fault, Faults, InputError, listed, name_problem, shown, suggestion
from mipplan.documents import (
    AnyPath,
    decode_text,
    first_faults,
    is_there,
    parse_yaml,
    read_bytes,
    write_text_atomically,
)
from mipplan.importers.merging import make_folder
from mipplan.importers.reading import MeasurementFile, Reading, Record
from mipplan.importers.rows import Stated
from mipplan.profiles import Hardware, price_problem

_INSTANCE = ("instance", "instance_or_tier", "InstanceType")
_ACCELERATOR = ("accelerator", "AcceleratorName")  # What an instance without a name goes by.
_REGION = ("region", "Region")
_COUNT = ("accelerator_count", "AcceleratorCount")
_SAID = ("usd_per_hour", "memory_gib", "source")  # What a list says of a hardware type.
_PLAIN_NAME = re.compile(r"(?!(?:yes|no|on|off|true|false|null|y|n)$)[A-Za-z][A-Za-z0-9_.-]*", re.IGNORECASE)


class PriceTier(StrEnum):
    """How a device is paid for."""

    ON_DEMAND = "on-demand"
    SPOT = "spot"
    RESERVED = "reserved"


_COLUMNS = {
    PriceTier.ON_DEMAND: ("on_demand_usd_per_hour", "Price"),
    PriceTier.SPOT: (
        "spot_usd_per_hour",
        "low_priority_usd_per_hour",
        "preemptible_usd_per_hour",
        "SpotPrice",
    ),
    PriceTier.RESERVED: ("reserved_usd_per_hour", "reserved_effective_usd_per_hour"),
}


@dataclass(frozen=True)
class Share:
    """A part of an instance that one replica occupies: one of its devices, say."""

    instance: str
    parts: int = 1  # The instance has so many of them.


@dataclass(frozen=True)
class PriceList:
    """Prices taken from a list.

    Attributes
    ----------
    path, sha256 : str
        The file, and the hash of its bytes.
    hardware : tuple of Hardware
        With price, memory where the list knows it, and source.
    refused : tuple of Fault
        Rows for the region that have no price to rely on, each with the reason.
    """

    path: str
    sha256: str
    hardware: tuple[Hardware, ...]
    refused: tuple[Fault, ...]


def read_prices(
    path: AnyPath,
    *,
    tier: str = PriceTier.ON_DEMAND,
    region: str | None = None,
    hardware: Mapping[str, Share] | None = None,
    where: Mapping[str, str] | None = None,
) -> PriceList:
    """Read prices of instances from a CSV file.

    Parameters
    ----------
    path : path
        The list; gzip accepted.
    tier : str
        "on-demand", "spot" (also what is called preemptible or low priority) or "reserved".
    region : str, optional
        Needed if the list is of several regions.
    hardware : mapping of str to Share, optional
        Hardware types wanted, with the instance of each and how many parts it is divided into; by default every
        instance of the list, under its own name.
    where : mapping of str to str, optional
        Only rows with these values in these columns are read.

    Returns
    -------
    PriceList

    Raises
    ------
    InputError
        With every fault of the file; if it does not know the tier, the region or an instance; or if it has two
        prices for one instance.
    """
    if tier not in list(PriceTier):
        raise InputError.one("tier", f"expected one of {listed(PriceTier)}, found {shown(tier)}")
    reading = Reading(MeasurementFile.read(path), Stated(where={} if where is None else where))
    column = _column_of(reading, PriceTier(tier))
    by_name: dict[str, list[Record]] = {}
    for record in _of_region(reading, list(reading.table()), region):
        name = record.text(*_INSTANCE, *_ACCELERATOR)
        if name:
            by_name.setdefault(name, []).append(record)
        else:
            reading.refuse(record.place, "has neither an instance nor an accelerator to name it by")
    wanted = hardware if hardware is not None else {name: Share(name) for name in by_name}
    faults = Faults()
    entries: list[Hardware] = []
    for name, share in wanted.items():
        offers = by_name.get(share.instance)
        if offers is None:
            hint = suggestion(share.instance, by_name) or f"; there are {listed(by_name)}"
            what = f"{reading.file.path} has no instance {shown(share.instance)} here{hint}"
            faults.add(Fault("hardware", what))
            continue
        entries += _entry(reading, name, share, offers, (column, PriceTier(tier), region))
    faults.add(*reading.faults)
    faults.check()
    if not entries:
        none = [Fault(reading.file.path, "no row is left by --region and --where")]
        raise InputError(first_faults(reading.refused or none, reading.file.path))
    return PriceList(reading.file.path, reading.file.sha256, tuple(entries), tuple(reading.refused))


def _column_of(reading: Reading, tier: PriceTier) -> str:
    columns = reading.file.columns
    if any(name.endswith("_per_unit_hour") for name in columns):
        what = "prices single vCPUs and GiB, not instances: which of them a machine has is not told"
        raise InputError.one(reading.file.path, what)
    found = next((name for name in _COLUMNS[tier] if name in columns), None)
    known = [one.value for one, names in _COLUMNS.items() if set(names) & set(columns)]
    if not known or not {*_INSTANCE, *_ACCELERATOR} & set(columns):
        what = "is no price list: expected a column such as instance, and one such as on_demand_usd_per_hour"
        raise InputError.one(reading.file.path, what)
    if found is None:
        raise InputError.one("tier", f"{reading.file.path} has no {tier} prices, but {listed(known)}")
    return found


def _of_region(reading: Reading, records: Sequence[Record], region: str | None) -> Iterator[Record]:
    known = list(dict.fromkeys(filter(None, (record.text(*_REGION) for record in records))))
    if region is None and len(known) > 1:
        what = f"{reading.file.path} has several regions, such as {listed(known, 6)}"
        raise InputError.one("--region", what)
    if region is not None and records and region not in known:
        hint = suggestion(region, known) or (f"; it has {listed(known)}" if known else "; it names none")
        raise InputError.one("region", f"{reading.file.path} has no region {shown(region)}{hint}")
    for record in records:
        if region is None or record.text(*_REGION) == region:
            yield record


def _entry(
    reading: Reading,
    name: str,
    share: Share,
    offers: Sequence[Record],
    asked: tuple[str, PriceTier, str | None],
) -> list[Hardware]:
    """Make the entry of a hardware type; none if its instance has no price to rely on."""
    column, tier, region = asked
    priced: dict[float, Record] = {}
    for record in offers:
        count = 1.0 if record.text(*_INSTANCE) else _count_of(reading, record)
        if count > 1 and share.parts % count:
            what = f"is the price of {count:g} {share.instance}, in an instance without a name: "
            reading.refuse(record.place, f"{what}take one with --hardware NAME={share.instance}/{count:g}")
        elif record.text("suspect_dedicated_tenancy") == "1":
            reading.refuse(record.place, f"{share.instance}: the price is probably that of dedicated tenancy")
        elif not record.text(column):
            reading.refuse(record.place, f"{share.instance} has no {tier} price")
        else:
            usd = reading.number(record.place, column, record.text(column))
            problem = price_problem(usd / share.parts) if usd == usd else None
            if problem is not None:
                reading.faults.append(Fault(f"{record.place}: {column}", problem))
            priced.setdefault(usd, record)
    problem = name_problem(name)
    if problem is not None:
        reading.faults.append(Fault("hardware", problem))
    if len(priced) > 1:
        found = ", ".join(f"{usd:g} at {record.place}" for usd, record in priced.items())
        what = f"{share.instance} has several {tier} prices ({found}): choose one with --where COLUMN=VALUE"
        reading.faults.append(Fault(reading.file.path, what))
    if len(priced) != 1 or reading.faults:
        return []
    usd, record = next(iter(priced.items()))
    place = f"{reading.file.name}:{record.place.rpartition(':')[2]} sha256:{reading.file.sha256[:16]}"
    offer = " ".join(filter(None, (record.text("provider"), share.instance)))
    accelerator = record.text(*_ACCELERATOR)
    offer += f" ({accelerator})" if accelerator and accelerator != share.instance else ""
    offer += f" in {region}" if region else ""
    part = f", 1/{share.parts} of it" if share.parts > 1 else ""
    source = f"{place} | {offer}, {tier}{part}"
    return [Hardware(name, usd / share.parts, _memory(reading, record, share), source=source)]


def _count_of(reading: Reading, record: Record) -> float:
    count = record.text(*_COUNT)
    return reading.number(record.place, _COUNT[0], count, zero=True) if count else 0.0


def _memory(reading: Reading, record: Record, share: Share) -> float | None:
    """Memory of one device: its own, where the part is one accelerator, or that of a machine without any.

    Vendors say GB of device memory and mean GiB.
    """
    accelerators = _count_of(reading, record)
    if accelerators > 0:
        own = record.text("accelerator_memory_gb") if accelerators == share.parts else ""
    else:
        own = record.text("memory_gib", "MemoryGiB") if share.parts == 1 else ""
    return reading.number(record.place, "memory", own) if own else None


@dataclass(frozen=True)
class HardwareMerge:
    """What became of prices that were merged into a ``hardware.yaml``: names, by what was done."""

    added: tuple[str, ...]
    replaced: tuple[str, ...]
    unchanged: tuple[str, ...]


def merge_hardware(
    path: AnyPath, hardware: Sequence[Hardware], *, replace_existing: bool = False
) -> HardwareMerge:
    """Merge prices into a ``hardware.yaml``, which is made, with its folder, if it is not there.

    Other entries, and comments, stay as they are; of an entry that is replaced only price and source change, and
    the memory where both know one: it may be of another machine now.

    Raises
    ------
    InputError
        If a hardware type stands there with another price and is not to be replaced, or the file cannot be read.
    """
    target = Path(path)
    text = decode_text(read_bytes(target), str(target)) if is_there(target) else ""
    document = parse_yaml(text, str(target)) if text.strip() else None
    there: dict[str, Any] = document.value if document and isinstance(document.value, dict) else {}
    if document is not None and (not isinstance(document.value, dict) or document.findings):
        what = "is no mapping of hardware types to mend: check it with `mipplan profiles`"
        raise InputError.one(str(target), what)
    added, replaced, unchanged, faults = [], [], [], []
    lines = text.splitlines()
    for entry in hardware:
        standing = there.get(entry.name)
        if standing is None:
            added.append(entry.name)
            lines += _entry_lines(entry)
        elif isinstance(standing, dict) and _says(standing, entry, memory=replace_existing):
            unchanged.append(entry.name)
        elif replace_existing and isinstance(standing, dict):
            replaced.append(entry.name)
            lines = _with_price(lines, entry)
        else:
            usd = standing.get("usd_per_hour") if isinstance(standing, dict) else standing
            what = f"stands there with {shown(usd)} $/h, not {entry.usd_per_hour:g}: --replace takes the new price"
            faults.append(Fault(f"{target}: {entry.name}", what))
    InputError.raise_if(faults)
    if added or replaced:
        made = "\n".join(lines) + "\n"
        _check_made(made, str(target), there, hardware)
        make_folder(target.parent)
        write_text_atomically(target, made)
    return HardwareMerge(tuple(added), tuple(replaced), tuple(unchanged))


def _says(standing: Mapping[str, Any], entry: Hardware, *, memory: bool) -> bool:
    """Whether an entry has the price that a list says, and the memory if that is looked at and both know one."""
    both = (standing.get("memory_gib"), entry.memory_gib)
    is_other = memory and None not in both and both[0] != both[1]
    return standing.get("usd_per_hour") == entry.usd_per_hour and not is_other


def _check_made(made: str, origin: str, there: Mapping[str, Any], hardware: Sequence[Hardware]) -> None:
    """Find out before it is written that the file says what it should; one in braces cannot be added to."""
    wanted = {entry.name: entry for entry in hardware}
    standing = {name: _unsaid(entry) if name in wanted else entry for name, entry in there.items()}
    try:
        document = parse_yaml(made, origin)
        value = document.value
        found = {name: _unsaid(value[name]) if name in wanted else value[name] for name in value}
        is_well = not document.findings and found == {name: {} for name in wanted} | standing
        is_well = is_well and all(_says(value[name], entry, memory=True) for name, entry in wanted.items())
    except (InputError, AttributeError, KeyError, TypeError):
        is_well = False
    if not is_well:
        what = (
            "is not written with a line for each key, which prices can be added to: write it like that first"
        )
        raise InputError.one(origin, what)


def _unsaid(entry: Mapping[str, Any]) -> dict[str, Any]:
    """What an entry says beside that which a list says."""
    return {key: value for key, value in entry.items() if key not in _SAID}


def _entry_lines(entry: Hardware) -> list[str]:
    return [f"{_key_text(entry.name)}:", *(f"  {line}" for line in _values(entry).values())]


def _values(entry: Hardware) -> dict[str, str]:
    """The lines of what a list says of an entry, by key."""
    said = {"usd_per_hour": _number_text(entry.usd_per_hour)}
    if entry.memory_gib is not None:
        said["memory_gib"] = _number_text(entry.memory_gib)
    said["source"] = json.dumps(entry.source, ensure_ascii=False)
    return {key: f"{key}: {value}" for key, value in said.items()}


def _key_text(name: str) -> str:
    return name if _PLAIN_NAME.fullmatch(name) else json.dumps(name, ensure_ascii=False)


def _number_text(value: float) -> str:
    """Write a number as YAML reads it back: 1e-05 would be text."""
    text = repr(value)
    return f"{value:.20f}".rstrip("0") if "e" in text else text


def _with_price(lines: Sequence[str], entry: Hardware) -> list[str]:
    """Write what a list says of an entry over what stands in its block, indented as the block is."""
    keys = (_key_text(entry.name), json.dumps(entry.name, ensure_ascii=False), f"'{entry.name}'", entry.name)
    begins = [at for at, line in enumerate(lines) if any(line.startswith(f"{key}:") for key in keys)]
    if not begins:
        return list(lines)
    begin = begins[0] + 1
    end = next((at for at in range(begin, len(lines)) if re.match(r"[^\s#]", lines[at])), len(lines))
    indents = (re.match(r"(\s*)[^\s#]", line) for line in lines[begin:end])
    indent = next((match[1] for match in indents if match), "  ")
    block = "".join(f"{line}\n" for line in lines[begin:end])
    values = _values(entry)
    if not re.search(rf"^{indent}memory_gib[ \t]*:", block, re.MULTILINE):
        values.pop("memory_gib", None)
    # A value goes on in the lines that are indented deeper. Comments are none of it, except that a text after `>` or
    # `|` has no comments.
    key, deeper = rf"^{indent}(?:{'|'.join(values)})[ \t]*:", rf"\n(?:[ \t]*\n)*{indent}[ \t]+"
    written = rf"{key}(?:[ \t]*[|>].*(?:{deeper}\S.*)*|.*(?:{deeper}[^\s#].*)*)\n"
    kept = re.sub(written, "", block, flags=re.MULTILINE).splitlines()
    mended = [f"{indent}{value}" for value in values.values()]
    return [*lines[:begin], *mended, *kept, *lines[end:]]
