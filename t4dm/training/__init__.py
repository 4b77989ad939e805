"""Lightning modules, callbacks and the run folder."""
