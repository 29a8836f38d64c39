"""Queue to mailbox."""
