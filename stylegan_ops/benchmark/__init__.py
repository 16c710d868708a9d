"""Benchmarks: the ops, the networks and the training step against the machine's own limits and the established form in plain PyTorch.

`stylegan-ops benchmark` runs them; benchmarks/test_*.py runs the same cases under pytest-benchmark.
"""
