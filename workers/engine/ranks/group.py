"""What the processes of one run tell each other, over torch.distributed: gloo, or NCCL on GPUs."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from itertools import pairwise
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch._C._distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from .. import memory
from ..failure import TrainingError

T = TypeVar("T")
# So long one rank may do something alone while the others wait: verify a checkpoint, write one.
_PATIENCE = timedelta(hours=1)


class LostRank(Exception):
    """Another process of the run is gone, or does not answer."""


class Ranks:
    """This process among those of its run, `number` of `count`; here it is the only one.

    Alone nothing is exchanged and every method gives back what it was given. Of several, all have
    to call the same methods in the same order: `Joined` exchanges in each of them.
    """

    number, count = 0, 1

    @property
    def alone(self) -> bool:
        return self.count == 1

    @property
    def first(self) -> bool:
        """Whether this is the rank that speaks, writes and evaluates."""
        return self.number == 0

    def slices(self, n: int) -> list[slice]:
        """How `n` latents are shared out: evenly, in their order."""
        ends = [n * rank // self.count for rank in range(self.count + 1)]
        return [slice(*pair) for pair in pairwise(ends)]

    def share(self, n: int) -> slice:
        """Those of `n` latents that are this rank's."""
        return self.slices(n)[self.number]

    def mine(self, things: Sequence[T]) -> Sequence[T]:
        """Those of some things to be done that this rank does; `owner` says whose each is."""
        return things[self.number :: self.count]

    def owner(self, index: int) -> int:
        return index % self.count

    def device(self, device: torch.device) -> torch.device:
        """The device of this rank. Raises `TrainingError` where there are too few."""
        return device

    def sum(self, own: Tensor) -> Tensor:
        """Added up over the ranks, in place; the same bits everywhere."""
        return own

    def once(self, whole: Tensor) -> Tensor:
        """On one rank what every rank holds, on the others zeros: it counts once in a `sum`."""
        return whole

    def least(self, own: Tensor) -> Tensor:
        """The smallest of the ranks', element by element, in place."""
        return own

    def stacked(self, own: Tensor) -> Tensor:
        """Of every rank, [count, …]; all have the same shape."""
        return own[None]

    def joined(self, own_F: Tensor) -> Tensor:
        """[F], of all latents."""
        return own_F

    def spread(self, tensor: Tensor, source: int = 0) -> None:
        """Make it what it is on the rank `source`, in place."""

    def total(self, n: int) -> int:
        return n

    def most(self, n: int) -> int:
        return n

    def before(self, n: int) -> int:
        """The sum over the ranks before this one."""
        return 0

    def any(self, said: bool) -> bool:
        return said

    def agreed(self, said: bool) -> bool:
        """What `any` gives, a call later where there are several ranks: nobody waits for it.

        To be called once a step; all of them are answered alike, so they stop at the same one.
        """
        return said

    def told(self, value: Any) -> Any:
        """What the first rank says, as JSON gives it back."""
        return value

    def send(self, own: Tensor) -> None:
        """Give the first rank a tensor, which takes it by `receive`."""
        raise NotImplementedError

    def receive(self, into: Tensor, source: int) -> None:
        """Take a tensor on the host from another rank."""
        raise NotImplementedError


ALONE = Ranks()


class Joined(Ranks):
    """One of several. Numbers for the host travel over gloo, so that no GPU is waited for.

    Every method raises `LostRank` where another process is gone.
    """

    def __init__(self) -> None:
        self.number, self.count = dist.get_rank(), dist.get_world_size()
        self._asked: tuple[Tensor, Any] | None = None

    def device(self, device: torch.device) -> torch.device:
        if device.type != "cuda":
            return device
        here, there = int(os.environ["LOCAL_WORLD_SIZE"]), torch.cuda.device_count()
        if there < here:
            raise TrainingError(
                f"The training is to be split over {here} GPUs, and there "
                f"{'is' if there == 1 else 'are'} {there} here. Choose fewer, or a larger machine."
            )
        own = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(own)
        return own

    def sum(self, own: Tensor) -> Tensor:
        with _talking():
            dist.all_reduce(own)
        return own

    def once(self, whole: Tensor) -> Tensor:
        return whole if self.first else torch.zeros_like(whole)

    def least(self, own: Tensor) -> Tensor:
        with _talking():
            dist.all_reduce(own, dist.ReduceOp.MIN)
        return own

    def stacked(self, own: Tensor) -> Tensor:
        found = own.new_empty((self.count, *own.shape))
        with _talking():
            dist.all_gather(list(found.unbind()), own.contiguous())
        return found

    def joined(self, own_F: Tensor) -> Tensor:
        whole_F = own_F.new_zeros(self.total(len(own_F)))
        whole_F[self.share(len(whole_F))] = own_F
        return self.sum(whole_F)

    def spread(self, tensor: Tensor, source: int = 0) -> None:
        with _talking():
            dist.broadcast(_bytes(tensor), source)

    def total(self, n: int) -> int:
        return sum(self._everyones(n))

    def most(self, n: int) -> int:
        return max(self._everyones(n))

    def before(self, n: int) -> int:
        return sum(self._everyones(n)[: self.number])

    def any(self, said: bool) -> bool:
        return any(self._everyones(said))

    def agreed(self, said: bool) -> bool:
        heard = self._heard()
        asked = torch.tensor(int(said))
        with _talking():
            self._asked = asked, dist.all_reduce(asked, dist.ReduceOp.MAX, async_op=True)
        return heard

    def told(self, value: Any) -> Any:
        text = json.dumps(value).encode()
        length = torch.tensor(len(text))
        self.spread(length)
        said = torch.zeros(int(length), dtype=torch.uint8)
        if self.first:
            said.copy_(torch.frombuffer(bytearray(text), dtype=torch.uint8))
        self.spread(said)
        return json.loads(said.numpy().tobytes())

    def send(self, own: Tensor) -> None:
        with _talking():
            dist.send(_bytes(own.detach().cpu().contiguous()), 0)

    def receive(self, into: Tensor, source: int) -> None:
        with _talking():
            dist.recv(_bytes(into), source)

    def _everyones(self, n: int) -> list[int]:
        return [int(found) for found in self.stacked(torch.tensor(int(n)))]

    def _heard(self) -> bool:
        """What was asked last, and by now answered."""
        if self._asked is None:
            return False
        (said, answer), self._asked = self._asked, None
        with _talking():
            answer.wait()
        return bool(said)


def launched() -> bool:
    """Whether this process was started as one of several."""
    return dist.is_torchelastic_launched()


@contextmanager
def together() -> Iterator[Ranks]:
    """The ranks this process was started among, until the end; alone where it was not."""
    if not launched():
        yield ALONE
        return
    with _talking():
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        store, rank, count = next(rendezvous("env://", timeout=_PATIENCE))
        # The agent keeps its store when it starts the ranks again: what those before have left in
        # it, their addresses first, is not of this start.
        start = PrefixStore(f"start {os.environ['TORCHELASTIC_RESTART_COUNT']}", store)
        dist.init_process_group(
            backend, store=start, rank=rank, world_size=count, timeout=_PATIENCE
        )
    try:
        yield Joined()
    finally:
        dist.destroy_process_group()


@contextmanager
def _talking() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # torch.distributed has no narrower one for gloo
        if memory.exhausted(error):
            raise
        raise LostRank(f"another process of the run is lost: {error}") from error


def _bytes(tensor: Tensor) -> Tensor:
    """The same memory, which must be contiguous, as what every backend can carry."""
    return tensor.view(-1).view(torch.uint8)
