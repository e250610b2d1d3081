"""The plan of a cut: what the options come to together, checked before any work."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .blank import Blank
from .codec import Codec, parse_codec
from .colour import Colours
from .containers import NAMES, check_container, sink_for
from .encoder import parse_colour
from .errors import OptionError
from .layouts.base import Layout
from .options import CutOptions
from .resample import Colour
from .sinks.base import Sink
from .sources.base import Source
from .targets import Target, target_of

if TYPE_CHECKING:
    from .journal import Identity
    from .sinks.tiff import Samples


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

    wishes: CutOptions
    target: Target
    codec: Codec
    background: Colour
    blank: Blank | None

    @classmethod
    def of(
        cls, wishes: CutOptions, dest: str | os.PathLike[str] | Target | None, source: object
    ) -> Plan:
        """The plan for a source, whose size is not known yet.

        Raises:
            OptionError: Options do not go together, whatever the picture.
        """
        target = dest if isinstance(dest, Target) else target_of(dest, source, wishes.layout)
        kind = target.layout.kind
        codec = parse_codec(wishes.format or kind.default_format, wishes.quality)
        check_container(target, codec)
        background = parse_colour(wishes.background)
        blank = None
        if wishes.skip_blank is not None:
            if not kind.sparse:
                raise OptionError(
                    f"{kind.title} needs all its tiles: skip_blank goes with xyz, tms, tilecache, "
                    "gsiv, .pmtiles and .mbtiles"
                )
            blank = Blank(background, wishes.skip_blank)
        plan = cls(wishes, target, codec, background, blank)
        # What is wrong for the smallest picture is wrong for all.
        plan._page(plan._bound(1, 1))
        return plan

    def layout(self, source: Source) -> Layout:
        """The layout of a picture.

        Raises:
            OptionError: The picture does not go with the options.
        """
        layout = self._bound(source.width, source.height, self.wishes.levels)
        codec, bits = self.codec, 8 * source.dtype.itemsize
        if bits not in codec.bits:
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

    def announcements(self) -> tuple[str, ...]:
        """The files that announce the result, whatever the picture: their paths in its folder."""
        if self.target.container != "folder":
            return (self.target.path.name,)
        layout = self._bound(1, 1)
        return (*self._page(layout), *layout.descriptors())

    def sink(
        self,
        layout: Layout,
        source: Source,
        colours: Colours,
        identity: Identity | None = None,
    ) -> Sink:
        """What takes the tiles.

        Args:
            layout, source, colours: Of the picture.
            identity: What the job is, if it can be carried on.

        Raises:
            TargetError: The result cannot be written where it should go.
        """
        return sink_for(
            self.target,
            layout,
            overwrite=self.wishes.overwrite,
            files=self._page(layout),
            samples=self._samples(source, colours),
            identity=identity,
        )

    def _bound(self, width: int, height: int, levels: str | None = None) -> Layout:
        target, wishes = self.target, self.wishes
        szi = target.container == "szi"  # whose specification advises other defaults
        return target.layout.of(
            target.name,
            width,
            height,
            self.codec.extension,
            tile_size=256 if szi and wishes.tile_size is None else wishes.tile_size,
            overlap=0 if szi and wishes.overlap is None else wishes.overlap,
            levels=levels,
        )

    def _page(self, layout: Layout) -> dict[str, bytes]:
        """The page that shows the result, if it is wanted."""
        if self.wishes.viewer is None:
            return {}
        from .viewers import page

        container = self.target.container
        if container not in ("folder", "zip", "pmtiles"):
            raise OptionError(
                f"{self.target.path}: no page goes with {NAMES[container]}; fasttile view shows it"
            )
        return page(
            layout,
            self.wishes.viewer,
            blank="#{:02x}{:02x}{:02x}".format(*self.background) if self.blank else None,
            pmtiles=container == "pmtiles",
        )

    def _samples(self, source: Source, colours: Colours) -> Samples | None:
        """What the tiles hold, once they are encoded, for a TIFF's tags."""
        if self.target.container != "tiff":
            return None
        from .sinks.tiff import Samples

        codec, bands = self.codec, source.bands
        if colours.transform is not None and source.cmyk:
            bands = 3
        if not codec.keeps_alpha and bands in (2, 4):
            bands -= 1
        return Samples(
            bands=bands,
            bits=8 * source.dtype.itemsize,
            alpha=bands in (2, 4),
            icc_profile=colours.attached.icc_profile,
            resolution=colours.attached.resolution,
        )
