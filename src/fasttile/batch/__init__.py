"""Many images: the list of inputs, the run over all of them, and the ledger for --resume."""
