"""Hyperparameter optimization of containerized models on Parsl.

The command line is the main entrance: ``python -m workflow.run --site local``.
"""

__version__ = "0.1.0"
