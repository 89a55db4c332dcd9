"""The CUDA sources compile, and the CPU stand-in used by the other tests behaves like a GPU."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cuda_on_cpu import CUDA, Source, compile_source, cupy_on_cpu

SOURCES = sorted(CUDA.glob("*.cu"))
# Sources that are compiled for one size: what their host code passes, for one case.
OPTIONS = {"median": ("-DKZ=5", "-DKY=5", "-DKX=3")}
WARP_AND_BLOCK = r"""
#define NAMED(k) extern "C" __global__ void sum##k(const float* __restrict__ x, float* out, int n) { \
    __shared__ float warps[32]; \
    int i = blockIdx.x * blockDim.x + threadIdx.x; \
    float v = i < n ? x[i] : 0.f; \
    for (int d = 16; d; d /= 2) v += __shfl_down_sync(0xffffffffu, v, d); \
    if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = v; \
    __syncthreads(); \
    if (threadIdx.x == 0) { \
        float total = 0; \
        for (int w = 0; w < blockDim.x / k; ++w) total += warps[w]; \
        atomicAdd(out, total); \
    } \
}
NAMED(32)
extern "C" __global__ void above(const float* x, unsigned* lanes) {
    unsigned bits = __ballot_sync(0xffffffffu, x[threadIdx.x] > 0.f);
    if (threadIdx.x % 32 == 0) lanes[threadIdx.x / 32] = bits;
}
extern "C" __global__ void mirror(float* x) {
    extern __shared__ float copy[];
    copy[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    x[threadIdx.x] = copy[blockDim.x - 1 - threadIdx.x];
}
extern "C" __global__ void unsynchronised(float* x) {
    __shared__ float copy[64];
    copy[threadIdx.x] = x[threadIdx.x];
    x[threadIdx.x] = copy[blockDim.x - 1 - threadIdx.x];
}
extern "C" __global__ void early_return(float* x) {
    if (threadIdx.x < 3) return;
    __syncthreads();
    x[threadIdx.x] = 1;
}
extern "C" __global__ void two_barriers(float* x) {
    if (threadIdx.x < 3) __syncthreads();
    else
        __syncthreads();
    x[threadIdx.x] = 1;
}
extern "C" __global__ void past_the_end(float* x, int n) { x[n] = 1; }
extern "C" __global__ void flags(const unsigned char* mask, bool* out, long long n) {
    for (long long i = 0; i < n; ++i) out[i] = !mask[i];
}
"""


@pytest.fixture(scope="module")
def toy() -> Source:
    return compile_source(WARP_AND_BLOCK)


def test_there_are_sources() -> None:
    assert {"residual", "quantiles"} <= {path.stem for path in SOURCES}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_nvrtc_compiles(path: Path) -> None:
    nvrtc = pytest.importorskip("cupy_backends.cuda.libs.nvrtc", reason="CuPy is not installed")
    try:
        program = nvrtc.createProgram(path.read_text(), path.name, (), ())
    except Exception as error:
        pytest.skip(f"CuPy finds no NVRTC library: {error}")
    options = ("--std=c++17", "--fmad=false", *OPTIONS.get(path.stem, ()))
    try:
        nvrtc.compileProgram(program, (*options, "--gpu-architecture=compute_90"))
    except nvrtc.NVRTCError:
        pytest.fail(nvrtc.getProgramLog(program))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_nvcc_compiles(path: Path, tmp_path: Path) -> None:
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        pytest.skip("nvcc is not installed")
    command = [nvcc, "-std=c++17", "-arch=sm_90", "-cubin", "-Werror", "all-warnings", "-o", str(tmp_path / "out")]
    done = subprocess.run(
        [*command, *OPTIONS.get(path.stem, ()), str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_blocks_warps_and_atomics(toy: Source) -> None:
    values = np.random.default_rng(0).random(10_000, np.float32)
    out = np.zeros(1, np.float32)
    toy.launch("sum32", (105,), (96,), values, out, np.int32(values.size))
    np.testing.assert_allclose(out, values.sum(), rtol=1e-5)


def test_ballot_of_a_partial_warp(toy: Source) -> None:
    lanes = np.zeros(2, np.uint32)
    values = np.where(np.arange(40) % 3 == 0, 1, -1).astype(np.float32)
    toy.launch("above", (1,), (40,), values, lanes)
    wanted = [sum(1 << i % 32 for i in range(a, b) if i % 3 == 0) for a, b in ((0, 32), (32, 40))]
    assert lanes.tolist() == wanted


def test_dynamic_shared_memory(toy: Source) -> None:
    values = np.arange(8, dtype=np.float32)
    toy.launch("mirror", (1,), (8,), values, shared_mem=32)
    assert values.tolist() == list(range(7, -1, -1))


def test_a_missing_barrier_shows(toy: Source) -> None:
    values = np.arange(64, dtype=np.float32)
    toy.launch("unsynchronised", (1,), (64,), values)
    assert values.tolist() != list(range(63, -1, -1))


@pytest.mark.parametrize(
    ("kernel", "arguments", "message"),
    [
        ("early_return", (np.zeros(8, np.float32),), "not every thread reaches"),
        ("two_barriers", (np.zeros(8, np.float32),), "different __syncthreads"),
        ("past_the_end", (np.zeros(8, np.float32), np.int32(8)), "wrote outside"),
        ("past_the_end", (np.zeros(8, np.float32), np.int32(-1)), "wrote outside"),
    ],
)
def test_undefined_behaviour_is_an_error(toy: Source, kernel: str, arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(RuntimeError, match=message):
        toy.launch(kernel, (1,), (8,), *arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.zeros(3, np.uint8), np.zeros(3, bool), 3.0), "scalar i8"),
        ((np.zeros(3, np.uint8), np.zeros(3, bool), np.int32(3)), "scalar i8"),
        ((np.zeros(3, np.float32), np.zeros(3, bool), 3), "array of u1"),
        ((np.zeros(3, np.uint8), np.zeros(3, np.uint8), 3), "array of b1"),
        ((np.zeros(6, np.uint8)[::2], np.zeros(3, bool), 3), "C-contiguous"),
        ((np.zeros(3, np.uint8), np.zeros(3, bool)), "takes 3 arguments"),
        ((np.zeros(3, np.uint8), np.broadcast_to(np.False_, 1), 1), "read-only"),
    ],
)
def test_arguments_must_fit_the_signature(toy: Source, arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        toy.launch("flags", (1,), (1,), *arguments)


def test_a_bool_array_may_be_read_as_bytes(toy: Source) -> None:
    out = np.zeros(3, bool)
    toy.launch("flags", (1,), (1,), np.array([True, False, True]), out, 3)
    assert out.tolist() == [False, True, False]


def test_views_that_overlap_are_refused(toy: Source) -> None:
    both = np.zeros(4, np.uint8)
    with pytest.raises(RuntimeError, match="same memory"):
        toy.launch("flags", (1,), (1,), both[:3], both[1:].view(bool), 3)


def test_the_stand_in_refuses_host_arrays() -> None:
    with cupy_on_cpu() as cupy:
        kernel = cupy.RawKernel(WARP_AND_BLOCK, "mirror")
        with pytest.raises(TypeError, match="NumPy array"):
            kernel((1,), (8,), (np.zeros(8, np.float32),), shared_mem=32)


def test_an_unknown_kernel_and_a_broken_source() -> None:
    with pytest.raises(AttributeError, match="void nothing"):
        compile_source(WARP_AND_BLOCK).launch("nothing", (1,), (1,))
    with pytest.raises(RuntimeError, match=r"source\.cu:1"):
        compile_source('extern "C" __global__ void broken(float* x) { x[0] = y; }')
