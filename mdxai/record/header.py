"""run.toml and verdict.json: sealed text, and what differs between two runs."""

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
_TOML_SEAL = b"# sha256 of all above: "
_JSON_SEAL = b',\n  "sha256_of_all_above": "'


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that decide the numbers."""
    return {"python": platform.python_version(), **{name: version(name) for name in VERSIONS_OF}}


def without_none(content: Any) -> Any:
    """Return the content without entries that are None: TOML has none."""
    if isinstance(content, Mapping):
        return {key: without_none(value) for key, value in content.items() if value is not None}
    return content


def refuse_unstorable(context: Any) -> None:
    """Check what somebody wants to be noted in run.toml.

    Raises:
        RecordError: for what is no mapping, or holds what TOML does not.
    """
    try:
        tomli_w.dumps(without_none(dict(context)))
    except (TypeError, ValueError) as error:
        raise RecordError(
            "context is a mapping for run.toml, of text, numbers, and lists and mappings of these: "
            f"{error}"
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
        RecordError: where there is none, or it is damaged, or of another schema.
    """
    path = folder / HEADER
    try:
        raw = read_file(path)
    except FileNotFoundError as error:
        raise RecordError(f"{folder} holds no run: there is no {HEADER}") from error
    try:
        header = tomllib.loads(raw.decode())
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{path} is damaged: {error}") from error
    if header.get("schema") != SCHEMA:
        raise RecordError(_other_schema(folder, header))
    text, seal, digest = raw.rpartition(_TOML_SEAL)
    if not seal or digest != hashlib.sha256(text).hexdigest().encode() + b"\n":
        raise RecordError(
            f"{path} is damaged or was changed: its last line does not hold the SHA-256 of what "
            f"is above it; `mdxai repair {folder}` restores it from a checkpoint"
        )
    if not isinstance(header.get("deviations"), dict):
        raise RecordError(f"{path} is damaged: it names no deviations")
    return header


def _other_schema(folder: Path, header: Mapping[str, Any]) -> str:
    wrote = header.get("versions")
    by = wrote.get("mdxai") if isinstance(wrote, dict) else None
    known = f"mdxai {by}, which" if by and by != version("mdxai") else "the mdxai that"
    return (
        f"{folder} has schema {header.get('schema')!r}; mdxai {version('mdxai')} reads schema "
        f"{SCHEMA}. To read the run, install {known} wrote it"
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
        RecordError: when the run has not been finished, or the file is damaged.
    """
    path = folder / VERDICT
    try:
        raw = read_file(path)
    except FileNotFoundError as error:
        raise RecordError(f"{folder} has no verdict yet; mdxai.judge reads the frames") from error
    text, seal, digest = raw.rpartition(_JSON_SEAL)
    if not seal or digest != hashlib.sha256(text).hexdigest().encode() + b'"\n}\n':
        raise RecordError(
            f"{path} is damaged or was changed: its last entry is not the SHA-256 of what is above "
            "it; mdxai.judge finds the verdict again from the frames"
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
    """Return what keeps a run from being continued, one line each; nothing when it can be.

    Calculator, engine, system, parameters, thresholds and what is recorded are compared; versions,
    context and how often parts are written are not.

    Args:
        old: header of the recorded run.
        new: that of the run which is to continue it, as given to `RunWriter.start`.
    """
    old, new = (_comparable(header) for header in (old, new))
    sections = [name for name in COMPARED if name in new or name != "record"]
    return [
        line for name in sections for line in _compare(name, old.get(name, {}), new.get(name, {}))
    ]


def _comparable(header: Mapping[str, Any]) -> dict[str, Any]:
    """Return the header as TOML keeps it, so that tuples equal lists."""
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
    return f"a list of {len(value)}" if isinstance(value, list) and len(value) > 3 else repr(value)
