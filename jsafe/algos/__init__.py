"""Named algorithms. Importing this package registers them all."""
