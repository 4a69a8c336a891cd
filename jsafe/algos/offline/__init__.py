"""Offline algorithms: learnt from a data set, without an environment."""
