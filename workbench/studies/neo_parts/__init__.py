"""The quantities of study `neo`, a file a group: each has `run(scale, seeds, say) -> Part` and its own facts."""
