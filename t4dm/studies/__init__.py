"""Looking into a model: what happens inside it on a given text."""
