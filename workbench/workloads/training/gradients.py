"""Gradients of the replicated parameters, summed over ranks."""

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn

from workbench.trace.recorder import Recorder


class FlatGradients:
    """One flat buffer behind the gradients of all `parameters`, so that one all-reduce sums them without a copy.

    DDP would start buckets while the backward pass still runs. Here the MLPs are a few MB beside the embeddings'
    exchange, and ranks on one machine share its cores: one message costs less, and one span shows what it costs.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], ranks: int, recorder: Recorder) -> None:
        self.ranks, self.recorder = ranks, recorder
        sizes = [parameter.numel() for parameter in parameters]
        # Two more numbers ride along: this step's sums of log losses and of labels.
        self.flat = torch.zeros(sum(sizes) + 2, device=parameters[0].device)
        *gradients, self.sums = self.flat.split([*sizes, 2])
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient.view_as(parameter)  # autograd adds into a gradient that is there

    def zero(self) -> None:
        """Forget the last step's."""
        self.flat.zero_()

    def all_reduce(self, log_loss: Tensor, labels: Tensor) -> tuple[float, float]:
        """Sum the gradients over ranks in place; returns the two scalars summed over ranks too."""
        self.sums[0], self.sums[1] = log_loss.detach(), labels
        if self.ranks > 1:
            message = {"message_bytes": self.flat.nbytes, "group_size": self.ranks}
            with self.recorder.span(
                "gradient_all_reduce", kind="communication", phase="backward", collective="all_reduce", **message
            ):
                dist.all_reduce(self.flat)
        return tuple(self.sums.tolist())  # a GPU is waited for here, once a step
