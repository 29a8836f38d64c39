"""`mta queue`: the operator's view of the queue (docs/operators.md, "The queue")."""
