"""The servers that are measured: each is told to do the same work, tuned as its own manual says, and logs to a file."""
