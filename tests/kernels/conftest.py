"""Fixtures of the kernels: each variant that runs here."""

from __future__ import annotations

import platform
from importlib import import_module

import pytest

from fasttile import kernels as resample
from support.kernel_cases import runnable_kernels

ON_ARM = platform.machine().lower() in {"aarch64", "arm64"}


@pytest.fixture(params=["_resample", "_resample_neon" if ON_ARM else "_resample_avx2"])
def kernel_module(request: pytest.FixtureRequest) -> str:
    """The name of a module of kernels."""
    if request.param not in runnable_kernels():
        pytest.skip(f"{request.param} was not built or cannot run here")
    return request.param


@pytest.fixture
def kernels(kernel_module: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each variant in turn, in use."""
    monkeypatch.setattr(resample, "_kernels", import_module(f"fasttile.{kernel_module}"))
    return kernel_module
