"""One file per operation of the native engine: contract, and a reference in plain torch."""
