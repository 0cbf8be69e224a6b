"""UNet and text encoders of the built-in model, and the noise schedule it is trained with."""

from typing import Tuple

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from gpu_inference.builtin.training.tokenizer import MAX_LENGTH

WIDTHS = (64, 80)  # of the two text encoders; loaders tell them apart by it
TIME_ID_WIDTH = 32
BETA_START, BETA_END, TIMESTEPS = 0.00085, 0.012, 1000


def build_text_encoders(vocabulary: int) -> Tuple[CLIPTextModel, CLIPTextModelWithProjection]:
    """Build the untrained text encoders; of both the last but one layer is used, as in SDXL."""
    configs = [
        CLIPTextConfig(
            vocab_size=vocabulary,
            hidden_size=width,
            intermediate_size=4 * width,
            projection_dim=width,
            num_hidden_layers=3,
            num_attention_heads=4,
            max_position_embeddings=MAX_LENGTH,
            hidden_act=act,
            pad_token_id=pad,
            bos_token_id=vocabulary - 2,
            eos_token_id=vocabulary - 1,
            attn_implementation="eager",
        )
        for width, act, pad in zip(WIDTHS, ("quick_gelu", "gelu"), (vocabulary - 1, 0))
    ]
    return CLIPTextModel(configs[0]), CLIPTextModelWithProjection(configs[1])


def build_unet() -> UNet2DConditionModel:
    """Build the untrained UNet."""
    unet = UNet2DConditionModel(
        sample_size=16,
        in_channels=4,
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(64, 112),
        layers_per_block=1,
        transformer_layers_per_block=1,
        attention_head_dim=(4, 4),
        norm_num_groups=8,
        cross_attention_dim=sum(WIDTHS),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=TIME_ID_WIDTH,
        projection_class_embeddings_input_dim=WIDTHS[1] + 6 * TIME_ID_WIDTH,
    )
    unet.set_attn_processor(AttnProcessor())
    return unet


class TextToImage(torch.nn.Module):
    """The parts that are trained together."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.text_encoder, self.text_encoder_2 = build_text_encoders(vocabulary)
        self.unet = build_unet()

    def encode(self, first: torch.Tensor, second: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
        """Return the joined hidden states of both encoders and the pooled embedding of the second."""
        one = self.text_encoder(first, output_hidden_states=True)
        two = self.text_encoder_2(second, output_hidden_states=True)
        return torch.cat([one.hidden_states[-2], two.hidden_states[-2]], dim=-1), two.text_embeds

    def forward(
        self, noisy: torch.Tensor, steps: torch.Tensor, first: torch.Tensor, second: torch.Tensor, time_ids: torch.Tensor
    ) -> torch.Tensor:
        """Predict v for noisy latents."""
        hidden, pooled = self.encode(first, second)
        added = {"text_embeds": pooled, "time_ids": time_ids}
        return self.unet(noisy, steps, hidden, added_cond_kwargs=added).sample


def alphas_cumulated() -> torch.Tensor:
    """Return the schedule's cumulated alphas: scaled-linear betas, rescaled so that the last step is pure noise."""
    betas = torch.linspace(BETA_START**0.5, BETA_END**0.5, TIMESTEPS, dtype=torch.float64) ** 2
    roots = torch.cumprod(1.0 - betas, 0).sqrt()
    first, last = roots[0].clone(), roots[-1].clone()
    roots = (roots - last) * first / (first - last)
    return (roots**2).float()
