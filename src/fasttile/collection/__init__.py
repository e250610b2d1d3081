"""Deep Zoom collections: many pictures whose thumbnails share tiles, announced by one .dzc.

Example:
    >>> from fasttile import collection
    >>> collection.create("wall.dzc", ["cat.dzi", "dog.jpg"])  # doctest: +SKIP
    >>> collection.append("wall.dzc", ["bird.tif"])  # doctest: +SKIP
    >>> collection.remove("wall.dzc", [1])  # doctest: +SKIP
    >>> [item.source for item in collection.read("wall.dzc").items]  # doctest: +SKIP
    ['cat.dzi', 'wall_images/bird.dzi']
"""

from __future__ import annotations

from .changes import append, create, remove
from .descriptor import Collection, Extras, Item
from .making import CollectionReport, Progress
from .reading import read

__all__ = [
    "Collection",
    "CollectionReport",
    "Extras",
    "Item",
    "Progress",
    "append",
    "create",
    "read",
    "remove",
]
