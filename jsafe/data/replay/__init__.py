"""Replay: stored rows, on the host or on the device."""
