"""Codecs and machines with literal bytes and times; no reactor."""
