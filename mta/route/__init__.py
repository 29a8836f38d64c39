"""Recipient to delivery agent and next hop."""
