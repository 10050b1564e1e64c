"""Prompts on a command line: clicks, boxes and masks in the order in which they were given."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ..runtime.tasks.prompt_file import load_prompts, mask_of, masks_of_ids
from ..runtime.tasks.prompts import MaskRuns, ObjectPrompt

F = TypeVar("F", bound=Callable[..., Any])

if TYPE_CHECKING:
    NumbersBase = click.ParamType[tuple[float, ...]]
else:  # not generic in older versions of click
    NumbersBase = click.ParamType

NO_PROMPT = (
    "nothing to look for: give a --point x,y, a --box x0,y0,x1,y1, a --mask FILE, or --prompts FILE"
)
#: options that count in their order
_PROMPTS = ("object", "frame", "point", "box", "mask", "mask_ids")


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


class _File(click.Path):
    """The name of a file; an empty one, as a variable that is not set gives, is none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail("the name is empty: expected a file", param, ctx)
        return super().convert(value, param, ctx)


_FILE = _File()
_FILE_OR_STDIN = _File(allow_dash=True)
_OBJECT = "Id of the object that the prompts after it are for.  [default: 1]"
_FRAME = "Frame that the prompts after it are on, from 0.  [default: 0]"
_POINT = "Click in pixels; label 1 is on the object (the default), 0 on the background."
_BOX = "Box around the object, in pixels."
_MASK = "Mask of the object: an image of 0 with 1 or 255, or a .json file of COCO's run lengths."
_MASK_IDS = "Image whose pixel values are object ids, each of which becomes an object."
_PROMPT_FILE = "JSON file of prompts, in addition to those given here; - reads standard input."


class PromptCommand(click.Command):
    """A command whose prompt options count in the order in which they were given."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        _, _, order = self.make_parser(ctx).parse_args(args=list(args))
        ctx.meta[__name__] = [p.name for p in order if p.name in _PROMPTS]
        return super().parse_args(ctx, args)


def prompt_options(frames: bool) -> Callable[[F], F]:
    """Adds the prompts of a :class:`PromptCommand`; with `frames` they lie on frames."""
    options = [
        click.option("--object", multiple=True, type=int, help=_OBJECT),
        *([click.option("--frame", multiple=True, type=click.IntRange(0), help=_FRAME)] * frames),
        click.option("--point", multiple=True, type=POINT, help=_POINT),
        click.option("--box", multiple=True, type=BOX, help=_BOX),
        click.option("--mask", multiple=True, type=_FILE, help=_MASK),
        click.option("--mask-ids", multiple=True, type=_FILE, help=_MASK_IDS),
        click.option("--prompts", type=_FILE_OR_STDIN, help=_PROMPT_FILE),
    ]

    def add(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return add


def ordered_prompts(ctx: click.Context) -> list[ObjectPrompt]:
    """The prompts of a :class:`PromptCommand`: `--object` and `--frame` hold for what follows.

    Object 1 on frame 0 is meant until they say otherwise; `--object` goes back to frame 0.
    Raises a usage error when an object or a frame is named without any prompt, and InputError for
    files that cannot be used.
    """
    return _read(ctx, _Reader(ctx))


def named_prompts(ctx: click.Context) -> str | None:
    """The first option of a :class:`PromptCommand` that brings a prompt, or None."""
    order = ctx.meta[__name__]
    if order:
        return f"--{order[0].replace('_', '-')}"
    return "--prompts" if ctx.params.get("prompts") is not None else None


def image_prompts(ctx: click.Context) -> list[ObjectPrompt]:
    """As :func:`ordered_prompts`; boxes without any `--object` are objects 1, 2, ... each."""
    order = ctx.meta[__name__]
    if order.count("box") < 2 or "object" in order:
        return ordered_prompts(ctx)
    if set(order) != {"box"}:
        ctx.fail(
            f"{order.count('box')} boxes make as many objects, and the other prompts cannot tell "
            "whose they are: give --object before each object's, one box, or boxes alone"
        )
    return _read(ctx, _EachBox(ctx))


def _read(ctx: click.Context, reader: _Reader) -> list[ObjectPrompt]:
    values: dict[str, Iterator[Any]] = {n: iter(ctx.params.get(n) or ()) for n in _PROMPTS}
    for name in ctx.meta[__name__]:
        reader.read(name, next(values[name]))
    return reader.finished(ctx.params.get("prompts"))


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
        elif name == "mask_ids":
            # the image names its objects
            self._refuse(self._idle_object)
            self._idle_frame = None
            for obj_id, mask in masks_of_ids(value).items():
                self._add(obj_id, "mask", mask, f"--mask-ids {value}")
        else:
            self._idle_object = self._idle_frame = None
            if name == "mask":
                self._add(self._obj_id, name, mask_of(value), f"--mask {value}")
            else:
                self._add(self._obj_id, name, value)

    def finished(self, file: str | None) -> list[ObjectPrompt]:
        self._refuse(self._idle_frame or self._idle_object)
        found = list(self._prompts.values())
        for prompt in load_prompts(file) if file is not None else ():
            if (prompt.obj_id, prompt.frame_idx) in self._prompts:
                self._ctx.fail(
                    f"{prompt.where} has a prompt among the options too: leave out one of the two"
                )
            found.append(prompt)
        if not found:
            self._ctx.fail(NO_PROMPT)
        return found

    def _add(self, obj_id: int, name: str, value: Any, place: str = "") -> None:
        key = obj_id, self._frame_idx
        prompt = self._prompts.get(key, ObjectPrompt(*key))
        # errors name a file, where one was given
        prompt = replace(prompt, place=place or prompt.place)
        self._prompts[key] = self._with(prompt, name, value)

    def _with(self, prompt: ObjectPrompt, name: str, value: Any) -> ObjectPrompt:
        if name == "point":
            x, y, label = value
            return replace(prompt, points=(*prompt.points, (x, y, int(label))))
        earlier: tuple[float, ...] | MaskRuns | None
        earlier = prompt.box if name == "box" else prompt.mask
        if earlier is not None:
            what = "boxes" if name == "box" else "masks"
            self._ctx.fail(f"two {what} for {prompt.where}: give one, or --object before each")
        return replace(prompt, box=value) if name == "box" else replace(prompt, mask=value)

    def _refuse(self, idle: str | None) -> None:
        if idle is not None:
            self._ctx.fail(f"{idle} has no --point, --box or --mask after it")


class _EachBox(_Reader):
    """Takes up boxes that are one object each."""

    def read(self, name: str, value: Any) -> None:
        super().read(name, value)
        self._obj_id += 1
