"""Gradients of the replicated parameters, summed over ranks while the backward pass still runs."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from workbench.embeddings.link import Link, Transfer


class SummedGradients:
    """One flat buffer behind the gradients of each bucket of parameters: one all-reduce a bucket, without a copy.

    The backward pass reaches the top MLP first and the bottom MLP last, so `buckets` come in that order: the sum over
    ranks of a bucket starts when its last gradient is there, and hides behind what follows. With `overlap=False` all
    sums are started after the backward pass. Each bucket's link says under which scheme its bytes are counted.
    """

    def __init__(self, buckets: Sequence[tuple[Link, Sequence[nn.Parameter]]], overlap: bool) -> None:
        self.buckets = [_Bucket(parameters, link, overlap) for link, parameters in buckets]

    def start(self, log_loss: Tensor, labels: Tensor) -> None:
        """Before the backward pass: forget the last step's; the two scalars are summed over ranks too."""
        for bucket in self.buckets:
            bucket.reset()
        self.buckets[0].extra[0], self.buckets[0].extra[1] = log_loss.detach(), labels

    def finish(self) -> tuple[float, float]:
        """After it: wait for the sums; the two scalars' sums."""
        for bucket in self.buckets:
            bucket.finish()
        return tuple(self.buckets[0].extra.tolist())  # a GPU is waited for here, once a step


class _Bucket:
    def __init__(self, parameters: Sequence[nn.Parameter], link: Link, overlap: bool) -> None:
        self.link, self.overlap = link, overlap and link.ranks > 1
        self.size = self.missing = len(parameters)
        self.transfer: Transfer | None = None
        sizes = [parameter.numel() for parameter in parameters]
        self.flat = torch.zeros(sum(sizes) + 2, device=parameters[0].device)
        *gradients, self.extra = self.flat.split([*sizes, 2])
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient.view_as(parameter)  # autograd adds into a gradient that is there
            parameter.register_post_accumulate_grad_hook(self._arrived)

    def reset(self) -> None:
        self.flat.zero_()
        self.missing = self.size

    def _arrived(self, _: Tensor) -> None:
        self.missing -= 1
        if self.missing == 0 and self.overlap:
            self.transfer = self.link.all_reduce("backward", self.flat)

    def finish(self) -> None:
        if self.link.ranks > 1:
            transfer = self.transfer or self.link.all_reduce("backward", self.flat)
            self.link.wait(transfer, "gradient_all_reduce", "backward")
            self.transfer = None
