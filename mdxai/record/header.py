"""run.toml and verdict.json, each ending with its SHA-256; and what differs between two runs."""

from __future__ import annotations

import hashlib
import json
import platform
import tomllib
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from math import isnan
from pathlib import Path
from typing import Any

import tomli_w

from mdxai.record.durable_files import RecordError, read_file, write_file
from mdxai.record.layout import HEADER, VERDICT

SCHEMA = 3
VERSIONS_OF = ("mdxai", "torch", "schnetpack", "ase", "numpy", "numba", "pyarrow")
COMPARED = ("calculator", "engine", "system", "parameters", "thresholds", "record")
LONGEST_TEXT = 200  # characters of a value that a message shows
_TOML_SEAL = b"# sha256 of all above: "
_JSON_SEAL = b',\n  "sha256_of_all_above": "'


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages on which results depend."""
    return {"python": platform.python_version(), **{name: version(name) for name in VERSIONS_OF}}


def without_none(content: Any) -> Any:
    """Return the content without entries that are None, which TOML cannot express."""
    if isinstance(content, Mapping):
        return {key: without_none(value) for key, value in content.items() if value is not None}
    return content


def refuse_unstorable(context: Any) -> None:
    """Check that a user's `context` can be written to run.toml.

    Raises:
        RecordError: when it is not a mapping, or holds what TOML cannot express.
    """
    try:
        tomli_w.dumps(without_none(dict(context)))
    except (TypeError, ValueError) as error:
        raise RecordError(
            "context must be a mapping of text, numbers, and lists and mappings of these, so that "
            f"run.toml can hold it: {error}"
        ) from error


def write_header(folder: Path, content: Mapping[str, Any]) -> None:
    """Write run.toml, its hash in the last line.

    Raises:
        RecordError: when the file system refuses.
    """
    text = tomli_w.dumps(without_none(content)).encode() + b"\n"
    digest = hashlib.sha256(text).hexdigest().encode()
    write_file(folder / HEADER, text + _TOML_SEAL + digest + b"\n")


def read_header(folder: Path) -> dict[str, Any]:
    """Return the content of run.toml.

    Raises:
        RecordError: when it is missing, damaged or of another schema.
    """
    path = folder / HEADER
    if folder.is_file():
        raise RecordError(f"{folder} is a file; expected the directory of a run")
    try:
        raw = read_file(path)
    except FileNotFoundError as error:
        raise RecordError(f"{folder} holds no run: it has no {HEADER}") from error
    try:
        header = tomllib.loads(raw.decode())
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{path} is damaged: {error}") from error
    if header.get("schema") != SCHEMA:
        raise RecordError(_other_schema(folder, header))
    text, seal, digest = raw.rpartition(_TOML_SEAL)
    if not seal or digest != hashlib.sha256(text).hexdigest().encode() + b"\n":
        raise RecordError(
            f"{path} is damaged or was edited: its last line is not the SHA-256 of the text above; "
            f"`mdxai repair {folder}` restores it from a checkpoint"
        )
    if not isinstance(header.get("deviations"), dict):
        raise RecordError(f"{path} is damaged: it lists no deviations")
    return header


def _other_schema(folder: Path, header: Mapping[str, Any]) -> str:
    recorded, here = header.get("versions"), version("mdxai")
    writer = recorded.get("mdxai") if isinstance(recorded, dict) else None
    known = isinstance(writer, str) and writer != here
    by = f"mdxai {writer}" if known else "another version of mdxai"
    wanted = f"mdxai=={'.'.join(str(writer).split('.')[:2])}.*" if known else "that version"
    return (
        f"{folder} was written by {by} and has schema {header.get('schema')!r}; mdxai {here} reads "
        f"schema {SCHEMA}. To read the run, install {wanted}"
    )


def write_verdict(folder: Path, content: Mapping[str, Any]) -> None:
    """Write verdict.json, its hash in the last entry.

    Raises:
        RecordError: when the file system refuses.
    """
    text = json.dumps(content, indent=2, allow_nan=False).encode()
    text = text.removesuffix(b"\n}").removesuffix(b"{}") or b"{"
    digest = hashlib.sha256(text).hexdigest().encode()
    write_file(folder / VERDICT, text + _JSON_SEAL + digest + b'"\n}\n')


def read_verdict(folder: Path) -> dict[str, Any]:
    """Return the content of verdict.json.

    Raises:
        RecordError: when the run is not finished, or the file is damaged.
    """
    path = folder / VERDICT
    try:
        raw = read_file(path)
    except FileNotFoundError as error:
        raise RecordError(
            f"{folder} has no {VERDICT} yet; mdxai.judge judges the recorded frames"
        ) from error
    text, seal, digest = raw.rpartition(_JSON_SEAL)
    if not seal or digest != hashlib.sha256(text).hexdigest().encode() + b'"\n}\n':
        raise RecordError(
            f"{path} is damaged or was edited: its last entry is not the SHA-256 of the text "
            "above; mdxai.judge judges the recorded frames again"
        )
    try:
        content = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{path} is damaged: {error}") from error
    if not isinstance(content, dict):
        raise RecordError(f"{path} is damaged: it holds no verdict")
    content.pop("sha256_of_all_above")
    return content


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return the differences that prevent continuing a run, one line each; empty without any.

    Calculator, engine, system, parameters, thresholds and what is recorded are compared. Versions,
    context and the frequency of writing are not.

    Args:
        old: header of the recorded run.
        new: header of the run that would continue it, as for `RunWriter.start`.
    """
    old, new = (_comparable(header) for header in (old, new))
    sections = [name for name in COMPARED if name in new or name != "record"]
    return [
        line for name in sections for line in _compare(name, old.get(name, {}), new.get(name, {}))
    ]


def _comparable(header: Mapping[str, Any]) -> dict[str, Any]:
    """Return the compared entries as TOML returns them, so that tuples equal lists."""
    kept = {name: header[name] for name in COMPARED if name in header}
    return tomllib.loads(tomli_w.dumps(without_none(kept)))


def _compare(name: str, old: Any, new: Any) -> Iterator[str]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in dict.fromkeys([*old, *new]):
            yield from _compare(f"{name}.{key}", old.get(key), new.get(key))
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new) > 3:
        for index, (was, now) in enumerate(zip(old, new, strict=True)):
            yield from _compare(f"{name}[{index}]", was, now)
    elif not (old == new or (_is_nan(old) and _is_nan(new))):
        yield f"{name}: recorded {_shown(old)}, now {_shown(new)}"


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and isnan(value)


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, list) and len(value) > 3:
        return f"a list of {len(value)}"
    text = repr(value)
    return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}…"
