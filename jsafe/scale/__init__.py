"""Many devices, many processes."""
