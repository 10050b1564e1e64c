"""Prompts on a command line: clicks and boxes in the order in which they were given."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from ..runtime.tasks.prompts import ObjectPrompt

if TYPE_CHECKING:
    NumbersBase = click.ParamType[tuple[float, ...]]
else:  # not generic in older versions of click
    NumbersBase = click.ParamType

NO_PROMPT = "nothing to look for: give a --point x,y or a --box x0,y0,x1,y1"
_PROMPTS = ("object", "frame", "point", "box")


class _Numbers(NumbersBase):
    def __init__(self, name: str, counts: tuple[int, ...]) -> None:
        self.name = name
        self._counts = counts

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, ...]:
        if isinstance(value, tuple):
            return value
        try:
            numbers = tuple(float(part) for part in value.split(","))
        except ValueError:
            numbers = ()
        if len(numbers) not in self._counts or not all(map(math.isfinite, numbers)):
            self.fail(f"{value!r}: expected {self.name}, in pixels", param, ctx)
        return numbers


class _Point(_Numbers):
    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, ...]:
        numbers = super().convert(value, param, ctx)
        if len(numbers) == 2:
            return (*numbers, 1.0)
        if numbers[2] not in (0, 1):
            self.fail(f"{value!r}: label must be 1 (object) or 0 (background)", param, ctx)
        return numbers


POINT = _Point("x,y[,label]", (2, 3))
BOX = _Numbers("x0,y0,x1,y1", (4,))


class PromptCommand(click.Command):
    """A command whose prompt options count in the order in which they were given."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        _, _, order = self.make_parser(ctx).parse_args(args=list(args))
        ctx.meta[__name__] = [p.name for p in order if p.name in _PROMPTS]
        return super().parse_args(ctx, args)


def ordered_prompts(ctx: click.Context) -> list[ObjectPrompt]:
    """The prompts of a :class:`PromptCommand`: `--object` and `--frame` hold for what follows.

    Object 1 on frame 0 is meant until they say otherwise; `--object` goes back to frame 0.
    Raises a usage error when an object or a frame is named without any prompt.
    """
    values: dict[str, Iterator[Any]] = {n: iter(ctx.params[n] or ()) for n in _PROMPTS}
    reader = _Reader(ctx)
    for name in ctx.meta[__name__]:
        reader.read(name, next(values[name]))
    return reader.finished()


class _Reader:
    """Takes up prompt options one after the other."""

    def __init__(self, ctx: click.Context) -> None:
        self._ctx = ctx
        self._prompts: dict[tuple[int, int], ObjectPrompt] = {}
        self._obj_id, self._frame_idx = 1, 0
        #: an object and a frame that were named, and have no prompt yet
        self._idle_object: str | None = None
        self._idle_frame: str | None = None

    def read(self, name: str, value: Any) -> None:
        if name == "object":
            self._refuse(self._idle_frame or self._idle_object)
            self._obj_id, self._frame_idx = value, 0
            self._idle_object, self._idle_frame = f"--object {value}", None
        elif name == "frame":
            self._refuse(self._idle_frame)
            self._frame_idx = value
            self._idle_frame = f"--object {self._obj_id} --frame {value}"
        else:
            self._idle_object = self._idle_frame = None
            self._prompt(name, value)

    def finished(self) -> list[ObjectPrompt]:
        self._refuse(self._idle_frame or self._idle_object)
        if not self._prompts:
            self._ctx.fail(NO_PROMPT)
        return list(self._prompts.values())

    def _prompt(self, name: str, value: Any) -> None:
        key = self._obj_id, self._frame_idx
        prompt = self._prompts.get(key, ObjectPrompt(*key))
        if name == "point":
            x, y, label = value
            prompt = replace(prompt, points=(*prompt.points, (x, y, int(label))))
        elif prompt.box is not None:
            self._ctx.fail(f"two boxes for object {key[0]} on frame {key[1]}: give one")
        else:
            prompt = replace(prompt, box=value)
        self._prompts[key] = prompt

    def _refuse(self, idle: str | None) -> None:
        if idle is not None:
            self._ctx.fail(f"{idle} has no --point or --box after it")
