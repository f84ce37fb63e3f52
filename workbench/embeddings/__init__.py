"""Embedding tables: what they hold, how they are looked up and updated, which rank owns them, how ranks exchange."""
