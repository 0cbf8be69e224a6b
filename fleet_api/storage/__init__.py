"""The fleet's object store: which one it is, its buckets, and whether it answers."""
