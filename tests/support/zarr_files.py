"""Arrays of Zarr and N5 on disk, by zarr-python, tensorstore, and byte by byte: OME-Zarr too."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

Array = NDArray[Any]

OME_AXES = {
    "t": {"name": "t", "type": "time"},
    "c": {"name": "c", "type": "channel"},
    **{axis: {"name": axis, "type": "space", "unit": "micrometer"} for axis in "zyx"},
}


def write_zarr(path: Path, pixels: Array, **options: Any) -> Path:
    """Write an array by zarr-python; options as for `zarr.create_array`."""
    options.setdefault("chunks", tuple(min(64, side) for side in pixels.shape))
    array = zarr.create_array(path, shape=pixels.shape, dtype=pixels.dtype, **options)
    array[...] = pixels
    return path


def write_ome(
    path: Path,
    pixels: Array,
    axes: str,
    version: str = "0.4",
    *,
    omero: object = None,
    levels: int = 3,
    paths: tuple[str, ...] = (),
    **options: Any,
) -> Path:
    """Write an image of OME-Zarr, 0.4 in Zarr 2 or 0.5 in Zarr 3, each level a stride of the first.

    Samples are 0.5 µm wide. `paths` are the names of the levels; default: 0, 1, 2.
    """
    is_new = version >= "0.5"
    group = zarr.open_group(path, mode="w", zarr_format=3 if is_new else 2)
    datasets = []
    for level in range(levels):
        step = 2**level
        samples = pixels[..., ::step, ::step]
        name = paths[level] if paths else str(level)
        naming: dict[str, Any] = {"chunk_key_encoding": {"name": "v2", "separator": "/"}}
        if is_new:
            naming = {"dimension_names": list(axes)}
        chunks = (1,) * (samples.ndim - 2) + (64, 64)
        array = group.create_array(
            name, shape=samples.shape, dtype=samples.dtype, chunks=chunks, **naming, **options
        )
        array[...] = samples
        scale = [1.0] * (samples.ndim - 2) + [0.5 * step] * 2
        transforms = [{"type": "scale", "scale": scale}]
        datasets.append({"path": name, "coordinateTransformations": transforms})
    image: dict[str, Any] = {"axes": [OME_AXES[axis] for axis in axes], "datasets": datasets}
    members: dict[str, Any] = {"multiscales": [image]}
    if omero is not None:
        members["omero"] = omero
    if is_new:
        group.attrs["ome"] = {"version": version, **members}
    else:
        image["version"] = version
        group.attrs.update(members)
    return path


def write_plain(path: Path, pixels: Array, chunks: tuple[int, ...], **changes: Any) -> Path:
    """Write a raw array of Zarr 2 byte by byte; `changes` of its .zarray."""
    path.mkdir(parents=True)
    header = {
        "zarr_format": 2,
        "shape": list(pixels.shape),
        "chunks": list(chunks),
        "dtype": pixels.dtype.str,
        "compressor": None,
        "fill_value": 0,
        "filters": None,
        "order": "C",
        **changes,
    }
    (path / ".zarray").write_text(json.dumps(header))
    counts = [-(-side // chunk) for side, chunk in zip(pixels.shape, chunks, strict=True)]
    for index in np.ndindex(*counts):
        part = pixels[tuple(slice(i * c, (i + 1) * c) for i, c in zip(index, chunks, strict=True))]
        full = np.zeros(chunks, pixels.dtype)
        full[tuple(slice(side) for side in part.shape)] = part
        (path / ".".join(map(str, index))).write_bytes(full.tobytes())
    return path


def write_n5_block(path: Path, samples: Array) -> None:
    """Write a block of raw N5, of any size: the first axis of N5 is the last of NumPy."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header = struct.pack(f">HH{samples.ndim}I", 0, samples.ndim, *samples.shape[::-1])
    path.write_bytes(header + samples.astype(samples.dtype.newbyteorder(">")).tobytes())
