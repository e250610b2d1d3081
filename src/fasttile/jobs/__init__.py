"""One cut: its plan, its open image, the encoder pipeline, shards and progress."""
