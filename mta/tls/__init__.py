"""What security a destination is owed, and what a connection has achieved."""
