"""Clusters: what a site asks of its scheduler, the jobs that it gets, and the workers in them."""
