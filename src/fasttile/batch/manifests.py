"""The IIIF collection of a batch: one file that lists the manifests of all its images.

It is written at the end of a batch, from the manifests of this run and of earlier runs. So it is
complete after each run, also if some images have failed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from fasttile.batch.items import BatchItem
from fasttile.batch.pages import page_plan
from fasttile.errors import OptionError, SourceError, TargetError, redact_url
from fasttile.formats.documents import decode_document, parse_json
from fasttile.layouts.iiif import MANIFEST_NAME, Iiif3
from fasttile.layouts.presentation import COLLECTION_NAME, collection, parse_manifest
from fasttile.sinks import Target
from fasttile.storage.budget import BUDGET
from fasttile.storage.object_files import ObjectPath, ResultPath, open_tree
from fasttile.storage.object_store import DESCRIPTORS_CACHE_CONTROL, Bucket
from fasttile.storage.paths import check_replaceable, encode_name, wrap_os_errors
from fasttile.storage.writing import AtomicFile

_ESCAPED_NAME = re.escape("{name}")


@dataclass(frozen=True)
class BatchCollection:
    """The collection of a batch.

    Attributes:
        items: The images of the batch, in its order.
        id: The address of each result, with `{name}` in the place of its name.
        address: The address of the collection.
    """

    items: tuple[BatchItem, ...]
    id: str
    address: str

    @classmethod
    def of_batch(cls, items: Sequence[BatchItem]) -> BatchCollection | None:
        """The collection of a batch; None if its images have no manifests, or are in ZIPs.

        Raises:
            OptionError: The images have no addresses of their own, or are in several folders.
            TargetError: A file of another kind has the name of the collection.
        """
        first = next((item for item in items if item.error is None), None)
        if first is None or not first.target.layout.parameters.get("manifest"):
            return None
        layout_type, parameters = first.target.layout.layout_type, first.target.layout.parameters
        if not issubclass(layout_type, Iiif3) or first.target.container != "folder":
            return None
        address = str(parameters["id"]).rstrip("/")
        before, name, _ = address.partition("{name}")
        if not name:
            raise OptionError(
                f"iiif3:manifest: all images would have the address {before}; put {{name}} into "
                f"the id: id={before}/{{name}}"
            )
        parent = first.target.path.parent
        for item in items:
            if item.error is not None:
                continue
            if item.target.path.name == COLLECTION_NAME:
                raise OptionError(
                    f"{redact_url(item.source)}: iiif3:manifest: its result would have the name of "
                    "the collection; name the image differently"
                )
            if item.target.path.parent != parent:
                raise OptionError(
                    f"{redact_url(item.source)}: iiif3:manifest: its result would be in "
                    f"{item.target.path.parent}, and others are in {parent}, but the id has one "
                    "folder; cut each folder by itself, or the files of a list (@LIST)"
                )
        made = cls(tuple(items), address, f"{before.rpartition('/')[0]}/{COLLECTION_NAME}")
        made._older_members(overwrite=first.options.overwrite)
        if isinstance(made._folder, Path):
            path = made._folder / COLLECTION_NAME
            with wrap_os_errors("look at", path):
                check_replaceable(path)
        return made

    def write(self) -> None:
        """Write the collection, in one step, if it has changed.

        Raises:
            TargetError: It cannot be written.
        """
        older = self._older_members(overwrite=True)
        manifests = {str(one["id"]): one for one in map(self._manifest, self._targets()) if one}
        for one in older.pop("items", []):
            # Of other batches in the same folder, as long as it is there.
            address = str(one.get("id", ""))
            if address not in manifests and (found := self._manifest_at(address)) is not None:
                manifests[address] = found
        label = encode_name(self._folder.name) or "Collection"
        data = collection(self.address, label, manifests.values(), older)
        if data == self._read(self._folder, COLLECTION_NAME):
            return
        if isinstance(self._folder, ObjectPath):
            target = self._first.target
            key = (target.path.parent / COLLECTION_NAME).as_posix()
            kind, cache = "application/json", DESCRIPTORS_CACHE_CONTROL
            Bucket(target.store).put(key, data, media_type=kind, cache_control=cache)
            return
        file = AtomicFile(self._folder / COLLECTION_NAME, overwrite=True)
        try:
            file.append(data)
            file.publish()
        except BaseException:
            file.abort()
            raise

    @property
    def _folder(self) -> ResultPath:
        """The folder of the results."""
        return _place(self._first.target).parent

    @property
    def _first(self) -> BatchItem:
        return next(item for item in self.items if item.error is None)

    def _targets(self) -> Iterator[ResultPath]:
        for item in self.items:
            if not item.every_page:
                yield _place(item.target)
                continue
            page = 1
            while self._manifest(place := _place(page_plan(item, page).target)) is not None:
                yield place
                page += 1

    def _manifest_at(self, address: str) -> dict[str, Any] | None:
        """The manifest of an address, if it is in the folder of the results."""
        pattern = re.escape(f"{self.id}/{MANIFEST_NAME}")
        pattern = pattern.replace(_ESCAPED_NAME, "([^/]+)", 1).replace(_ESCAPED_NAME, r"\1")
        match = re.fullmatch(pattern, address)
        name = "" if match is None else unquote(match[1], errors="surrogateescape")
        if name in ("", ".", "..") or not {"/", "\0"}.isdisjoint(name):
            return None
        found = self._manifest(self._folder / name)
        return found if found is not None and found["id"] == address else None

    def _manifest(self, place: ResultPath) -> dict[str, Any] | None:
        """The members of the manifest in a result, or None."""
        data = self._read(place, MANIFEST_NAME)
        if data is None:
            return None
        with suppress(SourceError):
            _, members = parse_manifest(data, str(place))
            if isinstance(members.get("id"), str):
                return members
        return None

    def _older_members(self, *, overwrite: bool) -> dict[str, Any]:
        """The members of the collection that is there.

        Raises:
            TargetError: There is another file.
        """
        data = self._read(self._folder, COLLECTION_NAME)
        if data is None:
            return {}
        try:
            members = parse_json(decode_document(data))
            if members["type"] == "Collection" and members["id"] == self.address:
                members["items"] = [one for one in members["items"] if isinstance(one, dict)]
                return dict(members)
        except (LookupError, TypeError, ValueError):
            pass
        if overwrite:
            return {}
        raise TargetError(
            f"{self._folder / COLLECTION_NAME} is not the collection {self.address}; move it away, "
            "or use --overwrite"
        )

    def _read(self, folder: ResultPath, name: str) -> bytes | None:
        with suppress(SourceError):
            files = open_tree(folder)
            try:
                return files.read(name, BUDGET.descriptor_bytes)
            finally:
                files.close()
        return None


def _place(target: Target) -> ResultPath:
    return ObjectPath(str(target.location)) if target.store else target.path
