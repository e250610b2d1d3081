"""Which programs a result is made by: where one of these differs, bytes may."""

from __future__ import annotations

from functools import cache

from fasttile._version import __version__

_CODECS = {"jpg": "libjpeg", "zlib": "zlib", "jpg_2000": "OpenJPEG", "libtiff": "libtiff"}
_MODULES = {"webp": "libwebp", "littlecms2": "LittleCMS", "avif": "libavif"}
_FEATURES = {"libjpeg_turbo": "libjpeg-turbo", "zlib_ng": "zlib-ng"}
_OPTIONAL = ("imagecodecs", "openslide-python")


@cache
def codec_versions() -> dict[str, str]:
    """The versions of fasttile, Pillow, its codecs, and what else decodes images, if it is there.

    Example:
        >>> versions()["fasttile"] == fasttile.__version__
        True
    """
    # Slow to import, and seldom needed.
    from importlib.metadata import PackageNotFoundError, version

    from PIL import features

    found = {"fasttile": __version__, "Pillow": version("Pillow")}
    for names, of in (
        (_CODECS, features.version_codec),
        (_MODULES, features.version_module),
        (_FEATURES, features.version_feature),
    ):
        for key, name in names.items():
            known = of(key)
            if known is not None:
                found[name] = known
    for name in _OPTIONAL:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
