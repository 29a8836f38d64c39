"""Parsers and machines against bytes that a coverage-guided fuzzer has chosen; `python -m tests.fuzz.guided TARGET` (docs/architecture.md)."""
