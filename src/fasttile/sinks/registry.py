"""Registry of containers: the formats that each can hold, and the sink that writes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

from fasttile.abc.layout import Layout
from fasttile.abc.sink import Sink
from fasttile.encode.codecs import CODECS, Codec, Jpeg
from fasttile.errors import OptionError
from fasttile.layouts import RECORD_NAME
from fasttile.sinks import Target
from fasttile.types import Container

if TYPE_CHECKING:
    from fasttile.layouts.tiff import Tiff
    from fasttile.layouts.xyz import Xyz
    from fasttile.sinks.tiff import TiffSamples
    from fasttile.storage.journal import JobFingerprint

CONTAINER_FORMATS: dict[Container, tuple[str, ...]] = {"tiff": ("jpeg", "deflate")}
"""The tile formats of a container; all others hold the formats that viewers know."""

_DEFAULT_FORMATS = ("jpeg", "png", "webp", "avif")

CONTAINER_NAMES: dict[Container, str] = {
    "folder": "a folder",
    "zip": ".zip",
    "szi": ".szi",
    "pmtiles": ".pmtiles",
    "mbtiles": ".mbtiles",
    "tiff": "a pyramidal TIFF",
    "plugin": "a plug-in's container",
}


def check_container(target: Target, codec: Codec) -> None:
    """Check that a layout and its container can hold tiles of a format.

    Raises:
        OptionError: They cannot.
    """
    container, layout_type = target.container, target.layout.layout_type
    if codec.extension in layout_type.refused_formats:
        raise OptionError(
            f"format {codec.name}: {layout_type.title} has no name for it; use jpeg, png or webp, "
            "or another layout"
        )
    known = CONTAINER_FORMATS.get(container, _DEFAULT_FORMATS)
    # Other packages' codecs go where tiles are files.
    is_other = container in ("folder", "zip", "plugin") and codec.name not in CODECS
    if codec.name not in known and not is_other:
        raise OptionError(
            f"{CONTAINER_NAMES[container]} holds no {codec.name} tiles; "
            f"expected {' or '.join(known)}"
        )
    if container == "tiff" and isinstance(codec, Jpeg) and codec.progressive:
        raise OptionError("tiles of a TIFF cannot be progressive JPEG")
    if container == "tiff" and codec.keeps_credit:
        raise OptionError(
            f"{codec.name}:credit: a TIFF has title and credit in its tags; leave it out"
        )


def check_halves(container: Container, layout: Layout) -> None:
    """Check that a container can hold a second file of each tile, if the layout has them.

    Raises:
        OptionError: It cannot.
    """
    if layout.has_halves and container not in ("folder", "zip"):
        raise OptionError(
            f"scale: {CONTAINER_NAMES[container]} holds one tile at each address; use a folder or "
            ".zip, or leave it out"
        )


def create_sink(
    target: Target,
    layout: Layout,
    *,
    overwrite: bool,
    files: Mapping[str, bytes],
    samples: TiffSamples | None = None,
    fingerprint: JobFingerprint | None = None,
    record: bytes = b"",
) -> Sink:
    """The sink that writes a target.

    Args:
        target: The path and the container.
        layout: The paths of the tiles.
        overwrite: True if it may replace an older result.
        files: Files beside the tiles: path and content.
        samples: The samples of the encoded tiles, for a TIFF's tags.
        fingerprint: The identity of a job that can be resumed; ignored for one-file results.
        record: How the result is made, as JSON. Default: none.

    Raises:
        TargetError: It cannot be written there.
    """
    path = target.path
    if target.container == "plugin":
        from fasttile.sinks.plugged import open_plugin_sink

        return open_plugin_sink(path, layout, overwrite=overwrite)
    if record and target.container in ("folder", "zip", "szi"):
        files = {**files, f"{layout.root}/{RECORD_NAME}": record}
    if target.store and target.container == "folder":
        from fasttile.sinks.objects import ObjectSink

        return ObjectSink(layout, target, overwrite=overwrite, files=files, fingerprint=fingerprint)
    if target.store:
        from fasttile.sinks.sidecars import UploadedFileSink

        def create_local_sink(there: Target) -> Sink:
            return create_sink(
                there, layout, overwrite=False, files=files, samples=samples, record=record
            )

        return UploadedFileSink(target, create_local_sink, overwrite=overwrite)
    if target.container == "folder":
        from fasttile.sinks.folder import DirectorySink

        return DirectorySink(
            layout, path, overwrite=overwrite, files=files, fingerprint=fingerprint
        )
    if target.container in ("zip", "szi"):
        from fasttile.sinks.archive import ArchiveSink, scan_properties

        prefix = ""
        if target.container == "szi":
            prefix = f"{layout.name}/"
            files = {**files, **scan_properties(layout)}
        return ArchiveSink(layout, path, overwrite=overwrite, files=files, prefix=prefix)
    if target.container == "pmtiles":
        from fasttile.sinks.pmtiles import PmtilesSink

        sink = PmtilesSink(cast("Xyz", layout), path, overwrite=overwrite, record=record)
        if not files:
            return sink
        from fasttile.sinks.sidecars import WithSidecars

        return WithSidecars(sink, path.parent, files, overwrite=overwrite)
    if target.container == "mbtiles":
        from fasttile.sinks.mbtiles import MbtilesSink

        return MbtilesSink(cast("Xyz", layout), path, overwrite=overwrite, record=record)
    from fasttile.sinks.tiff import TiffSink

    assert samples is not None
    levels, open_tiff = cast("Tiff", layout), TiffSink
    if levels.cog:
        from fasttile.sinks.cog import CogSink

        open_tiff = CogSink
    return open_tiff(levels, path, overwrite=overwrite, samples=samples, record=record)


def check_target(
    target: Target,
    layout: Layout,
    *,
    overwrite: bool,
    files: Mapping[str, bytes],
    resume: bool,
) -> None:
    """Check, without writing anything, that `create_sink` can begin a result.

    Args:
        target, layout, overwrite, files: As for `create_sink`.
        resume: True if the job can be resumed.

    Raises:
        OptionError, TargetError: As `create_sink`; what plug-ins refuse is not known.
    """
    if target.container == "folder":
        if target.store:
            from fasttile.sinks.objects import check_objects

            check_objects(layout, target, overwrite=overwrite, files=files, resume=resume)
            return
        from fasttile.sinks.folder import check_folder

        check_folder(layout, target.path, overwrite=overwrite, files=files, resume=resume)
        return
    if target.store:
        from fasttile.sinks.sidecars import check_object

        check_object(target, overwrite=overwrite)
        return
    if target.container == "plugin":
        from fasttile.sinks.plugged import check_plugin_file

        check_plugin_file(target.path, overwrite=overwrite)
        return
    from fasttile.storage.writing import check_atomic_file

    beside = files if target.container == "pmtiles" else ()
    for path in (target.path, *(target.path.parent / name for name in beside)):
        check_atomic_file(path, overwrite=overwrite)
