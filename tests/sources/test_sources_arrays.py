"""Arrays and what is like them: shapes, strides, dtypes, and who shares memory with whom."""

from __future__ import annotations

import io
import itertools
from pathlib import Path
from typing import Any

import dask.array
import h5py
import numpy as np
import pytest
import zarr
from numpy.lib import format as npy_format
from PIL import Image

from fasttile.errors import OptionError, SourceError
from fasttile.geometry import Region
from fasttile.sources import open_source
from fasttile.storage.memory import _memory_runs
from support.reading import noise, read_checked, read_pixels, resident_bytes

SHAPES = [(5, 7), (1, 1), (1, 9), (9, 1), (200, 3), *((6, 5, bands) for bands in (1, 2, 3, 4))]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", ["u1", "<u2", ">u2", "?"])
def test_each_shape_and_dtype(shape: tuple[int, ...], dtype: str) -> None:
    array = noise(*shape, dtype=dtype)
    expected = array.reshape(*shape[:2], -1).astype(np.int64)
    if dtype == "?":
        expected = expected * 255
    elif dtype.endswith("u2"):
        expected = (expected * 255 + 32767) // 65535
    np.testing.assert_array_equal(read_pixels(array), expected)


@pytest.mark.parametrize(
    "view",
    [
        np.s_[:, :],
        np.s_[::-1],
        np.s_[::3],
        np.s_[5:2:-1],
        np.s_[2:7, 1:5],
        np.s_[::-2, 3:],
    ],
)
def test_any_stride_between_rows_is_taken_without_a_copy(view: Any) -> None:
    for shape in ((9, 6), (9, 6, 3)):
        array = noise(*shape)[view]
        with open_source(array) as source:
            assert source.is_mapped
            assert np.shares_memory(source.rows(1, 2), array)
            np.testing.assert_array_equal(read_checked(source), array.reshape(*array.shape[:2], -1))


@pytest.mark.parametrize("view", [np.s_[:, ::2], np.s_[:, ::-1], np.s_[..., ::-1], np.s_[..., :2]])
def test_pixels_that_do_not_lie_side_by_side_are_copied(view: Any) -> None:
    array = noise(9, 6, 3)[view]
    with open_source(array) as source:
        assert not source.is_mapped
        np.testing.assert_array_equal(read_checked(source), array)


def test_columns_and_planes() -> None:
    planes = noise(3, 8, 5)
    np.testing.assert_array_equal(read_pixels(planes.transpose(1, 2, 0)), planes.transpose(1, 2, 0))
    fortran = np.asfortranarray(noise(8, 5, 3))
    np.testing.assert_array_equal(read_pixels(fortran), fortran)
    broadcast = np.broadcast_to(noise(1, 5, 3), (8, 5, 3))
    np.testing.assert_array_equal(read_pixels(broadcast), broadcast)


def test_read_only_arrays_and_subclasses() -> None:
    array = noise(4, 4)
    array.setflags(write=False)
    np.testing.assert_array_equal(read_pixels(array)[..., 0], array)
    np.testing.assert_array_equal(read_pixels(np.ma.masked_array(array))[..., 0], array)


@pytest.mark.parametrize("shape", [(), (4,), (4, 4, 5), (4, 4, 0), (2, 4, 4, 3), (0, 4), (4, 0, 3)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(SourceError, match="shape") as caught:
        open_source(np.zeros(shape, np.uint8))
    assert str(shape) in str(caught.value)


@pytest.mark.parametrize("dtype", ["c8", "O", "U1", "u1,u1"])
def test_other_dtypes_are_refused_with_the_way_out(dtype: str) -> None:
    with pytest.raises(SourceError, match="expected integers, floats of at most 64 bits, or bool"):
        open_source(np.zeros((4, 4), dtype))


@pytest.mark.parametrize("thing", [None, 7, [[1, 2], [3, 4]], object()])
def test_what_is_no_image_is_refused(thing: object) -> None:
    with pytest.raises(SourceError, match=f"type {type(thing).__name__} is not an image"):
        open_source(thing)


def test_a_raw_format_is_for_files() -> None:
    with pytest.raises(OptionError, match="for files"):
        open_source(noise(4, 4), raw="4x4x1")


class _ArrayInterface:
    def __init__(self, array: Any) -> None:
        self.array = array
        self.__array_interface__ = array.__array_interface__


class _DlpackArray:
    def __init__(self, array: Any) -> None:
        self._array = array

    def __dlpack__(self, **options: Any) -> Any:
        return self._array.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        device: tuple[int, int] = self._array.__dlpack_device__()
        return device


class _DeviceArray(_DlpackArray):
    def __dlpack__(self, **options: Any) -> Any:
        raise BufferError("the data is on cuda:0")


@pytest.mark.parametrize("wrapped", [_ArrayInterface, _DlpackArray])
def test_interfaces_share_memory(wrapped: Any) -> None:
    array = noise(6, 5, 3)
    with open_source(wrapped(array)) as source:
        assert np.shares_memory(source.rows(0, 6), array)
        np.testing.assert_array_equal(read_checked(source), array)


def test_a_graphics_card_is_named() -> None:
    with pytest.raises(SourceError, match=r"cuda:0.*the memory of the processor"):
        open_source(_DeviceArray(noise(4, 4)))


@pytest.mark.parametrize("mode", ["r", "r+", "c"])
def test_memmaps_are_viewed_and_their_pages_dropped(tmp_path: Path, mode: Any) -> None:
    array = noise(1024, 4096)
    path = tmp_path / "a.npy"
    np.save(path, array)
    memmap = np.load(path, mmap_mode=mode)
    with open_source(memmap[:, 5:4000]) as source:
        rows = source.rows(0, 1024)
        assert np.shares_memory(rows, memmap)
        source.populate(rows)
        assert resident_bytes(path) >= rows.nbytes
        source.discard(rows)
        assert (resident_bytes(path) < 1 << 16) == (mode != "c")
        np.testing.assert_array_equal(rows[..., 0], array[:, 5:4000])
    assert memmap[0, 0] == array[0, 0]


def test_a_parser_that_fails_at_random_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python 3.11's does so when threads parse at once: too seldom for a test without a patch."""
    array = noise(4, 4)
    np.save(tmp_path / "a.npy", array)
    real = npy_format.read_array_header_1_0
    failures = iter([SystemError("AST constructor recursion depth mismatch")] * 3)

    def parse(stream: io.BytesIO) -> object:
        for failure in failures:
            raise failure
        return real(stream)

    monkeypatch.setattr(npy_format, "read_array_header_1_0", parse)
    np.testing.assert_array_equal(read_pixels(tmp_path / "a.npy")[..., 0], array)
    assert next(failures, None) is None


def test_changes_in_a_private_memmap_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, noise(64, 64))
    memmap = np.load(path, mmap_mode="c")
    memmap[:] = 7
    assert (read_pixels(memmap) == 7).all()
    assert (memmap == 7).all()


def test_a_memmap_that_shrinks_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, noise(1024, 4096))
    with open_source(np.load(path, mmap_mode="r")) as source:
        rows = source.rows(512, 1024)
        with path.open("r+b") as file:
            file.truncate(4096)
        with pytest.raises(SourceError, match="shrank or failed while it was being read"):
            source.populate(rows)


@pytest.mark.parametrize("axes", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("flip", [1, -1])
def test_runs_of_memory_cover_each_pixel_and_little_else(axes: tuple[int, ...], flip: int) -> None:
    view = np.zeros((40, 500, 30), np.uint16)[::2, ::flip, 3:20:2].transpose(axes)
    start: int = view.__array_interface__["data"][0]
    steps = (np.arange(n) * s for n, s in zip(view.shape, view.strides, strict=True))
    wanted = np.unique(start + sum(np.ix_(*steps)))
    runs = [
        (first + i * stride, size)
        for first, stride, count, size in _memory_runs(view)
        for i in range(count)
    ]
    covered = np.zeros(len(wanted), bool)
    for first, size in runs:
        covered |= (wanted >= first) & (wanted + 2 <= first + size)
    assert covered.all()
    assert sum(size for _, size in runs) <= wanted[-1] - wanted[0] + 2


def _zarr(array: Any, chunks: tuple[int, ...]) -> Any:
    stored = zarr.create_array({}, shape=array.shape, dtype=array.dtype, chunks=chunks)
    stored[...] = array
    return stored


def _h5py(array: Any, chunks: tuple[int, ...]) -> Any:
    file = h5py.File.in_memory()
    return file.create_dataset("image", data=array, chunks=chunks)


def _dask(array: Any, chunks: tuple[int, ...]) -> Any:
    return dask.array.from_array(array, chunks=chunks)


@pytest.mark.parametrize("kind", [_zarr, _h5py, _dask])
@pytest.mark.parametrize("dtype", ["u1", "<u2", ">u2", "?"])
def test_what_slices_like_an_array(kind: Any, dtype: str) -> None:
    for shape, chunks in (((200, 30), (70, 11)), ((70, 9, 3), (16, 4, 2)), ((5, 4, 1), (1, 1, 1))):
        array = noise(*shape, dtype=dtype)
        full = read_pixels(array)
        stored = kind(array, chunks)
        np.testing.assert_array_equal(read_pixels(stored), full)
        region = Region(1, 2, 3, shape[0] - 3)
        cut = full[2 : shape[0] - 1, 1:4]
        np.testing.assert_array_equal(read_pixels(stored, region=region), cut)
        with open_source(stored) as source:
            assert source.preferred_rows % chunks[0] == 0
            skipped = source.rows(shape[0] - 2, shape[0])
            np.testing.assert_array_equal(skipped, full[-2:])


class _CountingArray:
    """Slices like an array, and counts how often each row was read."""

    def __init__(self, array: Any, chunks: tuple[int, ...]) -> None:
        self.array, self.chunks = array, chunks
        self.shape, self.dtype = array.shape, array.dtype
        self.reads = np.zeros(array.shape[0], int)

    def __getitem__(self, key: tuple[slice, slice]) -> Any:
        self.reads[key[0]] += 1
        return self.array[key]


@pytest.mark.parametrize("step", [1, 7, 64, 100])
def test_each_row_is_read_once_however_it_is_asked_for(step: int) -> None:
    counting = _CountingArray(noise(300, 5), (80, 5))
    with open_source(counting, region=Region(1, 3, 4, 290)) as source:
        for y in range(0, 290, step):
            rows = source.rows(y, min(290, y + step))
            np.testing.assert_array_equal(
                rows[..., 0], counting.array[3 + y : 3 + min(290, y + step), 1:]
            )
    assert counting.reads.max() == 1


def test_an_array_that_fails_or_lies_is_an_error() -> None:
    counting = _CountingArray(noise(30, 5), (8, 5))
    with open_source(counting) as source:
        counting.array = noise(30, 4)
        with pytest.raises(SourceError, match=r"have the shape \(30, 4\)"):
            source.rows(0, 8)
        counting.array = None
        with pytest.raises(SourceError, match="rows 0 to 29 cannot be read"):
            source.rows(0, 8)


def test_sliced_shapes_and_dtypes_are_checked() -> None:
    with pytest.raises(SourceError, match="dtype complex128"):
        open_source(_dask(np.zeros((4, 4), "c16"), (4, 4)))
    with pytest.raises(SourceError, match=r"shape \(2, 3, 4, 1\)"):
        open_source(_dask(noise(2, 3, 4, 1), (1, 1, 1, 1)))
    counting = _CountingArray(noise(4, 4), (1,))
    counting.dtype = "no dtype"
    with pytest.raises(SourceError, match="not an array's"):
        open_source(counting)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "RGB", "RGBA", "I;16", "I;16B"])
def test_pil_images_keep_their_pixels(mode: str) -> None:
    image = Image.effect_noise((13, 9), 80).convert("RGBA" if "A" in mode else "L")
    if mode == "1":
        image = image.point(lambda value: 255 * (value > 128), "1")
    elif mode.startswith("I;16"):
        dtype = "<u2" if mode == "I;16" else ">u2"
        data = noise(9, 13, dtype=dtype)
        image = Image.frombytes(mode, (13, 9), data.tobytes())
        np.testing.assert_array_equal(read_pixels(image, bits=16)[..., 0], data)
        return
    else:
        image = image.convert(mode)
    expected = np.asarray(image.convert("L") if mode == "1" else image)
    np.testing.assert_array_equal(read_pixels(image), expected.reshape(9, 13, -1))
    assert image.mode == mode


MODE_WARNINGS = {
    "RGBX": (),
    "P": ("palette expanded",),
    "PA": ("converted from palette with alpha",),
    "LAB": ("converted from CIELab",),
    "La": ("converted from grey, premultiplied alpha",),
    "RGBa": ("converted from RGB, premultiplied alpha",),
    **{mode: (f"converted from {mode}",) for mode in ("CMYK", "YCbCr", "HSV")},
}


@pytest.mark.parametrize("mode", ["P", "CMYK", "YCbCr", "HSV", "LAB", "RGBX", "RGBa", "La", "PA"])
def test_pil_images_of_other_modes_are_converted(mode: str) -> None:
    image = {
        "PA": lambda: Image.effect_noise((13, 9), 80).convert("P").convert("PA"),
        "LAB": lambda: Image.frombytes("LAB", (13, 9), noise(9, 13, 3).tobytes()),
        "La": lambda: Image.frombytes("LA", (13, 9), noise(9, 13, 2).tobytes()).convert("La"),
        "RGBa": lambda: Image.frombytes("RGBA", (13, 9), noise(9, 13, 4).tobytes()).convert("RGBa"),
    }.get(mode, lambda: Image.frombytes("RGB", (13, 9), noise(9, 13, 3).tobytes()).convert(mode))()
    wanted = {"RGBa": "RGBA", "PA": "RGBA", "La": "LA"}.get(mode, "RGB")
    with open_source(image) as source:
        assert source.metadata.notes == MODE_WARNINGS[mode]
        np.testing.assert_array_equal(read_checked(source), np.asarray(image.convert(wanted)))


@pytest.mark.parametrize("mode", ["I", "F"])
def test_pil_images_of_numbers_come_through_a_window(mode: str) -> None:
    values = np.arange(-20, 97, dtype="i4" if mode == "I" else "f4").reshape(13, 9)
    expected = np.clip(values * 255 / 90 + 0.5, 0, 255).astype(np.uint8)
    got = read_pixels(Image.fromarray(values), window=(0, 90))
    np.testing.assert_array_equal(got[..., 0], expected)


def test_an_empty_pil_image_is_refused() -> None:
    with pytest.raises(SourceError, match="0×5 pixels"):
        open_source(Image.new("L", (0, 5)))
