"""Tests of the benchmarks that simulate: what they show must be true of what they ran."""
