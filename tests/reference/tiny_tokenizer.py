"""A small tokenizer and expander of multi-word tokens, trained by Stanza itself in seconds: German with contractions
that are written out, and Chinese, which has no spaces.
"""

import itertools
import json
import shutil

from stanza.models import mwt_expander, tokenizer

from vlalign.annotate.phrases.isolation import quiet, reproducible
from vlalign.annotate.phrases.stanza_models import write_model_manifest
from vlalign.files import read_json, write_json

EXPANSIONS = {"zum": ("zu", "dem"), "im": ("in", "dem"), "gehts": ("geht", "s")}
GERMAN = [
    f"ein {colour} {first} {rest} ."
    for colour, first, rest in itertools.product(
        ("roter", "blauer"), ("hund", "fisch", "vogel"), ("", "zum baum", "im haus", "mit dem ball", "gehts gut")
    )
]
CHINESE = [
    f"{count} {measure} {colour} 的 {noun} 。"
    for count, measure, colour, noun in itertools.product("一两", "只个", ("红色", "蓝色"), ("狗", "房子", "树"))
]
SIZES = "--hidden_dim 32 --emb_dim 16 --dropout 0.1 --unit_dropout 0.05 --feat_unit_dropout 0.05 --max_seqlen 60"


def paragraphs():
    """Texts with a label for each character: 1 ends a word, 2 a sentence, 3 a contraction."""
    sentences = [(sentence.split(), " ") for sentence in GERMAN] + [(sentence.split(), "") for sentence in CHINESE]
    for number, (words, space) in enumerate(sentences * 3):
        text = labels = ""
        # Captions have a full stop or none, and may be two sentences.
        following = sentences[(number + 1) % len(sentences)][0] if number % 3 == 0 else []
        for part in filter(None, (words if number % 3 != 1 else words[:-1], following)):
            for place, word in enumerate(part):
                gap = space if text and word not in ".。" else ""
                ends = "2" if place == len(part) - 1 else "3" if word in EXPANSIONS else "1"
                text += gap + word
                labels += "0" * len(gap) + "0" * (len(word) - 1) + ends
        yield text, labels


def conllu():
    """The contractions with their words, which is all that the expander learns from."""
    for token, words in EXPANSIONS.items():
        rows = [f"1-2\t{token}", *(f"{number}\t{word}" for number, word in enumerate(words, start=1))]
        heads = ["_\t_", "0\troot", "1\tdep"]
        yield "\n".join(f"{row}\t_\t_\t_\t_\t{head}\t_\t_" for row, head in zip(rows, heads, strict=True)) + "\n\n"


def train_tokenizer(work):
    """`tokenize.pt` and `mwt.pt` in the folder `work`."""
    texts, labels = zip(*paragraphs(), strict=True)
    (work / "text").write_text("\n\n".join(texts) + "\n\n")
    (work / "labels").write_text("\n\n".join(labels) + "\n\n")
    (work / "words").write_text("".join(conllu()))
    (work / "expansions").write_text(json.dumps([((token, words), 1) for token, words in EXPANSIONS.items()]))
    common = ["--mode", "train", "--lang", "de", "--shorthand", "de_tiny", "--cpu", "--save_dir", str(work)]
    files = [("--txt_file", "text"), ("--label_file", "labels"), ("--mwt_json_file", "expansions")]
    files += [("--dev_txt_file", "text"), ("--dev_label_file", "labels")]
    arguments = [part for option, name in files for part in (option, str(work / name))]
    steps = ["--steps", "150", "--eval_steps", "1000", "--lr0", "0.01", "--save_name", "tokenize.pt"]
    words = [
        part for option in ("--train_file", "--eval_file", "--gold_file") for part in (option, str(work / "words"))
    ]
    with quiet(), reproducible():
        tokenizer.main([*common, *arguments, *steps, *SIZES.split()])
        mwt_expander.main([*common, *words, "--dict_only", "--save_name", "mwt.pt"])


def write_language(folder, work, english):
    """A model folder for de: the tokenizer and expander of `work`, the tagger and parser of the folder `english`."""
    for processor in ("pretrain", "pos", "constituency"):
        shutil.copytree(english / "en" / processor, folder / "de" / processor)
    for processor in ("tokenize", "mwt"):
        (folder / "de" / processor).mkdir()
        shutil.copy(work / f"{processor}.pt", folder / "de" / processor / "tiny.pt")
    resources = read_json(english / "resources.json")["en"]
    packages = dict.fromkeys(("tokenize", "mwt", "pos", "constituency"), "tiny")
    entries = {"tokenize": {"tiny": {}}, "mwt": {"tiny": {}}, "packages": {"default": packages}}
    write_json(folder / "resources.json", {"de": {**resources, **entries, "lang_name": "German"}})
    write_model_manifest(folder, language="de", packages=packages, source="download")
