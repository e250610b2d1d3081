"""Images of complete levels, which IIIF stores beside the tiles, of a result that is converted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from fasttile.abc.layout import Layout
from fasttile.abc.reader import ResultReader
from fasttile.abc.sink import PathSink, Sink
from fasttile.encode.codecs import parse_codec
from fasttile.geometry import Level


def add_level_images(
    reader: ResultReader,
    levels: Iterable[tuple[int, Level]],
    layout: Layout,
    sink: Sink,
    codec_name: str,
) -> Iterator[str]:
    """Copy the images of complete levels, or encode those that the source lacks.

    Args:
        reader: The source.
        levels: Number of each new level, and the source's level with the same tiles.
        layout: The new layout.
        sink: Takes the images.
        codec_name: The codec of images that are encoded.

    Yields:
        A line for the user.
    """
    made, old = 0, reader.layout
    wanted = layout.level_image_paths()
    stored = old.level_image_paths()
    for number, level in levels:
        paths = wanted.get(number)
        if not paths:
            continue
        data = None
        for path in stored.get(level.number, ()) if reader.files is not None else ():
            assert reader.files is not None
            data = data or reader.files.read(path.removeprefix(f"{old.root}/"))
        if data is None:
            data = _encode_level(reader, level, codec_name)
            made += 1
        assert isinstance(sink, PathSink)  # containers of layouts with level images have paths
        sink.add(paths, data)
    if made:
        yield f"{made} images of complete levels were encoded from their tiles"


def _encode_level(reader: ResultReader, level: Level, codec_name: str) -> bytes:
    """Encode the image of a complete level, without overlap and padding."""
    from fasttile.colour.convert import NO_CONVERSION
    from fasttile.jobs.pipeline import ThreadEncoders
    from fasttile.options.read import ReadOptions
    from fasttile.readers.source import ResultSource

    image = ResultSource(reader, ReadOptions(), closes=False, level=level)
    encoders = ThreadEncoders(parse_codec(codec_name), (255, 255, 255), NO_CONVERSION, None, None)
    data = encoders.for_level(level.number).encode(image.rows(0, image.height))
    assert data is not None  # no tile is blank
    return data
