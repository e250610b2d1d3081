"""The plan of a cut: what the options come to together, checked before any work."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from fasttile.abc.layout import Layout
from fasttile.abc.sink import Sink
from fasttile.abc.source import Source
from fasttile.colour.convert import ColourPlan
from fasttile.encode.codecs import Codec, parse_codec
from fasttile.encode.encoder import BlankCriterion, parse_colour
from fasttile.errors import OptionError
from fasttile.layouts import LayoutSpec
from fasttile.options.cut import CutOptions
from fasttile.sinks import TARGET_SUFFIXES, Target
from fasttile.sinks.registry import CONTAINER_NAMES, check_container, create_sink
from fasttile.sources.files import (
    STANDARD_INPUT,
    STORE_SCHEMES,
    is_stream,
    redact_url,
    scheme_of,
    stream_name,
)
from fasttile.storage.object_store import split_bucket_and_key
from fasttile.types import Colour

if TYPE_CHECKING:
    from fasttile.sinks.tiff import TiffSamples
    from fasttile.storage.journal import JobFingerprint


@dataclass(frozen=True)
class Plan:
    """What a cut will do.

    Attributes:
        wishes: The options.
        target: Where the result goes, and in what.
        codec: How tiles are encoded.
        background: In sRGB.
        blank: What tiles look like that are left out, or None.
    """

    options: CutOptions
    target: Target
    codec: Codec
    background: Colour
    blank: BlankCriterion | None

    @classmethod
    def from_options(
        cls, options: CutOptions, dest: str | os.PathLike[str] | Target | None, source: object
    ) -> Plan:
        """The plan for a source, whose size is not known yet.

        Raises:
            OptionError: Options do not go together, whatever the image.
        """
        target = dest if isinstance(dest, Target) else resolve_target(dest, source, options.layout)
        kind = target.layout.layout_type
        codec = parse_codec(options.format or kind.default_format, options.quality)
        check_container(target, codec)
        background = parse_colour(options.background)
        blank = None
        if options.skip_blank is not None:
            if not kind.sparse:
                raise OptionError(
                    f"{kind.title} needs all its tiles: skip_blank goes with xyz, tms, tilecache, "
                    "gsiv, .pmtiles and .mbtiles"
                )
            blank = BlankCriterion(background, options.skip_blank)
        plan = cls(options, target, codec, background, blank)
        # What is wrong for the smallest image is wrong for all.
        plan._viewer_files(plan._bind_layout(1, 1))
        return plan

    def layout_for(self, source: Source) -> Layout:
        """The layout of an image.

        Raises:
            OptionError: The image does not go with the options.
        """
        layout = self._bind_layout(source.width, source.height, self.options.levels)
        codec, bits = self.codec, 8 * source.dtype.itemsize
        if bits not in codec.bit_depths:
            raise OptionError(
                f"{source.name}: {codec.name} tiles hold 8 bits, not {bits}: png would do, or "
                "bits=8"
            )
        side = layout.pyramid.levels[-1].longest_tile_side
        if side > codec.max_side:
            raise OptionError(
                f"{codec.name} tiles have at most {codec.max_side} pixels a side, these would have "
                f"{side}: choose a smaller tile size"
            )
        return layout

    def descriptor_paths(self) -> tuple[str, ...]:
        """The files that announce the result, whatever the image: their paths in its folder."""
        if self.target.container != "folder":
            return (self.target.path.name,)
        layout = self._bind_layout(1, 1)
        return (*self._viewer_files(layout), *layout.descriptors())

    def open_sink(
        self,
        layout: Layout,
        source: Source,
        colour_plan: ColourPlan,
        fingerprint: JobFingerprint | None = None,
    ) -> Sink:
        """What takes the tiles.

        Args:
            layout, source, colours: Of the image.
            identity: What the job is, if it can be carried on.

        Raises:
            TargetError: The result cannot be written where it should go.
        """
        return create_sink(
            self.target,
            layout,
            overwrite=self.options.overwrite,
            files=self._viewer_files(layout),
            samples=self._tiff_samples(source, colour_plan),
            fingerprint=fingerprint,
        )

    def _bind_layout(self, width: int, height: int, levels: str | None = None) -> Layout:
        target, wishes = self.target, self.options
        szi = target.container == "szi"  # whose specification advises other defaults
        return target.layout.bind(
            target.name,
            width,
            height,
            self.codec.extension,
            tile_size=256 if szi and wishes.tile_size is None else wishes.tile_size,
            overlap=0 if szi and wishes.overlap is None else wishes.overlap,
            levels=levels,
        )

    def _viewer_files(self, layout: Layout) -> dict[str, bytes]:
        """The page that shows the result, if it is wanted."""
        if self.options.viewer is None:
            return {}
        from fasttile.viewers import build_page

        container = self.target.container
        if container not in ("folder", "zip", "pmtiles"):
            raise OptionError(
                f"{self.target.path}: no page goes with {CONTAINER_NAMES[container]}; fasttile view shows it"
            )
        return build_page(
            layout,
            self.options.viewer,
            blank_colour="#{:02x}{:02x}{:02x}".format(*self.background) if self.blank else None,
            in_pmtiles=container == "pmtiles",
        )

    def _tiff_samples(self, source: Source, colour_plan: ColourPlan) -> TiffSamples | None:
        """What the tiles hold, once they are encoded, for a TIFF's tags."""
        if self.target.container != "tiff":
            return None
        from fasttile.sinks.tiff import TiffSamples

        codec, bands = self.codec, source.bands
        if colour_plan.transform is not None and source.is_cmyk:
            bands = 3
        if not codec.keeps_alpha and bands in (2, 4):
            bands -= 1
        return TiffSamples(
            bands=bands,
            bits=8 * source.dtype.itemsize,
            has_alpha=bands in (2, 4),
            icc_profile=colour_plan.tile_metadata.icc_profile,
            resolution=colour_plan.tile_metadata.resolution,
        )


# Where a result goes, and in what: from what a user names, and the source's own name.

NAME_PLACEHOLDER = "{name}"
"""What stands for the source's name in the name of a result."""


def resolve_target(
    dest: str | os.PathLike[str] | None,
    source: object,
    layout: str | None = None,
    subfolder: str = "",
) -> Target:
    """Where the result of a source goes.

    Args:
        dest: A path with one of `ENDINGS` is the result. A folder (one that exists, ends in a
            slash, or has no ending) gets `<stem>.dzi`, where the layout is Deep Zoom's. Other
            layouts are a folder themselves: one that ends in a slash gets `<stem>`, any other is
            the result. `{name}` stands for the stem. None is the current folder. The same goes
            for addresses in object stores, "s3://bucket/path", "gs://…" and "az://…".
        source: Where the stem comes from: a path, a URL, or a file object that has a name.
        layout: What `LayoutChoice.parse` takes. Default: the one of the ending, else "dzi".
        place: Folders that stand before the stem, of an image that was found in a folder.

    Raises:
        OptionError: The ending is unknown or has not that layout, or there is no name to be had.

    Example:
        >>> resolve_target("out", "scans/map.tif").path.as_posix()
        'out/map.dzi'
        >>> resolve_target("out/map", "scans/map.tif", "zoomify").path.as_posix()
        'out/map'
        >>> resolve_target("{name}.pmtiles", "https://host/scans/map%201.tif?size=full").path.as_posix()
        'map 1.pmtiles'
    """
    text = "" if dest is None else os.fspath(dest)
    if NAME_PLACEHOLDER in text:
        text = text.replace(
            NAME_PLACEHOLDER, f"{subfolder}/{_stem(source)}" if subfolder else _stem(source)
        )
        subfolder = ""
    choice = None if layout is None else LayoutSpec.parse(layout)
    if scheme_of(text) is not None:
        store, key = _split_address(text)
        return replace(_target_at_path(key, source, choice, subfolder, in_store=True), store=store)
    return _target_at_path(text, source, choice, subfolder, in_store=False)


def _split_address(address: str) -> tuple[str, str]:
    """The bucket of an address in an object store, with its scheme, and the path in it."""
    if scheme_of(address) not in STORE_SCHEMES:
        raise OptionError(
            f"{redact_url(address)}: results go to files and folders, or to "
            f"{', '.join(f'{name}://bucket/path' for name in STORE_SCHEMES)}"
        )
    return split_bucket_and_key(address)


def _target_at_path(
    text: str, source: object, choice: LayoutSpec | None, subfolder: str, *, in_store: bool
) -> Target:
    path = Path(text)
    inside = not text or text.endswith(("/", os.sep))
    if not path.suffix or inside or (not in_store and path.is_dir()):
        choice = choice or LayoutSpec.parse("dzi")
        return _folder_target(path / subfolder, inside, source, choice)
    if path.suffix.lower() not in TARGET_SUFFIXES:
        raise OptionError(
            f"{text}: the ending {path.suffix!r} is not known; "
            f"{', '.join(TARGET_SUFFIXES)} or a folder would do"
        )
    ending = path.suffix.lower()
    container, kinds = TARGET_SUFFIXES[ending]
    choice = choice or LayoutSpec.parse(kinds[0])
    if choice.layout_type.type_name not in kinds:
        raise OptionError(
            f"{text}: {ending} holds {', '.join(kinds)}, not {choice.layout_type.type_name}"
        )
    return Target(path.with_suffix(ending), container, choice)


def has_known_suffix(dest: str) -> bool:
    """Whether a name is that of a result by its ending."""
    return dest.lower().endswith(tuple(TARGET_SUFFIXES))


def is_one_file(dest: str) -> bool:
    """Whether a name is that of a result in one file by its ending.

    Example:
        >>> is_one_file("site/{name}.SZI"), is_one_file("map.dzi"), is_one_file("site/")
        (True, False, False)
    """
    container, _ = TARGET_SUFFIXES.get(Path(dest).suffix.lower(), ("folder", ()))
    return container != "folder"


def common_folder(text: str) -> Path:
    """The folder that the results of several images go to, or lie below."""
    if NAME_PLACEHOLDER in text:
        start = text.partition(NAME_PLACEHOLDER)[0]
        return Path(start if start.endswith("/") else os.path.dirname(start))  # noqa: PTH120
    return Path(text).parent if has_known_suffix(text) else Path(text)


def _folder_target(path: Path, inside: bool, source: object, choice: LayoutSpec) -> Target:
    kind = choice.layout_type.type_name
    if kind == "tiff":
        return Target(path / f"{_stem(source)}.tif", "tiff", choice)
    if kind == "dzi":
        return Target(path / f"{_stem(source)}.dzi", "folder", choice)
    return Target(path / _stem(source) if inside else path, "folder", choice)


def _stem(source: object) -> str:
    if isinstance(source, str) and source == STANDARD_INPUT:
        raise OptionError("standard input has no name: say -o NAME.dzi (dest)")
    if scheme_of(source) is not None:
        return _stem_of_url(str(source))
    name = stream_name(source) if is_stream(source) else source
    if isinstance(name, str | os.PathLike):
        stem = Path(os.fspath(name)).stem
        if stem:
            return stem
    raise OptionError(
        "this source has no file name to take the result's name from: name a .dzi to write"
    )


def _stem_of_url(url: str) -> str:
    """The stem of a URL's last segment that is not empty."""
    from urllib.parse import unquote, urlsplit

    try:
        path = urlsplit(url).path
    except ValueError:
        path = ""
    # What was quoted may be anything, also what would lead to another folder.
    name = unquote(path.rstrip("/").rpartition("/")[2])
    stem = Path(name.replace("\\", "/")).stem
    if stem.strip(".") and stem.isprintable():
        return stem
    raise OptionError(
        f"{redact_url(url)} names no file to take the result's name from: say -o NAME.dzi"
    )
