"""What analyses share: the result, interval algebra, reuse distances."""
