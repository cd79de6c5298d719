"""Pictures for the captions of a split, on disk.

A file has the pictures of some captions, and tells what they were made from: the run's weights, the decoder, its params
and the split. What was made from anything else is made again; a kill loses no more than one file.
"""

import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
import torch.nn.functional as F
from torch import Tensor

from vlalign.adaptation.features import encode_pictures
from vlalign.console import progress
from vlalign.data.arrow import INPUTS, read_batch, read_metadata, write_batch
from vlalign.data.samples import Sample, decode_image, encode_png
from vlalign.data.shards.split import Split, read_manifest, refuse_data
from vlalign.data.shards.tar import batched
from vlalign.errors import VlalignError
from vlalign.evaluation.features import encode_texts
from vlalign.files import remove_temporary
from vlalign.generation.decoders import Decoder
from vlalign.models import DualEncoder
from vlalign.models.pictures import fit_for
from vlalign.params import digest
from vlalign.records import stamp, write_record

# Raised whenever equal inputs would give other pictures, so that files of an older version are made again.
VERSION = 1
# Captions of a file, so that no more is lost; the first captions, which are shown beside real pictures.
PER_FILE, EXAMPLES = 64, 8
# Real pictures that the scale of the embeddings is measured on, and those that both encoders must agree on.
MEASURED, COMPARED = 1000, 8
# Resizing differs between libraries, by less than this; another encoder's embeddings are about at right angles.
LEAST_COSINE = 0.95
# real: of an example, the picture that the caption is of, as the run sees it. of_image: of an example, what the decoder
# makes of that picture's own embedding.
SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("caption", pa.string()),
        ("image", pa.binary()),
        ("real", pa.binary()),
        ("of_image", pa.binary()),
    ]
)
logger = logging.getLogger(__name__)


class Captions:
    """The first samples of a split: its pictures, each with its first caption.

    Raises VlalignError where samples may lack pictures or captions, and for fewer than two.
    """

    def __init__(self, split: str | Path, count: int) -> None:
        self.split = Split(split)
        self.split.require("image", "captions")
        self.count = min(count, len(self.split))
        if self.count < 2:
            raise VlalignError(f"{split} has {self.count} captions, and a distribution of pictures needs more")
        if self.count < count:
            logger.warning("%s has %d pictures with captions, not %d: all of them are used", split, self.count, count)

    def samples(self, start: int = 0, stop: int | None = None) -> Iterator[Sample]:
        """Some of them in order."""
        for number in range(start, self.count if stop is None else min(stop, self.count)):
            shard, row = self.split.locate(number)
            yield self.split.open(shard).sample(row)


class Generator:
    """From captions to pictures: the run's text embedding, at the scale of the decoder's image encoder, is decoded.

    encoder: the run's, in evaluation mode, on the device of the decoder. name: of the run, for messages.
    Raises VlalignError where the run's joint space is not the decoder's.
    """

    def __init__(self, encoder: DualEncoder, decoder: Decoder, captions: Captions, *, name: str) -> None:
        self.encoder, self.decoder, self.captions = encoder, decoder, captions
        width = encoder.widths()[0]
        if width != decoder.width:
            raise VlalignError(
                f"generation: the image tower of {name} gives {width} numbers, but the decoder {decoder.params.model} "
                f"reads {decoder.width}; its towers must be on the decoder's own image encoder"
            )
        self._check_encoder(name)

    def _check_encoder(self, name: str) -> None:
        samples = list(self.captions.samples(stop=COMPARED))
        theirs_ND = self.decoder.embed([decode_image(sample.image) for sample in samples])
        if theirs_ND is None:
            logger.warning(
                "%s brings no image encoder, so that nobody can tell whether the image tower of %s is the one that it "
                "was trained with; only the width was compared",
                self.decoder.params.model,
                name,
            )
            return
        cosine = F.cosine_similarity(encode_pictures(self.encoder, samples).pooled_NW, theirs_ND).mean().item()
        if not cosine >= LEAST_COSINE:
            raise VlalignError(
                f"generation: the image tower of {name} is not the image encoder of {self.decoder.params.model}: their "
                f"embeddings of {len(samples)} pictures have a cosine of {cosine:.2f}, where it would be 1; give the "
                "run that encoder as its image tower, with its weights, activation and pooling"
            )

    @cached_property
    def scale(self) -> float:
        """Mean norm of what the image tower gives for real pictures."""
        batches = batched(self.captions.samples(stop=MEASURED), PER_FILE)
        norms = [encode_pictures(self.encoder, batch).pooled_NW.norm(dim=-1) for batch in batches]
        scale = torch.cat(norms).mean().item()
        logger.info("the image tower's embeddings have a mean norm of %.3f", scale)
        return scale

    @cached_property
    def blank(self) -> Tensor:
        """The embedding, D, of a picture that is zero after normalisation."""
        size, device = self.encoder.image_size, self.encoder.logit_scale.device
        with torch.inference_mode():
            return self.encoder.tower_image(torch.zeros(1, 3, size, size, device=device)).pooled_NW[0].float().cpu()

    def rows(self, start: int, stop: int, *, seed: int, batch_size: int) -> Iterator[dict[str, Any]]:
        """Rows of SCHEMA for some of the captions."""
        for batch in batched(enumerate(self.captions.samples(start, stop), start), batch_size):
            samples = [sample for _, sample in batch]
            shown = [sample for number, sample in batch if number < EXAMPLES]
            texts_ND = encode_texts(self.encoder, [sample.captions[0] for sample in samples])
            images = self._decode(texts_ND * self.scale, samples, seed)
            examples = iter(self._decode(encode_pictures(self.encoder, shown).pooled_NW, shown, seed) if shown else ())
            for (number, sample), image in zip(batch, images, strict=True):
                row = {"key": sample.key, "caption": sample.captions[0], "image": image}
                if number < EXAMPLES:
                    real = fit_for(self.encoder, decode_image(sample.image)).permute(1, 2, 0)
                    row |= {"real": encode_png(real.numpy()), "of_image": next(examples)}
                yield row

    def _decode(self, embeddings_ND: Tensor, samples: Sequence[Sample], seed: int) -> list[bytes]:
        seeds = [seed_of(seed, sample.key) for sample in samples]
        pictures = self.decoder.decode(embeddings_ND, blank_D=self.blank, seeds=seeds)
        return [encode_png(np.asarray(picture)) for picture in pictures]


def seed_of(seed: int, key: str) -> int:
    """The seed of one picture's noise: neither the batch nor what was made before matters."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{key}".encode()).digest()[:8]) >> 1


def generate(
    generator: Generator, output: Path, *, made_of: Mapping[str, Any], seed: int = 0, batch_size: int = 8
) -> None:
    """Write the pictures of all captions, then the manifest; files that were made from the same are kept.

    made_of: what the pictures depend on beside the split and the seed: weights and decoder, as plain values.
    batch_size: pictures at once; which batch a picture is in changes it by no more than rounding.
    """
    captions = generator.captions
    refuse_data(output)
    split = stamp(captions.split.directory / "manifest.json")["sha256"]
    # The scale depends on how many pictures it is measured on.
    measured = min(captions.count, MEASURED)
    entries = []
    with progress("generating pictures", total=captions.count) as advance:
        for number, start in enumerate(range(0, captions.count, PER_FILE)):
            stop = min(start + PER_FILE, captions.count)
            path = output / f"{number:06d}.arrow"
            inputs = digest([VERSION, dict(made_of), split, seed, measured, start, stop]).encode()
            if read_metadata(path).get(INPUTS) != inputs:
                rows = list(generator.rows(start, stop, seed=seed, batch_size=batch_size))
                write_batch(path, pa.RecordBatch.from_pylist(rows, schema=SCHEMA.with_metadata({INPUTS: inputs})))
            entries.append({"name": path.name, "samples": stop - start, "inputs": inputs.decode(), **stamp(path)})
            advance(stop - start)
    for stale in set(output.glob("*.arrow")) - {output / entry["name"] for entry in entries}:
        stale.unlink()
    remove_temporary(output)
    write_record(output / "manifest.json", {"shards": entries, "made_of": dict(made_of), "seed": seed})


def read_generated(folder: Path) -> Iterator[dict[str, Any]]:
    """The rows of all pictures in order; raises VlalignError where a file is missing, or was changed."""
    for entry in read_manifest(folder)["shards"]:
        path, manifest = folder / entry["name"], folder / "manifest.json"
        yield from read_batch(path, manifest=manifest, expected=entry).to_pylist()


def examples(folder: Path) -> list[dict[str, Any]]:
    """The first rows, with the real pictures."""
    return [row for _, row in zip(range(EXAMPLES), read_generated(folder), strict=False)]
