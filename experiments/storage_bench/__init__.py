"""The storage engine beside five embedded stores: the same data, the same operations, one run."""
