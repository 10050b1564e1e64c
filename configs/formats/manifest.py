"""The text of ``manifest.json``: read into plain values that are all checked, and written.

What may stand in it says ``manifest_schema.json`` beside this file, for the C++ runtime too; how
its numbers depend on each other, the model and the graph contracts say.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import BundleError
from ..remedies import line_of, remedy_of
from .schema import SchemaError, check_schema, described, schema_named
from .strict_json import strict_json

SCHEMA = 1
MANIFEST = "manifest.json"
#: bytes; those of the largest models with all variants have 40 000
LARGEST = 1 << 20
REMEDY = "make it again with 'sam2rt export CHECKPOINT -o BUNDLE'"
_FILE = "manifest_schema.json"


def read_manifest(root: Path) -> bytes:
    """The content of the manifest in the folder `root`. Raises BundleError where there is none."""
    path = root / MANIFEST
    if not path.is_file():
        found = "a file" if root.is_file() else "no such folder"
        found = f"a folder without {MANIFEST}" if root.is_dir() else found
        raise BundleError(f"expected a bundle at {root}, found {found}: {REMEDY}")
    try:
        with path.open("rb") as file:
            return file.read(LARGEST + 1)
    except OSError as error:
        remedy = remedy_of(error, REMEDY)
        raise BundleError(f"cannot read {path} ({line_of(error)}): {remedy}") from None


def manifest_of(path: Path, content: bytes) -> dict[str, Any]:
    """The manifest in a file's content: the schema allows it, and its digest is right.

    `path` is named in messages only. Raises BundleError.
    """
    try:
        data = strict_json(content, LARGEST)
    except ValueError as error:
        raise BundleError(f"cannot read {path} ({error}): {REMEDY}") from None
    schema = data.get("schema") if isinstance(data, dict) else None
    # True is equal to 1, and so is 1.0
    if type(schema) is not int or schema != SCHEMA:
        raise BundleError(f"{path} has schema {described(schema)}, expected {SCHEMA}: {REMEDY}")
    if data.get("digest") != digest_of(data):
        raise BundleError(f"{path} was edited (its digest does not match): {REMEDY}")
    try:
        check_schema(data, schema_named(_FILE))
    except SchemaError as error:
        raise BundleError(f"{path} is not well formed ({error}): {REMEDY}") from None
    return data  # type: ignore[no-any-return]


def manifest_text(data: Mapping[str, Any]) -> str:
    """The text of a manifest with these values, schema and digest added.

    Raises BundleError for a value that no reader would take.
    """
    data = {"schema": SCHEMA, **data}
    signed = {**data, "digest": digest_of(data)}
    text = json.dumps(signed, indent=1) + "\n"
    try:
        check_schema(strict_json(text.encode(), LARGEST), schema_named(_FILE))
    except ValueError as error:
        raise BundleError(f"the bundle cannot be written ({error}): change that value") from None
    return text


def digest_of(data: Mapping[str, Any]) -> str:
    """sha256 over a file's values without its own digest: shows whether it was edited."""
    content = {key: value for key, value in data.items() if key != "digest"}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
