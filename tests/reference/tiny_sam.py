"""Tiny SAM models with random weights, on disk."""

import torch
import transformers as hf

KINDS = ["Sam", "SamHQ", "Sam2"]
PADDED = {
    "size": {"longest_edge": 64},
    "pad_size": {"height": 64, "width": 64},
    "mask_size": {"longest_edge": 16},
    "mask_pad_size": {"height": 16, "width": 16},
}
SQUARE = {"size": {"height": 64, "width": 64}, "mask_size": {"height": 16, "width": 16}}


def config(kind, *, patch_size, vision, **decoder):
    """The configuration of a tiny model for 64 x 64 pixels."""
    prompt = {"hidden_size": 16, "image_size": 64, "patch_size": patch_size, "mask_input_channels": 4}
    decoder |= {"hidden_size": 16, "mlp_dim": 32, "num_attention_heads": 2, "iou_head_hidden_dim": 16}
    return getattr(hf, f"{kind}Config")(
        vision_config=vision,
        prompt_encoder_config=getattr(hf, f"{kind}PromptEncoderConfig")(**prompt),
        mask_decoder_config=getattr(hf, f"{kind}MaskDecoderConfig")(**decoder),
    )


def first(kind):
    """A tiny SAM or SAM-HQ."""
    vision = getattr(hf, f"{kind}VisionConfig")(
        hidden_size=16,
        image_size=64,
        initializer_range=0.1,
        output_channels=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        patch_size=8,
        mlp_dim=32,
        window_size=4,
        global_attn_indexes=[1],
        num_pos_feats=8,
    )
    return config(kind, patch_size=8, vision=vision, **({"vit_dim": 16} if kind == "SamHQ" else {}))


def second():
    """A tiny SAM 2."""
    backbone = hf.Sam2HieraDetConfig(
        hidden_size=8,
        initializer_range=0.1,
        image_size=[64, 64],
        blocks_per_stage=[1, 2, 1, 1],
        embed_dim_per_stage=[8, 16, 32, 64],
        num_attention_heads_per_stage=[1, 1, 2, 2],
        window_size_per_stage=[4, 4, 2, 2],
        global_attention_blocks=[2],
        window_positional_embedding_background_size=[4, 4],
    )
    vision = hf.Sam2VisionConfig(
        backbone_config=backbone,
        backbone_channel_list=[64, 32, 16, 8],
        backbone_feature_sizes=[[16, 16], [8, 8], [4, 4]],
        fpn_hidden_size=16,
    )
    return config("Sam2", patch_size=16, vision=vision)


def save_tiny(kind, folder):
    """A model of this kind with its processor, in a folder."""
    torch.manual_seed(0)
    model = getattr(hf, f"{kind}Model")(second() if kind == "Sam2" else first(kind))
    model.save_pretrained(folder)
    processor = hf.Sam2ImageProcessor(**SQUARE) if kind == "Sam2" else hf.SamImageProcessor(**PADDED)
    processor.save_pretrained(folder)
    return folder
