"""What goes wrong, as one line on standard error and an exit code."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import FasttileError, OptionError

EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130


class Outcome:
    """The exit code of what went on in a `telling` block."""

    code = 0


@contextmanager
def telling(verbose: bool) -> Iterator[Outcome]:
    """Turn whatever goes wrong inside into one line on standard error and an exit code."""
    outcome = Outcome()
    try:
        yield outcome
    except OptionError as error:
        outcome.code = fail(str(error), EXIT_USAGE, verbose)
    except FasttileError as error:
        outcome.code = fail(str(error), EXIT_FAILED, verbose)
    except BrokenPipeError:
        raise
    except MemoryError:
        outcome.code = fail("there is not enough memory", EXIT_FAILED, verbose)
    except OSError as error:
        text = f"the system refused: {error.strerror or error} (--verbose shows where)"
        outcome.code = fail(text, EXIT_FAILED, verbose)
    except Exception as error:
        text = f"unexpected {type(error).__name__}: {error} (--verbose shows where)"
        outcome.code = fail(text, EXIT_FAILED, verbose)


def fail(text: str, code: int, verbose: bool = False) -> int:
    if verbose:
        import traceback

        traceback.print_exc()
    say(text)
    return code


def say(text: str) -> None:
    """One line on standard error."""
    line = " ".join(text.split())  # a file's name may hold anything, a line break too
    print(f"fasttile: {line}", file=sys.stderr)
