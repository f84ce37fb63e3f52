"""Gradients of the replicated parameters, summed over ranks while the backward pass still runs."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from workbench.embeddings.link import Link, Transfer


class SummedGradients:
    """One flat buffer behind the gradients of each bucket of parameters: one all-reduce a bucket.

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
        self.parameters, self.link, self.overlap = parameters, link, overlap and link.ranks > 1
        self.transfer: Transfer | None = None
        sizes = [parameter.numel() for parameter in parameters]
        self.flat = torch.zeros(sum(sizes) + 2, device=parameters[0].device)
        *gradients, self.extra = self.flat.split([*sizes, 2])
        self.gradients = [each.view_as(parameter) for each, parameter in zip(gradients, parameters, strict=True)]
        self.missing = set(range(len(parameters)))
        for place, parameter in enumerate(parameters):
            parameter.register_post_accumulate_grad_hook(partial(self._arrived, place))

    def reset(self) -> None:
        # With nothing there to add to, autograd hands over the gradient that it made.
        for parameter in self.parameters:
            parameter.grad = None
        self.missing = set(range(len(self.parameters)))

    def _arrived(self, place: int, parameter: nn.Parameter) -> None:
        self._put(place, parameter.grad)
        if not self.missing and self.overlap:
            self.transfer = self.link.all_reduce("backward", self.flat)

    def _put(self, place: int, gradient: Tensor | float) -> None:
        self.gradients[place][...] = gradient
        self.parameters[place].grad = self.gradients[place]
        self.missing.discard(place)

    def finish(self) -> None:
        for place in sorted(self.missing):  # the loss does not depend on it
            self._put(place, 0.0)
        if self.link.ranks > 1:
            transfer = self.transfer or self.link.all_reduce("backward", self.flat)
            self.link.wait(transfer, "gradient_all_reduce", "backward")
            self.transfer = None
