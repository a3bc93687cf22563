"""Benchmarks on a cluster."""
