"""Prompts on a command line: clicks and boxes in the order in which they were given."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

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


@dataclass
class Prompt:
    """What is asked for one object on one frame; coordinates are pixels of the frame."""

    obj_id: int
    frame_idx: int
    #: x, y and label (1 object, 0 background) of each click
    points: list[tuple[float, float, int]] = field(default_factory=list)
    #: x0, y0, x1, y1
    box: tuple[float, float, float, float] | None = None


class PromptCommand(click.Command):
    """A command whose prompt options count in the order in which they were given."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        _, _, order = self.make_parser(ctx).parse_args(args=list(args))
        ctx.meta[__name__] = [p.name for p in order if p.name in _PROMPTS]
        return super().parse_args(ctx, args)


def ordered_prompts(ctx: click.Context) -> list[Prompt]:
    """The prompts of a :class:`PromptCommand`: `--object` and `--frame` hold for what follows.

    Object 1 on frame 0 is meant until they say otherwise; `--object` goes back to frame 0.
    Raises a usage error when an object or a frame is named without any prompt.
    """
    values: dict[str, Iterator[Any]] = {n: iter(ctx.params[n] or ()) for n in _PROMPTS}
    prompts: dict[tuple[int, int], Prompt] = {}
    obj_id, frame_idx = 1, 0
    idle: str | None = None
    for name in ctx.meta[__name__]:
        value = next(values[name])
        if name == "object":
            _refuse_idle(ctx, idle)
            obj_id, frame_idx = value, 0
            idle = f"--object {value}"
            continue
        if name == "frame":
            _refuse_idle(ctx, idle if idle and "--frame" in idle else None)
            frame_idx = value
            idle = f"--object {obj_id} --frame {value}"
            continue
        idle = None
        prompt = prompts.setdefault((obj_id, frame_idx), Prompt(obj_id, frame_idx))
        if name == "box":
            if prompt.box is not None:
                ctx.fail(f"two boxes for object {obj_id} on frame {frame_idx}: give one")
            prompt.box = value
        else:
            x, y, label = value
            prompt.points.append((x, y, int(label)))
    _refuse_idle(ctx, idle)
    if not prompts:
        ctx.fail(NO_PROMPT)
    return list(prompts.values())


def _refuse_idle(ctx: click.Context, idle: str | None) -> None:
    if idle is not None:
        ctx.fail(f"{idle} has no --point or --box after it")
