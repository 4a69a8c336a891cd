"""Networks, as pairs of functions."""
