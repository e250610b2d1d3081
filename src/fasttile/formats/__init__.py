"""Bytes of file formats to meaning and back, for sources, layouts, readers, sinks and verify."""
