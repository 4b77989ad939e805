"""Fresh windows: same tensors as torch's own, and far fewer page faults where Linux has huge pages."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from t4dm.spiking.huge_pages import LEAST, empty_window
from t4dm.spiking.lif import LIFParams, lif_scan

SWITCH = Path("/sys/kernel/mm/transparent_hugepage/enabled")
ON_ADVICE = SWITCH.exists() and "[never]" not in SWITCH.read_text()


@pytest.mark.parametrize("shape", [(2, 3, 5), (0, 4, 4), (1, LEAST // 4, 1), (1, 3, LEAST // 8)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_window_is_contiguous_and_of_the_shape_and_dtype_asked_for(
    shape: tuple[int, int, int], dtype: torch.dtype
) -> None:
    like = torch.zeros(*shape[::-1], dtype=dtype).permute(2, 1, 0)
    window = empty_window(like)
    assert window.shape == shape
    assert window.dtype == dtype
    assert window.is_contiguous()
    assert torch.equal(window.fill_(2.5), torch.full(shape, 2.5, dtype=dtype))


@pytest.mark.skipif(not (sys.platform.startswith("linux") and ON_ADVICE), reason="no huge pages here")
def test_touching_a_large_window_takes_a_tenth_of_the_page_faults() -> None:
    import resource

    def faults(window: Tensor) -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        window.zero_()
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    # above 32 MB, where the C library maps every block anew; without advice a fault for every 4 KB
    like = torch.empty(1, 10, 1 << 20)
    assert faults(empty_window(like)) < 0.1 * like.numel() * 4 / 4096


def test_the_scan_over_windows_that_large_equals_the_naive_loop() -> None:
    shape = (2, 5, LEAST // 32)
    random = torch.Generator().manual_seed(0)
    raw, above = (torch.randn(*shape, generator=random) for _ in range(2))
    found = []
    for backend in ("naive", "cpu"):
        current, decay = raw.clone().requires_grad_(), torch.full(shape[2:], 0.9).requires_grad_()
        spikes, _ = lif_scan(current, None, LIFParams(decay), backend=backend)
        found.append((spikes, *torch.autograd.grad(spikes, (current, decay), above)))
    naive, fused = found
    assert torch.equal(naive[0], fused[0])
    assert raw.numel() * 4 > LEAST
    torch.testing.assert_close(fused[1:], naive[1:], atol=1e-5, rtol=1e-5)
