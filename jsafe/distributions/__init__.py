"""Distributions of actions: sampling, densities, divergences."""
