"""Tests of mta/relay/convert."""
