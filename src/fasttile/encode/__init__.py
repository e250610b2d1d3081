"""Tiles as the bytes of their files."""
