"""TensorRT as a recording double, made from what the vendor's bindings declare.

Only names of those bindings exist, only writable properties can be set, arguments are checked
against the declared signature, and every call and assignment is recorded. What a method gives
is its declared type, or what the test says.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from tensorrt_bindings_stub import declared_api

_PARAMETER = re.compile(r"(\w+): ([^=]+?)(?: = (.+))?$")


@dataclass(frozen=True)
class Call:
    """One recorded use: `name` as Class.method or Class.property, positional and named merged."""

    name: str
    arguments: tuple[Any, ...]


class Recorder:
    def __init__(self, version: str) -> None:
        found = declared_api(version)
        self.calls: list[Call] = []
        self.gives: dict[str, Callable[..., Any]] = {}
        self.module = ModuleType("tensorrt")
        self.module.__version__ = found["version"]  # type: ignore[attr-defined]
        for name, entry in found["api"].items():
            if entry["kind"] == "enum":
                made: Any = enum.IntEnum(name, entry["values"])
            elif entry["kind"] == "class":
                made = self._class(name, entry["members"])
            else:
                continue
            setattr(self.module, name, made)
        severity = {"INTERNAL_ERROR": 0, "ERROR": 1, "WARNING": 2, "INFO": 3, "VERBOSE": 4}
        self.module.ILogger.Severity = enum.IntEnum("Severity", severity)  # type: ignore[attr-defined]

    def arguments(self, name: str) -> list[tuple[Any, ...]]:
        """Arguments of every recorded use of `name`, in order."""
        return [call.arguments for call in self.calls if call.name == name]

    def _class(self, name: str, members: dict[str, Any]) -> type:
        recorder = self
        properties = {k for k, v in members.items() if v["kind"] == "property"}
        writable = {k for k in properties if members[k]["writable"]}

        def construct(self: Any, *arguments: Any) -> None:
            recorder.calls.append(Call(name, arguments))

        def assign(self: Any, key: str, value: Any) -> None:
            # our own subclasses keep state of theirs; layers are cast by their class
            if type(self).__module__ == __name__ and key != "__class__":
                if key not in writable:
                    raise AttributeError(f"tensorrt.{name} has no writable property '{key}'")
                recorder.calls.append(Call(f"{name}.{key}", (value,)))
            object.__setattr__(self, key, value)

        def lookup(self: Any, key: str) -> Any:
            if key in properties:
                return recorder.gives.get(f"{name}.{key}", lambda: 0)()
            raise AttributeError(f"tensorrt.{name} has no member '{key}'")

        body: dict[str, Any] = {
            "__init__": construct, "__setattr__": assign, "__getattr__": lookup,
            "__module__": __name__,
        }  # fmt: skip
        for key, entry in members.items():
            if entry["kind"] == "method" and key != "__init__":
                body[key] = self._method(name, key, entry["doc"])
        return type(name, (), body)

    def _method(self, owner: str, name: str, doc: str) -> Callable[..., Any]:
        signatures = [_Signature(m) for m in re.findall(rf"{name}\((self.*?)\)(?: -> (.*))?", doc)]
        full = f"{owner}.{name}"

        def call(instance: Any, *arguments: Any, **named: Any) -> Any:
            problems = []
            for signature in signatures:
                bound, problem = signature.bind(self.module, arguments, named)
                if problem is None:
                    self.calls.append(Call(full, bound))
                    if full in self.gives:
                        return self.gives[full](*bound)
                    return signature.default(self.module)
                problems.append(problem)
            raise TypeError(f"tensorrt.{full}: {'; '.join(problems) or 'no signature declared'}")

        return call


class _Signature:
    def __init__(self, found: tuple[str, str]) -> None:
        parts = [p.strip() for p in re.split(r", (?=\w+: )", found[0])][1:]
        self.parameters = [m.groups() for p in parts if (m := _PARAMETER.match(p))]
        self.result = found[1].strip().rpartition(".")[2]

    def bind(
        self, module: Any, arguments: tuple[Any, ...], named: dict[str, Any]
    ) -> tuple[tuple[Any, ...], str | None]:
        names = [p[0] for p in self.parameters]
        if len(arguments) > len(names) or set(named) - set(names[len(arguments) :]):
            return (), f"takes {names}, got {len(arguments)} and {sorted(named)}"
        given = {**dict(zip(names, arguments, strict=False)), **named}
        for name, declared, default in self.parameters:
            if name not in given:
                if default is None:
                    return (), f"lacks {name}"
            elif not _fits(module, declared, given[name]):
                return (), f"{name} must be {declared}, got {type(given[name]).__name__}"
        return tuple(given[n] for n in names if n in given), None

    def default(self, module: Any) -> Any:
        made = getattr(module, self.result, None)
        if isinstance(made, type) and not issubclass(made, enum.Enum):
            return made()
        return {"bool": True, "int": 0, "str": ""}.get(self.result)


def _fits(module: Any, declared: str, value: Any) -> bool:
    short = declared.replace("tensorrt_bindings.tensorrt.", "").strip()
    if short in ("typing.SupportsInt", "int", "SupportsInt") or "SupportsInt" in short[:24]:
        return isinstance(value, int) and not isinstance(value, bool)
    if short == "bool":
        return isinstance(value, bool)
    if short == "str":
        return isinstance(value, str)
    if "Buffer" in short:
        return isinstance(value, bytes | bytearray | memoryview)
    if short == "Dims" or short.startswith("collections.abc.Sequence"):
        return isinstance(value, tuple | list)
    known = getattr(module, short, None)
    return known is None or isinstance(value, known)
