"""unCLIP decoders of diffusers with random weights, in the files of published ones, on an image tower of open_clip."""

import json

import diffusers
import torch
from diffusers.pipelines.deprecated.unclip import UnCLIPTextProjModel
from diffusers.pipelines.stable_diffusion.stable_unclip_image_normalizer import StableUnCLIPImageNormalizer
from transformers import (
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

WIDTH = 16
KINDS = ("stable-unclip", "kandinsky", "karlo")
TOWER = {
    "embed_dim": WIDTH,
    "vision_cfg": {
        "image_size": 32, "layers": 1, "width": 32, "head_width": 16, "mlp_ratio": 2.0, "patch_size": 8,
    },
    "text_cfg": {
        "context_length": 28, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1, "mlp_ratio": 2.0,
    },
}  # fmt: skip
TEXT = {
    "hidden_size": WIDTH, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 40,
    "max_position_embeddings": 10, "projection_dim": WIDTH, "bos_token_id": 38, "eos_token_id": 39, "pad_token_id": 39,
}  # fmt: skip
UNET = {
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"), "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "block_out_channels": (8, 16), "attention_head_dim": 4, "layers_per_block": 1, "norm_num_groups": 4,
    "cross_attention_dim": WIDTH,
}  # fmt: skip
CROSS = ("SimpleCrossAttn{}Block2D", "Resnet{}sampleBlock2D")


def image_encoder(visual):
    """The image tower of open_clip in transformers' classes: equal embeddings."""
    state = {
        "vision_model.embeddings.class_embedding": visual.class_embedding,
        "vision_model.embeddings.patch_embedding.weight": visual.conv1.weight,
        "vision_model.embeddings.position_embedding.weight": visual.positional_embedding,
        "visual_projection.weight": visual.proj.T,
    }
    parts = {"vision_model.pre_layrnorm": visual.ln_pre, "vision_model.post_layernorm": visual.ln_post}
    (block,) = visual.transformer.resblocks
    layer = "vision_model.encoder.layers.0"
    parts |= {f"{layer}.layer_norm1": block.ln_1, f"{layer}.layer_norm2": block.ln_2}
    parts |= {f"{layer}.mlp.fc1": block.mlp.c_fc, f"{layer}.mlp.fc2": block.mlp.c_proj}
    parts |= {f"{layer}.self_attn.out_proj": block.attn.out_proj}
    for name, part in parts.items():
        state |= {f"{name}.weight": part.weight, f"{name}.bias": part.bias}
    for place, kind in enumerate("qkv"):
        weight, bias = (x.chunk(3)[place] for x in (block.attn.in_proj_weight, block.attn.in_proj_bias))
        state |= {f"{layer}.self_attn.{kind}_proj.weight": weight, f"{layer}.self_attn.{kind}_proj.bias": bias}
    config = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=32,
        patch_size=8,
        projection_dim=WIDTH,
        hidden_act="gelu",
    )
    encoder = CLIPVisionModelWithProjection(config)
    found = encoder.load_state_dict({name: value.detach().clone() for name, value in state.items()}, strict=False)
    assert not found.unexpected_keys
    assert not [name for name in found.missing_keys if not name.endswith("position_ids")]
    return encoder.eval()


def tokenizer(folder):
    """As CLIP's, of single letters."""
    folder.mkdir(parents=True)
    letters = "abcdefghijklmnopqrs"
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer.from_pretrained(folder, model_max_length=10)


def encoding(visual, folder):
    """The parts that read pictures and prompts."""
    processor = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    return {"image_encoder": image_encoder(visual), "feature_extractor": processor, "tokenizer": tokenizer(folder)}


def stable_unclip(visual, folder):
    unet = diffusers.UNet2DConditionModel(
        sample_size=8,
        class_embed_type="projection",
        projection_class_embeddings_input_dim=2 * WIDTH,
        use_linear_projection=True,
        **UNET,
    )
    return diffusers.StableUnCLIPImg2ImgPipeline(
        image_normalizer=StableUnCLIPImageNormalizer(embedding_dim=WIDTH),
        image_noising_scheduler=diffusers.DDPMScheduler(beta_schedule="squaredcos_cap_v2"),
        text_encoder=CLIPTextModel(CLIPTextConfig(**TEXT)),
        unet=unet,
        scheduler=diffusers.DDIMScheduler(beta_schedule="scaled_linear", set_alpha_to_one=False, steps_offset=1),
        vae=diffusers.AutoencoderKL(block_out_channels=(8, 8), norm_num_groups=4, latent_channels=4,
            down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2),
        **encoding(visual, folder),
    )  # fmt: skip


def kandinsky(visual, folder):
    unet = diffusers.UNet2DConditionModel(
        **{**UNET, "down_block_types": (CROSS[1].format("Down"), CROSS[0].format("Down")),
           "up_block_types": (CROSS[0].format("Up"), CROSS[1].format("Up"))},
        in_channels=4, out_channels=8, mid_block_type="UNetMidBlock2DSimpleCrossAttn", addition_embed_type="image",
        encoder_hid_dim=WIDTH, encoder_hid_dim_type="image_proj", resnet_time_scale_shift="scale_shift",
        class_embed_type=None,
    )  # fmt: skip
    movq = diffusers.VQModel(
        block_out_channels=(32, 32), norm_num_groups=4, latent_channels=4, num_vq_embeddings=12, norm_type="spatial",
        down_block_types=("DownEncoderBlock2D", "AttnDownEncoderBlock2D"),
        up_block_types=("AttnUpDecoderBlock2D", "UpDecoderBlock2D"), vq_embed_dim=4,
    )  # fmt: skip
    scheduler = diffusers.DDPMScheduler(beta_schedule="linear", variance_type="learned_range")
    return diffusers.KandinskyV22Pipeline(unet=unet, scheduler=scheduler, movq=movq)


def karlo(visual, folder):
    decoder = diffusers.UNet2DConditionModel(
        **{**UNET, "down_block_types": (CROSS[1].format("Down"), CROSS[0].format("Down")),
           "up_block_types": (CROSS[0].format("Up"), CROSS[1].format("Up"))},
        sample_size=8, in_channels=3, out_channels=6, mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        resnet_time_scale_shift="scale_shift", class_embed_type="identity",
    )  # fmt: skip
    large = {
        "sample_size": 16, "layers_per_block": 1, "block_out_channels": (8, 16), "in_channels": 6, "out_channels": 3,
        "norm_num_groups": 4, "down_block_types": ("ResnetDownsampleBlock2D",) * 2,
        "up_block_types": ("ResnetUpsampleBlock2D",) * 2,
    }  # fmt: skip
    return diffusers.UnCLIPImageVariationPipeline(
        decoder=decoder,
        text_encoder=CLIPTextModelWithProjection(CLIPTextConfig(**TEXT)),
        text_proj=UnCLIPTextProjModel(
            clip_embeddings_dim=WIDTH, time_embed_dim=32, cross_attention_dim=WIDTH, clip_extra_context_tokens=2
        ),
        super_res_first=diffusers.UNet2DModel(**large),
        super_res_last=diffusers.UNet2DModel(**large),
        decoder_scheduler=diffusers.UnCLIPScheduler(variance_type="learned_range", num_train_timesteps=1000),
        super_res_scheduler=diffusers.UnCLIPScheduler(variance_type="fixed_small_log", num_train_timesteps=1000),
        **encoding(visual, folder),
    )


def save_decoder(folder, kind, visual):
    """The folder of a decoder whose image encoder is this tower of open_clip."""
    torch.manual_seed(0)
    pipeline = {"stable-unclip": stable_unclip, "kandinsky": kandinsky, "karlo": karlo}[kind](
        visual, folder.with_name(f"{folder.name}-words")
    )
    pipeline.save_pretrained(folder, safe_serialization=True)
    if kind == "karlo":
        # As published, before diffusers moved the module.
        index = json.loads((folder / "model_index.json").read_text())
        index["text_proj"] = ["unclip", "UnCLIPTextProjModel"]
        (folder / "model_index.json").write_text(json.dumps(index))
    return folder
