"""The packed engine: a trained binary refiner as XNOR and popcount, on the CPU, by numba.

bits    the layout of signs and weights
lanes   vector arithmetic for whatever registers the processor has
kernels row ranges of convolutions and what lies around them
pool    rows dealt out to threads
layers, attention, program
        a refiner's modules as tables and calls of kernels
"""

from typing import TYPE_CHECKING

from napari_hidiff.packed_errors import Unpackable

if TYPE_CHECKING:
    from napari_hidiff.engine.packed_refiner import PackedRefiner
    from napari_hidiff.networks.refiner import Refiner

__all__ = ["Unpackable", "compile_refiner"]


def compile_refiner(refiner: "Refiner") -> "PackedRefiner":
    """The refiner as a program of packed kernels, in evaluation mode, as it is now.

    Raises
    ------
    Unpackable : with one line that says why torch has to run it instead.
    """
    try:
        import numba  # noqa: F401
    except (ImportError, OSError) as error:  # numba, or the compiler that it brings
        raise Unpackable(f"numba does not run here ({type(error).__name__}: {error})") from error
    from napari_hidiff.engine.packed_refiner import PackedRefiner

    return PackedRefiner(refiner)
