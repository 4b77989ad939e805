"""What the adapter costs: a training step, a token and a search, beside the language model without it."""
