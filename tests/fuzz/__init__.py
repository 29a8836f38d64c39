"""Both roles against peers that lie, at every byte around TLS; MTA_FUZZ=N plays N conversations (docs/architecture.md)."""
