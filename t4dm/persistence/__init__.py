"""Checkpoint bundles, recovery from the newest good one, and an orderly shutdown."""
