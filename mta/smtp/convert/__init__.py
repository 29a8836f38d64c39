"""A message made fit for a server that does not take it as it is, or for a mailbox: MIME re-encoding on the way out."""
