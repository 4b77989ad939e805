"""Shows what a run did: reads run folders, writes one static page and a closing table."""
