"""Drop model-local functions from an ONNX file without the onnx package.

The builder runs where engines run, so it knows neither torch nor onnx. All it changes in a
graph is which custom operators keep their plain body; that is a choice among top-level
fields of the protobuf message, which can be copied without understanding the rest.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from ...configs.errors import BundleError
from ...plugins.kernel import NAMESPACE

#: field numbers of onnx.proto: ModelProto.functions, FunctionProto.name and .domain
_FUNCTIONS, _NAME, _DOMAIN = 25, 1, 10
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def without_functions(model: bytes, names: Collection[str]) -> bytes:
    """The serialised model without the functions ``sam2rt::<name>`` of `names`.

    Every other byte stays as it is. Raises BundleError when `model` is no protobuf message or
    one of `names` is not in it.
    """
    kept, dropped = [], set()
    for number, start, value, end in _fields(model):
        name = _function_name(model[value:end]) if number == _FUNCTIONS else None
        if name is not None and name in names:
            dropped.add(name)
        else:
            kept.append(model[start:end])
    if missing := set(names) - dropped:
        raise BundleError(
            f"the graph has no function {NAMESPACE}::{', '.join(sorted(missing))}: export the "
            "bundle again with this version of sam2rt"
        )
    return b"".join(kept)


def function_names(model: bytes) -> set[str]:
    """Names of the functions of our namespace in a serialised model."""
    found = (_function_name(model[v:e]) for n, _, v, e in _fields(model) if n == _FUNCTIONS)
    return {name for name in found if name is not None}


def _function_name(function: bytes) -> str | None:
    texts = {n: function[v:e] for n, _, v, e in _fields(function) if n in (_NAME, _DOMAIN)}
    return texts[_NAME].decode() if texts.get(_DOMAIN) == NAMESPACE.encode() else None


def _fields(message: bytes) -> Iterator[tuple[int, int, int, int]]:
    """(field number, start of the field, start of its value, end) of each top-level field."""
    at = 0
    while at < len(message):
        start = at
        key, at = _varint(message, at)
        kind, value = key & 7, at
        if kind == _VARINT:
            _, at = _varint(message, at)
        elif kind == _BYTES:
            size, value = _varint(message, at)
            at = value + size
        elif kind in (_FIXED64, _FIXED32):
            at += 8 if kind == _FIXED64 else 4
        else:
            raise _damaged()
        if at > len(message):
            raise _damaged()
        yield key >> 3, start, value, at


def _varint(message: bytes, at: int) -> tuple[int, int]:
    result = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            raise _damaged()
        byte = message[at]
        at += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result, at
    raise _damaged()


def _damaged() -> BundleError:
    return BundleError("expected an ONNX graph, found bytes that are none: export it again")
