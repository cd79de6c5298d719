"""What is run: params.yaml as typed values.

Unknown keys, wrong types and impossible combinations are errors that name the key. Numbers are coerced, since YAML
reads `1e-3` as text. The workflow asks this package for the effective params of every run.
"""

from vlalign.params.annotate import AnnotateParams, AnySegmenter, ParserParams, RegionsParams, Segmenter, SegmentFilters
from vlalign.params.base import describe, digest, flat_params, merged, nested
from vlalign.params.choices import Needs, PhraseChoice, RegionChoice, RegionDamage, TermParams
from vlalign.params.data import ScenesParams, SplitsParams, VerifyParams
from vlalign.params.folders import Folders
from vlalign.params.generation import DecoderParams, GenerationParams
from vlalign.params.reading import read, read_change, written_changes
from vlalign.params.run import (
    AdapterParams,
    AugmentParams,
    LoraParams,
    ModelParams,
    ObjectiveParams,
    RunParams,
    RuntimeParams,
    TrainParams,
)
from vlalign.params.sources import AnySource, Source
from vlalign.params.steps import relevant
from vlalign.params.workflow import (
    Ablation,
    EvaluationParams,
    Params,
    PrecisionParams,
    ReportParams,
    Run,
    check_root,
    is_change,
    load,
    parse,
    run_plugins,
    schema,
)
