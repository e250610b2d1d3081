"""What each container can hold, and the sink that writes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

from .codec import Codec, Jpeg
from .errors import OptionError
from .layouts.base import Layout
from .sinks.base import Sink
from .targets import Container, Target

if TYPE_CHECKING:
    from .journal import Identity
    from .layouts.tiff import Tiff
    from .layouts.xyz import Xyz
    from .sinks.tiff import Samples

FORMATS: dict[Container, tuple[str, ...]] = {"tiff": ("jpeg", "deflate")}
"""The formats of tiles that a container has a way to say; the others take what viewers know."""

_USUAL = ("jpeg", "png", "webp")

NAMES: dict[Container, str] = {
    "folder": "a folder",
    "zip": ".zip",
    "szi": ".szi",
    "pmtiles": ".pmtiles",
    "mbtiles": ".mbtiles",
    "tiff": "a pyramidal TIFF",
}


def check_container(target: Target, codec: Codec) -> None:
    """Say before any work what a container cannot hold.

    Raises:
        OptionError: The format of the tiles does not go with it.
    """
    container = target.container
    known = FORMATS.get(container, _USUAL)
    if codec.name not in known:
        raise OptionError(
            f"{NAMES[container]} holds no {codec.name} tiles; {' or '.join(known)} would do"
        )
    if container == "tiff" and isinstance(codec, Jpeg) and codec.progressive:
        raise OptionError("tiles of a TIFF cannot be progressive JPEG")


def sink_for(
    target: Target,
    layout: Layout,
    *,
    overwrite: bool,
    files: Mapping[str, bytes],
    samples: Samples | None = None,
    identity: Identity | None = None,
) -> Sink:
    """The sink that writes a target.

    Args:
        target: Where, and in what.
        layout: Where each tile lives in it.
        overwrite: Whether it may replace what stands there.
        files: What is written beside the tiles: path and content.
        samples: What the encoded tiles hold, for a TIFF's tags.
        identity: What the job is, if it can be carried on; one file is begun again nevertheless.

    Raises:
        TargetError: It cannot be written there.
    """
    path = target.path
    if target.store and target.container == "folder":
        from .sinks.objects import ObjectSink

        return ObjectSink(layout, target, overwrite=overwrite, files=files, identity=identity)
    if target.store:
        from .sinks.uploaded import Uploaded

        def local(there: Target) -> Sink:
            return sink_for(there, layout, overwrite=False, files=files, samples=samples)

        return Uploaded(target, local, overwrite=overwrite)
    if target.container == "folder":
        from .sinks.directory import DirectorySink

        return DirectorySink(layout, path, overwrite=overwrite, files=files, identity=identity)
    if target.container in ("zip", "szi"):
        from .sinks.archive import ArchiveSink, scan_properties

        prefix = ""
        if target.container == "szi":
            prefix = f"{layout.name}/"
            files = {**files, **scan_properties(layout)}
        return ArchiveSink(layout, path, overwrite=overwrite, files=files, prefix=prefix)
    if target.container == "pmtiles":
        from .sinks.pmtiles import PmtilesSink

        sink = PmtilesSink(cast("Xyz", layout), path, overwrite=overwrite)
        if not files:
            return sink
        from .sinks.beside import Beside

        return Beside(sink, path.parent, files, overwrite=overwrite)
    if target.container == "mbtiles":
        from .sinks.mbtiles import MbtilesSink

        return MbtilesSink(cast("Xyz", layout), path, overwrite=overwrite)
    from .sinks.tiff import TiffSink

    assert samples is not None
    return TiffSink(cast("Tiff", layout), path, overwrite=overwrite, samples=samples)
