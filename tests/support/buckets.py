"""Helpers of several test modules: bucket_contents."""

from __future__ import annotations

from fasttile.storage import object_store as stores


def bucket_contents(bucket: str, prefix: str = "") -> dict[str, bytes]:
    """All objects below a prefix."""
    opened = stores.Bucket(bucket)
    return {found.key: opened.get(found.key) for found in opened.list_objects(prefix)}
