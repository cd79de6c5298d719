from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from evaluation_data import encoder, parsed, picture, squares

from vlalign.analysis.illustrations import with_referents
from vlalign.annotate.phrases.annotation import Word
from vlalign.annotate.phrases.tokens import TokenMapper
from vlalign.data.samples import Sample, decode_image
from vlalign.data.shards.manifest import write_split
from vlalign.errors import VlalignError
from vlalign.evaluation.features import SplitFeatures, encode_split, encode_texts, object_coverage
from vlalign.evaluation.similarity import feature_centres, phrase_scores
from vlalign.models.pictures import preprocess

SAMPLES = list(squares(6))


@pytest.fixture
def split(tmp_path: Path) -> Path:
    write_split(tmp_path / "split", SAMPLES, source={})
    return tmp_path / "split"


@pytest.fixture(scope="module")
def annotation() -> dict:
    return {sample.key: parsed(sample) for sample in reversed(SAMPLES)}


def test_embeddings_are_those_of_one_sample_at_a_time(split: Path) -> None:
    model = encoder()
    features = encode_split(model, split, batch_size=4)
    assert features.keys == tuple(sample.key for sample in SAMPLES)
    assert features.strata == ("even", "odd") * 3
    assert features.caption_image_C.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    assert features.dense is None
    with torch.no_grad():
        for i, sample in enumerate(SAMPLES):
            image = model.encode_image(preprocess(model)([decode_image(sample.image)])).embedding_ID
            torch.testing.assert_close(features.images_ID[i : i + 1], image)
            for row, caption in zip((2 * i, 2 * i + 1), sample.captions, strict=True):
                assert features.captions[row] == caption
                expected = model.encode_text(model.tokenizer([caption])).embedding_CD
                torch.testing.assert_close(features.captions_CD[row : row + 1], expected)


def test_annotation_joins_by_key_and_changes_no_embedding(split: Path, annotation: dict) -> None:
    model = encoder()
    with_phrases = encode_split(model, split, annotation=annotation, batch_size=4)
    torch.testing.assert_close(with_phrases.captions_CD, encode_split(model, split).captions_CD)
    assert with_phrases.dense is not None
    assert [phrase.kind for phrase in with_phrases.dense.phrases] == ["one", "conjunction", "one"] * 6
    assert [phrase.image for phrase in with_phrases.dense.phrases] == [i for i in range(6) for _ in range(3)]
    assert not any(with_phrases.dense.left_out.values())


def test_phrases_are_unit_sums_of_unit_words(split: Path, annotation: dict) -> None:
    model = encoder()
    dense = encode_split(model, split, annotation=annotation, batch_size=5).dense
    assert dense is not None
    mapper = TokenMapper(model.tokenizer, model.context_length)
    for phrase, vector in zip(dense.phrases, dense.phrases_ND, strict=True):
        caption = annotation[SAMPLES[phrase.image].key][phrase.caption % 2]
        tokens, word = mapper.encode(caption.caption, caption.words)
        with torch.no_grad():
            features = model.encode_text(tokens[None]).tokens_CLD[0]
        leaves = [F.normalize(features[word == leaf].sum(0), dim=0) for leaf in phrase.words]
        torch.testing.assert_close(vector, F.normalize(torch.stack(leaves).sum(0), dim=0))


def test_similarities_agree_with_loops(split: Path, annotation: dict) -> None:
    dense = encode_split(encoder(), split, annotation=annotation).dense
    assert dense is not None
    centres = feature_centres(dense)
    raw, centred = phrase_scores(dense, chunk=4), phrase_scores(dense, centres=centres)
    for n, phrase in enumerate(dense.phrases):
        patches, vector = dense.patches_IVD[phrase.image], dense.phrases_ND[n]
        covered = torch.zeros(16)
        for r, cover in enumerate(dense.coverage_IRV[phrase.image]):
            region = F.normalize((cover[:, None] * patches).sum(0), dim=0)
            torch.testing.assert_close(raw.regions_NR[n, r], region @ vector)
            pair = F.normalize(region - centres.regions, dim=0), F.normalize(vector - centres.phrases, dim=0)
            torch.testing.assert_close(centred.regions_NR[n, r], pair[0] @ pair[1], atol=1e-5, rtol=1e-4)
            covered += cover * (r + 1 in phrase.instances)
        torch.testing.assert_close(raw.patches_NV[n], F.normalize(patches, dim=1) @ vector)
        torch.testing.assert_close(raw.coverage_NV[n], covered)
        assert raw.referents_NR[n].tolist() == [r + 1 in phrase.instances for r in range(2)]


def test_boxes_score_like_regions(split: Path, annotation: dict) -> None:
    features = encode_split(encoder(), split, annotation=annotation)
    assert features.dense is not None
    cover, mask = features.dense.coverage_IRV[:, :1], features.dense.objects_IR[:, :1].clone()
    mask[0] = False
    scores = phrase_scores(features.dense, boxes=(cover, mask))
    rows = torch.tensor([phrase.image > 0 for phrase in features.dense.phrases])
    torch.testing.assert_close(scores.boxes_NB[rows, 0], scores.regions_NR[rows, 0])
    assert scores.box_mask_NB[rows].all()
    assert not scores.box_mask_NB[~rows].any()


def test_label_maps_are_fitted_like_their_pictures() -> None:
    model = encoder()
    samples = [Sample("a", b"", instances=picture("red", "blue", size=size)[1]) for size in (32, 64)]
    cover, present = object_coverage([*samples, Sample("none", b"")], model)
    assert cover.shape == (3, 2, 16)
    torch.testing.assert_close(cover[0], cover[1])
    assert cover[0, 0].reshape(4, 4).tolist() == [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert present.tolist() == [[True, True], [True, True], [False, False]]


def test_what_cannot_be_used_is_counted(tmp_path: Path) -> None:
    first, second, third, fourth = SAMPLES[:4]
    hidden = {"caption": 0, "start": 0, "end": 5, "kind": "one", "instances": [7]}
    nothing = {**hidden, "instances": []}
    gap = {**hidden, "start": 1, "end": 2, "instances": [1]}
    fourth = replace(fourth, meta={"phrases": [hidden, nothing, gap]})
    long = "a " * 20 + "red square"
    span = {"caption": 0, "start": 40, "end": len(long), "kind": "one", "instances": [1]}
    third = replace(third, captions=(long,), meta={"phrases": [span]})
    write_split(tmp_path, [first, second, third, fourth], source={})
    skipped = [replace(caption, skipped="too long") for caption in parsed(first)]
    annotation = {first.key: skipped, third.key: parsed(third), fourth.key: parsed(fourth)}
    dense = encode_split(encoder(), tmp_path, annotation=annotation).dense
    assert dense is not None
    assert not dense.phrases
    assert {cause: count for cause, count in dense.left_out.items() if count} == {
        "too long": 2,
        "caption without annotation": 2,
        "phrase of a caption without annotation": 6,
        "phrase with a hidden referent": 1,
        "phrase without referents": 1,
        "phrase without words": 1,
        "phrase beyond the context": 1,
    }


def test_unclean_captions_are_encoded_but_their_spans_not_trusted(tmp_path: Path) -> None:
    clean = SAMPLES[0]
    unclean = replace(clean, captions=tuple("  " + caption.upper() for caption in clean.captions))
    write_split(tmp_path, [unclean], source={})
    features = encode_split(encoder(), tmp_path, annotation={clean.key: parsed(clean)})
    assert features.dense is not None
    assert features.dense.left_out["phrase whose characters were moved by cleaning"] == 3
    torch.testing.assert_close(features.captions_CD, encode_split(encoder(), tmp_path).captions_CD)


def test_stale_annotation_is_an_error(split: Path, annotation: dict) -> None:
    stale = {**annotation, "k002": [replace(annotation["k002"][0], caption="another text")]}
    with pytest.raises(VlalignError, match="caption 0 of k002"):
        encode_split(encoder(), split, annotation=stale)


def test_diverged_encoder_is_an_error(split: Path) -> None:
    model = encoder()
    torch.nn.init.constant_(model.clip.visual.proj, torch.nan)
    with pytest.raises(VlalignError, match="not finite"):
        encode_split(model, split)


def test_pairs_take_one_caption_that_nobody_has_taken() -> None:
    samples = tuple(Sample(str(i), b"") for i in range(4))
    features = SplitFeatures(
        samples=samples,
        images_ID=torch.eye(4),
        captions=("x", "y", "x", "z", "x"),
        captions_CD=torch.arange(5.0)[:, None],
        caption_image_C=torch.tensor([0, 0, 1, 1, 3]),
    )
    images, captions = features.pairs()
    assert images.tolist() == np.eye(4)[:2].tolist()
    assert captions.flatten().tolist() == [0, 3]


def test_no_texts_give_no_rows() -> None:
    assert len(encode_texts(encoder(), [])) == 0


@pytest.mark.parametrize("stratum", [["a"], {"a": 1}, 3, None, True, "all"])
def test_a_stratum_that_is_no_name_is_none(split: Path, stratum: object) -> None:
    samples = [replace(s, meta={**s.meta, "stratum": stratum}) if i < 2 else s for i, s in enumerate(SAMPLES)]
    write_split(split, samples, source={})
    assert encode_split(encoder(), split).strata == (None, None, "even", "odd", "even", "odd")


GOOD = SAMPLES[0].meta["phrases"][0]
MALFORMED = [
    [GOOD, "text", 3, None, []],
    [GOOD, {**GOOD, "caption": 2}, {**GOOD, "caption": -1}, {**GOOD, "caption": "0"}, {"caption": 0}],
    [GOOD, {**GOOD, "start": None}, {**GOOD, "end": 2.5}, {**GOOD, "kind": ["one"]}, {**GOOD, "instances": 1}],
    [GOOD, *({**GOOD, "instances": instances} for instances in (["a"], [None], [[1]], {"1": 1}))],
]


@pytest.mark.parametrize("phrases", MALFORMED)
def test_malformed_phrases_are_counted(split: Path, annotation: dict, phrases: list) -> None:
    write_split(split, [replace(SAMPLES[0], meta={"phrases": phrases})], source={})
    dense = encode_split(encoder(), split, annotation=annotation).dense
    assert dense is not None
    assert [phrase.text for phrase in dense.phrases] == ["a red square"]
    assert dense.left_out["phrase that is malformed"] == 4


@pytest.mark.parametrize("phrases", ["a red square", {"caption": 0}, 3])
def test_phrases_that_are_no_list_count_once(split: Path, annotation: dict, phrases: object) -> None:
    write_split(split, [replace(SAMPLES[0], meta={"phrases": phrases})], source={})
    dense = encode_split(encoder(), split, annotation=annotation).dense
    assert dense is not None
    assert (len(dense.phrases), dense.left_out["phrase that is malformed"]) == (0, 1)


def test_a_phrase_is_drawn_as_it_stands_in_its_caption(split: Path) -> None:
    """Words are the parser's, which cuts off what white space does not."""
    caption = "a red,square"
    phrase = {"caption": 0, "start": 2, "end": len(caption), "kind": "one", "instances": [1]}
    sample = Sample(
        "k", SAMPLES[0].image, (caption,), meta={"phrases": [phrase, phrase]}, instances=SAMPLES[0].instances
    )
    write_split(split, [sample], source={})
    words = tuple(Word(start, end, caption[start:end], "NN") for start, end in ((0, 1), (2, 5), (5, 6), (6, 12)))
    annotation = {"k": [replace(parsed(sample)[0], words=words)]}
    features = encode_split(encoder(), split, annotation=annotation)
    assert features.dense is not None
    [scene] = with_referents(features, features.dense, split, grid=encoder().grid)
    assert scene.phrases == ["red,square"] * 2
