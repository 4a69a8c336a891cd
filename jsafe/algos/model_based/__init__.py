"""Model-based algorithms, assembled from parts."""
