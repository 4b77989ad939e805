"""One file per part of the report; each has `build(run) -> Panel`."""
