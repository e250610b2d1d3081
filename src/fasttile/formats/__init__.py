"""The bytes of PNG, JPEG, TIFF and PMTiles, for sources, readers, sinks and verify."""
