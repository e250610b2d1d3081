"""Fenced blocks of the documentation site, and the comments that say how tests run them.

A block is run by the tests, with all others of its page, in their order and in one folder:

- `console`: each line `$ COMMAND`; the lines below it, if there are any, are its output.
- `sh`: a script.
- `python`: all blocks of a page share their names; one with `if __name__ == "__main__":` is a
  program of its own.
- `text` directly after one of `sh` or `python`: its output.
- `html`: is a page of its own in the folder `site`, which is https://example.org/ in a Chromium
  without network; it has to show the image `quarters` (tests/site/test_site_snippets.py). Scripts
  of cdn.jsdelivr.net are those of tests/browser/node_modules.
- `json`: is parsed.

In an output, `…` is any text of a line, a line `…` any number of lines, and numbers before a unit
(`0.2 s`, `12 MP/s`, `4.1 kB`) may differ.

Comments of Markdown say more. Before a block, each on its own line:

- `<!-- not run: REASON -->`: its commands are parsed only.
- `<!-- tested by: tests/PATH.py -->`: another test runs it; here its commands are parsed.
- `<!-- exit code: N -->`: of its last command.
- `<!-- save as: NAME -->`: it is the text of a file, which is there before any block runs.
- `<!-- served: ADDRESS=FOLDER -->`: in place of `https://example.org/=site`, for `html`.
- `<!-- requests: NAME, NAME -->`: `html` requests files of such names; it does not show `quarters`.

Anywhere in a page:

- `<!-- files: photo.jpg, height.tif float, scans/a.tif 300x200 -->`: what `doc_images` makes.
- `<!-- page tested by: tests/PATH.py -->`: for all blocks of a page.

Paths below /srv are in the folder of the test.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"

SHELLS = ("console", "sh", "bash")

FENCE = re.compile(
    r"^(?P<indent> *)(?P<fence>`{3,})(?P<info>[^`\n]*)\n(?P<text>.*?)^(?P=indent)(?P=fence) *$",
    re.M | re.S,
)
_COMMENT = re.compile(r"<!-- *([a-z ]+): *(.*?) *-->", re.S)
_COMMENTS_BEFORE = re.compile(r"((?:^ *<!--(?:(?!-->).)*-->\s*)+)\Z", re.M | re.S)
_BLOCK_COMMENTS = {"not run", "tested by", "exit code", "save as", "served", "requests"}
_PAGE_COMMENTS = {"files", "page tested by", "words"}


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        page: Path of its page below docs/.
        line: Number of the line of its fence.
        language: The first word after the fence.
        text: Its lines, without their common indent.
        comments: Values of the comments before it, by their names.
        output: The text of a `text` block that directly follows.
    """

    page: str
    line: int
    language: str
    text: str
    comments: dict[str, str]
    output: str | None = None

    @property
    def is_run(self) -> bool:
        """True if the tests run it with its page."""
        return not {"not run", "tested by", "save as"} & set(self.comments)

    @property
    def place(self) -> str:
        """For messages."""
        return f"docs/{self.page}:{self.line}"


@dataclass(frozen=True)
class DocPage:
    """A page of the site.

    Attributes:
        name: Its path below docs/.
        blocks: Its fenced blocks, without those that are the output of another.
        files: What the page's commands expect to find: `NAME [KIND] [WIDTHxHEIGHT]`.
    """

    name: str
    blocks: list[Block]
    files: list[str] = field(default_factory=list)

    @property
    def is_long(self) -> bool:
        """True if `make long` runs its blocks, not `make test`."""
        return not self.name.startswith(("index.md", "start/", "../README.md"))


@dataclass(frozen=True)
class Command:
    """A command of a block, with the output that the page shows.

    Attributes:
        text: The command, for a shell.
        output: The expected output; None if the page shows none.
    """

    text: str
    output: str | None


def nav_pages() -> list[str]:
    """The pages in the nav of mkdocs.yml that are files below docs/."""
    nav = re.search(r"^nav:\n((?: .*\n|\n)+)", (ROOT / "mkdocs.yml").read_text("utf-8"), re.M)
    assert nav is not None
    names = re.findall(r"([\w./-]+\.md)$", nav[1], re.M)
    return [name for name in names if (DOCS / name).exists()]


def read_page(name: str) -> DocPage:
    """The blocks and comments of a page."""
    text = (DOCS / name).read_text("utf-8")
    blocks: list[Block] = []
    end_before = 0
    for match in FENCE.finditer(text):
        between = text[end_before : match.start()]
        end_before = match.end()
        language = match["info"].split()[0] if match["info"].strip() else ""
        indent = len(match["indent"])
        body = "".join(line[indent:] or "\n" for line in match["text"].splitlines(keepends=True))
        if language == "text" and blocks and not between.strip():
            last = blocks.pop()
            blocks.append(Block(**{**vars(last), "output": body}))
            continue
        before = _COMMENTS_BEFORE.search(between)
        comments = dict(_COMMENT.findall(before[1])) if before else {}
        line = text.count("\n", 0, match.start()) + 1
        own = {key: value for key, value in comments.items() if key in _BLOCK_COMMENTS}
        if tester := re.search(r"<!-- page tested by: (\S+) -->", text):
            own["tested by"] = tester[1]
        blocks.append(Block(name, line, language, body, own))
    known = _BLOCK_COMMENTS | _PAGE_COMMENTS
    outside = FENCE.sub("", text)
    for key, _ in _COMMENT.findall(outside):
        assert key in known, f"docs/{name}: unknown comment {key!r}; expected one of {known}"
    files = [
        entry.strip()
        for key, value in _COMMENT.findall(outside)
        if key == "files"
        for entry in value.split(",")
    ]
    return DocPage(name, blocks, files)


def commands(block: Block) -> list[Command]:
    """The commands of a block: those after `$ ` of `console`, or all of a script as one."""
    if block.language != "console":
        return [Command(block.text, block.output)]
    found: list[Command] = []
    lines = iter(block.text.splitlines())
    for line in lines:
        if line.startswith("$ "):
            text = line[2:]
            while text.endswith("\\"):
                text = f"{text}\n{next(lines)}"
            found.append(Command(text, None))
        else:
            assert found, f"{block.place}: a console block begins with '$ '"
            last = found.pop()
            found.append(Command(last.text, f"{last.output or ''}{line}\n"))
    return found


def fasttile_calls(script: str) -> Iterator[list[str]]:
    """The arguments of each `fasttile …` in a script."""
    script = re.sub(r"(^|\s)#( .*)?$", "", script.replace("\\\n", " "), flags=re.M)
    for line in script.splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="|;&()<>")
        lexer.whitespace_split = True
        lexer.commenters = ""
        call: list[str] | None = None
        at_start = True
        for word in [*lexer, ";"]:
            if set(word) <= set("|;&()<>"):
                if call is not None and not set(word) & set("<>"):
                    yield call
                    call = None
                at_start = not set(word) & set("<>")
            elif call is not None:
                call.append(word)
            elif at_start and word.rpartition("/")[2] == "fasttile":
                call = []
            else:
                # Before a command, variables and words such as `then` or `time` may come.
                at_start = at_start and bool(
                    re.fullmatch(r"\w+=.*|then|do|else|time|nice|exec|if|!|ionice|sudo", word)
                )


_NUMBER = r"\d[\d.,]*(?= ?(?:s|ms|MP/s|B|kB|KB|MB|GB|bytes)\b)"


def output_pattern(expected: str) -> re.Pattern[str]:
    """The pattern of an output that a page shows: `…` and numbers before a unit may differ."""
    pattern = ""
    for line in expected.rstrip().splitlines():
        if line.strip() in ("…", "..."):
            pattern += r"(?:.*\n)*"
            continue
        for part in re.split(rf"(…|{_NUMBER})", line.rstrip()):
            if part == "…":
                pattern += ".*"
            elif re.fullmatch(r"\d[\d.,]*", part):
                pattern += r"\d[\d.,]*"
            else:
                pattern += re.escape(part)
        pattern += r"[ ]*\n"
    return re.compile(pattern)
