"""Names of the arrays' types; docstrings tell shapes, in which n counts rows (results, candidates) and d columns."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Indices = NDArray[np.intp]
Mask = NDArray[np.bool_]
