"""What studies share: a paper's facts, criteria, quantities with verdicts, curves, and the folder they write."""
