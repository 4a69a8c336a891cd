"""On-policy learners: an assembly, and a short file per paper."""
