"""The messages of `ranking.proto`, and their check: nothing behind this door meets bytes that do not add up."""
