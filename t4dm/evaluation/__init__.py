"""Measuring what a model remembers."""
