"""For our tests and for our users' tests."""
