"""The description of each image: its options, a row of a CSV, or the texts in the file.

An IIIF manifest has all of it; other descriptors, pages and tiles have a title, a credit line and
what else they have a place for (`result_texts`).
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from fasttile.abc.layout import ResultTexts
from fasttile.errors import FasttileError, OptionError, SourceError, printable
from fasttile.jobs.texts import limited_texts, recorded_texts
from fasttile.layouts.iiif import Iiif3
from fasttile.layouts.presentation import Description, manifest, rights_uri
from fasttile.sources.files import may_be_result, scheme_of
from fasttile.storage.budget import BUDGET
from fasttile.storage.paths import encode_name
from fasttile.storage.random_access import open_regular_file

if TYPE_CHECKING:
    from fasttile.abc.layout import Layout
    from fasttile.jobs.plan import Plan

_KNOWN_COLUMNS = (
    *("file", "label", "summary", "rights", "provider", "provider_url"),
    *("attribution", "requiredstatement"),
)
_CREATOR = "Creator"
_DELIMITERS = (",", ";", "\t")
_MAX_NAMED_ROWS = 5


class _Row(NamedTuple):
    """A row of the CSV.

    Attributes:
        line: Its number in the file, from 1.
        values: The text of each column that has one, by the column's name.
    """

    line: int
    values: dict[str, str]


class DescriptionTable:
    """The rows of a CSV of descriptions, by the names of the images.

    The columns are `file` (a file's name, or its stem), `label`, `summary`, `rights`, `provider`,
    `provider_url` and `attribution` (or `requiredStatement`), in any order, of which only `file`
    has to be there; the name of any other column is the label of a further pair of label and
    value. The file is UTF-8; its delimiter is a comma, a semicolon or a tab.

    Args:
        path: The file.

    Raises:
        OptionError: It cannot be read, or is no such file.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._rows: dict[str, _Row] = {}
        for row in _read_rows(path):
            name = _key(row.values.get("file", ""))
            if not name:
                raise OptionError(f"{path}: line {row.line}: no file is named; fill in its column")
            if name in self._rows:
                first = self._rows[name].line
                raise OptionError(
                    f"{path}: lines {first} and {row.line} are both of {printable(name)}; keep one"
                )
            self._rows[name] = row

    def find(self, source: str) -> Description | None:
        """The description of an image; None if no row has its name.

        Args:
            source: The path or the address of the image.
        """
        row = self._rows.get(self._name_of(source))
        return None if row is None else _description(row.values, Path(_base(source)).stem)

    def unused_rows(self, sources: Iterable[str]) -> list[str]:
        """Names of the rows that match none of some images, in order."""
        used = {self._name_of(source) for source in sources}
        return [row.values["file"] for name, row in self._rows.items() if name not in used]

    def _name_of(self, source: str) -> str:
        name = _key(source)
        return name if name in self._rows else _key(Path(name).stem)


@lru_cache(maxsize=4)
def _load_table(path: str, fingerprint: tuple[int, int]) -> DescriptionTable:
    return DescriptionTable(path)


def description_table(path: str) -> DescriptionTable:
    """The table of a file, which is read again only if it has changed.

    Raises:
        OptionError: It cannot be read, or is no such file.
    """
    try:
        found = Path(path).stat()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise OptionError(f"{path}: the CSV of the manifests cannot be read: {reason}") from error
    return _load_table(path, (found.st_size, found.st_mtime_ns))


def with_description(plan: Plan, source: object) -> Plan:
    """The plan with the description that the CSV has of its image, if the layout names a CSV.

    Raises:
        OptionError: The CSV cannot be used.
    """
    path = plan.target.layout.parameters.get("manifest")
    if not isinstance(path, str):
        return plan
    table = description_table(path)
    name = source if isinstance(source, str | os.PathLike) else plan.target.name
    return replace(plan, description=table.find(os.fspath(name)))


def manifest_files(plan: Plan, layout: Layout, origin: object) -> dict[str, bytes]:
    """Path and content of the manifest of an image, if its layout has one.

    Args:
        plan: The plan, with the description of the CSV.
        layout: The image's layout.
        origin: The path, the address or the object that is cut.
    """
    if not isinstance(layout, Iiif3) or not layout.manifest:
        return {}
    description = describe(plan, origin, encode_name(layout.name))
    if plan.options.page is not None and plan.options.page > 1:
        description = replace(description, label=f"{description.label} ({plan.options.page})")
    (path,) = layout.further_files()
    return {path: manifest(layout, description)}


def missing_row_note(plan: Plan, source_name: str) -> Iterator[str]:
    """A note if the layout names a CSV that has no row of an image."""
    path = plan.target.layout.parameters.get("manifest")
    if isinstance(path, str) and plan.description is None:
        yield f"{path} has no row of {source_name}: its manifest has the texts in the file"


def unused_rows_note(path: str, sources: Sequence[str]) -> str:
    """A note on the rows of a CSV that match no image; "" if all do."""
    names = [printable(name) for name in description_table(path).unused_rows(sources)]
    if not names:
        return ""
    more = len(names) - _MAX_NAMED_ROWS
    also = f" and {more:,} more" if more > 0 else ""
    return f"{path}: no image for {', '.join(names[:_MAX_NAMED_ROWS])}{also}"


def describe(plan: Plan, origin: object, name: str) -> Description:
    """The description of an image: by its options, else a row of the CSV, else its file.

    Args:
        plan: The plan, with the description of the CSV.
        origin: The path, the address or the object that is cut; only files have texts.
        name: The label, if nothing states a title.
    """
    found, options = plan.description or own_description(origin, name), plan.options
    if options.title is not None:
        found = replace(found, label=options.title or name)
        if not options.title:
            found = replace(found, summary="")
    if options.credit is not None:
        uri = rights_uri(options.credit)
        statements = (options.credit,) if options.credit and uri is None else ()
        kept = found.rights if options.credit else ""
        metadata = tuple(pair for pair in found.metadata if pair[0] != _CREATOR or options.credit)
        found = replace(found, statements=statements, rights=uri or kept, metadata=metadata)
    return found


def result_texts(plan: Plan, origin: object) -> ResultTexts:
    """The texts of a result for its descriptors, its page and its tiles; see `describe`."""
    found = describe(plan, origin, "")
    creator = dict(found.metadata).get(_CREATOR, "")
    credit = "; ".join(found.statements) or creator or found.provider
    return limited_texts(found.label, found.summary, credit or found.rights, found.rights)


def own_description(origin: object, name: str) -> Description:
    """The description of an image by the texts in its file; of a result by its record.

    Args:
        origin: The path, the address or the object that is cut; only files have texts.
        name: The label, if it has no title.
    """
    from fasttile.sources.texts import ImageTexts, read_image_texts

    texts = ImageTexts()
    if isinstance(origin, str | os.PathLike):
        if may_be_result(origin):
            from fasttile.readers import is_pyramid  # images need no readers

            if is_pyramid(origin):
                return _recorded_description(origin, name)
        if scheme_of(origin) is None:
            texts = read_image_texts(os.fspath(origin))
    licence = rights_uri(texts.licence) or rights_uri(texts.rights)
    statement = "" if rights_uri(texts.rights) else texts.rights
    return Description(
        label=texts.title or name,
        summary=texts.description,
        rights=licence or "",
        statements=(statement,) if statement else (),
        metadata=((_CREATOR, texts.creator),) if texts.creator else (),
    )


def _recorded_description(path: str | os.PathLike[str], name: str) -> Description:
    """The description of a result: the texts that its record has."""
    from fasttile.readers import open_result

    texts = ResultTexts()
    with suppress(FasttileError), open_result(path) as reader:
        texts = recorded_texts(reader.record())
    statements = (texts.credit,) if texts.credit else ()
    return Description(texts.title or name, texts.description, texts.rights, statements)


def _description(values: Mapping[str, str], stem: str) -> Description:
    statements = [values.get(name, "") for name in ("attribution", "requiredstatement")]
    rights = values.get("rights", "")
    uri = rights_uri(rights)
    if uri is None:
        statements.append(rights)
    return Description(
        label=values.get("label") or encode_name(stem),
        summary=values.get("summary", ""),
        rights=uri or "",
        statements=tuple(dict.fromkeys(filter(None, statements))),
        provider=values.get("provider", ""),
        provider_url=values.get("provider_url", ""),
        metadata=tuple(
            (label, text) for label, text in values.items() if label not in _KNOWN_COLUMNS
        ),
    )


def _read_rows(path: str) -> Iterator[_Row]:
    import csv  # images with texts of their own need no table
    import io

    try:
        with open_regular_file(path) as file:
            data = file.read(BUDGET.descriptor_bytes + 1)
    except SourceError as error:
        raise OptionError(f"{error}: it is to have the texts of the manifests") from error
    if len(data) > BUDGET.descriptor_bytes:
        raise OptionError(f"{path}: it has more than {BUDGET.descriptor_bytes:,} bytes; split it")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise OptionError(f"{path}: line {line} is not UTF-8; save it as UTF-8") from error
    header = text.partition("\n")[0]
    delimiter = max(_DELIMITERS, key=header.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    columns: list[str] | None = None
    try:
        for cells in reader:
            cells = [cell.strip() for cell in cells]
            if not any(cells):
                continue
            if columns is None:
                columns = _columns(path, cells)
                continue
            if len(cells) > len(columns):
                raise OptionError(
                    f"{path}: line {reader.line_num}: {len(cells)} values for {len(columns)} "
                    "columns; put a text with the delimiter into quotation marks"
                )
            values = {name: cell for name, cell in zip(columns, cells, strict=False) if cell}
            yield _Row(reader.line_num, values)
    except csv.Error as error:
        raise OptionError(f"{path}: line {reader.line_num}: {error}; save it as CSV") from error
    if columns is None:
        raise OptionError(f"{path}: it is empty; expected columns file, label, summary, rights …")


def _columns(path: str, cells: list[str]) -> list[str]:
    """Names of the columns: those that are known in lower case, others as they are."""
    names = [cell.lower() if cell.lower() in _KNOWN_COLUMNS else cell for cell in cells]
    if "file" not in names:
        shown = printable(", ".join(cells)[:100])
        raise OptionError(
            f"{path}: no column is called file; its first line is {shown!r}; expected file, "
            "label, summary, rights, provider, provider_url, attribution"
        )
    for index, name in enumerate(names):
        if name in names[:index]:
            raise OptionError(f"{path}: two columns are called {name!r}; keep one")
        if not name:
            raise OptionError(f"{path}: column {index + 1} has no name; name it in the first line")
    return names


def _base(source: str) -> str:
    """The last part of a path or an address."""
    text = source.partition("?")[0] if scheme_of(source) is not None else source
    return text.replace("\\", "/").rstrip("/").rpartition("/")[2]


def _key(source: str) -> str:
    """A file's name, composed: macOS has umlauts as two characters."""
    return unicodedata.normalize("NFC", _base(source))
