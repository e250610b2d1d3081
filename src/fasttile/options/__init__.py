"""Options of cuts and of reading, and their parsers."""
