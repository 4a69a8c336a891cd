"""The Safety-Gymnasium tasks, batched on MuJoCo."""
