"""Questions to the name servers and their answers."""
