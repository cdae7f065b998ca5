"""Parts of ``scripts/bench_search.py``, the benchmark of search methods."""
