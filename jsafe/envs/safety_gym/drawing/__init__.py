"""Pictures of the Safety-Gymnasium tasks."""
