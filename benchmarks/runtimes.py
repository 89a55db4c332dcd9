"""Is another runtime faster than torch? The shipped network in OpenVINO and ONNX Runtime, beside what uadtk runs.

    pip install --target /tmp/runtimes openvino onnxruntime onnx onnxscript
    OMP_NUM_THREADS=1 PYTHONPATH=/tmp/runtimes python benchmarks/runtimes.py [--model implant] [--rounds 9]

One thread, as many slices at once as the model takes, processor seconds, in turns, medians. Norms are torch's own in
the converted network, which computes the same; the largest difference of a logit is printed. OpenVINO in bfloat16 only
where the machine computes it in hardware.
"""

from __future__ import annotations

import argparse
import copy
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from uadtk.checkpoint import open_checkpoint
from uadtk.models.implant import AT_ONCE
from uadtk.networks.arithmetic import fast_bfloat16
from uadtk.networks.memory import keep_memory
from uadtk.networks.norms import GroupNorm


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="implant", help="an implant")
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    keep_memory()
    model: Any = open_checkpoint(arguments.model).build()
    network = model.net.eval()
    torch.manual_seed(0)
    x = torch.rand(AT_ONCE, 1, 128, 128)
    bfloat16 = fast_bfloat16(x.device)
    ways: dict[str, Callable[[], Any]] = {"uadtk, float32": lambda: torchs(network, x, False)}
    if bfloat16:
        ways["uadtk, bfloat16"] = lambda: torchs(network, x, True)
    plain = with_torchs_norms(network)
    with tempfile.TemporaryDirectory() as folder:
        ways |= in_openvino(plain, x, bfloat16) | in_onnx(plain, x, Path(folder))
        expected = torchs(network, x, False).numpy()
        furthest = {name: float(np.abs(np.asarray(way()) - expected).max()) for name, way in ways.items()}
        taken: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(arguments.rounds):
            for name, way in ways.items():
                start = time.process_time()
                way()
                taken[name].append(time.process_time() - start)
    seconds = {name: median(times) for name, times in taken.items()}
    ours = seconds["uadtk, bfloat16" if bfloat16 else "uadtk, float32"]
    print(f"{AT_ONCE} slices\n")
    print("| runtime | seconds | times as fast as uadtk | largest difference of a logit |\n|---|---|---|---|")
    for name, one in seconds.items():
        print(f"| {name} | {one:.3f} | {ours / one:.2f} | {furthest[name]:.1e} |")


@torch.inference_mode()
def torchs(network: nn.Module, x: Tensor, bfloat16: bool) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        logits: Tensor = network(x.contiguous(memory_format=torch.channels_last))
    return logits.float()


def with_torchs_norms(network: nn.Module) -> nn.Module:
    """A copy that can be exported."""
    plain = copy.deepcopy(network)
    for part in list(plain.modules()):
        for name, child in part.named_children():
            if isinstance(child, GroupNorm):
                norm = nn.GroupNorm(child.num_groups, child.num_channels, child.eps, child.affine)
                norm.load_state_dict(child.state_dict())
                setattr(part, name, norm)
    return plain.eval()


def in_openvino(network: nn.Module, x: Tensor, bfloat16: bool) -> dict[str, Callable[[], Any]]:
    import openvino

    core, version = openvino.Core(), openvino.__version__.split("-")[0]
    converted = openvino.convert_model(network, example_input=x, input=[tuple(x.shape)])
    ways: dict[str, Callable[[], Any]] = {}
    for name, kind in (("float32", "f32"), ("bfloat16", "bf16"))[: 2 if bfloat16 else 1]:
        settings = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": kind, "NUM_STREAMS": 1}
        compiled = core.compile_model(converted, "CPU", settings)
        ways[f"OpenVINO {version}, {name}"] = partial(first_of, compiled, x)
    return ways


def first_of(compiled: Any, x: Tensor) -> Any:
    return compiled(x.numpy())[0]


def in_onnx(network: nn.Module, x: Tensor, folder: Path) -> dict[str, Callable[[], Any]]:
    import onnxruntime

    path = folder / "network.onnx"
    torch.onnx.export(network, (x,), path, dynamo=True, verbose=False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return {f"ONNX Runtime {onnxruntime.__version__}, float32": lambda: session.run(None, {name: x.numpy()})[0]}


if __name__ == "__main__":
    main()
