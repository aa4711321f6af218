"""Attention on a GPU, the host's side for both CUDA versions: checks, new arrays and launches.

The kernels of the output and of gq get one block for each query of a head, that of gk and gv one for each key.
"""

from collections.abc import Callable
from typing import Any

from minidiff.kernels.attention.checks import check_attention
from minidiff.kernels.cuda_launch import empty, float32


class Attention:
    """The functions of `reference.py` for float32 arrays of a device.

    launch: runs the kernels attend, attend_grad_queries and attend_grad_keys. most_keys: the largest number of keys.
    """

    def __init__(self, launch: Callable, most_keys: int) -> None:
        self.launch, self.most_keys = launch, most_keys

    def attention(self, q: Any, k: Any, v: Any, heads: int) -> tuple[Any, Any]:
        """`reference.attention`."""
        check_attention("attention", q.shape, k.shape, v.shape, heads)
        self._check("attention", k)
        q, k, v = float32("attention", q=q, k=k, v=v)
        (N, L, D), M = q.shape, k.shape[1]
        y, p = empty(q.shape), empty((N, heads, L, M))
        self.launch("attend", (N * heads * L,), q, k, v, y, p, L, M, D, heads)
        return y, p

    def attention_grad(self, gy: Any, q: Any, k: Any, v: Any, p: Any, heads: int) -> tuple[Any, Any, Any]:
        """`reference.attention_grad`."""
        check_attention("attention_grad", q.shape, k.shape, v.shape, heads, gy.shape, p.shape)
        self._check("attention_grad", k)
        gy, q, k, v, p = float32("attention_grad", gy=gy, q=q, k=k, v=v, p=p)
        (N, L, D), M = q.shape, k.shape[1]
        gs, gq, gk, gv = empty(p.shape), empty(q.shape), empty(k.shape), empty(k.shape)
        self.launch("attend_grad_queries", (N * heads * L,), gy, k, v, p, gs, gq, L, M, D, heads)
        self.launch("attend_grad_keys", (N * heads * M,), gy, q, p, gs, gk, gv, L, M, D, heads)
        return gq, gk, gv

    def _check(self, name: str, k: Any) -> None:
        if k.shape[1] > self.most_keys:
            raise ValueError(f"{name}: at most {self.most_keys} keys on a GPU, got {k.shape[1]}")
