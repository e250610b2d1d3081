"""Peer (c): libvips' dzsave, by pyvips-binary, with its own defaults and number of threads.

The picture is read from top to bottom (`access="sequential"`), which is dzsave's fast way.

    python bench/vips_tiler.py INPUT OUTPUT.dzi [--format jpeg|png] [--quality 75]
"""

from __future__ import annotations

import pyvips

from dzi import Job, job_from_command_line


def cut(job: Job) -> None:
    """Write a picture's descriptor and all its tiles."""
    # dzsave's own ending for JPEG would be .jpeg; the ending is also the descriptor's Format.
    suffix = f".jpg[Q={job.quality}]" if job.format == "jpeg" else ".png"
    picture = pyvips.Image.new_from_file(str(job.input), access="sequential")
    picture.dzsave(
        str(job.output.with_suffix("")),
        layout="dz",
        depth="onepixel",
        tile_size=job.tile_size,
        overlap=job.overlap,
        suffix=suffix,
    )


if __name__ == "__main__":
    cut(job_from_command_line(__doc__))
