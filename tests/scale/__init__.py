"""What takes too much time, disk or memory for `make test`: `make test-scale`, and every night."""
