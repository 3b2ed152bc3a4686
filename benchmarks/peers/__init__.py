"""The engines cyconv is compared with, each used when it can be imported."""

from .base import Mode, Peer, Prepared, Run
from .ncnn_net import Ncnn
from .onnx_runtime import OnnxRuntime
from .ours import Cyconv, FrozenLayer
from .plain import NaiveNumpy, Scipy
from .pytorch import TorchChannelsFirst, TorchChannelsLast

__all__ = ["Cyconv", "FrozenLayer", "Mode", "Peer", "Prepared", "Run", "available_peers"]

# The peer that most figures are held against, those that train or run networks as they are, and
# all that one would choose between for a finished network.
TORCH = TorchChannelsFirst.name
FRAMEWORKS = (TORCH, TorchChannelsLast.name, OnnxRuntime.name)
ENGINES = (*FRAMEWORKS, Ncnn.name)


def available_peers(threads: int, names: list[str] | None = None) -> list[Peer]:
    """The peers that can be imported here (all, or those whose name starts with one of `names`)."""
    peers: list[Peer] = [
        *(TorchChannelsFirst(), TorchChannelsLast(), OnnxRuntime()),
        *(Ncnn(), Scipy(), NaiveNumpy()),
    ]
    if names is not None:
        wanted = tuple(name.lower() for name in names)
        peers = [peer for peer in peers if peer.name.lower().startswith(wanted)]
    peers = [peer for peer in peers if peer.available()]
    for peer in peers:
        peer.set_threads(threads)
    return peers
