"""What frozen towers give for every picture and caption of a split, computed once.

A file of features is named after its shard, and tells what it was made from: towers, weights, preprocessing, the shard,
and whether tokens are kept. One that was made from anything else is made again.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import torch
from open_clip.hf_model import HFTextEncoder
from torch import Tensor

from vlalign.console import progress
from vlalign.data.arrow import INPUTS, read_metadata, write_batch
from vlalign.data.samples import Sample, decode_image
from vlalign.data.shards.index import samples_of
from vlalign.data.shards.split import annotation_path, check_place, part_of, read_manifest, refuse_data
from vlalign.data.shards.tar import batched
from vlalign.files import remove_temporary, write_json
from vlalign.models import DualEncoder
from vlalign.models.adapters import TowerFeatures
from vlalign.models.frozen import identity
from vlalign.models.pictures import fit_for, normalise
from vlalign.models.text import real_tokens
from vlalign.params import digest
from vlalign.records import stamp, write_record
from vlalign.training.data.frozen_rows import SCHEMA, FeatureFile

# Raised whenever equal inputs would give other features, so that files of an older version are made again.
VERSION = 1


def encode_split(
    split: str | Path,
    output: str | Path,
    encoder: DualEncoder,
    *,
    tokens: bool = False,
    batch_size: int = 256,
    part: str | None = None,
) -> None:
    """Write the features of every shard of `split`, then the manifest.

    Args:
        encoder: in evaluation mode, on any device; its towers are used, and no adapter.
        tokens: whether those of patches and words are kept too, and not the pooled features alone.
        batch_size: pictures or captions per forward pass.
        part: "K-of-N" for every N-th shard from the K-th on, with `parts/K-of-N.json` in place of the manifest; files
            that were made from the same are kept.

    Raises VlalignError when a shard is missing or was changed.
    """
    split, output = Path(split), Path(output)
    manifest = read_manifest(split)
    check_place(split, manifest)
    refuse_data(output)
    # Convolutions are faster so.
    encoder.clip.visual.to(memory_format=torch.channels_last)
    every, towers = manifest["shards"], identity(encoder)
    shards = part_of(every, part)
    with progress("encoding with frozen towers", total=sum(shard["samples"] for shard in shards)) as advance:
        for shard in shards:
            path, inputs = annotation_path(output, shard), _inputs(shard, towers, tokens)
            if read_metadata(path).get(INPUTS) != inputs:
                samples = list(samples_of(split, shard))
                rows = list(_rows(samples, encoder, tokens=tokens, batch_size=batch_size))
                write_batch(path, pa.RecordBatch.from_pylist(rows, schema=SCHEMA.with_metadata({INPUTS: inputs})))
            advance(shard["samples"])
    if part is not None:
        write_json(output / "parts" / f"{part}.json", {"shards": len(shards)})
        return
    _write_manifest(output, every, towers, tokens, made_of=stamp(split / "manifest.json")["sha256"])


def _inputs(shard: Mapping[str, Any], towers: Mapping[str, Any], tokens: bool) -> bytes:
    return digest([VERSION, shard["sha256"], shard["limits"], towers, tokens]).encode()


def _rows(samples: list[Sample], encoder: DualEncoder, *, tokens: bool, batch_size: int) -> Iterator[dict[str, Any]]:
    texts = _texts([caption for sample in samples for caption in sample.captions], encoder, tokens, batch_size)
    for batch in batched(samples, batch_size):
        # A split of captions alone has no pictures.
        pictured = [sample for sample in batch if sample.image]
        images = iter(_bytes(encode_pictures(encoder, pictured), tokens) if pictured else [])
        for sample in batch:
            image = next(images) if sample.image else None
            yield {"key": sample.key, "image": image, "captions": [texts[caption] for caption in sample.captions]}


def _texts(captions: Sequence[str], encoder: DualEncoder, tokens: bool, batch_size: int) -> dict[str, bytes]:
    """The packed features of every text, each computed once and beside others of its length."""
    different = list(dict.fromkeys(captions))
    if not different:
        return {}
    ids_CL = encoder.tokenizer(different)
    lengths_C = real_tokens(encoder.tokenizer, ids_CL).sum(1)
    found: dict[str, bytes] = {}
    for rows in lengths_C.argsort(stable=True).split(batch_size):
        # Padding costs as much as words; open_clip's own towers look for the end in all of the context.
        longest = int(lengths_C[rows].max()) if isinstance(encoder.clip.text, HFTextEncoder) else ids_CL.shape[1]
        packed = _bytes(encode_texts(encoder, ids_CL[rows, :longest]), tokens)
        found |= dict(zip((different[row] for row in rows.tolist()), packed, strict=True))
    return found


@torch.inference_mode()
def encode_pictures(encoder: DualEncoder, samples: Sequence[Sample]) -> TowerFeatures:
    """What the image tower gives for the pictures of samples, on the CPU in fp32."""
    pictures = torch.stack([fit_for(encoder, decode_image(sample.image)) for sample in samples])
    return _on_cpu(encoder.tower_image(normalise(pictures.to(encoder.logit_scale.device), encoder)))


@torch.inference_mode()
def encode_texts(encoder: DualEncoder, ids_CL: Tensor) -> TowerFeatures:
    """What the text tower gives for token ids, on the CPU in fp32."""
    return _on_cpu(encoder.tower_text(ids_CL.to(encoder.logit_scale.device)))


def _on_cpu(found: TowerFeatures) -> TowerFeatures:
    pooled, tokens, mask = found
    return TowerFeatures(pooled.float().cpu(), tokens.float().cpu(), mask.cpu())


def _bytes(found: TowerFeatures, tokens: bool) -> list[bytes]:
    """Each row packed, without the tokens that are not real, or without any."""
    kept: Tensor = found.mask_NL if tokens else torch.zeros_like(found.mask_NL)
    rows = zip(found.pooled_NW, found.tokens_NLW, kept, strict=True)
    packed = (
        TowerFeatures(pooled_W[None], tokens_LW[mask_L][None], mask_L[mask_L][None]).packed()
        for pooled_W, tokens_LW, mask_L in rows
    )
    return [one.contiguous().numpy().astype("<f4").tobytes() for one in packed]


def _write_manifest(
    output: Path, shards: Sequence[Mapping[str, Any]], towers: Mapping[str, Any], tokens: bool, *, made_of: str
) -> None:
    entries = []
    longest = {"image": 0, "caption": 0}
    for shard in shards:
        file = FeatureFile(annotation_path(output, shard))
        inputs = _inputs(shard, towers, tokens).decode()
        entries.append({"name": file.path.name, "samples": len(file.keys), "inputs": inputs, **stamp(file.path)})
        sizes = {"image": file.rows.column("image"), "caption": file.rows.column("captions").flatten()}
        for name, column in sizes.items():
            longest[name] = max(longest[name], pc.max(pc.binary_length(column)).as_py() or 0)
    for stale in set(output.glob("*.arrow")) - {annotation_path(output, shard) for shard in shards}:
        stale.unlink()
    remove_temporary(output)
    # (1 + L) (W + 1) of the longest; a split without captions has none of those.
    shapes = {name: [longest[name] // 4 // channels, channels] for name, channels in towers["channels"].items()}
    told = {"split": made_of, "shapes": shapes, "tokens": tokens, "towers": towers}
    write_record(output / "manifest.json", {"shards": entries, **told})
