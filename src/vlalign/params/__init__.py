"""What is run: params.yaml as typed values.

Unknown keys, wrong types and impossible combinations are errors that name the key. Numbers are coerced, since YAML
reads `1e-3` as text. The workflow asks this package for the effective params of every run.
"""

from vlalign.params.annotate import (
    AnnotateParams,
    AnySegmenter,
    ParserParams,
    RegionsParams,
    Segmenter,
    SegmentFilters,
)
from vlalign.params.base import describe, digest, merged, nested
from vlalign.params.choices import Needs, PhraseChoice, RegionChoice, TermParams
from vlalign.params.data import ScenesParams, SplitsParams, VerifyParams
from vlalign.params.folders import Folders
from vlalign.params.reading import read, read_change, written_changes
from vlalign.params.run import (
    AugmentParams,
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

__all__ = [
    "Ablation",
    "AnnotateParams",
    "AnySegmenter",
    "AnySource",
    "AugmentParams",
    "EvaluationParams",
    "Folders",
    "ModelParams",
    "Needs",
    "ObjectiveParams",
    "Params",
    "ParserParams",
    "PhraseChoice",
    "PrecisionParams",
    "RegionChoice",
    "RegionsParams",
    "ReportParams",
    "Run",
    "RunParams",
    "RuntimeParams",
    "ScenesParams",
    "SegmentFilters",
    "SegmentParams",
    "Segmenter",
    "Source",
    "SplitsParams",
    "TermParams",
    "TrainParams",
    "VerifyParams",
    "check_root",
    "describe",
    "digest",
    "is_change",
    "load",
    "merged",
    "nested",
    "parse",
    "read",
    "read_change",
    "relevant",
    "run_plugins",
    "schema",
    "written_changes",
]
