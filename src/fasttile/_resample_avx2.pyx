"""The kernels of _resample.pyx once more, built with -mavx2; resample.py chooses."""
include "_resample.pyx"
