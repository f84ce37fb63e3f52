"""Titles and explanations of keys: what `workbench.metrics` says, never written twice."""

from workbench.metrics import define


def explained(analysis: str, key: str) -> tuple[str, str]:
    """(title, explanation) of a key of `analysis`; one without a definition stands for itself."""
    definition = define(analysis, key)
    return (definition.title, f"{key}: {definition.text}") if definition else (key, key)
