"""Who may log in, and as whom he may send."""
