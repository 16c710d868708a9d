"""The processes of one training run: one, or several under torchrun."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import nn


@dataclass(frozen=True)
class Processes:
    """Where this process stands among those of the run, and how they average.

    Args:
        device: the device this process computes on.
        rank: its number, from 0; rank 0 logs and writes files.
        world_size: how many there are.
    """

    device: torch.device
    rank: int = 0
    world_size: int = 1

    @classmethod
    def from_environment(cls) -> Processes:
        """Join the run that torchrun's variables describe (RANK, WORLD_SIZE, LOCAL_RANK), or stand alone without them.

        Uses nccl and the GPU of the local rank where CUDA is there, else gloo and the CPU.

        Returns:
            Processes; call `close` at the end.

        Raises:
            ValueError: RANK and WORLD_SIZE are set, but not all that they need beside them.
        """
        local_rank = int(os.environ.get("LOCAL_RANK", 0))
        device = torch.device("cpu")
        if torch.cuda.is_available():
            device = torch.device("cuda", local_rank)
            torch.cuda.set_device(device)
        if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
            return cls(device)
        if missing := [name for name in ("MASTER_ADDR", "MASTER_PORT") if name not in os.environ]:
            raise ValueError(f"train: RANK and WORLD_SIZE need {' and '.join(missing)} beside them, as torchrun sets them")
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        return cls(device, dist.get_rank(), dist.get_world_size())

    def close(self) -> None:
        """Leave the process group, if there is one."""
        if dist.is_initialized():
            dist.destroy_process_group()

    def average_(self, tensor: torch.Tensor) -> torch.Tensor:
        """Average a tensor over all processes, in place.

        Args:
            tensor: same shape and dtype in every process.

        Returns:
            The same tensor; the bits are equal in all processes.
        """
        if self.world_size > 1:
            dist.all_reduce(tensor)
            tensor /= self.world_size
        return tensor

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Average the gradients over all processes by one reduction of all of them laid end to end.

        No wrapper module hooks into backward, so second derivatives and eager calls need no special care.

        Args:
            parameters: those trained by the step; parameters without a gradient are passed over.
        """
        if self.world_size == 1:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = self.average_(torch.cat([gradient.flatten() for gradient in gradients]))
        parts = flat.split([gradient.numel() for gradient in gradients])
        torch._foreach_copy_(gradients, [part.view_as(gradient) for part, gradient in zip(parts, gradients, strict=True)])
