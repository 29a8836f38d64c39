"""Peer to queue: the receiving service."""
