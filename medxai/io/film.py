"""Where films and pictures lie when nobody says: arrays are (row, column).

By convention (DICOM's identity orientation) the column index runs to the patient's left and the row index to the back,
+x and +y of LPS, so in the RAS affine one row is (0, -s, 0) and one column (-s, 0, 0); the third column is the slice
normal (0, 0, 1), one unit long. Where nobody states the pixel size it is unknown: one step is one pixel, and nothing
can be asked in millimetres.
"""

import numpy as np

from medxai.core.geometry import Geometry
from medxai.errors import InputError

Pair = tuple[float, float]


def flat_geometry(shape: tuple[int, ...], spacing: Pair | None) -> Geometry:
    """The grid of a film or picture without patient position; `spacing` is (row, column) in mm.

    Raises `InputError` for a spacing that is not positive.
    """
    rows, columns = spacing or (1.0, 1.0)
    if not (0 < rows < np.inf and 0 < columns < np.inf):
        raise InputError("Pixel spacing must be positive.", expected="(row_mm, column_mm)", found=f"{spacing}")
    lps = np.eye(4)
    lps[:3, 0], lps[:3, 1] = (0.0, rows, 0.0), (columns, 0.0, 0.0)
    return Geometry.from_lps(lps, shape, "mm" if spacing else "unknown")
