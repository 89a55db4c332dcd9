"""The product's ``.cu`` files, compiled with g++ and run on the CPU; and a stand-in for CuPy built on that.

``load("residual").launch("mean", grid, block, *args)`` runs one kernel on NumPy arrays, as ``cupy.RawKernel`` would.
``with cupy_on_cpu() as cupy:`` puts a NumPy-backed ``cupy`` and ``cupyx`` in place, so that a public kernel called with
``cupy.asarray(volume)`` runs the host code of ``uadtk.kernels._cupy`` and its CUDA source without a GPU.

Stricter than a GPU: argument types are checked against the signature, memory around every array is watched.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import importlib
import os
import re
import shutil
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CUDA = ROOT / "uadtk" / "kernels" / "_cupy" / "cuda"
HEADER = HERE / "cuda_cpu.hpp"
CACHE = ROOT / ".cache" / "cuda_on_cpu"
# -Bsymbolic: a kernel may be named as a function of the C library, such as `advance` or `index`.
_FLAGS = ("-std=c++20", "-O2", "-fPIC", "-shared", "-fno-strict-aliasing", "-ffp-contract=off", "-Wl,-Bsymbolic")
_GUARD = 256  # bytes watched on either side of an array; 0xff is NaN as float32 and -1 as an integer
_SYNCHRONISES = re.compile(r"__sync|__shfl_|__ballot_sync|__any_sync|__all_sync")
_BOUNDS = r"(?:__launch_bounds__\s*\([^)]*\)\s*)?"
_KERNEL = re.compile(rf"__global__\s+{_BOUNDS}void\s+{_BOUNDS}(\w+)")
_DYNAMIC = re.compile(r"extern\s+__shared__\s+([\w\s]+?)\s*(\w+)\s*\[\s*\]\s*;")


def compiler() -> str | None:
    """Path of g++, or None."""
    return shutil.which("g++")


def load(cu_name: str, *options: str) -> Source:
    """``uadtk/kernels/_cupy/cuda/<cu_name>.cu`` compiled with ``options`` (as ``-DSIZE=5``); skips without g++."""
    return compile_source((CUDA / f"{cu_name}.cu").read_text(), *options)


@functools.cache
def compile_source(code: str, *options: str) -> Source:
    """CUDA source as a shared library, cached on disk by its contents."""
    gxx = compiler()
    if gxx is None:
        pytest.skip("g++ is not installed: it compiles the CUDA source for the CPU")
    defines = [option for option in options if option.startswith("-D")]
    key = hashlib.sha256("\0".join([code, HEADER.read_text(), _version(gxx), *_FLAGS, *defines]).encode()).hexdigest()
    library = CACHE / f"{key[:24]}.so"
    if not library.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        expanded = _run([gxx, "-E", "-P", "-x", "c++", *defines, "-"], code)
        synchronises = "true" if _SYNCHRONISES.search(code) else "false"
        exports = "".join(f"CU_EXPORT({name}, {synchronises})\n" for name in _KERNEL.findall(expanded))
        body = _DYNAMIC.sub(r"\1* \2 = reinterpret_cast<\1*>(cu_shared.data());", code)
        unit = f'#include "{HEADER}"\n#line 1 "source.cu"\n{body}\n{exports}'
        partial = library.with_suffix(f".{os.getpid()}")
        _run([gxx, *_FLAGS, *defines, "-x", "c++", "-", "-o", str(partial)], unit)
        partial.replace(library)
    return Source(ctypes.CDLL(str(library)))


class Source:
    """One compiled ``.cu`` file."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library

    def launch(self, name: str, grid: tuple[int, ...], block: tuple[int, ...], *args: Any, shared_mem: int = 0) -> None:
        """Run one kernel. Arguments are C-contiguous arrays and NumPy scalars; Python numbers count as 8 bytes, as in
        CuPy. Raises TypeError where they do not fit the signature, RuntimeError for what a GPU would leave undefined.
        """
        signature = self.signature(name)
        if len(signature) != len(args):
            raise TypeError(f"{name} takes {len(signature)} arguments ({' '.join(signature)}), got {len(args)}")
        values = [_value(arg) for arg in args]
        for position, (code, value) in enumerate(zip(signature, values, strict=True)):
            _check(f"{name}, argument {position}", code, value)
        buffers: dict[tuple[int, int], tuple[np.ndarray, np.ndarray, bool]] = {}
        for code, value in zip(signature, values, strict=True):
            if ":" in code and value is not None:
                key = (value.ctypes.data, value.nbytes)
                buffer = buffers[key][0] if key in buffers else _guarded(value)
                buffers[key] = (buffer, value, code[0] == "p" or (key in buffers and buffers[key][2]))
        _check_overlap(name, [(value, written) for _, value, written in buffers.values()])

        holders: list[Any] = []
        for code, value in zip(signature, values, strict=True):
            if ":" not in code:
                holders.append(np.array(value))
            elif value is None:
                holders.append(np.array(0, np.uint64))
            else:
                address = buffers[value.ctypes.data, value.nbytes][0].ctypes.data + _GUARD
                holders.append(np.array(address, np.uint64))
        pointers = (ctypes.c_void_p * len(holders))(*(holder.ctypes.data for holder in holders))
        run = getattr(self._library, f"cu_launch_{name}")
        run.restype = ctypes.c_char_p
        error = run(_dim3(grid), _dim3(block), ctypes.c_size_t(shared_mem), pointers)
        if error:
            raise RuntimeError(f"{name}: {error.decode()}")
        for buffer, value, written in buffers.values():
            if (buffer[:_GUARD] != 0xFF).any() or (buffer[_GUARD + value.nbytes :] != 0xFF).any():
                raise RuntimeError(f"{name}: wrote outside an array of shape {value.shape}")
            if written:
                np.copyto(value, buffer[_GUARD : _GUARD + value.nbytes].view(value.dtype).reshape(value.shape))

    def signature(self, name: str) -> list[str]:
        """Parameter types: ``f4`` a scalar, ``c:f4`` a pointer to const float, ``p:f4`` a pointer to float."""
        try:
            function = getattr(self._library, f"cu_signature_{name}")
        except AttributeError:
            raise AttributeError(f'no kernel extern "C" __global__ void {name}') from None
        function.restype = ctypes.c_char_p
        return str(function().decode()).split()


@contextmanager
def cupy_on_cpu() -> Iterator[types.ModuleType]:
    """Replace ``cupy`` and ``cupyx.scipy.ndimage`` by NumPy, SciPy and :class:`Source` while the context is open."""
    if compiler() is None:
        pytest.skip("g++ is not installed: it compiles the CUDA source for the CPU")
    ndimage = types.ModuleType("cupyx.scipy.ndimage")
    ndimage.__getattr__ = lambda name: _wrapped(getattr(importlib.import_module("scipy.ndimage"), name))  # type: ignore[method-assign]
    modules = {name: types.ModuleType(name) for name in ("cupy", "cupyx", "cupyx.scipy")}
    modules["cupyx.scipy.ndimage"] = ndimage
    modules["cupyx"].scipy = modules["cupyx.scipy"]  # type: ignore[attr-defined]
    modules["cupyx.scipy"].ndimage = ndimage  # type: ignore[attr-defined]
    cupy = modules["cupy"]
    cupy.__getattr__ = lambda name: _wrapped(getattr(np, name))  # type: ignore[method-assign]
    vars(cupy).update(ndarray=_Array, RawModule=_RawModule, RawKernel=_raw_kernel, asnumpy=lambda a: np.array(a))

    saved = {name: sys.modules.get(name) for name in modules}
    sys.modules.update(modules)
    _forget_compiled()
    try:
        yield cupy
    finally:
        _forget_compiled()
        for name, module in saved.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


class _Array(np.ndarray):
    """An array that the dispatch recognises as CuPy's."""

    __module__ = "cupy"

    def get(self) -> np.ndarray:
        return np.array(self)


class _RawModule:
    def __init__(self, *, code: str, options: tuple[str, ...] = ()) -> None:
        self._source = compile_source(code, *options)

    def get_function(self, name: str) -> Callable[..., None]:
        self._source.signature(name)  # a wrong name fails here, as in CuPy

        def kernel(
            grid: tuple[int, ...], block: tuple[int, ...], args: tuple[Any, ...], *, shared_mem: int = 0
        ) -> None:
            for arg in args:
                if isinstance(arg, np.ndarray) and not isinstance(arg, _Array):
                    raise TypeError(f"{name}: a NumPy array was given to a device kernel")
            self._source.launch(name, grid, block, *args, shared_mem=shared_mem)

        return kernel


def _raw_kernel(code: str, name: str, options: tuple[str, ...] = ()) -> Callable[..., None]:
    return _RawModule(code=code, options=options).get_function(name)


def _wrapped(function: Any) -> Any:
    """A NumPy or SciPy function that returns device arrays; constants and types are unchanged."""
    if isinstance(function, type) or not callable(function):
        return function

    @functools.wraps(function)
    def on_device(*args: Any, **kwargs: Any) -> Any:
        return _as_device(function(*args, **kwargs))

    return on_device


def _as_device(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(_as_device(item) for item in value)
    if isinstance(value, np.generic):  # CuPy's reductions give arrays without axes
        value = np.asarray(value)
    return value.view(_Array) if isinstance(value, np.ndarray) else value


def _forget_compiled() -> None:
    """uadtk caches RawModules: those of the stand-in must not mix with those of a real CuPy."""
    source = importlib.import_module("uadtk.kernels._cupy.source")
    source.module.cache_clear()


def _value(arg: Any) -> Any:
    if isinstance(arg, bool):
        return np.bool_(arg)
    if isinstance(arg, int):
        return np.int64(arg)
    return np.float64(arg) if isinstance(arg, float) else arg


def _check(where: str, code: str, value: Any) -> None:
    if ":" not in code:
        if not isinstance(value, np.generic) or _code(value.dtype) != code:
            raise TypeError(f"{where}: wants a scalar {code}, got {type(value).__name__}")
        return
    if value is None:
        return
    if not isinstance(value, np.ndarray) or not value.flags.c_contiguous:
        raise TypeError(f"{where}: wants a C-contiguous array, got {type(value).__name__}")
    element, given = code[2:], _code(value.dtype)
    if element not in ("any", given) and (element, given) != ("u1", "b1"):
        raise TypeError(f"{where}: wants an array of {element}, got {given}")
    if code[0] == "p" and not value.flags.writeable:
        raise TypeError(f"{where}: a read-only array for a parameter that is not const")


def _check_overlap(name: str, arrays: list[tuple[np.ndarray, bool]]) -> None:
    for i, (a, a_written) in enumerate(arrays):
        for b, b_written in arrays[:i]:
            if (a_written or b_written) and np.may_share_memory(a, b):
                raise RuntimeError(f"{name}: two different views of the same memory, and one is written to")


def _guarded(array: np.ndarray) -> np.ndarray:
    buffer = np.full(array.nbytes + 2 * _GUARD, 0xFF, np.uint8)
    buffer[_GUARD : _GUARD + array.nbytes] = array.reshape(-1).view(np.uint8)
    return buffer


def _code(dtype: np.dtype) -> str:
    return f"{dtype.kind}{dtype.itemsize}"


def _dim3(sizes: tuple[int, ...]) -> Any:
    return (ctypes.c_uint * 3)(*sizes, *(1 for _ in range(3 - len(sizes))))


@functools.cache
def _version(gxx: str) -> str:
    return _run([gxx, "--version"], "").splitlines()[0]


def _run(command: list[str], text: str) -> str:
    done = subprocess.run(command, input=text, text=True, capture_output=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed:\n{done.stderr}")
    return done.stdout
