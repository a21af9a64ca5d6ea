"""The image tower's network: a small ResNet that recognises copies."""

from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn
from torch.nn import functional

# Channels in and out of each block.
WIDTHS = ((32, 48), (48, 48), (48, 96), (96, 96), (96, 192), (192, 192), (192, 320), (320, 320))
# The blocks from here on work at the lowest resolution.
LAST_STAGE = 6
DIMENSIONS = 512
FEATURES = 480
POWER = 3.0

ConvNorms = list[tuple[nn.Conv2d, nn.BatchNorm2d]]
WeightsAndBiases = list[tuple[Tensor, Tensor]]


class Block(nn.Module):
    """A basic residual block (He et al., 2016); if it widens, it halves the size (ResNet-D)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        stride = 1 if inputs == outputs else 2
        self.first = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.first_norm = nn.BatchNorm2d(outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.second_norm = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride == 2:
            self.shortcut = nn.Sequential(
                nn.AvgPool2d(2), nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        hidden = functional.relu(self.first_norm(self.first(x)))
        return functional.relu(self.second_norm(self.second(hidden)) + self.shortcut(x))


class Pooling(nn.Module):
    """Feature maps, (n, 320, 4, 4) or (n, 320, 3, 3), to the 480 features of each image."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Conv2d(WIDTHS[-1][1], FEATURES, 1, bias=False)
        self.wide_norm = nn.BatchNorm2d(FEATURES)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.wide_norm(self.wide(x)))
        # Generalised mean (Radenovic et al., 2018): between mean (1) and maximum (infinity).
        return x.float().clamp(min=1e-4).pow(POWER).mean((2, 3)).pow(1 / POWER)


class CopyNetwork(nn.Module):
    """Normalised pixels (n, 3, 128, 128) to embeddings (n, 512), not yet of unit length."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, WIDTHS[0][0], 3, 2, 1, bias=False)
        self.stem_norm = nn.BatchNorm2d(WIDTHS[0][0])
        self.blocks = nn.Sequential(*(Block(inputs, outputs) for inputs, outputs in WIDTHS))
        self.pooling = Pooling()
        self.head = nn.Linear(FEATURES, DIMENSIONS)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.pooling(self.maps(x)[-1]))

    def maps(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the feature maps before the last halving, (n, 192, 8, 8), and the last,
        (n, 320, 4, 4).
        """
        middle = self.blocks[:LAST_STAGE](functional.relu(self.stem_norm(self.stem(x))))
        return middle, self.blocks[LAST_STAGE:](middle)

    def conv_norms(self) -> ConvNorms:
        """Return every convolution with its normalisation, in the exported graph's order."""
        pairs: ConvNorms = [(self.stem, self.stem_norm)]
        for block in self.blocks:
            assert isinstance(block, Block)
            pairs += [(block.first, block.first_norm), (block.second, block.second_norm)]
            if isinstance(block.shortcut, nn.Sequential):
                pairs.append((block.shortcut[1], block.shortcut[2]))  # pyright: ignore[reportArgumentType]
        return [*pairs, (self.pooling.wide, self.pooling.wide_norm)]


@torch.no_grad()
def folded(conv_norms: ConvNorms) -> WeightsAndBiases:
    """Return each convolution's weight and bias with its normalisation folded in."""
    result: WeightsAndBiases = []
    for conv, norm in conv_norms:
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        bias = norm.bias - norm.running_mean * scale
        result.append((conv.weight * scale.view(-1, 1, 1, 1), bias))
    return result


@torch.no_grad()
def load_onnx(network: CopyNetwork, path: Path, sample: Tensor) -> None:
    """Start from an exported model, whose normalisations are folded into its convolutions.

    Each normalisation is restored as the identity on `sample`, normalised pixels
    (n, 3, 128, 128), so that training continues from the same function. The
    second branch of the shipped model comes after the first, and is left out.
    """
    conv_norms, head = network.conv_norms(), network.head
    weights = _graph_weights(path)[: len(conv_norms) + 1]
    for (conv, norm), (weight, bias) in zip(conv_norms, weights[:-1], strict=True):
        conv.weight.copy_(weight)
        norm.bias.copy_(bias)
        norm.momentum = None
    # Fewer dimensions are exported than the head has rows.
    weight, bias = weights[-1]
    head.weight.zero_()[: len(weight)] = weight
    head.bias.zero_()[: len(bias)] = bias
    # Layer by layer, since each one's input depends on those before it.
    for conv, norm in conv_norms:
        outputs: list[Tensor] = []
        hook = conv.register_forward_hook(
            lambda _module, _inputs, out, outputs=outputs: outputs.append(out)
        )
        network.eval()
        network(sample)
        hook.remove()
        mean, variance = outputs[0].mean((0, 2, 3)), outputs[0].var((0, 2, 3))
        norm.running_mean.copy_(mean)  # pyright: ignore[reportOptionalMemberAccess]
        norm.running_var.copy_(variance)  # pyright: ignore[reportOptionalMemberAccess]
        norm.weight.copy_((variance + norm.eps).sqrt())
        norm.bias.add_(mean)
        norm.momentum = 0.1
        # With a normalisation, the filters' lengths are arbitrary. Those of an initialisation (He
        # et al., 2015) make the learning rate mean the same as when training from scratch.
        lengths = conv.weight.flatten(1).norm(dim=1) / 2**0.5
        conv.weight.div_(lengths.view(-1, 1, 1, 1))
        norm.running_mean.div_(lengths)  # pyright: ignore[reportOptionalMemberAccess]
        norm.running_var.div_(lengths**2)  # pyright: ignore[reportOptionalMemberAccess]


def _graph_weights(path: Path) -> WeightsAndBiases:
    """Return weight and bias of every convolution and linear layer of an exported graph."""
    graph = onnx.load(str(path)).graph
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Cast" and node.input[0] in values:
            values[node.output[0]] = values[node.input[0]].astype(np.float32)
        if node.op_type == "Mul" and set(node.input) <= set(values):
            values[node.output[0]] = values[node.input[0]] * values[node.input[1]]
    return [
        tuple(torch.from_numpy(values[name].astype(np.float32)) for name in node.input[1:3])
        for node in graph.node
        if node.op_type in ("Conv", "Gemm")
    ]  # pyright: ignore[reportReturnType]
