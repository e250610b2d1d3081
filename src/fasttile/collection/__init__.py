"""Deep Zoom collections: many images whose thumbnails share tiles, announced by one .dzc.

Example:
    >>> from fasttile import collection
    >>> collection.create("wall.dzc", ["cat.dzi", "dog.jpg"])  # doctest: +SKIP
    >>> collection.append("wall.dzc", ["bird.tif"])  # doctest: +SKIP
    >>> collection.remove("wall.dzc", [1])  # doctest: +SKIP
    >>> [item.source for item in collection.read("wall.dzc").items]  # doctest: +SKIP
    ['cat.dzi', 'wall_images/bird.dzi']
"""

from __future__ import annotations

from fasttile.collection.api import append, create, remove
from fasttile.collection.build import CollectionProgress, CollectionReport
from fasttile.collection.descriptor import Collection, Extras, Item, read

__all__ = [
    "Collection",
    "CollectionProgress",
    "CollectionReport",
    "Extras",
    "Item",
    "append",
    "create",
    "read",
    "remove",
]
