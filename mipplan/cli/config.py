"""Where the options of a command come from: its line, or what ``mipplan.toml`` says they are by default."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import typer

from mipplan.core import Fault, Faults, InputError, suggestion
from mipplan.documents import decode_text, is_file, read_bytes

#: Read from the folder that a command runs in, unless --config or the environment names another file.
CONFIG_FILE, CONFIG_VARIABLE = "mipplan.toml", "MIPPLAN_CONFIG"
#: Options that take something else than others of that name, by their commands: a key at the top is not for them.
_OF_ITS_OWN = {
    "export": ("to",),
    "observe": ("latency",),
    "profile": ("for", "latency"),
    "profiles": ("for",),
    "schedule": ("to",),
}
_SECTIONS = f"{__name__}.sections"
_NOT_HERE = "cannot be set here, since programs that read the output rely on it: say --json"


def config_file(given: Path | None) -> Path:
    """The configuration file: that given, else that of the environment, else the one of this folder."""
    return given or Path(os.environ.get(CONFIG_VARIABLE) or CONFIG_FILE)


def read_config(context: typer.Context, given: Path | None) -> dict[str, dict[str, object]]:
    """Read what options are by default, for each command, from a configuration file; nothing if there is none.

    A key is an option's name without its dashes. At the top of the file it is for every command that has such an
    option (`to` and `for` are times there), in a section for the command of that name.

    Raises `InputError` listing every key and section that there is not, and every value that an option does not take:
    of those at the top only what the command that runs does not.
    """
    content = _content(given)
    if not content:
        return {}
    file = config_file(given)
    options = {
        command: {
            flag.removeprefix("--"): option
            for option in found.params
            if option.param_type_name == "option" and option.name != "json"
            for flag in option.opts
            if flag.startswith("--")
        }
        for command, found in getattr(context.command, "commands", {}).items()
    }
    sections = {key: value for key, value in content.items() if isinstance(value, dict)}
    context.meta[_SECTIONS] = sections  # shared with the command's own context
    everywhere = {key: value for key, value in content.items() if not _is_sections(value)}
    faults = Faults()
    faults.add(*(Fault(f"{file}: {place}", why) for place, why in _unknown(content, options)))
    defaults: dict[str, dict[str, object]] = {command: {} for command in options}
    for command, flags in options.items():
        section = {} if command in everywhere else sections.get(command, {})  # `profiles` is an option, too
        for flag, option in flags.items():
            value = section.get(flag, None if flag in _OF_ITS_OWN.get(command, ()) else everywhere.get(flag))
            if value is None:
                continue
            is_used = flag in section or command == context.invoked_subcommand
            misfit = _misfit(context, option, value) if is_used else None
            if misfit is not None:
                faults.add(Fault(f"{file}: {_key(sections, command, flag)}", misfit))
            # One value stands for a list of one, as on the command line.
            alone = getattr(option, "multiple", False) and not isinstance(value, list)
            defaults[command][str(option.name)] = [value] if alone else value
    faults.check()
    return defaults


def _is_sections(value: object) -> bool:
    """Whether a value is a section, or several of one name, rather than that of an option."""
    many = value if isinstance(value, list) else [value]
    return any(isinstance(one, dict) for one in many)


def _unknown(
    content: Mapping[str, Any], options: Mapping[str, Mapping[str, Any]]
) -> Iterator[tuple[str, str]]:
    """Find each key and section that there is not, and say why."""
    everywhere = {flag: option for flags in options.values() for flag, option in flags.items()}
    for key, value in content.items():
        if isinstance(value, list) and _is_sections(value):
            yield key, f"expected one section, [{key}], found a list of {len(value)}"
        elif not isinstance(value, dict):
            yield from _unknown_flags("", [key], everywhere, "no command has such an option")
        elif key not in options:
            yield key, f"there is no such command{suggestion(key, options)}"
        else:
            yield from _unknown_flags(f"{key}.", value, options[key], "the command has no such option")


def _unknown_flags(
    section: str, flags: Iterable[str], known: Mapping[str, Any], said: str
) -> Iterator[tuple[str, str]]:
    for flag in flags:
        if flag not in known:
            why = _NOT_HERE if flag == "json" else f"{said}{suggestion(flag, sorted(known))}"
            yield f"{section}{flag}", why


def _content(given: Path | None) -> dict[str, Any]:
    """What the file says; nothing where none was named and there is none."""
    import tomllib

    file = config_file(given)
    if not (given or os.environ.get(CONFIG_VARIABLE)):
        with contextlib.suppress(InputError):  # a folder that is closed to us holds nothing for us
            given = file if is_file(file) else None
        if given is None:
            return {}
    text = decode_text(read_bytes(file), str(file))
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # it may also hold numbers without end, or lists in lists
        raise InputError.one(str(file), f"is not valid TOML: {error}") from None


def _misfit(context: typer.Context, option: Any, value: object) -> str | None:
    """Why an option cannot be what the file says; None if it can."""
    many = getattr(option, "multiple", False)
    if isinstance(value, list) and not many:
        return f"expected one value, found {len(value)}"
    for one in value if isinstance(value, list) else [value]:
        if isinstance(one, dict | list):
            return f"expected values, found a {'table' if isinstance(one, dict) else 'list'}"
        if isinstance(one, bool) != getattr(option, "is_flag", False):
            shown = str(one).lower() if isinstance(one, bool) else repr(one)
            return f"expected {'a value' if isinstance(one, bool) else 'true or false'}, found {shown}"
    try:
        option.process_value(context, value if isinstance(value, list) or not many else [value])
    except (typer.BadParameter, TypeError):  # what they say of it differs between versions of typer
        return f"{option.opts[0]} does not take {value!r}"
    return None


def check_given(context: typer.Context, reasons: Mapping[str, str]) -> None:
    """Refuse options (by name) that would be ignored, each with its reason, if they stand on the command line.

    What a configuration file says is for every command that has such an option, whatever else is given.
    """
    InputError.raise_if(
        Fault(option.opts[0], reasons[option.name])
        for option in context.command.params
        if option.name in reasons and is_typed(context, option.name)
    )


def is_typed(context: typer.Context, name: str) -> bool:
    """Whether an option stands on the command line: what a configuration file says is for all that have it."""
    return source_of(context, name) == "COMMANDLINE"


def repeated(context: typer.Context, without: Iterable[str]) -> Iterator[str]:
    """Say the options of this run again, as they would be typed, but for some (by name) and those left at defaults."""
    for option in context.command.params:
        name = option.name or ""
        if option.param_type_name != "option" or name in without or source_of(context, name) == "DEFAULT":
            continue
        given = context.params[name]
        for value in given if isinstance(given, list | tuple) else [given]:
            yield from (option.opts[0], str(value))


def key_of(context: typer.Context, flag: str) -> str:
    """The file and the key in it that an option of this run is from."""
    file = config_file(context.find_root().params.get("config"))
    key = _key(context.meta[_SECTIONS], context.command.name or "", flag.removeprefix("--"))
    return f"{file}: {key}"


def _key(sections: Mapping[str, Mapping[str, object]], command: str, flag: str) -> str:
    """Where the value of a command's option stands: in its section, or at the top."""
    return f"{command}.{flag}" if flag in sections.get(command, {}) else flag


def source_of(context: typer.Context, name: str) -> str:
    """Where the value of an option is from: COMMANDLINE, DEFAULT_MAP (the configuration file) or DEFAULT."""
    return getattr(context.get_parameter_source(name), "name", "DEFAULT")
