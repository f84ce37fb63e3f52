"""What this machine can do, measured, and what vendors promise."""
