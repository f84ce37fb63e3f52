"""Inputs. A source yields batches of one rank: `batches(rank, ranks)` without end, `held_out(rank, ranks, count)`.

The global batch of a step is the same for any number of ranks; each takes its slice.
"""
