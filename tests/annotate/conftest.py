import pytest
import skimage.data
from PIL import Image
from sklearn.datasets import load_sample_image
from tiny_tokenizer import train_tokenizer, write_language

from vlalign.annotate.phrases.tiny_parser import train_parser


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory):
    """A parser that has seen few trees: it knows the common captions, not all."""
    folder = tmp_path_factory.mktemp("parser")
    train_parser(folder, seed=0, trees=200, epochs=4)
    return folder


@pytest.fixture
def no_network(monkeypatch):
    """Every connection is refused."""

    def refuse(*arguments, **options):
        raise ConnectionRefusedError("connection refused")

    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setattr("socket.create_connection", refuse)


@pytest.fixture(scope="session")
def photographs():
    """Real photographs, by name."""
    left, right, _ = skimage.data.stereo_motorcycle()
    names = ("astronaut", "chelsea", "coffee", "rocket", "hubble_deep_field")
    pictures = {name: getattr(skimage.data, name)() for name in names}
    pictures |= {"motorcycle_left": left, "motorcycle_right": right}
    pictures |= {name: load_sample_image(f"{name}.jpg") for name in ("china", "flower")}
    return {name: Image.fromarray(picture) for name, picture in pictures.items()}


@pytest.fixture(scope="session")
def german_dir(model_dir, tmp_path_factory):
    """Models of a language that Stanza cuts into words; its trees make no sense, since the parser knows English."""
    work, folder = tmp_path_factory.mktemp("tokenizer"), tmp_path_factory.mktemp("german")
    train_tokenizer(work)
    write_language(folder, work, model_dir)
    return folder
