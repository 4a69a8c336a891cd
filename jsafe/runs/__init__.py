"""A run: its config, folder, loop, checkpoints and evaluation."""
