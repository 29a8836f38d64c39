"""The command mta."""
