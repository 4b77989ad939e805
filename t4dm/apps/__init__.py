"""Hydra mains, one per verb that computes, and what the plain verbs of the `t4dm` command do."""
