"""The scheduling rule beside those of peers, on the same traces in the same simulator."""
