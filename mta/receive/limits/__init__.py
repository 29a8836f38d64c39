"""How much of what one connection, one client, one login and all of them together may have: `table` is the whole list."""
