"""Find words that our English does without: `python tools/check_words.py [--count] [PATH ...]`.

Looks at code, tests, benchmarks and documentation, identifiers included (`told_name` contains
"told"). Exit code 1 if any is found. A line that needs one ends in `# words: why` or, in Markdown,
`<!-- words: why -->`.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PLACES = ("src", "tests", "bench", "docs", "tools", "README.md", "CHANGELOG.md", "Makefile")
ENDINGS = {".py", ".pyi", ".pyx", ".h", ".md", ".sh", ""}

# Each word, and what to write instead.
WORDS = {
    r"wish(es|ed)?": "option",
    r"told|tell(s|ing)?": "report, describe, say",
    r"carr(y|ies|ied|ying)[ _]on": "resume",
    r"(begun|begin|begins|began|made|make|makes|cut|cuts)[ _]anew|anew": "again, start over",
    r"stands there|stood there|what stands|what stood": "exists",
    r"wholes|whole(?![- _](slide|number|image|level|pixel|byte))": "complete, all",
    r"so many": "the number",
    r"as ever": "as usual, or leave it out",
    r"let(s|ting)?[ _]go": "release, discard",
    r"giants?": "large image",
    r"crowns?": "upper levels",
    r"mend(s|ed|ing)?": "repair",
    r"would do": "expected …",
    r"cannot be had": "is not available",
    r"the system refused": "name the error",
    r"pictures?": "image",
    r"ours|theirs": "name the thing",
    r"whoever|whatever|whichever": "name the thing",
}
PATTERN = re.compile(rf"(?<![a-z])(?:{'|'.join(WORDS)})(?![a-z])", re.IGNORECASE)

# Strings on disk, names of other programs, and this list.
ALLOWED = re.compile(
    r"words: \S|picture\.js|\"picture\"|\{\{picture\}\}|\.tell\b|def tell\(|\"tell\"|\"whole\""
)
SKIPPED = (
    "tools/check_words.py",
    "src/fasttile/viewers/parts",
    "src/fasttile.egg-info",
    "node_modules",
    "prezi3",
    "CHANGELOG.md",
)


def files(places: list[str]) -> list[Path]:
    """All files of some places, relative to the root."""
    found = []
    for place in places:
        path = ROOT / place
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            name = file.relative_to(ROOT).as_posix()
            if file.is_file() and file.suffix in ENDINGS and not any(s in name for s in SKIPPED):
                found.append(file)
    return found


def main(arguments: list[str]) -> int:
    """Print each place, or with `--count` the number of places in each folder."""
    places = [argument for argument in arguments if not argument.startswith("--")]
    counts: Counter[str] = Counter()
    for file in files(places or list(PLACES)):
        name = file.relative_to(ROOT).as_posix()
        for number, line in enumerate(file.read_text("utf-8", "replace").splitlines(), 1):
            split = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", line)
            match = None if ALLOWED.search(line) else PATTERN.search(split)
            if match:
                counts["/".join(name.split("/")[:3])] += 1
                if "--count" not in arguments:
                    print(f"{name}:{number}: {match[0]!r}: {line.strip()[:90]}")
    for place, count in sorted(counts.items()) if "--count" in arguments else ():
        print(f"{count:5} {place}")
    return bool(counts)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
