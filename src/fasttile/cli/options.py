"""Arguments of the commands, generated from the options table."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Callable, Collection, Sequence
from functools import partial
from itertools import takewhile
from typing import TYPE_CHECKING, Any, NoReturn

from fasttile.cli.output import print_version, write_text
from fasttile.errors import OptionError, did_you_mean, redact_url

if TYPE_CHECKING:
    from fasttile.options.cut import OptionGroup


class CommandParser(argparse.ArgumentParser):
    """A parser that raises an OptionError of one line for wrong usage.

    The parser of the chosen command is the value `parser` of its result.
    """

    def __init__(self, **keywords: Any) -> None:
        # add_argument makes formatters too: without a width, they import shutil to find it.
        narrow = partial(argparse.RawDescriptionHelpFormatter, width=80)
        super().__init__(formatter_class=narrow, **keywords)
        self.set_defaults(parser=self)

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str], namespace: Any = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse arguments; the name of an option with one dash is wrong usage.

        Argparse takes "-output" for "-o utput".
        """
        for argument in takewhile("--".__ne__, args):
            name = argument.partition("=")[0]
            if re.fullmatch("-[a-z][a-z-]+", name) and f"-{name}" in _long_names(self):
                raise _unknown_option_error(name, self)
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """Raise the error of a message of argparse."""
        for pattern, explain in _EXPLANATIONS:
            if match := re.fullmatch(pattern, message, re.DOTALL):
                raise OptionError(explain(*match.groups(), self.prog))
        raise OptionError(f"{message}; see {self.prog} --help")

    def print_help(self, file: Any = None) -> None:
        """Print the help; argparse does not report that it cannot be written."""
        self.formatter_class = argparse.RawDescriptionHelpFormatter  # as wide as the terminal
        write_text(self.format_help())


class PrintVersion(argparse.Action):
    """Prints the version; argparse's own action does not report that it cannot be written."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        print_version()
        parser.exit()


class PrintCompletion(argparse.Action):
    """Prints the completion script of a shell, for all commands."""

    def __call__(self, parser: argparse.ArgumentParser, _: object, shell: Any, *__: object) -> None:
        from fasttile.cli.completion import completion_script

        write_text(completion_script(parser, shell))
        parser.exit()


def _flag(names: str) -> str:
    """The long name of an option of argparse's "-o/--output"."""
    return names.rpartition("/")[2]


def _expected_form(flag: str) -> str:
    """The form of an option's value, for messages; "" if it is unknown."""
    from fasttile.options.cut import option_table

    option = option_table("cut").get(flag.lstrip("-").replace("-", "_"))
    if option is None:
        return ""
    metadata = option.metadata
    return str(metadata["metavar"] or ", ".join(map(str, metadata["choices"])))


def _explain_missing_value(names: str, program: str) -> str:
    flag = _flag(names)
    return f"{flag}: its value is missing; expected {_expected_form(flag) or 'one after it'}"


def _explain_wrong_number(names: str, value: str, program: str) -> str:
    flag = _flag(names)
    form = _expected_form(flag).removeprefix("N") or "one such as 12"
    return f"{flag} {value!r}: not a whole number; expected {form}"


def _explain_choice(names: str, value: str, choices: str, program: str) -> str:
    known = [choice.strip(" '") for choice in choices.split(",")]
    if names == "COMMAND" and (os.path.lexists(value) or not value.isalpha()):
        import shlex

        return f"{value!r} is no command; did you mean {program} cut {shlex.quote(value)}?"
    listed = f"{', '.join(known[:-1])} or {known[-1]}"
    text = f"{_flag(names)} {value!r}: unknown; expected {listed}"
    return f"{text}{did_you_mean(value, known)}"


def _explain_missing_arguments(names: str, program: str) -> str:
    return f"{names} missing; see {program} --help"


def _explain_extra_value(names: str, value: str, program: str) -> str:
    return f"{_flag(names)} takes no value; leave {value!r} out"


_EXPLANATIONS: list[tuple[str, Callable[..., str]]] = [
    (r"argument (\S+): expected (?:at least )?one argument", _explain_missing_value),
    (r"argument (\S+): invalid int value: '(.*)'", _explain_wrong_number),
    (r"argument (\S+): invalid choice: '?(.*?)'? \(choose from (.*)\)", _explain_choice),
    (r"argument (\S+): ignored explicit argument '(.*)'", _explain_extra_value),
    (r"the following arguments are required: (.*)", _explain_missing_arguments),
    (r"argument (\S+): (.*)", lambda names, text, program: f"{_flag(names)}: {text}"),
]
"""Messages of argparse, and functions of their parts and the program's name that replace them."""


def unknown_argument_error(
    arguments: Sequence[str], parser: argparse.ArgumentParser
) -> OptionError:
    """The error about arguments that a command does not take.

    Args:
        arguments: The arguments.
        parser: Parser of the command.
    """
    options = [argument for argument in arguments if argument.startswith("-")]
    if not options:
        return OptionError(f"{redact_url(arguments[0])!r}: one argument too many")
    return _unknown_option_error(options[0], parser)


def _unknown_option_error(argument: str, parser: argparse.ArgumentParser) -> OptionError:
    """The error about an option that a command does not have."""
    name = argument.partition("=")[0]
    known = _long_names(parser)
    advice = did_you_mean(name, known, cutoff=0.75) or f"; {parser.prog} --help lists all"
    return OptionError(f"{name}: unknown option{advice}")


def check_first_option(
    arguments: Sequence[str], parser: argparse.ArgumentParser, commands: Collection[str]
) -> None:
    """Refuse an option of a command before it, and one that no command has.

    Args:
        arguments: All arguments.
        parser: The parser of all commands.
        commands: Their names.

    Raises:
        OptionError: The first argument is such an option.
    """
    name = "".join(arguments[:1]).partition("=")[0]
    if not name.startswith("-"):
        return
    if any(known.startswith(name) for known in ("-h", *_long_names(parser))):
        return
    command = next((one for one in arguments if one in commands), None)
    if command is None:
        raise _unknown_option_error(name, parser)
    raise OptionError(f"{name}: it goes after the command, as in {parser.prog} {command} {name}")


def _long_names(parser: argparse.ArgumentParser) -> list[str]:
    """The names of a command's options with two dashes."""
    lines = re.findall("(?m)^  -.*", parser.format_help())
    return re.findall("--[a-z][a-z-]+", " ".join(lines))


def join_negative_values(arguments: Sequence[str]) -> list[str]:
    """Join options with values that begin with a minus, which argparse takes for options.

    Example:
        >>> join_negative_values(["--region", "-5,0,10,10", "a.tif"])
        ['--region=-5,0,10,10', 'a.tif']
    """
    joined: list[str] = []
    for argument in arguments:
        if (
            joined
            and re.fullmatch(_NEGATIVE_NUMBERS, argument)
            and _expected_form(joined[-1])
            and joined[-1].startswith("--")
        ):
            joined[-1] += f"={argument}"
        else:
            joined.append(argument)
    return joined


_NEGATIVE_NUMBERS = r"(?s)-[0-9.].*"


def add_command(commands: Any, name: str, summary: str, epilog: str = "") -> Any:
    """Add a subcommand; returns its parser."""
    return commands.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog=epilog,
    )


def add_options(
    container: Any, command: str, *groups: OptionGroup, leave_out: tuple[str, ...] = ()
) -> None:
    """Add the options that a command takes of some groups of the table.

    Args:
        container: Parser, or argument group of one.
        command: cut, verify, collection or view.
        groups: Groups of the options table.
        leave_out: Names of options that are not added.
    """
    from fasttile.options.cut import default_text, option_table

    for name, option in option_table(command).items():
        if option.metadata["group"] in groups and name not in leave_out:
            add_option(container, name, default=default_text(option, command))


def add_option(
    container: Any, name: str, *, help: str | None = None, default: str | None = None
) -> None:
    """Add one option of the table.

    Args:
        container: Parser, or argument group of one.
        name: Field of `CutOptions`.
        help, default: Descriptions of the option and of its default that replace those of the
            table.
    """
    from fasttile.options.cut import default_text, option_table

    option = option_table("cut")[name]
    info = option.metadata
    text = info["help"] if help is None else help
    if default := default_text(option) if default is None else default:
        text = f"{text} (default: {default})"
    if info["is_hidden"]:
        text = argparse.SUPPRESS
    flag = f"--{name.replace('_', '-')}"
    if isinstance(option.default, bool):
        container.add_argument(flag, action="store_true", help=text)
        return

    def parse(text: str) -> Any:
        try:
            return info["parse"](text)
        except OptionError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    # argparse names a type like int in its own error.
    is_type = isinstance(info["parse"], type)
    container.add_argument(
        flag,
        default=option.default,
        help=text,
        type=info["parse"] if is_type else parse,
        choices=info["choices"] or None,
        metavar=info["metavar"],
        **({} if info["const"] is None else {"nargs": "?", "const": info["const"]}),
    )


def add_size_option(container: Any) -> None:
    """Add --size, for results without a descriptor."""

    def parse(text: str) -> str:
        if not re.fullmatch("[1-9][0-9]{0,12},[1-9][0-9]{0,12}", text):
            raise argparse.ArgumentTypeError(f"{text!r} is not W,H in whole pixels")
        return text

    container.add_argument(
        "--size",
        metavar="W,H",
        type=parse,
        help="width and height of the image of a result without a descriptor, which is a folder of "
        "tiles such as site/map/{z}/{x}/{y}.png (default: up to its last tiles)",
    )


def with_size(path: str, args: argparse.Namespace) -> str:
    """The path of a result, with the size that --size gives."""
    return path if args.size is None else f"{path}#size={args.size}"


def add_verbose_option(container: Any) -> None:
    """Add --verbose, which every command has."""
    container.add_argument(
        "-v", "--verbose", action="store_true", help="show the traceback of an error"
    )


def add_output_options(container: Any) -> None:
    """Add the options that choose what a command prints: progress, quiet, verbose."""
    container.add_argument(
        "--progress",
        action=argparse.BooleanOptionalAction,
        help="show the progress on standard error: bars on a terminal, else a line every 30 s "
        "(default: on a terminal, in CI and in notebooks)",
    )
    container.add_argument("-q", "--quiet", action="store_true", help="print only what is wrong")
    add_verbose_option(container)
