"""SMTP (RFC 5321) without I/O: grammar, replies, the receiver's and the sender's machine."""
