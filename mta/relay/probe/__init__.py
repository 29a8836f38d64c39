"""`mta tls-probe`: what a mail server says about TLS, and what it lets us do with a connection."""
