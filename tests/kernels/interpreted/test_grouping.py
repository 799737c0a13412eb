"""Rows are sorted into tiles of one group."""

from __future__ import annotations

import pytest
import torch

from coxswain_kernels.matrices import grouping as op


@pytest.mark.parametrize(("rows", "groups", "height"), [(7, 3, 4), (0, 2, 16), (1, 5, 16), (40, 4, 2), (2500, 9, 16)])
@pytest.mark.parity("grouping")
def test_it_is_what_torch_sorts(rows: int, groups: int, height: int, device: str) -> None:
    group = torch.randint(-1, groups + 1, (rows,), dtype=torch.int32, device=device)
    wanted, got = (
        op.reference(group.cpu(), groups=groups, height=height),
        op.launch(group, groups=groups, height=height),
    )
    assert got.tiles.tolist() == wanted.tiles.tolist()
    assert got.starts.tolist() == wanted.starts.tolist()
    end = int(wanted.starts[-1])
    assert got.order[:end].tolist() == wanted.order[:end].tolist()


@pytest.mark.parity("grouping")
def test_groups_without_rows_have_no_tile(device: str) -> None:
    groups = op.launch(torch.tensor([3, 1, 3, -1, 3], dtype=torch.int32, device=device), groups=4, height=2)
    assert groups.tiles.tolist() == [1, 3, 3, -1][: len(groups.tiles)]
    assert groups.order[:6].tolist() == [1, 5, 0, 2, 4, 5]


@pytest.mark.parity("grouping")
def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="group is int64, wanted int32"):
        op.launch(torch.zeros(3, dtype=torch.int64), groups=2, height=16)
    with pytest.raises(ValueError, match=r"group has shape \[1, 3\], wanted \[any\]"):
        op.launch(torch.zeros(1, 3, dtype=torch.int32), groups=2, height=16)
