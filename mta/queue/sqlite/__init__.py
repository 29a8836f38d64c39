"""The durable queue: one SQLite file, one thread that writes it, commits shared by all that arrived meanwhile."""
