"""The plan of a cut: its options, checked together before any work, and its destination."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from fasttile.abc.layout import Layout, ResultTexts
from fasttile.abc.sink import Sink
from fasttile.abc.source import Metadata, Source
from fasttile.colour.convert import ColourPlan
from fasttile.encode.codecs import Codec, Png, parse_codec
from fasttile.encode.encoder import BlankCriterion
from fasttile.errors import OptionError, did_you_mean, redact_url
from fasttile.layouts import LAYOUTS, LayoutSpec
from fasttile.options import parse_background
from fasttile.options.cut import CutOptions
from fasttile.sinks import TARGET_SUFFIXES, Target
from fasttile.sinks.registry import (
    CONTAINER_NAMES,
    check_container,
    check_halves,
    check_target,
    create_sink,
)
from fasttile.sources.files import (
    STANDARD_INPUT,
    STORE_SCHEMES,
    is_open_pyramid,
    is_stream,
    mosaic_path,
    scheme_of,
    stream_name,
    without_tile_names,
)
from fasttile.storage.paths import encode_name, target_text
from fasttile.types import Background, Container

if TYPE_CHECKING:
    from fasttile.geometry import Canvas
    from fasttile.layouts.presentation import Description
    from fasttile.sinks.tiff import TiffSamples
    from fasttile.storage.journal import JobFingerprint

PLACEHOLDERS = ("{name}", "{ext}", "{parent}", "{index}")
"""What a destination may have in place of: the source's stem, its extension without the dot, the
name of its folder, and its number among the images, from 1 on."""

_PLACEHOLDER = re.compile(r"\{\{|\}\}|\{[^{}]*\}")


@dataclass(frozen=True)
class Plan:
    """The checked options of a cut; made once for each image, and small enough for workers.

    Attributes:
        options: The options.
        target: Path and container of the result.
        codec: Encoder of the tiles.
        background: Background colour in sRGB; with alpha if it is not opaque.
        blank: Which tiles are skipped; None: none.
        batch: The batch of the cut, see `batch_identity`; "" for a single one.
        description: The texts that a CSV has for the manifest of the image; None: none.
        texts: Those of the descriptors, the page and the tiles; None: not looked for yet.
    """

    options: CutOptions
    target: Target
    codec: Codec
    background: Background
    blank: BlankCriterion | None
    batch: str = ""
    description: Description | None = None
    texts: ResultTexts | None = None

    @classmethod
    def from_options(
        cls,
        options: CutOptions,
        dest: str | os.PathLike[str] | Target | None,
        source: object,
        *,
        batch: str = "",
    ) -> Plan:
        """Plan the cut of a source whose size is not known yet.

        Args:
            options, dest, source: As for `cut`.
            batch: The batch of the cut, if it is one of several.

        Raises:
            OptionError: Options cannot be used together, for any image.
        """
        target = (
            dest if isinstance(dest, Target) else resolve_target(dest, source, options.layout_text)
        )
        layout_type = target.layout.layout_type
        codec = parse_codec(options.format_text or layout_type.default_format, options.quality)
        check_container(target, codec)
        background = read_background(options, target, codec)
        blank = None
        if options.skip_blank is not None:
            if not layout_type.sparse:
                raise OptionError(
                    f"skip_blank: {layout_type.title} needs all its tiles; use xyz, tms, "
                    "tilecache, gsiv, .pmtiles or .mbtiles"
                )
            blank = BlankCriterion(background, options.skip_blank)
        plan = cls(options, target, codec, background, blank, batch)
        layout = plan._smallest_layout  # options that fail for this size fail for all
        check_halves(target.container, layout)
        if options.viewer is not None:
            from fasttile.viewers import check_viewer

            if target.container not in ("folder", "zip", "pmtiles"):
                raise OptionError(
                    f"{target.path}: no page can show {CONTAINER_NAMES[target.container]}; "
                    "use fasttile view"
                )
            check_viewer(layout, options.viewer, in_pmtiles=target.container == "pmtiles")
        return plan

    @classmethod
    def for_program(cls, options: CutOptions, source: object) -> Plan:
        """Plan a cut whose tiles go to a program, not to a path.

        Raises:
            OptionError: Options cannot be used together, for any image; or one is for paths only.
        """
        for name in ("resume", "viewer"):
            if getattr(options, name):
                raise OptionError(f"{name}: the tiles go to the program; leave it out")
        spec = LayoutSpec.parse(options.layout_text or "dzi")
        container: Container = "tiff" if spec.name == "tiff" else "folder"
        plan = cls.from_options(options, Target(Path(image_name(source)), container, spec), source)
        plan._check_single_files()
        if not plan.codec.keeps_credit:  # there is no descriptor
            plan = replace(plan, texts=ResultTexts())
        return plan

    @classmethod
    def for_pixels(cls, options: CutOptions) -> Plan:
        """Plan a walk whose tiles are neither encoded nor stored; see `iter_tiles`.

        Raises:
            OptionError: An option cannot be used.
        """
        # PNG holds all kinds of pixels; nothing is encoded, and the target is never written.
        target = Target(Path("image"), "folder", LayoutSpec.parse(options.layout_text or "dzi"))
        background = parse_background(options.background)
        plan = cls(options, target, Png(), background, None, texts=ResultTexts())
        plan._check_single_files()
        return plan

    @property
    def has_place_for_texts(self) -> bool:
        """True if something of the result has texts about the image: then its file is read."""
        options, shows = self.options, self.target.layout.layout_type.shows_texts
        is_given = options.viewer is not None or (options.title, options.credit) != (None, None)
        return shows or is_given or self.codec.keeps_credit

    def layout_for(self, source: Source) -> Layout:
        """Fit the layout to an open image.

        Raises:
            OptionError: The options cannot be used for this image.
        """
        canvas = None
        if source.metadata.georeference is not None:
            from fasttile.jobs.georeference import map_canvas

            canvas = map_canvas(self.target.layout, source, self.options.tile_size)
        layout = self._bind_layout(source.width, source.height, self.options.levels, canvas)
        codec, bits = self.codec, 8 * source.dtype.itemsize
        if bits not in codec.bit_depths:
            raise OptionError(
                f"{source.name}: {codec.name} tiles hold 8 bits, not {bits}; use png or bits=8"
            )
        sides = [max(image.width, image.height) for image in layout.whole_images()]
        side = max(layout.pyramid.levels[-1].longest_tile_side, *sides, 0)
        if side > codec.max_side:
            what = "an image beside the tiles" if side in sides else "tiles"
            raise OptionError(
                f"tile_size: {what} would have {side} pixels a side, {codec.name} allows "
                f"{codec.max_side}; choose a smaller one"
            )
        return replace(layout, texts=self.texts) if self.texts else layout

    def descriptor_paths(self) -> tuple[str, ...]:
        """Paths of the result's descriptors in its folder; the same for all images."""
        root, paths = self.taken_paths
        return paths[-1:] if root is None else paths

    @cached_property
    def taken_paths(self) -> tuple[str | None, tuple[str, ...]]:
        """The folder of tiles, if there is one, and paths of all other files of the result.

        They are relative to the folder that holds the result, and the same for all images; the
        most important one is the last.
        """
        container = self.target.container
        with_page = self.options.viewer is not None and container in ("folder", "pmtiles")
        if container != "folder" and not with_page:
            return None, (self.target.path.name,)
        layout = self._smallest_layout
        root = layout.root if container == "folder" else None
        paths: tuple[str, ...] = (self.target.path.name,)
        if root is not None:
            paths = (*layout.further_files(), *layout.descriptors())
        if with_page:
            from fasttile.viewers import page_name

            paths = (page_name(layout), *paths)
        return root, paths

    @property
    def page_notes(self) -> tuple[str, ...]:
        """Notes for the user on the page of the option `viewer`."""
        if self.options.viewer is None:
            return ()
        from fasttile.viewers import page_notes

        return page_notes(self.options.viewer)

    @cached_property
    def _smallest_layout(self) -> Layout:
        return self._bind_layout(1, 1)

    def _check_single_files(self) -> None:
        """Refuse tiles of two sizes, where a program gets each tile.

        Raises:
            OptionError: The layout has them.
        """
        if self._smallest_layout.has_halves:
            raise OptionError(
                "scale: tiles of two sizes go to a folder or a .zip only; leave it out, "
                "and choose either size by tile_size"
            )

    def open_sink(
        self,
        layout: Layout,
        source: Source,
        colour_plan: ColourPlan,
        fingerprint: JobFingerprint | None = None,
        record: bytes = b"",
        further_files: Mapping[str, bytes] | None = None,
    ) -> Sink:
        """Create the sink that takes the tiles.

        Args:
            layout, source, colour_plan: Those of the image.
            fingerprint: The job's fingerprint if it is resumable.
            record: How the result is made, see `jobs.record`. Default: it has none.
            further_files: Path and content of the layout's `further_files`. Default: none.

        Raises:
            TargetError: The result cannot be written there.
        """
        return create_sink(
            self.target,
            layout,
            overwrite=self.options.overwrite,
            files=self.with_page(layout, further_files or {}, source.metadata),
            samples=self._tiff_samples(source, colour_plan),
            fingerprint=fingerprint,
            record=record,
        )

    def with_page(
        self, layout: Layout, files: Mapping[str, bytes], metadata: Metadata | None = None
    ) -> dict[str, bytes]:
        """Further files of a result, and the page of the option `viewer`: path and content."""
        if self.options.viewer is None:
            return dict(files)
        from fasttile.viewers import build_page

        blank = None if self.blank is None else css_colour(self.background)
        in_pmtiles = self.target.container == "pmtiles"
        page = build_page(
            layout,
            self.options.viewer,
            blank_colour=blank,
            in_pmtiles=in_pmtiles,
            metadata=metadata,
        )
        return {**files, **page}

    def check_target(self, layout: Layout, further_files: Mapping[str, bytes]) -> None:
        """Check, without writing anything, that `open_sink` can begin the result.

        Raises:
            OptionError, TargetError: As `open_sink`.
        """
        check_target(
            self.target,
            layout,
            overwrite=self.options.overwrite,
            files=self.with_page(layout, further_files),
            resume=self.options.resume,
        )

    def _bind_layout(
        self, width: int, height: int, levels: str | None = None, canvas: Canvas | None = None
    ) -> Layout:
        target, options = self.target, self.options
        own = {} if canvas is None else {"canvas": canvas}  # layouts of other packages have none
        szi = target.container == "szi"  # the SZI specification recommends 256 and 0
        in_archive = target.container in ("zip", "szi")  # which hold names as text
        return target.layout.bind(
            encode_name(target.name) if in_archive else target.name,
            width,
            height,
            self.codec.extension,
            tile_size=256 if szi and options.tile_size is None else options.tile_size,
            overlap=0 if szi and options.overlap is None else options.overlap,
            levels=levels,
            **own,
        )

    def _tiff_samples(self, source: Source, colour_plan: ColourPlan) -> TiffSamples | None:
        """Bands, bits and profile of the encoded tiles, for a TIFF's tags."""
        if self.target.container != "tiff":
            return None
        from fasttile.sinks.tiff import TiffSamples

        codec, bands = self.codec, source.bands
        metadata = source.metadata
        if colour_plan.transform is not None or colour_plan.grey_lookup is not None:
            metadata = metadata.without_values()
            bands = 3 if source.is_cmyk else bands
        if not codec.keeps_alpha and bands in (2, 4):
            bands -= 1
        return TiffSamples(
            bands=bands,
            bits=8 * source.dtype.itemsize,
            has_alpha=bands in (2, 4),
            icc_profile=colour_plan.tile_metadata.icc_profile,
            resolution=colour_plan.tile_metadata.resolution,
            georeference=metadata.georeference,
        )


def read_background(options: CutOptions, target: Target, codec: Codec) -> Background:
    """The background of a cut.

    Raises:
        OptionError: It is no colour, or has alpha where tiles have none.
    """
    background = parse_background(options.background)
    if len(background) == 4 and not codec.keeps_alpha:
        others = "deflate" if target.container == "tiff" else "png, webp or avif"
        raise OptionError(
            f"background {options.background!r}: {codec.name} tiles have no alpha; use --format "
            f"{others} (format), or an opaque colour"
        )
    return background


def css_colour(background: Background) -> str:
    """A background as pages have it: "#rrggbb", or "#rrggbbaa"."""
    return f"#{bytes(background).hex()}"


def resolve_target(
    dest: str | os.PathLike[str] | None,
    source: object,
    layout: str | None = None,
    subfolder: str = "",
    index: int = 1,
) -> Target:
    """Path and container of a source's result.

    Args:
        dest: A path with one of the extensions in `TARGET_SUFFIXES` is the result. A folder (an
            existing one, a path that ends in a slash, or one without extension) gets
            `<stem>.dzi` in Deep Zoom. In other layouts the result is itself a folder: `<stem>`
            in a path that ends in a slash, else the path. Default: the current folder. The same
            holds for object stores: "s3://bucket/path", "gs://…" and "az://…". `{name}`, `{ext}`,
            `{parent}` and `{index}` are replaced, see PLACEHOLDERS; `{{` and `}}` are braces.
        source: A path, a URL, or a file object with a name; its stem names the result.
        layout: See `LayoutSpec.parse`. Default: the extension's first layout, else "dzi".
        subfolder: Folders before the stem, for an image found below an input folder.
        index: Number of the image in its batch, from 1 on.

    Raises:
        OptionError: The extension is unknown or does not hold the layout, a placeholder is
            unknown, or the source has no name.

    Example:
        >>> resolve_target("out", "scans/map.tif").path.as_posix()
        'out/map.dzi'
        >>> resolve_target("out/map", "scans/map.tif", "zoomify").path.as_posix()
        'out/map'
        >>> url = "https://host/scans/map%201.tif?size=full"
        >>> resolve_target("{name}.pmtiles", url).path.as_posix()
        'map 1.pmtiles'
    """
    text = target_text(dest)
    names_image = has_placeholder(text, "{name}")
    text = _fill_placeholders(text, source, subfolder, index)
    if names_image:
        subfolder = ""
    spec = None if layout is None else LayoutSpec.parse(layout)
    scheme = scheme_of(text)
    if scheme is None:
        return _target_at_path(text, source, spec, subfolder, in_store=False)
    if scheme not in STORE_SCHEMES:
        raise OptionError(
            f"{redact_url(text)}: results cannot be written there; use a file, a folder, or "
            f"{', '.join(f'{name}://bucket/path' for name in STORE_SCHEMES)}"
        )
    from fasttile.storage.object_store import split_bucket_and_key

    store, key = split_bucket_and_key(text)
    return replace(_target_at_path(key, source, spec, subfolder, in_store=True), store=store)


def image_name(source: object) -> str:
    """The name that `cut` gives to the result of a source; "image" if the source has none."""
    from fasttile.sources.functions import DrawnImage  # no cut to a path needs it

    try:
        named = source.name if isinstance(source, Source | DrawnImage) else source
        return resolve_target(None, named).name
    except OptionError:
        return "image"


def _target_at_path(
    text: str, source: object, spec: LayoutSpec | None, subfolder: str, *, in_store: bool
) -> Target:
    path = Path(text)
    inside = not text or text.endswith(("/", os.sep))
    if not path.suffix or inside or (not in_store and path.is_dir()):
        spec, path = spec or LayoutSpec.parse("dzi"), path / subfolder
        if spec.name == "tiff":
            ome, stem = spec.parameters.get("ome"), _stem(source)
            return Target(
                path / (f"{stem.removesuffix('.ome')}.ome.tif" if ome else f"{stem}.tif"),
                "tiff",
                spec,
            )
        if spec.name == "dzi":
            return Target(path / f"{_stem(source)}.dzi", "folder", spec)
        return Target(path / _stem(source) if inside else path, "folder", spec)
    suffix = path.suffix.lower()
    if suffix not in TARGET_SUFFIXES:
        from fasttile import plugins  # reads the entry points of all packages

        if not in_store and plugins.find("sink", suffix[1:]) is not None:
            return Target(path, "plugin", spec or LayoutSpec.parse("dzi"))
        raise OptionError(
            f"{text}: unknown extension {path.suffix!r}; expected {', '.join(TARGET_SUFFIXES)} or "
            f"a folder{did_you_mean(suffix, TARGET_SUFFIXES)}"
        )
    container, layouts = TARGET_SUFFIXES[suffix]
    spec = spec or LayoutSpec.parse(layouts[0])
    is_other = container == "zip" and spec.name not in LAYOUTS  # of another package
    if spec.name not in layouts and not is_other:
        raise OptionError(
            f"{text}: {suffix} cannot hold {spec.name}; expected {', '.join(layouts)}"
        )
    if container == "tiff" and text.lower().endswith((".ome.tif", ".ome.tiff")):
        spec = _ome_spec(text, spec)
    return Target(path.with_suffix(suffix), container, spec)


def _ome_spec(text: str, spec: LayoutSpec) -> LayoutSpec:
    """The layout of a file whose name is that of an OME-TIFF: readers go by the name.

    Raises:
        OptionError: The file would be none.
    """
    if spec.parameters.get("cog") or spec.parameters.get("ome") is False:
        raise OptionError(
            f"{text}: this name is that of an OME-TIFF; use another one, or --layout tiff:ome"
        )
    return replace(spec, parameters={**spec.parameters, "ome": True})


def has_placeholder(dest: str, *names: str) -> bool:
    """True if a destination has one of these placeholders; of any, if none is given.

    Example:
        >>> has_placeholder("site/{name}.dzi"), has_placeholder("{{name}}", "{name}")
        (True, False)
    """
    return any(found in (names or PLACEHOLDERS) for found in _PLACEHOLDER.findall(dest))


def _fill_placeholders(text: str, source: object, subfolder: str, index: int) -> str:
    """A destination for one source.

    Raises:
        OptionError: A placeholder is unknown, or the source has no such part.
    """

    def value(match: re.Match[str]) -> str:
        found = match[0]
        if found in ("{{", "}}"):
            return found[0]
        if found == "{index}":
            return str(index)
        if found == "{name}":
            stem = _stem(source)
            return f"{subfolder}/{stem}" if subfolder else stem
        if found not in PLACEHOLDERS:
            raise OptionError(
                f"{redact_url(text)}: {found} is unknown; expected {', '.join(PLACEHOLDERS)}, or "
                f"two braces for one{did_you_mean(found, PLACEHOLDERS)}"
            )
        path = _source_path(source)
        part = path.suffix[1:] if found == "{ext}" else path.absolute().parent.name
        if not part:
            raise OptionError(
                f"{redact_url(str(source))}: it has nothing for {found} in the name of its result; "
                "use {name} or {index}"
            )
        return encode_name(part) if not part.strip(".") or "\0" in part else part

    return _PLACEHOLDER.sub(value, text)


def _source_path(source: object) -> Path:
    """The path of a source with a name, or that of its address."""
    source = without_tile_names(source)
    _stem(source)  # it has a name
    if scheme_of(source) is not None:
        from urllib.parse import unquote, urlsplit

        path = urlsplit(str(source)).path.rstrip("/")
        return Path("/", *(unquote(part).replace("/", "") for part in path.split("/")))
    source = _named(source)
    name = stream_name(source) if is_stream(source) else source
    assert isinstance(name, str | os.PathLike)  # it has a stem
    return Path(os.fspath(name))


def _named(source: object) -> object:
    """The source, or the path that names a mosaic."""
    return mosaic_path(source) if isinstance(source, str) else source


def has_known_suffix(dest: str) -> bool:
    """True if a name has the extension of a result."""
    return dest.lower().endswith(tuple(TARGET_SUFFIXES))


def is_one_file(dest: str) -> bool:
    """True if a name has the extension of a result in one file.

    Example:
        >>> is_one_file("site/{name}.SZI"), is_one_file("map.dzi"), is_one_file("site/")
        (True, False, False)
    """
    container, _ = TARGET_SUFFIXES.get(Path(dest).suffix.lower(), ("folder", ()))
    return container != "folder"


def common_folder(text: str) -> Path:
    """The folder that holds the results of all images of a batch."""
    match = _PLACEHOLDER.search(text)
    if match is not None:
        start = text[: match.start()]
        return Path(start) if start.endswith("/") else Path(start).parent
    return Path(text).parent if has_known_suffix(text) else Path(text)


def _stem(source: object) -> str:
    if isinstance(source, str) and source == STANDARD_INPUT:
        raise OptionError("standard input: it has no name; use -o NAME.dzi (dest)")
    source = without_tile_names(source)
    if scheme_of(source) is not None:
        return _stem_of_url(str(source))
    source = _named(source)
    name = stream_name(source) if is_stream(source) else source
    if is_open_pyramid(source):
        name = f"{source.name}.dzi"  # the name of an image, which has no extension
    if isinstance(name, str | os.PathLike):
        stem = Path(os.fspath(name)).stem
        if stem:  # of dots only, it would lead to other folders
            return stem if stem.strip(".") and "\0" not in stem else encode_name(stem)
    raise OptionError("source: it has no file name to name the result after; use dest='NAME.dzi'")


def _stem_of_url(url: str) -> str:
    """Stem of the last segment of a URL's path that is not empty."""
    from urllib.parse import unquote, urlsplit

    try:
        path = urlsplit(url).path
    except ValueError:
        path = ""
    # A quoted segment may hold anything, slashes and ".." too.
    name = unquote(path.rstrip("/").rpartition("/")[2])
    stem = Path(name.replace("\\", "/")).stem
    if stem.strip(".") and stem.isprintable():
        return stem
    raise OptionError(
        f"{redact_url(url)}: it has no file name to name the result after; use -o NAME.dzi (dest)"
    )
