"""Environments of others, stepped here in worker processes."""
