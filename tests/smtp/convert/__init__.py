"""Tests of mta/smtp/convert."""
