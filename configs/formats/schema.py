"""Checks values of JSON against a schema: the part of JSON Schema that our files need.

The schemas are data (``*_schema.json`` beside this file). The C++ runtime has them built in and
reads them with the same rules, in the same order, so that both refuse the same values in the same
words. Beyond JSON Schema: a number with a point is no integer, and the formats are ours.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

Schema = Mapping[str, Any]


class SchemaError(ValueError):
    """A value that the schema does not allow; the message says where it stands."""


@cache
def schema_named(name: str) -> dict[str, Any]:
    """The schema in the file of that name in this folder."""
    loaded: dict[str, Any] = json.loads(Path(__file__).with_name(name).read_text("utf-8"))
    return loaded


def described(value: Any) -> str:
    """The value as part of a line in plain ASCII, at most 60 characters."""
    if isinstance(value, dict):
        return "an object"
    return "a list" if isinstance(value, list) else f"{value!a:.60}"


def check_schema(value: Any, root: Schema) -> None:
    """Refuse, with SchemaError, the first part of `value` that the schema does not allow.

    The value is as :func:`~sam2rt.configs.formats.strict_json.strict_json` gives it.
    """
    _check(value, root, root, "")


def _check(value: Any, schema: Schema, root: Schema, where: str) -> None:
    if (reference := schema.get("$ref")) is not None:
        schema = root["$defs"][reference.rpartition("/")[2]]
    if not _allowed(value, schema):
        raise SchemaError(f"{where or 'it'} is {described(value)}: expected {_expected(schema)}")
    if isinstance(value, dict):
        _check_object(value, schema, root, where)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _check(item, schema["items"], root, f"{where}[{index}]")


def _check_object(value: Mapping[str, Any], schema: Schema, root: Schema, where: str) -> None:
    known, others = schema.get("properties", {}), schema.get("additionalProperties", True)
    for key in schema.get("required", ()):
        if key not in value:
            raise SchemaError(f"{where or 'it'} lacks '{key}'")
    for key, inner in known.items():
        if key in value:
            _check(value[key], inner, root, f"{where}.{key}" if where else key)
    for key in sorted(value.keys() - known.keys()):
        shown = described(key)
        if others is False:
            raise SchemaError(f"{where or 'it'} has {shown}, which is no part of it")
        if "propertyNames" in schema:
            _check(key, schema["propertyNames"], root, f"a name in {where or 'it'}")
        if others is not True:
            _check(value[key], others, root, f"{where or 'it'}[{shown}]")


def _types(schema: Schema) -> list[str]:
    types = schema.get("type", [])
    return [types] if isinstance(types, str) else types


def _allowed(value: Any, schema: Schema) -> bool:
    if "enum" in schema:
        # True is equal to 1
        return any(type(value) is type(known) and value == known for known in schema["enum"])
    types = _types(schema)
    return not types or any(_is_a[name](value, schema) for name in types)


def _between(value: Any, schema: Schema, *kinds: type) -> bool:
    # bool is an int
    return (
        type(value) in kinds
        and value >= schema.get("minimum", value)
        and value <= schema.get("maximum", value)
    )


def _is_text(value: Any, schema: Schema) -> bool:
    return (
        isinstance(value, str)
        and schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value))
        and ("format" not in schema or FORMATS[schema["format"]][0](value))
    )


def _is_list(value: Any, schema: Schema) -> bool:
    return isinstance(value, list) and (
        schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value))
    )


def _is_object(value: Any, schema: Schema) -> bool:
    return isinstance(value, dict) and len(value) <= schema.get("maxProperties", len(value))


_is_a: dict[str, Callable[[Any, Schema], bool]] = {
    "integer": lambda value, schema: _between(value, schema, int),
    "number": lambda value, schema: _between(value, schema, int, float),
    "boolean": lambda value, schema: isinstance(value, bool),
    "string": _is_text,
    "array": _is_list,
    "object": _is_object,
}


def _expected(schema: Schema) -> str:
    if "enum" in schema:
        return " or ".join(ascii(known) for known in schema["enum"])
    return " or ".join(_expected_type(name, schema) for name in _types(schema))


def _expected_type(name: str, schema: Schema) -> str:
    if name in ("integer", "number"):
        kind = "a whole number" if name == "integer" else "a number"
        return f"{kind} from {schema['minimum']} to {schema['maximum']}"
    if name == "string":
        kind = FORMATS[schema["format"]][1] if "format" in schema else "text"
        return f"{kind} of {schema.get('minLength', 0)} to {schema['maxLength']} characters"
    if name == "array":
        return f"a list of {schema.get('minItems', 0)} to {schema['maxItems']}"
    if name == "object":
        most = schema.get("maxProperties")
        return "an object" if most is None else f"an object of at most {most}"
    return "true or false"


#: first and last code points of what a terminal or a reader's eye could take for something else:
#: control characters, ends of lines, marks that turn the direction of text, invisible ones
_NOT_SHOWN = (
    (0x00, 0x1F), (0x7F, 0x9F), (0xAD, 0xAD), (0x61C, 0x61C), (0x200B, 0x200F), (0x2028, 0x202E),
    (0x2060, 0x206F), (0xFEFF, 0xFEFF), (0xFFF9, 0xFFFB), (0xE0000, 0xE007F),
)  # fmt: skip


def is_line(text: str) -> bool:
    """Whether text can be printed: one line, without control or invisible characters."""
    return (text.isascii() and text.isprintable()) or not any(
        first <= ord(character) <= last for character in text for first, last in _NOT_SHOWN
    )


def is_inside(path: str) -> bool:
    """Whether a POSIX path stays in the folder that it is relative to, and names a file."""
    pure = PurePosixPath(path)
    leaves = pure.is_absolute() or ".." in pure.parts or "\\" in path or not pure.parts
    return not leaves and is_line(path)


def _is_sha256(text: str) -> bool:
    return len(text) == 64 and not text.strip("0123456789abcdef")


#: each with what a message calls it
FORMATS: dict[str, tuple[Callable[[str], bool], str]] = {
    "line": (is_line, "one line of text"),
    "path": (is_inside, "a path inside the folder"),
    "sha256": (_is_sha256, "a sha256 in hexadecimal"),
}
