"""The models sam2rt knows: a frozen description and a table of named instances.

Sources: the SAM 2 paper (arXiv 2408.00714) for the structure, the released yaml files for
the numbers. Only what distinguishes one model from another is a field; rules that every
released model shares (binarised prompt memories, multimask token for pointers, ...) are
code, not configuration.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal

from .errors import InputError

Family = Literal["2.0", "2.1"]
#: pixels; attention over the whole image has (size / 16)^4 scores a head, here 2^32 already
LARGEST_IMAGE = 4096


def check_image_size(size: int) -> None:
    """Raises InputError for a side of the model's input, in pixels, that no model takes."""
    if size < 64 or size % 32:
        raise InputError(f"image size {size} is not legal: expected a multiple of 32, at least 64")
    if size > LARGEST_IMAGE:
        raise InputError(f"image size {size} is not legal: expected at most {LARGEST_IMAGE}")


@dataclass(frozen=True)
class ModelConfig:
    """One SAM 2 model: everything needed to build it and to orchestrate its graphs."""

    name: str
    family: Family
    #: channels of the first Hiera stage; each later stage doubles them
    embed_dim: int
    #: attention heads of the first stage; each later stage doubles them
    num_heads: int
    #: blocks per stage
    stages: tuple[int, int, int, int]
    #: blocks (counted over all stages) that attend globally instead of in windows
    global_att_blocks: tuple[int, ...]
    #: window side per stage
    window_spec: tuple[int, int, int, int] = (8, 4, 14, 7)
    #: size of the learned background position table
    pos_embed_size: tuple[int, int] = (7, 7)
    #: side of the square model input, pixels
    image_size: int = 1024
    #: width C of embeddings, decoder and memory attention
    hidden_dim: int = 256
    #: width c of one memory token
    mem_dim: int = 64
    memory_attention_layers: int = 4
    memory_attention_ffn: int = 2048
    #: memories a frame attends to: prompted frames plus the newest num_maskmem - 1 others
    num_maskmem: int = 7
    max_obj_ptrs: int = 16
    stability_delta: float = 0.05
    stability_threshold: float = 0.98

    def __post_init__(self) -> None:
        check_image_size(self.image_size)
        if self.hidden_dim % self.mem_dim:
            raise InputError(
                f"hidden width {self.hidden_dim} is no multiple of memory width {self.mem_dim}"
            )
        beyond = [block for block in self.global_att_blocks if not 0 <= block < self.depth]
        if beyond:
            raise InputError(
                f"block {beyond[0]} is to attend globally, expected one of the {self.depth} blocks"
            )

    @property
    def embed_size(self) -> int:
        """Side h = w of the embedding and of one memory: image_size / 16."""
        return self.image_size // 16

    @property
    def mask_size(self) -> int:
        """Side 4h of low-resolution mask logits: image_size / 4."""
        return self.image_size // 4

    @property
    def pointer_tokens(self) -> int:
        """Memory tokens one object pointer is cut into: hidden_dim / mem_dim."""
        return self.hidden_dim // self.mem_dim

    @property
    def depth(self) -> int:
        return sum(self.stages)

    @property
    def stage_dims(self) -> tuple[int, int, int, int]:
        d = self.embed_dim
        return (d, 2 * d, 4 * d, 8 * d)

    def with_image_size(self, image_size: int) -> ModelConfig:
        return dataclasses.replace(self, image_size=image_size)


def _family(family: Family, prefix: str) -> list[ModelConfig]:
    return [
        ModelConfig(f"{prefix}_hiera_tiny", family, 96, 1, (1, 2, 7, 2), (5, 7, 9)),
        ModelConfig(f"{prefix}_hiera_small", family, 96, 1, (1, 2, 11, 2), (7, 10, 13)),
        ModelConfig(
            f"{prefix}_hiera_base_plus", family, 112, 2, (2, 3, 16, 3), (12, 16, 20),
            pos_embed_size=(14, 14),
        ),
        ModelConfig(
            f"{prefix}_hiera_large", family, 144, 2, (2, 6, 36, 4), (23, 33, 43),
            window_spec=(8, 4, 16, 8),
        ),
    ]  # fmt: skip


def _micro(name: str, family: Family) -> ModelConfig:
    return ModelConfig(
        name, family, 16, 1, (1, 2, 3, 1), (4,), image_size=256, hidden_dim=64, mem_dim=16,
        memory_attention_layers=2, memory_attention_ffn=128,
    )  # fmt: skip


#: the name of the model that ships with the package: trained on synthetic clips, 256 pixels
BUILT_IN = "sam2rt_micro"
_BUILT_IN = ModelConfig(
    BUILT_IN, "2.1", 24, 1, (1, 2, 3, 1), (), window_spec=(8, 4, 16, 8), image_size=256,
    hidden_dim=64, mem_dim=16, memory_attention_layers=2, memory_attention_ffn=256,
)  # fmt: skip

MODELS: dict[str, ModelConfig] = {
    config.name: config
    for config in [
        *_family("2.1", "sam2.1"),
        *_family("2.0", "sam2"),
        _BUILT_IN,
        _micro("micro", "2.1"),
        _micro("micro20", "2.0"),
    ]
}

_SHORT = {"t": "tiny", "s": "small", "b+": "base_plus", "l": "large"}


def model_config(name: str) -> ModelConfig:
    """The model of that name; the short forms ``sam2.1_hiera_t`` ... ``sam2_hiera_b+`` work too.

    Raises InputError naming the known models.
    """
    stem, _, last = name.rpartition("_")
    full = f"{stem}_{_SHORT[last]}" if last in _SHORT else name
    try:
        return MODELS[full]
    except KeyError:
        known = ", ".join(MODELS)
        raise InputError(f"unknown model '{name}': known models are {known}") from None


def pointer_limit(config: ModelConfig, num_frames: int | None) -> int:
    """Largest number of object pointers in one attention (num_frames None: a live stream)."""
    limit = config.max_obj_ptrs if num_frames is None else min(num_frames, config.max_obj_ptrs)
    return max(limit, 1)


def pointer_distance_scale(config: ModelConfig, num_frames: int | None) -> float:
    """Divisor of a pointer's frame distance: pointer_limit - 1.

    The original divides by zero for a video of one frame; there the distance is 0 as well,
    so we divide by 1.
    """
    return float(max(pointer_limit(config, num_frames) - 1, 1))
