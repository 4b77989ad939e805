"""Local learning rules as tensor functions: what a synapse does, without saying where it lives."""
