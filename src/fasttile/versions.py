"""Versions of fasttile and its codecs, which determine the output bytes."""

from __future__ import annotations

from functools import cache

from fasttile._version import __version__

_CODECS = {"jpg": "libjpeg", "zlib": "zlib", "jpg_2000": "OpenJPEG", "libtiff": "libtiff"}
_MODULES = {"webp": "libwebp", "littlecms2": "LittleCMS", "avif": "libavif"}
_FEATURES = {"libjpeg_turbo": "libjpeg-turbo", "zlib_ng": "zlib-ng"}
_OPTIONAL = ("imagecodecs", "openslide-python", "pillow-heif", "OpenEXR")


@cache
def codec_versions() -> dict[str, str]:
    """Versions of fasttile, Pillow and all codecs, by name.

    Example:
        >>> codec_versions()["fasttile"] == fasttile.__version__
        True
    """
    # Slow to import, and rarely needed.
    from importlib.metadata import PackageNotFoundError, version

    from PIL import features

    versions = {"fasttile": __version__, "Pillow": version("Pillow")}
    for names, version_of in (
        (_CODECS, features.version_codec),
        (_MODULES, features.version_module),
        (_FEATURES, features.version_feature),
    ):
        for key, name in names.items():
            known = version_of(key)
            if known is not None:
                versions[name] = known
    for name in _OPTIONAL:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions
