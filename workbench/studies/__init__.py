"""One file a paper: its question, the runs that answer it, and its table beside the paper's own figures.

`studies/<name>.py` holds `<name>(scale, seeds) -> Result`, found by being there.
"""
