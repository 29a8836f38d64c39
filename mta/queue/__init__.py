"""The one meeting place: messages that were accepted and what is still to be done with them."""
