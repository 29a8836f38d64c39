"""mta.toml, read into frozen settings."""
