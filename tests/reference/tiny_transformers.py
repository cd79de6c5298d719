"""Random text towers and small tokenizers in the file formats of Hugging Face."""

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import BertConfig, LlamaConfig, PreTrainedTokenizerFast, RobertaConfig

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
WORDS = [*SPECIAL, *"abcdefghijklmnopqrstuvwxyz", *(f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyz")]
WORDS += ["red", "dog", "skate", "##board", "##er", "above"]
BEGIN, END, RESERVED = "<|begin_of_text|>", "<|end_of_text|>", "<|reserved_special_token_0|>"
SHAPE = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32,
    "max_position_embeddings": 40, "vocab_size": 400,
}  # fmt: skip


def wordpiece():
    """As BERT's."""
    tokenizer = Tokenizer(models.WordPiece(vocab={word: index for index, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.BertPreTokenizer(), decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)


def byte_level():
    """As GPT-2's: a token begins with the space before its word."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<pad>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(["a red dog above a red dog"] * 5, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>")


def language_model():
    """As Llama 3's: a token for the beginning and none for padding, but some that are reserved."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = [BEGIN, END, RESERVED]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=special, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(["a red dog above a red dog"] * 5, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{BEGIN} $A", special_tokens=[(BEGIN, 0)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=BEGIN, eos_token=END)


def write(folder, kind):
    """Config and tokenizer of a `bert`, `roberta` or `llama`; returns the folder's name, which stands for a hub's."""
    config, tokenizer = {
        "bert": lambda: (BertConfig(**SHAPE), wordpiece()),
        "roberta": lambda: (RobertaConfig(**SHAPE, pad_token_id=0), byte_level()),
        # Weights are kept in half precision, and two heads share keys.
        "llama": lambda: (LlamaConfig(**SHAPE, num_key_value_heads=1, dtype="bfloat16"), language_model()),
    }[kind]()
    config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)
