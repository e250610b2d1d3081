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

FOOT = """
## `--shrink`

Each level is made from the next larger one: four pixels become one.

| method | the pixel | for |
|---|---|---|
| `mean` | the mean of the four values of each band | images of any kind; the fastest |
| `linear` | the mean of their light | night skies, lamps, thin bright lines, fine patterns |
| `nearest` | the top left one | masks and labels |
| `mode` | the most frequent one, else the first of these | masks and labels |
| `max`, `min` | the largest or smallest value of each band | spots that must stay visible |
| `median` | one of the two middle values of each band | images with wrong single pixels |

- **`linear`**: values of images are not proportional to light; in sRGB 137 is a quarter of the
  light of 255, where the mean of one white and three black pixels is 64. Values become light by a
  curve, and the mean of light a value: the one whose light is nearest. The curve is that of the
  samples that levels hold: of the image's profile, each band its own. It is that of sRGB without a
  profile (also for data that `--window` maps), with `--icc drop`, and where samples are converted
  to sRGB before levels are made: grey, and RGB of 16 bits, with `--icc srgb`. Profiles of tables
  have no curves: such images, and CMYK with a profile, are refused; with `--icc drop` they are
  taken as sRGB, and CMYK becomes RGB.
- **Rounding.** Levels are stored in 8 bits (16-bit grey tiles in 16), and each is made from the
  stored one. So each level adds half a value to the error at most, as with `mean`. With curves
  steeper than a power of 2.4 the darkest five values may be two off. Four equal pixels stay as they
  are, in every method.
- **Alpha.** `mean` and `linear` weight colours by alpha. For `nearest` and `mode` alpha is part of
  the pixel. For `max`, `min` and `median` alpha is a band as the others, and a transparent pixel
  has no colour.
- `median` is the smaller one of the larger values of both rows, as in libvips.
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
    return HEAD + "".join(f"| {line} |\n" for line in lines) + FOOT


if __name__ == "__main__":
    print(options_page(), end="")
