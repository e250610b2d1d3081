"""The kernels of _resample.pyx once more, built for 64-bit Arm; kernels.py chooses."""
include "_resample.pyx"
