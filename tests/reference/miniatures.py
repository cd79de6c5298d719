"""The data set of any card in miniature, in the published layout and where the card looks for it.

A picture is about something: a number, which it bears as black and white squares beside squares of noise. A text is
about the same where the word for that number stands in it.
"""

import random
import re

import numpy as np
import open_clip
import published_forms
import yaml
from published_forms import encoded

# Squares of a side, and pixels of a square: a block of JPEG holds four of them.
SQUARES, PIXELS = 8, 4
SIDE = SQUARES * PIXELS
BITS = 16
LETTERS = "abcdefghijklmnop"
WORD = re.compile(rf"q([{LETTERS}]{{3}})\b")
TOKENIZER = open_clip.SimpleTokenizer()

CLASSES, PAIRS, NEGATIVES = 4, 40, 30
# Twenty of each class to learn from: sixteen shots, and four to choose on where there is no validation split.
IMAGES = {"train": 20 * CLASSES, "validation": 4 * CLASSES, "test": 100}


def picture(about, draw):
    """Pixels; draw: numpy's generator of the noise, which makes each picture another."""
    squares = draw.integers(0, 2, SQUARES**2)
    squares[:BITS] = (about >> np.arange(BITS)) & 1
    pixels = np.kron(squares.reshape(SQUARES, SQUARES), np.ones((PIXELS, PIXELS), int)) * 255
    return np.repeat(pixels[..., None], 3, axis=2).astype(np.uint8)


def seen_in(images_I3HW):
    """What pictures are about; they are bright where they are above 0."""
    gray_IHW = images_I3HW.mean(1)
    squares_IQ = gray_IHW.unflatten(1, (SQUARES, PIXELS)).unflatten(3, (SQUARES, PIXELS)).mean((2, 4)).flatten(1) > 0
    return [sum(bit << place for place, bit in enumerate(row[:BITS])) for row in squares_IQ.int().tolist()]


def word(about):
    return "q" + "".join(LETTERS[about >> shift & 15] for shift in (8, 4, 0))


def read_in(tokens_CL):
    """What texts are about: that of their first word for anything."""
    texts = (TOKENIZER.decode([token for token in row if token]) for row in tokens_CL.tolist())
    found = (WORD.search(text)[1] for text in texts)
    return [sum(LETTERS.index(letter) << shift for letter, shift in zip(one, (8, 4, 0), strict=True)) for one in found]


def publish(card, files, hub):
    """Put the data set of a card where it looks for it; returns its counts, by their names in the card.

    files: folder from which its paths count. hub: a server, for what is to be had there.
    """
    source = card.sources[card.split].name
    return MAKERS.get(source, MAKERS.get(card.name))(card, files, hub)


def write_cards(folder, cards, shipped):
    """Cards as they are shipped, with other keys. cards: these keys by the names of cards."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, changes in cards.items():
        content = yaml.safe_load((shipped / f"{name}.yaml").read_text())
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(content | changes, sort_keys=False))


def noise_of(*names):
    """A generator, the same for the same names."""
    return np.random.default_rng(random.Random(" ".join(names)).getrandbits(32))


def _classes(card):
    return min(CLASSES, card.counts.classes)


def _labelled(card, split):
    """Pixels and label of each picture of a split."""
    draw = noise_of(card.name, split)
    labels = [number % _classes(card) for number in range(IMAGES[split])]
    return [(picture(label, draw), label) for label in labels]


def _captions(image, count):
    return [f"{word(image)} in sentence {number} of image {image}" for number in range(count)]


def _pairs(card, most):
    """Pixels and captions of each picture: five, and at some more."""
    draw = noise_of(card.name)
    return [(picture(image, draw), _captions(image, most if image < 3 else 5)) for image in range(PAIRS)]


def _on_hub(card, files, hub):
    repository = card.sources[card.split].repository
    found = {}
    place = files / "of-the-hub" / card.name
    if card.kind_of(card.tasks[0]) == "pairs":
        pairs = _pairs(card, 6 if card.name == "mscoco_captions" else 5)
        samples = [(pixels, {"txt": "\n".join(captions)}) for pixels, captions in pairs]
        found |= published_forms.hub_set(place, "test", samples, shard=25)
        counts = {"images": PAIRS, "captions": sum(len(captions) for _, captions in pairs)}
    else:
        for split in card.sources:
            samples = [(pixels, {"cls": label}) for pixels, label in _labelled(card, split)]
            found |= published_forms.hub_set(place / split, split, samples, shard=40)
        found |= published_forms.class_lists([f"kind {word(label)}" for label in range(_classes(card))])
        counts = {"images": IMAGES[card.split], "classes": _classes(card)}
    hub.commit(found, repository=repository, small=[name for name in found if name.endswith(".txt")])
    return counts


# As CoOp calls the splits.
COOP = {"train": "train", "validation": "val", "test": "test"}


def _coop(card, files, hub):
    source, rows, pictures = card.sources["test"], {}, {}
    for split, called in COOP.items():
        rows[called] = []
        for number, (pixels, label) in enumerate(_labelled(card, split)):
            name = f"class_{label}/{called}_{number:04d}.jpg"
            pictures[name] = pixels
            rows[called].append([name, label, f"kind_{word(label)}"])
    published_forms.coop(files / source.annotations, files / source.images, rows, pictures)
    return {"images": IMAGES["test"], "classes": _classes(card)}


def _aircraft(card, files, hub):
    rows, pictures = {}, {}
    for split, called in COOP.items():
        labelled = _labelled(card, split)
        numbers = [f"{len(pictures) + number:07d}" for number in range(len(labelled))]
        pictures |= {number: pixels for number, (pixels, _) in zip(numbers, labelled, strict=True)}
        rows[called] = [(number, f"{word(label)}-100") for number, (_, label) in zip(numbers, labelled, strict=True)]
    variants = [f"{word(label)}-100" for label in range(_classes(card))]
    published_forms.aircraft(files / card.sources["test"].folder, variants, rows, pictures)
    return {"images": IMAGES["test"], "classes": _classes(card)}


def _negatives(card):
    """Of each item the number that its picture is about, and another one."""
    return [(2 * item, 2 * item + 1) for item in range(NEGATIVES)]


def _sugar_crepe(card, files, hub):
    draw, pictures, categories = noise_of(card.name), {}, {}
    for metric in card.metrics:
        category = metric.partition("/")[0]
        categories[category] = []
        for true, false in _negatives(card):
            name = f"{len(pictures):012d}.jpg"
            pictures[name] = picture(true, draw)
            categories[category].append((name, f"{word(true)} on a table", f"{word(false)} on a table"))
    published_forms.sugar_crepe(files / "sugar_crepe", categories, pictures)
    return {"items": len(pictures)}


def _winoground(card, files, hub):
    draw = noise_of(card.name)
    examples = [
        (f"{word(true)} sees it", f"{word(false)} sees it", picture(true, draw), picture(false, draw))
        for true, false in _negatives(card)
    ]
    published_forms.winoground(files / "winoground", examples)
    return {"images": 2 * len(examples), "items": len(examples)}


def _aro(card, files, hub):
    """Two items lie beside each other in one picture, each of which only its box tells."""
    draw, pictures, items = noise_of(card.name), {}, {"relation": [], "attribution": []}
    for kind, found in items.items():
        for true, false in _negatives(card):
            name = f"{kind}{true}.png"
            pictures[name] = np.concatenate([picture(true, draw), picture(false, draw)], axis=1)
            for place, (about, other) in enumerate(((true, false), (false, true))):
                texts = (f"the {word(one)} is there" for one in (about, other))
                found.append((name, (place * SIDE, 0, SIDE, SIDE), *texts))
    published_forms.aro(files / "aro", *items.values(), pictures)
    return {"items": sum(map(len, items.values()))}


def _bivlc(card, files, hub):
    draw = noise_of(card.name)
    rows = [
        {
            "image": encoded(picture(true, draw), "JPEG"),
            "caption": f"{word(true)} in the sun",
            "negative_caption": f"{word(false)} in the sun",
            "negative_image": encoded(picture(false, draw), "JPEG"),
            "type": "replace",
            "subtype": "obj",
        }
        for true, false in _negatives(card)
    ]
    published_forms.bivlc(files / "bivlc/data", rows)
    return {"images": 2 * len(rows), "items": len(rows)}


LONG = " and it goes on for longer than any tower reads" * 12


def _urban1k(card, files, hub):
    draw = noise_of(card.name)
    captions = {image: f"{word(image)} in street {image}{LONG}\nA second line." for image in range(1, PAIRS + 1)}
    published_forms.urban1k(files / "Urban1k", captions, {image: picture(image, draw) for image in captions})
    return {"images": PAIRS, "captions": PAIRS}


def _docci(card, files, hub):
    draw = noise_of(card.name)
    rows = [(f"test_{image:05d}", f"{word(image)} in place {image}.\nNo more{LONG}.") for image in range(PAIRS)]
    rows += [(f"qual_test_{image:05d}", f"{word(image)} elsewhere") for image in range(5)]
    pictures = {name: picture(number, draw) for number, (name, _) in enumerate(rows)}
    published_forms.docci(files / "docci", rows, pictures)
    return {"images": PAIRS, "captions": PAIRS}


# By kind of source, or by card where the layout is that of one data set.
MAKERS = {
    "hub": _on_hub,
    "coop": _coop,
    "fgvc-aircraft": _aircraft,
    "sugarcrepe": _sugar_crepe,
    "winoground": _winoground,
    "aro": _aro,
    "bivlc": _bivlc,
    "urban1k": _urban1k,
    "docci": _docci,
}
