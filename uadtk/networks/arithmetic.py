"""Arithmetic of a network's forward pass, chosen by what the machine computes fast."""

from __future__ import annotations

import torch


def fast_bfloat16(device: torch.device) -> bool:
    """True if ``device`` multiplies bfloat16 in hardware; elsewhere it is slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    has = getattr(torch.cpu, "_is_avx512_bf16_supported", None)  # private, but the only question torch answers
    return device.type == "cpu" and has is not None and bool(has())
