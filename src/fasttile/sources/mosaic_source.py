"""The source over a mosaic: images are opened when the walk reaches them, and closed after it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from fasttile.abc.source import Source
from fasttile.errors import SourceError
from fasttile.geometry import Region
from fasttile.sources.conversions import (
    Conversion,
    ConvertedSource,
    Croppable,
    cmyk_to_rgb,
    crop,
)
from fasttile.sources.mosaic import Mosaic
from fasttile.sources.mosaic_headers import (
    MAX_OPEN,
    MAX_OPEN_BYTES,
    MAX_WARNINGS,
    MemberHead,
    MemberOptions,
    MosaicParts,
    convert_member,
    read_parts,
)
from fasttile.sources.transforms import read_fully
from fasttile.types import Pixels

_ROWS = 256


def open_mosaic(mosaic: Mosaic, options: MemberOptions, region: Region | None) -> Source:
    """Open a mosaic, whose images are all examined before.

    Raises:
        OptionError: The region or the bits cannot be used.
        SourceError: As for `read_parts`.
    """
    parts, (width, height) = read_parts(mosaic, options)
    source = MosaicSource(parts, Region(0, 0, width, height))
    return source if region is None else crop(source, region)


def _spread_bands(bands: int, stored_bands: int, dtype: np.dtype[Any]) -> Conversion:
    """Grey as RGB, and opaque pixels with alpha, as far as they lack it."""
    has_alpha, had_alpha = bands in (2, 4), stored_bands in (2, 4)
    colours = bands - has_alpha

    def write(stored: Pixels, out: Pixels) -> None:
        out[..., :colours] = stored[..., : stored_bands - had_alpha]
        if has_alpha:
            out[..., -1] = stored[..., -1] if had_alpha else np.iinfo(dtype).max

    return Conversion(bands, dtype, write)


@dataclass
class _OpenMember:
    """An image that is open, or being opened.

    Attributes:
        lock: Held while it is opened, and while rows are read of which it keeps decoded ones.
        users: Threads that read it.
    """

    source: Source | None = None
    users: int = 0
    lock: Any = field(default_factory=Lock)


class _OpenMembers:
    """The images of a mosaic that are open: at most `MAX_OPEN`, those read last.

    Where a process may open few files (`ulimit -n`), they take a quarter of them.

    Args:
        parts: The mosaic.
    """

    def __init__(self, parts: MosaicParts) -> None:
        self._parts = parts
        self._lock = Lock()
        self._open: dict[int, _OpenMember] = {}  # the one read last is the last
        self._is_closed = False
        try:
            import resource
        except ImportError:  # Windows
            self._max_open = MAX_OPEN
        else:
            limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
            self._max_open = min(MAX_OPEN, max(1, limit // 8)) if limit > 0 else MAX_OPEN

    @contextmanager
    def lease(self, number: int, top: int | None) -> Iterator[_OpenMember]:
        """Open an image if it is not, and keep it open for the block.

        Args:
            number: Of the image.
            top: The first row that is still needed, if rows are read in order.

        Raises:
            SourceError: It cannot be opened, or has changed.
        """
        with self._lock:
            if self._is_closed:
                raise SourceError(f"{self._parts.name}: the image is closed; open it again")
            member = self._open.pop(number, None) or _OpenMember()
            self._open[number] = member
            member.users += 1
            unused = self._take_unused(top)
        try:
            for other, source in unused:
                self._close_member(other, source)
            with member.lock:
                if member.source is None:
                    member.source = self._open_member(number)
            yield member
        finally:
            with self._lock:
                member.users -= 1
                if member.source is None and not member.users:
                    self._open.pop(number, None)

    def check_intact(self) -> None:
        """Check the images that are open, and take their warnings."""
        with self._lock:
            members = [(number, one) for number, one in self._open.items() if one.source]
            for _, one in members:
                one.users += 1  # no other thread closes it meanwhile
        try:
            for number, one in members:
                if one.source is not None:
                    self._check(number, one.source)
        finally:
            with self._lock:
                for _, one in members:
                    one.users -= 1

    def close(self) -> None:
        """Close all images; a second call does nothing."""
        with self._lock:
            self._is_closed = True
            members, self._open = self._open, {}
        for member in members.values():
            if member.source is not None:
                member.source.close()

    def __len__(self) -> int:
        return len(self._open)

    def _take_unused(self, top: int | None) -> list[tuple[int, Source]]:
        """Images to close: those above the rows in question, and those that are too many."""
        unused = []
        seen, boxes = self._parts.members, self._parts.boxes
        idle = [number for number, one in self._open.items() if not one.users and one.source]
        for number in idle if top is not None else ():
            if boxes[number, 3] <= top:
                unused.append(number)
        idle = [number for number in idle if number not in unused and seen[number].random_access]
        count = sum(seen[number].random_access for number in self._open) - len(unused)
        held = sum(seen[number].memory_bytes for number in idle)
        while idle and (count > self._max_open or held > MAX_OPEN_BYTES):
            number = idle.pop(0)
            unused.append(number)
            count, held = count - 1, held - seen[number].memory_bytes
        taken = [(number, self._open.pop(number).source) for number in unused]
        return [(number, source) for number, source in taken if source is not None]

    def _open_member(self, number: int) -> Source:
        parts, seen = self._parts, self._parts.members[number]
        self._check_unchanged(seen)
        source: Source = parts.options.open_image(seen.member.image)
        try:
            if seen.random_access and seen.is_read_fully:
                source = read_fully(source)
            assert seen.window is not None  # `_with_windows` has chosen it
            source = convert_member(source, seen.member, parts.options, seen.window)
            if (source.width, source.height) != (seen.width, seen.height):
                raise SourceError(f"{seen.member.name}: its size has changed; cut it again")
            if parts.to_srgb and parts.options.to_srgb is not None:
                source = parts.options.to_srgb(source)
            elif source.is_cmyk and not parts.kind.is_cmyk:
                source = ConvertedSource(source, cmyk_to_rgb(source.bands, source.dtype))
            if source.bands != parts.kind.bands:
                spread = _spread_bands(parts.kind.bands, source.bands, source.dtype)
                source = ConvertedSource(source, spread)
            if not seen.random_access:
                source = read_fully(source)
                self._check(number, source)
        except BaseException:
            source.close()
            raise
        return source

    def _close_member(self, number: int, source: Source) -> None:
        try:
            self._check(number, source)
        finally:
            source.close()

    def _check(self, number: int, source: Source) -> None:
        """Check that what was read is what the file has, and take the warnings on it."""
        seen, log = self._parts.members[number], self._parts.metadata.warnings
        source.check_intact()
        self._check_unchanged(seen)
        for warning in source.metadata.warnings:
            line = f"{seen.member.name}: {warning}"
            if line not in log and len(log) < MAX_WARNINGS:
                log.add(line)

    def _check_unchanged(self, seen: MemberHead) -> None:
        if seen.signature is not None and seen.member.signature() != seen.signature:
            raise SourceError(
                f"{seen.member.name}: the file was changed while it was read; cut it again"
            )


class MosaicSource(Croppable):
    """A source over many images.

    Args:
        parts: The images, and how they are opened.
        region: The part of the mosaic that is read.
        open_members: The images that are open. Default: none is.
    """

    preferred_rows = _ROWS
    preferred_cols = _ROWS

    def __init__(
        self, parts: MosaicParts, region: Region, open_members: _OpenMembers | None = None
    ) -> None:
        self.name, self.metadata = parts.name, parts.metadata
        self.width, self.height = region.width, region.height
        self.bands, self.is_cmyk = parts.kind.bands, parts.kind.is_cmyk
        self.dtype = parts.fill.dtype
        self.random_access = parts.random_access
        self.has_parallel_regions = parts.has_parallel_regions
        self.memory_bytes = parts.memory_bytes
        self._parts, self._region = parts, region
        self._open_members = _OpenMembers(parts) if open_members is None else open_members

    def rows(self, y0: int, y1: int) -> Pixels:
        """Rows y0 to y1-1, a new array."""
        out = np.empty((y1 - y0, self.width, self.bands), self.dtype)
        self.read(y0, out)
        return out

    def read(self, y0: int, out: Pixels) -> None:
        """Write the rows from y0 on into out: the background, then each image over it."""
        parts, region = self._parts, self._region
        view = Region(region.x, region.y + y0, self.width, len(out))
        if parts.has_gaps:
            out[:] = parts.fill
        top = None if self.random_access else view.y
        for number in self._numbers_in(view):
            x0, y, x1, y1 = parts.boxes[number].tolist()
            box = Region(x0, y, x1 - x0, y1 - y)
            part = box.intersection(view)
            piece = out[
                part.y - view.y : part.bottom - view.y, part.x - view.x : part.right - view.x
            ]
            with self._open_members.lease(number, top) as member:
                _copy(member, part.shifted(-box.x, -box.y), piece)

    def crop(self, region: Region) -> Source:
        """A source of a region, over the same open images."""
        shifted = region.shifted(*self._region[:2])
        return MosaicSource(self._parts, shifted, self._open_members)

    @property
    def is_sendable(self) -> bool:
        """True if workers can read regions of it: its images are files with random access."""
        return self.has_parallel_regions and all(
            one.member.path is not None for one in self._parts.members
        )

    def for_worker(self, region: Region) -> MosaicSource:
        """The same source with only the images of a region, which can be pickled."""
        view = region.shifted(*self._region[:2])
        numbers = self._numbers_in(view)
        members = []
        for number in numbers:
            one = self._parts.members[number]
            member = one.member._replace(image=str(Path(one.member.image).absolute()))
            members.append(one._replace(member=member))
        parts = replace(self._parts, members=members, boxes=self._parts.boxes[numbers])
        return MosaicSource(parts, self._region)

    def __reduce__(self) -> tuple[Any, ...]:
        return MosaicSource, (self._parts, self._region)

    @property
    def open_count(self) -> int:
        """Number of images that are open."""
        return len(self._open_members)

    @property
    def member_paths(self) -> list[str]:
        """The paths of its images."""
        paths = (one.member.path for one in self._parts.members)
        return [path for path in paths if path is not None]

    def check_intact(self) -> None:
        """Check the images that are open; the others were checked when they were closed."""
        self._open_members.check_intact()

    def close(self) -> None:
        """Close the images."""
        self._open_members.close()

    def _numbers_in(self, view: Region) -> list[int]:
        """Numbers of the images that have pixels in a region, in their order."""
        left, top, right, bottom = self._parts.boxes.T
        hits = (left < view.right) & (right > view.x) & (top < view.bottom) & (bottom > view.y)
        numbers: list[int] = np.flatnonzero(hits).tolist()
        return numbers


def _copy(member: _OpenMember, region: Region, out: Pixels) -> None:
    """Copy a region of an open image."""
    source = member.source
    assert source is not None
    if source.is_mapped:
        view = source.rows(region.y, region.bottom)[:, region.x : region.right]
        source.populate(view)
        np.copyto(out, view)
        source.discard(view)
    elif region.width == source.width:
        with member.lock:  # it may keep the line of blocks that it has decoded
            source.read(region.y, out)
    else:
        crop(source, region).read(0, out)  # never closed, as that closes the image
