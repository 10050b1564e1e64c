"""Looks into a graph's file before any backend does: which operators, which files of weights.

A graph is a protobuf message (onnx.proto), read here field by field without the onnx package. What
our exporters do not write is refused: operators with graphs inside (a Loop need not end), unknown
fields, weights in files that the manifest does not list. The C++ runtime refuses the same.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

#: bytes; weights lie outside, so that the largest have one million
LARGEST_GRAPH = 1 << 26
_WIRES = _VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
#: (field number, wire type, start of the value, end of it)
_Field = tuple[int, int, int, int]
#: field numbers that each message of ours may have, of onnx.proto; messages inside are bytes
_MODEL = {1: _VARINT, 2: _BYTES, 3: _BYTES, 7: _BYTES, 8: _BYTES, 14: _BYTES, 25: _BYTES}
_GRAPH = dict.fromkeys((1, 2, 5, 10, 11, 12, 13), _BYTES)
_NODE = dict.fromkeys((1, 2, 3, 4, 5, 6, 7), _BYTES)
_ATTRIBUTE = {1: _BYTES, 2: _FIXED32, 3: _VARINT, 4: _BYTES, 5: _BYTES, 20: _VARINT, 21: _BYTES}
_FUNCTION = dict.fromkeys((1, 4, 5, 6, 7, 8, 9, 10, 11, 12), _BYTES)
_TENSOR = {2: _VARINT, 8: _BYTES, 9: _BYTES, 12: _BYTES, 13: _BYTES, 14: _VARINT}
_OPSET = {1: _BYTES, 2: _VARINT}
_ENTRY = {1: _BYTES, 2: _BYTES}
#: lists of numbers: packed, or a number a field
_ATTRIBUTE_LISTS, _TENSOR_LISTS = frozenset((7, 8)), frozenset((1, 4, 5, 7, 10, 11))
_NONE: frozenset[int] = frozenset()
_PLACE_KEYS = (b"location", b"offset", b"length")


class GraphError(ValueError):
    """A file that is no graph of ours; the message says why in a few words."""


@cache
def operators() -> dict[str, Any]:
    """The table of operators that our exporters write, ``graph_operators.json``."""
    text = Path(__file__).with_name("graph_operators.json").read_text("utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def check_graph(content: bytes, weights: Mapping[str, int]) -> None:
    """Refuse, with GraphError, the content of a graph's file that no exporter of ours wrote.

    weights: the files that it may keep weights in, as it names them, and their sizes in bytes.
    """
    _Check(content, weights).model()


class _Check:
    def __init__(self, content: bytes, weights: Mapping[str, int]) -> None:
        self._content, self._weights = content, weights
        self._seen: set[bytes] = set()
        table = operators()
        self._plain = {name.encode() for name in table["operators"]}
        self._domain = table["domain"].encode()
        self._ours = {name.encode() for name in table["functions"]}

    def model(self) -> None:
        graphs = 0
        for number, _, start, end in self._fields(0, len(self._content), _MODEL):
            if number == 7:
                graphs += 1
                self._graph(start, end)
            elif number == 8:
                self._opset(start, end)
            elif number == 25:
                self._function(start, end)
        if graphs != 1:
            raise GraphError(f"{graphs} graphs, expected one")

    def _graph(self, start: int, end: int) -> None:
        for number, _, at, stop in self._fields(start, end, _GRAPH):
            if number == 1:
                self._node(at, stop, functions=True)
            elif number == 5:
                self._tensor(at, stop)

    def _function(self, start: int, end: int) -> None:
        fields = self._fields(start, end, _FUNCTION)
        name, domain = self._text(fields, 1), self._text(fields, 10)
        if domain != self._domain or name not in self._ours:
            raise GraphError(f"the function {_shown(name)}, which no export writes")
        for number, _, at, stop in fields:
            if number == 7:
                self._node(at, stop, functions=False)
            elif number == 9:
                self._opset(at, stop)
            elif number == 11:
                self._attribute(at, stop)

    def _node(self, start: int, end: int, functions: bool) -> None:
        name: bytes | None = None
        domain: bytes | None = None
        for number, _, at, stop in self._fields(start, end, _NODE):
            if number == 5:
                self._attribute(at, stop)
            elif number == 4:
                name = self._content[at:stop] if name is None else _twice()
            elif number == 7:
                domain = self._content[at:stop] if domain is None else _twice()
        known = name in self._plain and not domain
        if not known and not (functions and domain == self._domain and name in self._ours):
            raise GraphError(f"the operator {_shown(name or b'')}, which no export writes")

    def _attribute(self, start: int, end: int) -> None:
        # the same few come back in most nodes
        whole = self._content[start:end]
        if whole in self._seen:
            return
        self._seen.add(whole)
        for number, _, at, stop in self._fields(start, end, _ATTRIBUTE, _ATTRIBUTE_LISTS):
            if number == 5:
                self._tensor(at, stop)

    def _opset(self, start: int, end: int) -> None:
        domain = self._text(self._fields(start, end, _OPSET), 1)
        if domain not in (b"", self._domain):
            raise GraphError(f"operators of {_shown(domain)}, which no export writes")

    def _tensor(self, start: int, end: int) -> None:
        fields = self._fields(start, end, _TENSOR, _TENSOR_LISTS)
        place: dict[bytes, bytes] = {}
        for number, _, at, stop in fields:
            if number == 13:
                entry = self._fields(at, stop, _ENTRY)
                key, value = self._text(entry, 1), self._text(entry, 2)
                if key not in _PLACE_KEYS or key in place:
                    raise GraphError("weights in a place that no export writes")
                place[key] = value
        outside = any(n == 14 and self._varint(at)[0] != 0 for n, _, at, _ in fields)
        if place or outside:
            self._check_place(place)

    def _check_place(self, place: Mapping[bytes, bytes]) -> None:
        location = place.get(b"location", b"")
        size = self._weights.get(location.decode("utf-8", "replace"))
        if size is None:
            raise GraphError(f"weights in {_shown(location)}, which the manifest does not list")
        offset, length = (place.get(key, b"0") for key in (b"offset", b"length"))
        if not all(n.isdigit() and len(n) <= 15 for n in (offset, length)):
            raise GraphError("weights in a place that no export writes")
        if int(offset) + int(length) > size:
            raise GraphError(f"weights beyond the end of {_shown(location)}")

    def _text(self, fields: list[_Field], number: int) -> bytes:
        """The bytes of a field that may be there once."""
        found = [self._content[at:stop] for n, _, at, stop in fields if n == number]
        if len(found) > 1:
            _twice()
        return found[0] if found else b""

    def _fields(
        self, at: int, end: int, known: Mapping[int, int], lists: frozenset[int] = _NONE
    ) -> list[_Field]:
        """The fields of the message from `at` to `end`, all of them known."""
        content, found = self._content, []
        while at < end:
            # nearly all keys and lengths have one byte
            key = content[at]
            at += 1
            if key >= 0x80:
                key, at = self._varint(at - 1)
            number, wire = key >> 3, key & 7
            if known.get(number) != wire and not (number in lists and wire in _WIRES):
                raise _damaged()
            if wire == _BYTES:
                size = content[at] if at < end else 0x80
                at += 1
                if size >= 0x80:
                    size, at = self._varint(at - 1)
                stop = at + size
            elif wire == _VARINT:
                stop = self._varint(at)[1]
            else:
                stop = at + (8 if wire == _FIXED64 else 4)
            if stop > end:
                raise _damaged()
            found.append((number, wire, at, stop))
            at = stop
        return found

    def _varint(self, at: int) -> tuple[int, int]:
        """A number and where it ends."""
        result = 0
        for shift in range(0, 70, 7):
            if at >= len(self._content):
                break
            byte = self._content[at]
            at += 1
            result |= (byte & 0x7F) << shift
            if byte < 0x80:
                return result, at
        raise _damaged()


def _shown(name: bytes) -> str:
    return f"{name.decode('ascii', 'backslashreplace')!a:.60}"


def _twice() -> NoReturn:
    # protobuf would take the last
    raise _damaged()


def _damaged() -> GraphError:
    return GraphError("damaged, or written by another exporter")
