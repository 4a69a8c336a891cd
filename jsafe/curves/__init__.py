"""Learning curves: what is kept, shown and written while something trains."""
