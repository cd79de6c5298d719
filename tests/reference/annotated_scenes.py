"""A few scenes with regions, and with the phrases that a perfect parser would find, on disk."""

import re

from vlalign.annotate.phrases.annotation import Constituent, Word
from vlalign.annotate.phrases.phrase_files import PackedParse, write_phrase_file
from vlalign.annotate.phrases.trees import Parse
from vlalign.annotate.regions.annotation import annotate_split
from vlalign.data.samples import Sample
from vlalign.data.scenes.dataset import split_samples
from vlalign.data.shards.manifest import write_split
from vlalign.data.shards.split import read_split
from vlalign.params import RegionsParams, ScenesParams
from vlalign.records import stamp, write_record

COUNT, PER_SHARD = 14, 5
PARAMS = ScenesParams(image_size=32, captions=3, classes=8)


def words_of(caption):
    return tuple(Word(*match.span(), match.group(), "NN") for match in re.finditer(r"\S+", caption))


def constituents_of(sample, number, words):
    starts, ends = [word.start for word in words], [word.end for word in words]
    for phrase in sample.meta["phrases"]:
        if phrase["caption"] == number:
            yield Constituent("NP", starts.index(phrase["start"]), ends.index(phrase["end"]) + 1)


def parsed(sample):
    """The sample's captions with the parses that they should have."""
    for number, caption in enumerate(sample.captions):
        words = words_of(caption)
        yield caption, Parse(words, tuple(constituents_of(sample, number, words)))


def write_phrases(folder, samples, *, per_shard=PER_SHARD):
    """samples: key -> (caption, parse) pairs."""
    rows = [(key, [(caption, PackedParse.of(parse)) for caption, parse in pairs]) for key, pairs in samples.items()]
    shards = [{"name": f"{number:06d}.arrow"} for number in range(-(-len(rows) // per_shard))]
    for number, shard in enumerate(shards):
        write_phrase_file(folder / shard["name"], rows[number * per_shard : (number + 1) * per_shard], metadata={})
        shard |= stamp(folder / shard["name"])
    write_record(folder / "manifest.json", {"shards": shards})


def write_pairs(folder, samples):
    """A split of images with captions."""
    write_split(folder, samples, source={}, shard_size=PER_SHARD, needs=("image", "captions"))


def write_annotated(folder, *, images=COUNT):
    """`split`, `phrases` and `regions` below `folder`."""
    write_pairs(folder / "split", split_samples("train", images, PARAMS))
    write_phrases(folder / "phrases", {sample.key: list(parsed(sample)) for sample in read_split(folder / "split")})
    annotate_split(folder / "split", folder / "regions", RegionsParams())


def write_unpaired(folder):
    """Scenes that have lost their captions, and captions that have lost theirs."""
    scenes = list(split_samples("validation", 9, PARAMS))
    images = (Sample(f"i{sample.key}", sample.image) for sample in scenes)
    captions = (Sample(f"c{sample.key}", captions=sample.captions[: 1 + k % 3]) for k, sample in enumerate(scenes))
    write_split(folder / "images", images, source={}, shard_size=4, needs=("image",))
    write_split(folder / "captions", captions, source={}, shard_size=4, needs=("captions",))
    return folder / "images", folder / "captions"
