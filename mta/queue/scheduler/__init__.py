"""Which deliveries start now, and what to ask the queue for next (all pure: the clock and the dice are passed in)."""
