"""What a run reads."""

from dataclasses import dataclass
from pathlib import Path

from vlalign.data.shards.split import check_place, read_manifest
from vlalign.errors import VlalignError
from vlalign.models import DualEncoder, weights_file
from vlalign.models.folders import check_files
from vlalign.models.frozen import identity
from vlalign.models.weights import digest_of_part
from vlalign.params import ModelParams, RunParams
from vlalign.params.run import PARTS
from vlalign.records import stamp
from vlalign.training.data.batches import ROOM, PairedSet, check_parts
from vlalign.training.data.unpaired import Stream, UnpairedCaptions, UnpairedImages

# Where they lie below a dataset.
UNPAIRED = {"unpaired_images": "unpaired/images", "unpaired_captions": "unpaired/captions"}


@dataclass(frozen=True)
class Inputs:
    """Folders; which of them a run needs is what its objective says, `validation` is needed by none.

    start: of the run whose weights this one starts from. features: of what frozen towers gave of every split, in a
    folder of the split's name each.
    """

    split: Path
    phrases: Path | None = None
    regions: Path | None = None
    validation: Path | None = None
    unpaired_images: Path | None = None
    unpaired_captions: Path | None = None
    start: Path | None = None
    features: Path | None = None

    def hashes(self, model: ModelParams) -> dict[str, str]:
        """SHA-256 of the files that the weights depend on: manifests, and pretrained weights where they are a file or
        lie in a package.

        Raises VlalignError when one of them is missing, or is not what its record describes.
        """
        apart = ("validation", "start", "features")
        files = {name: path / "manifest.json" for name, path in vars(self).items() if path and name not in apart}
        if self.start is not None:
            files["start"] = weights_file(self.start)
            check_files(self.start, files["start"])
        if self.features is not None:
            # Validation is watched: no weight depends on it.
            own = {"split": "train"} | {name: place for name, place in UNPAIRED.items() if name in files}
            files |= {f"features of {place}": self.features / place / "manifest.json" for place in own.values()}
        if model.pretrained and Path(model.pretrained).is_file():
            files["pretrained"] = Path(model.pretrained)
        if missing := [str(path) for path in files.values() if not path.is_file()]:
            raise VlalignError(f"{missing[0]} does not exist; make the data first")
        for folder in filter(None, (self.split, self.validation, self.unpaired_images, self.unpaired_captions)):
            check_place(folder, read_manifest(folder))
        parts = {name: value for name in PARTS if (value := getattr(model, name))}
        found = {name: digest_of_part(value, key=f"model.{name}") for name, value in parts.items()}
        return {name: stamp(path)["sha256"] for name, path in files.items()} | found

    def training_set(self, encoder: DualEncoder, params: RunParams, *, room: int = ROOM) -> PairedSet:
        """The training split with what the objective needs of it.

        Raises VlalignError when any of that is missing, and when there are fewer pairs than in a batch.
        """
        needs, train = params.needs, params.train
        needed = {name: folder for name in needs.folders if (folder := getattr(self, name)) is not None}
        if missing := [name for name in needs.folders if name not in needed]:
            raise VlalignError(f"the objective of this run needs more than pairs: give {' and '.join(missing)}")
        if self.features is None and params.model.adapters is not None:
            raise VlalignError("model.adapters: give the features of the frozen towers; `vlalign features` makes them")
        self._check_features(encoder)
        data = PairedSet(
            self.split,
            encoder,
            phrases=needed.get("phrases"),
            regions=needed.get("regions"),
            phrase_choice=needs.phrases,
            region_choice=needs.regions,
            augment=train.augment,
            all_captions=needs.other_captions,
            more_images=self._unpaired(UnpairedImages, "unpaired_images", encoder, params),
            more_captions=self._unpaired(UnpairedCaptions, "unpaired_captions", encoder, params),
            features=self._features("train"),
            pairs=train.pairs,
            twins=needs.twins,
            room=room,
        )
        data.steps_per_epoch(params.train.batch_size)
        check_parts(data)
        return data

    def _unpaired(self, kind: type[Stream], name: str, encoder: DualEncoder, params: RunParams) -> Stream | None:
        """What joins every batch without a partner: of a split of its own, or of what `train.pairs` leaves."""
        count = getattr(params.needs, name)
        if not count:
            return None
        folder, place, first = getattr(self, name), UNPAIRED[name], 0
        if params.needs.rest:
            folder, place, first = self.split, "train", params.train.pairs or 0
        return kind(folder, count, encoder, features=self._features(place), first=first, augment=params.train.augment)

    def _check_features(self, encoder: DualEncoder) -> None:
        """Raises VlalignError where features that are read are not of these very towers."""
        used = {"train": self.split, "validation": self.validation}
        used |= {place: getattr(self, name) for name, place in UNPAIRED.items()}
        places = [place for place, folder in used.items() if folder is not None] if self.features else []
        towers = identity(encoder) if places else None
        for folder in filter(None, map(self._features, places)):
            if read_manifest(folder).get("towers") != towers:
                raise VlalignError(
                    f"{folder} has the features of other towers; run `vlalign features` again, and give the towers "
                    "pretrained weights: random ones are others each time"
                )

    def _features(self, place: str) -> Path | None:
        return self.features / place if self.features else None

    def validation_set(self, encoder: DualEncoder, *, room: int = ROOM) -> PairedSet | None:
        """Pairs of the validation split, if there is one."""
        if self.validation is None:
            return None
        return PairedSet(self.validation, encoder, features=self._features("validation"), room=room)
