"""What several benchmarks need; not benchmarks themselves."""
