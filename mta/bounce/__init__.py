"""What failed, reported to its sender."""
