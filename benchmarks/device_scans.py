"""Part b of `device.py`: where the seconds of `segment` go on CUDA, and restoration, which the study calls slow.

Stages are medians after one run that compiles. "Network" ends when the scores are on the host. Kernels and transfers
are what torch's profiler counts on the device during one pass of the network; the rest of the wall time is waiting and
launching. The VAE that restores is not trained: the time does not depend on the weights.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import restoration as paper
import torch
from device_job import ROOT, Job, Result, seconds
from device_pack import unpack
from speed import stage_seconds

from uadtk.checkpoint import Checkpoint, new, open_checkpoint, pack
from uadtk.core.preparation import Preparation
from uadtk.core.run import Run
from uadtk.core.spec import Spec
from uadtk.io.cohort import read_cohort
from uadtk.io.read import read_scan
from uadtk.networks.seeded import seeded
from uadtk.pipeline import score as scoring
from uadtk.preparation import Prepared, prepare

DEMO = ROOT / "uadtk" / "phantom" / "demo" / "FLAIR.nii.gz"


def scans(job: Job) -> list[Path]:
    """The demo phantom, slices of 1 mm, and a clinical scan."""
    _, gliomas = unpack(job.pack, job.models)
    clinical = next(iter(read_cohort(gliomas).split("validation"))).image
    return [DEMO, clinical] if job.sizes.demo else [clinical]


def segment(job: Job) -> Iterator[Result]:
    for device in dict.fromkeys((job.device, "cpu")):
        for model in job.sizes.models:
            for path in scans(job):
                found = stage_seconds(model, path, Run(device), min(5, job.sizes.repeats))
                whole, shape = sum(found.values()), " x ".join(map(str, read_scan(path).shape))
                row = {"table": "Seconds of segment by stage", "device": device, "model": model, "scan": shape}
                yield {**row, "all": whole, "network / all": found["network"] / whole, **found}
    prepared = prepare(read_scan(scans(job)[0]), Preparation(), Run())
    for model in job.sizes.models:
        yield from profiled(model, prepared, job)
        yield from by_batch(model, prepared, job)


def profiled(model: str, prepared: Prepared, job: Job) -> Iterator[Result]:
    """Kernels and transfers during one pass of the network, as shares of its wall time."""
    method = scoring.build_method(open_checkpoint(model), Run(job.device))
    scoring.raw_slices(prepared, method, Run(job.device))
    kinds = torch.profiler.ProfilerActivity
    with torch.profiler.profile(activities=[kinds.CPU, *([kinds.CUDA] if job.device == "cuda" else [])]) as profile:
        start = time.perf_counter()
        scoring.raw_slices(prepared, method, Run(job.device))
        wall = time.perf_counter() - start
    events = [event for event in profile.key_averages() if event.device_type == torch.autograd.DeviceType.CUDA]
    on_device = {event.key: event.self_device_time_total / 1e6 for event in events}
    moved = sum(s for name, s in on_device.items() if "Memcpy" in name)
    kernels = sum(on_device.values()) - moved
    row = {"table": "One pass of the network", "model": model, "slices": len(prepared.image), "wall, ms": wall * 1e3}
    yield {**row, "kernels": kernels / wall, "transfers": moved / wall, "rest": 1 - (kernels + moved) / wall}


def by_batch(model: str, prepared: Prepared, job: Job) -> Iterator[Result]:
    method = scoring.build_method(open_checkpoint(model), Run(job.device))
    usual = scoring.SLICES_AT_ONCE
    for size in job.sizes.batches:
        scoring.SLICES_AT_ONCE = size
        taken = seconds(lambda: scoring.raw_slices(prepared, method, Run(job.device)), job.sizes.repeats)
        row = {"table": "The network by batch", "model": model, "slices at once": size, "ms per scan": taken * 1e3}
        yield {**row, "slices per second": len(prepared.image) / taken}
    scoring.SLICES_AT_ONCE = usual


def restoration(job: Job) -> Iterator[Result]:
    """Ours in batches of slices, and the paper's way on four of them, one at a time."""
    checkpoint = untrained("vae")
    prepared = prepare(read_scan(scans(job)[0]), checkpoint.preparation, Run())
    some = prepared.image.shape[0] // 2
    few = replace(prepared, image=prepared.image[some : some + 4], brain=prepared.brain[some : some + 4])
    _network_s(few, build(checkpoint, "restoration:steps=2", job), job)
    for text in paper.OURS:
        spec = ",".join(filter(None, (text if ":" in text else f"{text}:tv=0.4", job.sizes.restoration)))
        at_hand = prepared if job.device == "cuda" else few
        yield _row(text, at_hand, _network_s(at_hand, build(checkpoint, spec, job), job), prepared)
    method = replace(build(checkpoint, "restoration", job), scorer=paper.Paper(0.4, 50.0, job.sizes.papers_steps))
    method.models[0].requires_grad_(True)
    yield _row(paper.PAPER, few, _network_s(few, method, job), prepared)


def build(checkpoint: Checkpoint, scorer: str, job: Job) -> scoring.Method:
    return scoring.build_method(replace(checkpoint, scorer=Spec.parse(scorer)), Run(job.device))


def _network_s(prepared: Prepared, method: scoring.Method, job: Job) -> float:
    run = Run(job.device)
    scoring.raw_slices(prepared, method, run)
    return run.timings["network"]


def _row(how: str, at_hand: Prepared, taken: float, whole: Prepared) -> Result:
    each = taken / len(at_hand.image)
    row = {"table": "Restoration", "how": how, "slices": len(at_hand.image), "ms per slice": each * 1e3}
    return {**row, "s per scan": each * len(whole.image)}


def untrained(model: str) -> Checkpoint:
    checkpoint = new(model, {}, Preparation())
    with seeded(0):
        return replace(checkpoint, weights=pack(checkpoint.new_model()))
