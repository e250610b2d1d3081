import numpy as np
from numpy.typing import NDArray

def unpack_packbits(
    packed: NDArray[np.uint8], offsets: NDArray[np.int64], out: NDArray[np.uint8]
) -> int: ...
def unpack_rgbe(data: NDArray[np.uint8], out: NDArray[np.uint8]) -> tuple[int, int]: ...

__test__: dict[str, str]
