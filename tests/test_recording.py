"""Operations that are recorded once give the same bits on other inputs."""

from __future__ import annotations

import pytest
import torch

from mdxai.calculators.compiled import traced


def worked(held):
    """Return a function with gradients, views, results in lists, and changes in place."""

    def function(x, y):
        x = x.detach().requires_grad_()
        left, right = (x @ held).split(2, dim=1)
        (gradient,) = torch.autograd.grad((left * right.sin()).sum(), x)
        total = torch.empty_like(gradient)
        torch.mul(gradient, 2.0, out=total)
        total[:, 1:].add_(y)
        largest, where = total.detach().max(1)
        return left.detach(), gradient, total, largest, torch.cat([y, y]), where

    return function


def test_a_recorded_function_gives_the_same_bits():
    torch.manual_seed(0)
    held = torch.randn(3, 4)
    function = worked(held)
    recorded = traced(function, [torch.randn(5, 3), torch.randn(5, 2)])
    for _ in range(3):
        held.mul_(1.5)  # as training changes weights
        x, y = torch.randn(5, 3), torch.randn(5, 2)
        before = x.clone(), y.clone()
        found, expected = recorded(x, y), function(x, y)
        assert len(found) == len(expected)
        assert all(map(torch.equal, found, expected))
        assert torch.equal(x, before[0])
        assert torch.equal(y, before[1])


def test_a_value_read_from_a_tensor_cannot_be_recorded():
    def function(x):
        return (x * 2 if x.sum() > 0 else x,)

    with pytest.raises(RuntimeError, match="read from a tensor cannot be recorded"):
        traced(function, [torch.ones(3)])
