"""Benchmarks: each stage against a plain textbook implementation and against the floor that this machine sets."""
