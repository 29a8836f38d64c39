"""Queue to the next mail server, over connections that are reused."""
