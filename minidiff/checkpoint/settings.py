"""Settings as dictionaries and as TOML.  An unknown name or an invalid value is an error; nothing is ignored.

Idea: the classes of config.py have the names and types of all fields, so one short walk over them reads any dictionary
and reports exactly what is wrong with it.  A checkpoint holds the dictionary as JSON, a run's folder as config.toml;
TOML has no null, so a setting that is `None` is left out of it.
Leaves out the names of earlier versions, which are still understood: minidiff/renamed.py.
"""

import tomllib
from dataclasses import MISSING, asdict, fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from minidiff import renamed
from minidiff.errors import MinidiffError, did_you_mean, one_line, printable
from minidiff.files import read_text, write_atomically
from minidiff.limits import check_limits, check_text, number_text

D = TypeVar("D")


HEADER = "# The settings of a training; `python -m minidiff.train --config {name}` trains with them again.\n\n"


def to_dict(config: Any) -> dict[str, Any]:
    """Return a dataclass, and those inside it, as dictionaries of JSON's types: no Path, no tuple."""
    return _plain(asdict(config))


def from_dict(kind: type[D], values: Any, where: str) -> D:
    """Build the dataclass `kind` from a dictionary as `to_dict` returns it; fields with a default may be missing.

    where: names the source in messages, "settings.toml".
    Raises MinidiffError for a name that `kind` does not have, or lacks, or a value of another type or beyond its limit.
    """
    if not isinstance(values, dict):
        raise MinidiffError(f"{where}: expected a table of settings, got {_show(values)}")
    hints = get_type_hints(kind)
    known = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    built = {}
    for name, value in values.items():
        if name in renamed.VALUES and isinstance(value, str):
            value = renamed.VALUES[name].get(value, value)
        if name not in known:
            hint = did_you_mean(name, known) or f"known are {', '.join(known)}"
            raise MinidiffError(f"{where}: unknown setting {_show(name)}; {hint}")
        kind_of_table: Any = next(filter(is_dataclass, (hints[name], *get_args(hints[name]))), None)
        if kind_of_table is not None and (value is not None or is_dataclass(hints[name])):
            built[name] = from_dict(kind_of_table, value, f"{where}: [{name}]")
        else:
            built[name] = _read(value, hints[name], f"{where}: {name}")
    for field in fields(kind):  # type: ignore[arg-type]
        if field.name not in built and field.default is MISSING and field.default_factory is MISSING:
            raise MinidiffError(f"{where}: {field.name} is missing")
    check_limits(built, f"{where}: {{}}")
    return kind(**built)


def write_toml(path: Path, config: Any) -> None:
    """Write a dataclass of dataclasses as TOML, one table for each of them."""
    tables = {
        concern: {name: value for name, value in table.items() if value is not None}
        for concern, table in to_dict(config).items()
    }
    import tomli_w  # only writing needs it

    text = HEADER.format(name=path.name) + tomli_w.dumps(tables)
    write_atomically(path, text.encode())


def read_toml(kind: type[D], path: Path) -> D:
    """Read settings written by `write_toml` or by hand.

    Raises MinidiffError, with the name of the file, if it is missing, is not TOML, or has a setting unknown to `kind`.
    """
    try:
        values = tomllib.loads(read_text(path))
    except OSError as error:
        raise MinidiffError(f"cannot read settings: {one_line(error)}") from error
    except MinidiffError:
        raise
    except RecursionError as error:
        raise MinidiffError(f"{path} is not TOML that can be read: it is nested too deeply") from error
    except ValueError as error:
        raise MinidiffError(f"{path} is not TOML: {one_line(error)}") from error
    return from_dict(kind, renamed.settings(values), str(path))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(inner) for inner in value]
    return str(value) if isinstance(value, Path) else value


_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", Path: "a path"}


def _read(value: Any, hint: Any, where: str) -> Any:
    """Convert one value from JSON or TOML to the type of its field."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):  # every union here is "something or None"
        some = next(kind for kind in inner if kind is not NoneType)
        return None if value is None else _read(value, some, where)
    if origin is Literal:
        if value in inner and isinstance(value, str):
            return value
        raise MinidiffError(f"{where} must be one of {', '.join(inner)}, got {_show(value)}")
    if origin is tuple:
        several = isinstance(value, list | tuple)
        if inner[-1] is not Ellipsis and not (several and len(value) == len(inner)):
            raise MinidiffError(f"{where} must be a list of {len(inner)}, got {_show(value)}")
        if not several:
            raise MinidiffError(f"{where} must be a list, got {_show(value)}")
        return tuple(_read(one, inner[0], where) for one in value)
    if hint is float and type(value) is int:
        try:
            return float(value)
        except OverflowError as error:
            raise MinidiffError(f"{where} must be a number that a float can hold, got {_show(value)}") from error
    if hint is Path and isinstance(value, str):
        if not value:
            raise MinidiffError(f"{where} must be a path, got an empty text")
        value = Path(value)
    elif type(value) is not hint:  # not isinstance: True is an int to Python, not to a reader
        raise MinidiffError(f"{where} must be {_WORDS[hint]}, got {_show(value)}")
    check_text(value, where)
    return value


def _show(value: Any) -> str:
    """Return the value for a message, cut to 60 characters, since values in a file can be long."""
    if isinstance(value, int | float):
        return printable(number_text(value), 60)
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # whole numbers of too many digits, or depth, inside
        text = f"a {type(value).__name__}"
    return printable(text, 60)
