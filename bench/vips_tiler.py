"""Peer (c): libvips' dzsave, by pyvips-binary, with its own defaults and number of threads.

The image is read from top to bottom (`access="sequential"`), which is dzsave's fast way. An
image with a colour profile is converted to sRGB, with the intent that fasttile takes.

    python bench/vips_tiler.py INPUT OUTPUT.dzi [--format jpeg|png] [--quality 75]
"""

from __future__ import annotations

import pyvips

from dzi import Job, job_from_command_line

PROFILE_FIELD = "icc-profile-data"


def convert_to_srgb(image: pyvips.Image) -> pyvips.Image:
    """An image converted by the profile in it, and without one, so that tiles carry none."""
    converted = image.icc_transform(
        "srgb", embedded=True, intent="relative", black_point_compensation=True
    ).copy()
    converted.remove(PROFILE_FIELD)
    return converted


def cut(job: Job) -> None:
    """Write an image's descriptor and all its tiles."""
    # dzsave's own ending for JPEG would be .jpeg; the ending is also the descriptor's Format.
    suffix = f".jpg[Q={job.quality}]" if job.format == "jpeg" else ".png"
    image = pyvips.Image.new_from_file(str(job.input), access="sequential")
    if image.get_typeof(PROFILE_FIELD):
        image = convert_to_srgb(image)
    image.dzsave(
        str(job.output.with_suffix("")),
        layout="dz",
        depth="onepixel",
        tile_size=job.tile_size,
        overlap=job.overlap,
        suffix=suffix,
    )


if __name__ == "__main__":
    cut(job_from_command_line(__doc__))
