import numpy as np
from numpy.typing import NDArray

def shape_colours(
    pixels: NDArray[np.uint8], shares: NDArray[np.int32], curve: NDArray[np.uint8]
) -> None: ...
def shape_deep_colours(
    pixels: NDArray[np.uint16],
    out: NDArray[np.uint8],
    shares: NDArray[np.int32],
    curve: NDArray[np.uint8],
    alpha: NDArray[np.uint8],
) -> None: ...

__test__: dict[str, str]
