"""Files beside the tiles of a conversion: images of complete levels, the manifest, the page."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from fasttile.abc.layout import Layout, WholeImage
from fasttile.abc.reader import ResultReader
from fasttile.abc.sink import PathSink, Sink
from fasttile.encode.codecs import Codec, parse_codec
from fasttile.geometry import Level
from fasttile.jobs.plan import Plan, css_colour
from fasttile.jobs.record import recorded_options
from fasttile.options import parse_background


def add_whole_images(
    sink: Sink, layout: Layout, reader: ResultReader, codec: Codec
) -> Iterator[str]:
    """Copy the images of complete levels, or encode those that the source lacks.

    Args:
        sink: Takes them.
        layout: The new layout.
        reader: The source.
        codec: Of this name are those that are encoded.

    Yields:
        Notes for the user.
    """
    made, old = 0, reader.layout
    tops = layout.pyramid.stored_range[-1], old.pyramid.stored_range[-1]
    stored = {
        (image.level - tops[1], image.width, image.height): image.paths
        for image in old.whole_images()
    }
    for image in layout.whole_images():
        below, data = image.level - tops[0], None
        paths = stored.get((below, image.width, image.height), ())
        for path in paths:
            data = data or reader.read_file(path)
        if data is None:
            data = _encode_image(image, reader, old.pyramid.levels[tops[1] + below], codec)
            made += 1
        assert isinstance(sink, PathSink)  # containers of layouts with such images have paths
        sink.add(image.paths, data)
    if made:
        yield f"{made} images of complete levels were encoded from their tiles"


def converted_page(plan: Plan, layout: Layout, reader: ResultReader) -> dict[str, bytes]:
    """The page of the option `viewer`, by its name; nothing without the option.

    Args:
        plan: The options of the conversion.
        layout: The new layout.
        reader: The source.
    """
    viewer, blank = plan.options.viewer, None
    if viewer is None:
        return {}
    from fasttile.viewers import build_page

    if reader.allows_missing_tiles:
        made = recorded_options(reader.record())
        blank = css_colour(parse_background(made.get("background", "white")))
    from fasttile.viewers.preview import add_preview_of

    pages = build_page(
        layout,
        viewer,
        blank_colour=blank,
        in_pmtiles=plan.target.container == "pmtiles",
        metadata=reader.metadata,
    )
    return {name: add_preview_of(page, reader) for name, page in pages.items()}


def _encode_image(wanted: WholeImage, reader: ResultReader, level: Level, codec: Codec) -> bytes:
    """Encode an image of a complete level, without overlap and padding."""
    from fasttile.colour.convert import NO_CONVERSION
    from fasttile.jobs.pipeline import ThreadEncoders
    from fasttile.options.read import ReadOptions
    from fasttile.readers.source import ResultSource
    from fasttile.scaling import reduce_to

    image = ResultSource(reader, ReadOptions(), closes=False, level=level)
    pixels = image.rows(0, image.height)
    if pixels.shape[:2] != (wanted.height, wanted.width):
        shrink, light = recorded_options(reader.record()).get("shrink", "mean"), None
        if shrink == "linear":
            from fasttile.colour import plan_colours
            from fasttile.colour.light import light_tables

            light = light_tables(image, plan_colours(image, "keep", keeps_grey=True))
        size = wanted.width, wanted.height
        pixels = reduce_to(pixels, *size, method=shrink, alpha=image.has_alpha, light=light)
    encoders = ThreadEncoders(parse_codec(codec.name), (255, 255, 255), NO_CONVERSION, None, None)
    data = encoders.for_level(level.number).encode(pixels)
    assert data is not None  # no tile is blank
    return data


def converted_manifest(plan: Plan, layout: Layout, reader: ResultReader) -> dict[str, bytes]:
    """Path and content of the manifest, with the texts of a CSV or else of the source's own.

    Args:
        plan: The plan, with the description of the CSV.
        layout: The new layout.
        reader: The source.

    Raises:
        SourceError: The source's manifest cannot be read.
    """
    if not layout.further_files():
        return {}
    from fasttile.jobs.descriptions import manifest_files
    from fasttile.layouts.presentation import parse_manifest

    if plan.description is None:
        for path in reader.layout.further_files():
            data = reader.read_file(path)
            if data is not None:
                found, _ = parse_manifest(data, f"{reader.path}: {path}")
                plan = replace(plan, description=found)
    return manifest_files(plan, layout, None)
