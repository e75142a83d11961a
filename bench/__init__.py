"""Benchmarks: each module measures one noun and returns figures; `python -m bench` runs them."""
