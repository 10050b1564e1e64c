"""Runs the command ``sam2rt`` and prints errors as one line.

Exit codes: 0 done, 1 an error of ours or of the system, 2 wrong usage, 130 interrupted,
143 terminated, 129 hung up.
"""

from __future__ import annotations

import io
import os
import re
import sys
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..configs.errors import Sam2rtError, means_low_memory, printable
from ..configs.extras import extras_of
from ..configs.remedies import remedy_of
from .signals import Ended, ending_signals

if TYPE_CHECKING:
    import click

INTERRUPTED = 130


def command_group() -> click.Group:
    """The group ``sam2rt`` with every command. Raises MissingExtraError without click."""
    with extras_of("the command line"):
        from .group import make_group
    return make_group()


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line `args` (default: the process's own) and exit."""
    _take_any_letter()
    try:
        with warnings.catch_warnings():
            if not sys.warnoptions:
                # they are for programmers, such as Pillow's about images of 90 megapixels
                warnings.simplefilter("ignore")
            with ending_signals():
                code = _run(sys.argv[1:] if args is None else list(args))
        # None where the caller closed it
        if sys.stdout is not None:
            sys.stdout.flush()
    except KeyboardInterrupt as error:
        code = _ended_by(error)
    except Sam2rtError as error:
        signalled = _interruption(error)
        code = _ended_by(signalled) if signalled else _fail(_in_options(str(error)), 1)
    except BrokenPipeError:
        # the reader of our output has gone, as 'sam2rt inspect BUNDLE | head' does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except Exception as error:
        code = _unexpected(error)
    sys.exit(code)


def _take_any_letter() -> None:
    """A letter that a pipe's or terminal's encoding lacks is escaped: the work it tells of is done.

    So it is with pipes on Windows, whose encoding is that of the country.
    """
    out = sys.stdout
    if isinstance(out, io.TextIOWrapper) and not out.encoding.lower().startswith("utf"):
        out.reconfigure(errors="backslashreplace")


def _interruption(error: BaseException) -> KeyboardInterrupt | None:
    """The signal that an error comes of: one amid an import makes the package fail to load."""
    found: BaseException | None = error
    while found is not None and not isinstance(found, KeyboardInterrupt):
        found = found.__cause__ or found.__context__
    return found


def _ended_by(error: KeyboardInterrupt) -> int:
    if isinstance(error, Ended):
        return _fail(error.what, error.code)
    return _fail("interrupted", INTERRUPTED)


def _run(args: list[str]) -> int:
    group = command_group()
    import click

    from .completion import asked_by_shell

    if (code := asked_by_shell(group, "sam2rt")) is not None:
        return code
    # click's own main() would print a blank line on Ctrl-C and hide which error it was
    try:
        with extras_of(f"'{_named(group, args)}'"), group.make_context("sam2rt", args) as context:
            group.invoke(context)
    except click.exceptions.Exit as request:
        return request.exit_code
    except click.exceptions.Abort:
        raise KeyboardInterrupt from None
    except click.ClickException as error:
        if isinstance(error, click.exceptions.NoArgsIsHelpError):
            error.show()
            return error.exit_code
        where = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else ""
        hint = f" (see '{where} --help')" if where else ""
        return _fail(error.format_message().rstrip(".") + hint, error.exit_code)
    return 0


def _named(group: click.Group, args: Sequence[str]) -> str:
    """The command that `args` name, as it is typed."""
    return " ".join(["sam2rt", *[word for word in args if word in group.commands][:1]])


def _unexpected(error: Exception) -> int:
    """The code of what the system or another library raised; raises it again if it is a fault."""
    if means_low_memory(error):
        what = f" ({error})" if str(error) else ""
        return _fail(f"not enough memory{what}: ask for less at a time, or free some", 1)
    if isinstance(error, OSError):
        remedy = remedy_of(error, "")
        return _fail(f"{error}: {remedy}" if remedy else str(error), 1)
    raise error


def _in_options(message: str) -> str:
    """A message of the library in the words of the command line."""
    message = re.sub(r"on_error='(\w+)' or '(\w+)'", r"--on-error \1 or \2", message)
    return re.sub(r"(on_error|device|backend)='(\w+)'", _as_option, message)


def _as_option(match: re.Match[str]) -> str:
    return f"--{match[1].replace('_', '-')} {match[2]}"


def _fail(message: str, code: int) -> int:
    # print takes None for standard output
    if sys.stderr is not None:
        # names of files may hold what a terminal obeys
        print("sam2rt: " + printable(" ".join(message.split())), file=sys.stderr)
    return code
