"""The operator's door: log."""
