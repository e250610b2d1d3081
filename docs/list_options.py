"""Print docs/OPTIONS.md: a Markdown table of the options, from the fields of CutOptions."""

from __future__ import annotations

from fasttile.options.cut import default_text, option_table

HEAD = """\
# Options

The fields of `fasttile.CutOptions`: keywords of the Python functions, and flags of the commands
`cut`, `verify`, `collection` and `view`. The command `collection` has no `--overlap` and
`--region`; only `cut` takes `--page all`. This page is the output of `python docs/list_options.py`.

| keyword | flag | default | commands | meaning |
|---|---|---|---|---|
"""


def options_page() -> str:
    """The text of docs/OPTIONS.md."""
    lines = []
    for name, option in option_table("cut").items():
        info = option.metadata
        value = info["metavar"] or "|".join(map(str, info["choices"]))
        if info["const"] is not None:
            value = f"[{value}]"
        flag = f"--{name.replace('_', '-')} {value}".strip()
        cells = [
            f"`{name}`",
            f"`{flag}`",
            default_text(option) or ("off" if option.default is False else "none"),
            ", ".join(info["commands"]),
            info["help"].replace("<", "&lt;"),
        ]
        if different := info["verify_default_text"]:
            cells[2] += f"; of verify: {different}"
        lines.append(" | ".join(cell.replace("|", r"\|") for cell in cells))
    return HEAD + "".join(f"| {line} |\n" for line in lines)


if __name__ == "__main__":
    print(options_page(), end="")
