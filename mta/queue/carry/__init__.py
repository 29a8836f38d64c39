"""Messages on their way from one queue to another: `mta queue export`, `import` and `move` (docs/queue.md)."""
