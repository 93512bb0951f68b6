"""How much of a model adapters and quantisation reach: fused experts are no linear layers, and stay as they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

QUANTISED_WEIGHTS = ("Params4bit", "Int8Params")
EXPERTS = "experts"
# Less than this of the weights is not worth a line: norms, routers, biases.
WORTH_SAYING = 0.01


def linear_layers(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The linear layers by name: quantised ones are subclasses of nn.Linear; Conv1D is GPT-2's."""
    return ((name, module) for name, module in model.named_modules() if is_linear(module))


def is_linear(module: nn.Module) -> bool:
    """Whether a module is a matrix product and nothing else: some routers are called linear, and choose experts."""
    kind = type(module)
    if not isinstance(module, nn.Linear | Conv1D):
        return False
    of_its_own = kind.forward not in (nn.Linear.forward, Conv1D.forward)
    return not of_its_own or kind.__module__.partition(".")[0] in ("torch", "bitsandbytes")


def inner_layers(model: PreTrainedModel) -> dict[str, nn.Module]:
    """The linear layers without the output embedding, by name: what "all-linear" means where PEFT reaches it."""
    output = model.get_output_embeddings()
    return {name: module for name, module in linear_layers(model) if module is not output}


def fused_experts(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Weights of many experts in one tensor each, by name."""
    for path, module in model.named_modules():
        if isinstance(module, nn.Linear | Conv1D | nn.Embedding | nn.Conv1d | nn.Conv2d | nn.Conv3d):
            continue
        for name, weight in module.named_parameters(recurse=False):
            if weight.dim() >= 3 or (weight.dim() == 2 and EXPERTS in path.split(".")):
                yield f"{path}.{name}", weight


def parts_left_out(model: PreTrainedModel, reached: Callable[[str], bool]) -> list[tuple[str, float]]:
    """What of the weights between the embeddings is not reached: parts by name with their share, the largest first.

    Args:
        model: the model, on whatever device.
        reached: whether the layer or the fused tensor of this name is.
    """
    sizes: Counter[str] = Counter()
    total = 0
    for name, weight in _inner_weights(model):
        count = weight_count(weight)
        total += count
        if not reached(name):
            sizes[_part(name)] += count
    return [(part, count / total) for part, count in sizes.most_common() if count >= WORTH_SAYING * total]


def wording(parts: Iterable[tuple[str, float]], not_so: str) -> str:
    """The parts in words: "experts: not adapted, 88% of weights", or nothing."""
    return "; ".join(f"{part}: {not_so}, {share:.0%} of weights" for part, share in parts)


def weight_count(weight: nn.Parameter) -> int:
    """Number of weights; bitsandbytes packs two 4-bit values into each byte."""
    return weight.numel() * (2 if type(weight).__name__ == "Params4bit" else 1)


def holds_quantised(model: nn.Module) -> bool:
    """Whether weights are held in 4 or 8 bits."""
    return any(type(weight).__name__ in QUANTISED_WEIGHTS for weight in model.parameters())


def _inner_weights(model: PreTrainedModel) -> Iterator[tuple[str, nn.Parameter]]:
    for name, module in inner_layers(model).items():
        weight = module.weight
        assert isinstance(weight, nn.Parameter)
        yield name, weight
    yield from fused_experts(model)


def _part(name: str) -> str:
    """What people call the place of a weight: experts, or the layer's own name."""
    places = name.split(".")
    return EXPERTS if EXPERTS in places else places[-1]
