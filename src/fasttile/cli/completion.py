"""Completion scripts for bash, zsh and fish, and the manual page, made from the parsers."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from dataclasses import dataclass

from fasttile.encode.codecs import CODECS
from fasttile.layouts import LAYOUTS
from fasttile.options.cut import VIEWER_NAMES

_FIRST_PARTS = {
    "--layout": tuple(LAYOUTS),
    "--format": tuple(CODECS),
    "--viewer": VIEWER_NAMES,
    "--workers": ("dask://",),
}
"""Beginnings of the values of options."""

_NO_FILES = ("N", "COLOUR", "1-100", "THRESHOLD", "SECONDS", "X,Y,W,H", "W,H")
"""Placeholders of values that are no names of files."""


@dataclass(frozen=True)
class _Option:
    """An option.

    Attributes:
        flags: Its names: "-o", "--output".
        help: One line.
        takes_value: True if a value follows.
        choices: Values that are known.
        takes_file: True if the value is a name of a file or a folder.
    """

    flags: tuple[str, ...]
    help: str
    takes_value: bool
    choices: tuple[str, ...]
    takes_file: bool


@dataclass(frozen=True)
class _Command:
    """A command and all below it.

    Attributes:
        path: Its names from the program on, without it: ("collection", "create").
        help: One line.
        options: Its options.
        commands: The names of the commands below it, with a line of help for each.
        takes_file: True if a positional argument is a name of a file.
    """

    path: tuple[str, ...]
    help: str
    options: tuple[_Option, ...]
    commands: dict[str, str]
    takes_file: bool


def completion_script(parser: argparse.ArgumentParser, shell: str) -> str:
    """The script that completes the arguments of `fasttile` in a shell.

    Args:
        parser: The parser with all commands.
        shell: "bash", "zsh" or "fish".
    """
    commands = [_command(*found) for found in command_parsers(parser)]
    return {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell](commands)


def command_parsers(
    parser: argparse.ArgumentParser, path: tuple[str, ...] = (), help: str = ""
) -> Iterator[tuple[argparse.ArgumentParser, tuple[str, ...], str]]:
    """The parser of a command, its names and its line of help; then those of the commands below."""
    yield parser, path, help
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            helps = _command_helps(action)
            for name, command in action.choices.items():
                yield from command_parsers(command, (*path, name), helps[name])


def _command_helps(action: argparse._SubParsersAction[argparse.ArgumentParser]) -> dict[str, str]:
    """The names of the commands of a parser, with a line of help for each."""
    return {choice.dest: choice.help or "" for choice in action._choices_actions}


def _command(parser: argparse.ArgumentParser, path: tuple[str, ...], help: str) -> _Command:
    options: list[_Option] = []
    helps: dict[str, str] = {}
    takes_file = False
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            helps = _command_helps(action)
        elif action.option_strings:
            options.append(_option(action))
        else:
            takes_file = True
    return _Command(path, help, tuple(options), helps, takes_file)


def _option(action: argparse.Action) -> _Option:
    # Not of "?": what follows it may be another argument.
    takes_value = action.nargs is None and not isinstance(action, argparse.BooleanOptionalAction)
    flags = tuple(action.option_strings)
    choices = tuple(map(str, action.choices or ()))
    for flag in flags:
        choices = choices or _FIRST_PARTS.get(flag, ())
    form = action.metavar if isinstance(action.metavar, str) else ""
    if not choices:
        choices = tuple(part for part in form.split("|") if part.islower())
    takes_file = takes_value and not choices and form not in _NO_FILES and "x" not in form
    return _Option(flags, _help_of(action), takes_value, choices, takes_file)


def _bash(commands: list[_Command]) -> str:
    cases = []
    for command in commands:
        lines = [f'    "{" ".join(command.path)}")', '      case "$previous" in']
        for option in command.options:
            if option.takes_value:
                names, values = "|".join(option.flags), " ".join(option.choices)
                files = " takes_file=1" * option.takes_file
                lines.append(f"        {names}) values='{values}'{files};;")
        flags = " ".join(flag for option in command.options for flag in option.flags)
        lines += ["      esac", f"      flags='{flags}' commands='{' '.join(command.commands)}';;"]
        cases.append("\n".join(lines))
    below = " ".join(f'"{" ".join(command.path)}"' for command in commands if command.path)
    return _BASH.replace("CASES", "\n".join(cases)).replace("PATHS", below)


_BASH = """\
# bash completion of fasttile. In ~/.bashrc:  eval "$(fasttile --completion bash)"
_fasttile() {
  local current="${COMP_WORDS[COMP_CWORD]}" previous="${COMP_WORDS[COMP_CWORD-1]}"
  local path="" word flags="" commands="" takes_file="" known index values=unset
  for ((index = 1; index < COMP_CWORD; index++)); do
    word="${COMP_WORDS[index]}"
    for known in PATHS; do
      if [[ "$known" == "${path:+$path }$word" ]]; then path="$known"; fi
    done
  done
  # "=" and ":" separate words in bash.
  if [[ "$current" == "=" ]]; then current=""; fi
  if [[ "$previous" == "=" ]]; then previous="${COMP_WORDS[COMP_CWORD-2]}"; fi
  case "$path" in
CASES
  esac
  COMPREPLY=()
  if [[ "$values" != unset ]]; then
    if [[ -n "$takes_file" ]]; then compopt -o default 2>/dev/null; return; fi
    COMPREPLY=($(compgen -W "$values" -- "$current"))
    if [[ "${COMPREPLY[*]}" == *:// ]]; then compopt -o nospace 2>/dev/null; fi
  elif [[ "$current" == -* ]]; then
    COMPREPLY=($(compgen -W "$flags" -- "$current"))
  elif [[ -n "$commands" ]]; then
    COMPREPLY=($(compgen -W "$commands" -- "$current"))
  else
    compopt -o default 2>/dev/null
  fi
}
complete -F _fasttile fasttile
"""


def _zsh(commands: list[_Command]) -> str:
    functions = []
    for command in commands:
        name = "_".join(("_fasttile", *command.path))
        lines = [f"{name}() {{", "  local context state state_descr line", "  typeset -A opt_args"]
        specs = [spec for option in command.options for spec in _zsh_specs(option)]
        if command.commands:
            specs += ["'1: :->command'", "'*:: :->arguments'"]
        elif command.takes_file:
            specs.append("'*:file:_files'")
        lines.append("  _arguments -s \\\n    " + " \\\n    ".join(specs))
        if command.commands:
            described = " ".join(
                _zsh_quote(f"{name}:{help}") for name, help in command.commands.items()
            )
            lines.append(
                f"  case $state in\n    command) local -a commands=({described})\n"
                "      _describe command commands;;\n"
                f"    arguments) (( $+functions[{name}_$line[1]] )) && {name}_$line[1];;\n  esac"
            )
        functions.append("\n".join([*lines, "}"]))
    head = (
        "#compdef fasttile\n"
        '# zsh completion of fasttile. In ~/.zshrc, after compinit:  eval "$(fasttile '
        '--completion zsh)"\n'
    )
    tail = (
        '\nif [[ $funcstack[1] == _fasttile ]]; then _fasttile "$@"\n'
        "else compdef _fasttile fasttile; fi\n"
    )
    return head + "\n".join(functions) + tail


def _zsh_specs(option: _Option) -> Iterator[str]:
    help = re.sub(r"([][:\\])", r"\\\1", option.help)
    value = ""
    if option.takes_file:
        value = ":file:_files"
    elif option.takes_value:
        value = f":value:({' '.join(option.choices)})" if option.choices else ":value: "
    for flag in option.flags:
        sign = "=" if value and flag.startswith("--") else ""
        yield _zsh_quote(f"{flag}{sign}[{help}]{value}")


def _zsh_quote(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _fish(commands: list[_Command]) -> str:
    lines = [
        "# fish completion of fasttile. In ~/.config/fish/config.fish:",
        "#   fasttile --completion fish | source",
        "complete -c fasttile -f",
    ]
    for command in commands:
        # The commands of this path are there, and none of those below it.
        tests = [f"__fish_seen_subcommand_from {name}" for name in command.path]
        if command.commands:
            tests.append(f"not __fish_seen_subcommand_from {' '.join(command.commands)}")
        where = f"complete -c fasttile -n {_fish_quote('; and '.join(tests))}"
        lines += [
            f"{where} -a {name} -d {_fish_quote(help)}" for name, help in command.commands.items()
        ]
        if command.takes_file:
            lines.append(f"{where} -F")
        for option in command.options:
            flags = " ".join(
                f"-l {flag[2:]}" if flag.startswith("--") else f"-s {flag[1:]}"
                for flag in option.flags
            )
            value = ""
            if option.takes_file:
                value = " -r -F"
            elif option.takes_value:
                value = f" -x -a {_fish_quote(' '.join(option.choices))}"
            lines.append(f"{where} {flags} -d {_fish_quote(option.help)}{value}")
    return "\n".join(lines) + "\n"


def _fish_quote(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def manual_page(parser: argparse.ArgumentParser, version: str) -> str:
    """The manual page fasttile(1), for man: all commands with all options.

    Args:
        parser: The parser with all commands.
        version: The program's version.

    Source: groff_man(7).
    """
    lines = [
        f'.TH FASTTILE 1 "" "fasttile {version}" "User Commands"',
        ".SH NAME",
        "fasttile \\- cut images of any size into pyramids of tiles",
        ".SH SYNOPSIS",
        ".B fasttile",
        "COMMAND [OPTION]... [ARGUMENT]...",
        ".SH DESCRIPTION",
        _roff(parser.description or ""),
    ]
    for command, path, help in command_parsers(parser):
        if path:
            lines += [f".SH {_roff(command.prog.upper())}", _roff(help)]
        for group in command._action_groups:
            actions = [
                action
                for action in group._group_actions
                if not isinstance(action, argparse._SubParsersAction)
            ]
            if not actions:
                continue
            lines.append(f".SS {_roff(str(group.title).capitalize())}")
            for action in actions:
                lines += [".TP", f".B {_roff(_invocation(action))}", _roff(_help_of(action))]
        if command.epilog:
            lines += [".SS Examples", ".nf", *map(_roff, command.epilog.splitlines()[1:]), ".fi"]
    lines += [
        ".SH EXIT STATUS",
        "0 if all went well; 1 if an image failed; 2 for wrong usage; 130 after Ctrl-C.",
    ]
    return "\n".join(lines) + "\n"


def _invocation(action: argparse.Action) -> str:
    form = action.metavar if isinstance(action.metavar, str) else ""
    if action.choices:
        form = "|".join(map(str, action.choices))
    if not action.option_strings:
        return form or action.dest.upper()
    takes_value = action.nargs != 0 and not isinstance(action, argparse.BooleanOptionalAction)
    return ", ".join(action.option_strings) + (f" {form or 'VALUE'}" if takes_value else "")


def _help_of(action: argparse.Action) -> str:
    return re.sub(r"\s+", " ", (action.help or "").replace("%%", "%"))


def _roff(text: str) -> str:
    r"""A text for groff: no line begins with a command, and minus signs stay what they are."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{escaped}" if escaped[:1] in (".", "'") else escaped
