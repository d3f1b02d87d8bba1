"""The sections of a spec: their fields, defaults and bounds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    ValidationInfo,
    WithJsonSchema,
    model_serializer,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from trimtab.spec._fields import (
    DURATION_PATTERN,
    Columns,
    DatasetField,
    FlopsField,
    Number,
    Section,
    Strategies,
    Text,
    TextFileField,
    TimeField,
    around,
    duration_between,
    matching,
    quantity,
    words,
)
from trimtab.spec._latencies import LatencyBudgetField, budgets_of
from trimtab.spec._latency import Device, LatencyLimit
from trimtab.spec._looks import Looks
from trimtab.spec._stopping import Stop
from trimtab.spec._strategies import every_strategy
from trimtab.spec._words import listing, show
from trimtab.spec.errors import FieldError
from trimtab.spec.references import DATA_SUFFIXES, LINES_SUFFIX, TEXT_SUFFIXES, settle_file
from trimtab.spec.units import Drop, Duration

Kind = Literal["classification"]
Metric = Literal["accuracy", "f1", "matthews"]
Executor = Literal["inline", "ray"]

DEFAULT_DROP = Drop(absolute=0.01)
DEFAULT_TIME = Duration(1800.0)
DEFAULT_TRIAL_TIMEOUT = Duration(1200.0)

Split = Annotated[
    str,
    *matching(
        r"^[A-Za-z0-9._\[\]:%+-]{1,100}$", "a split's name, such as `train` or `train[:1000]`"
    ),
]
Address = Annotated[
    str,
    *matching(
        r"^(auto|ray://[A-Za-z0-9._-]{1,200}:[0-9]{1,5}|[A-Za-z0-9._-]{1,200}:[0-9]{1,5})$",
        "`auto`, `ray://host:port` or `host:port`",
    ),
]
TrialTimeout = Annotated[
    Duration, *quantity(duration_between("1 s", "168 h"), DURATION_PATTERN, ["20 min"])
]


class DataReference(Section):
    """Labelled rows: a file (``path``, absolute), or a dataset with its split."""

    internal = frozenset({"path"})

    path: str | None = Field(default=None, description="A .csv, .tsv, .jsonl or .parquet file.")
    dataset: DatasetField | None = Field(
        default=None, description="A hub id (needs --allow-hub) or a local dataset folder."
    )
    config: Text | None = Field(default=None, description="The dataset's configuration, if any.")
    split: Split | None = Field(
        default=None, description="The dataset's split; by default `train` or `validation`."
    )

    @model_serializer
    def _plain(self) -> str | dict[str, str]:
        if self.path is not None:
            return self.path
        named = {"dataset": self.dataset, "config": self.config, "split": self.split}
        return {key: value for key, value in named.items() if value is not None}

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        mapping = handler.resolve_ref_schema(handler(core_schema))
        mapping["properties"].pop("path")
        mapping["required"] = ["dataset"]
        file = {"type": "string", "pattern": _ends_with(DATA_SUFFIXES)}
        return {"anyOf": [file, mapping]}


def _ends_with(suffixes: tuple[str, ...]) -> str:
    """Writes a pattern without flags, which JSON Schema does not have, that ignores case."""
    any_case = ("".join(f"[{c}{c.upper()}]" for c in suffix[1:]) for suffix in suffixes)
    return rf"\.({'|'.join(any_case)})$"


Unlabeled = Annotated[
    TextFileField, WithJsonSchema({"type": "string", "pattern": _ends_with(TEXT_SUFFIXES)})
]


def _rows(default_split: str) -> BeforeValidator:
    """Reads a file's path, or a mapping whose split is by default that of the field."""

    def read(value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, str | Path):
            return DataReference(path=settle_file(str(value), around(info)))
        if not isinstance(value, dict | DataReference):
            raise FieldError(f"must be a file or `{{dataset: …}}`, but got {show(value)}")
        if isinstance(value, dict) and "path" in value:
            raise FieldError(
                "must be left out",
                "write the path itself, without a mapping: `train: data/train.tsv`",
                at=("path",),
                at_key=True,
            )
        if isinstance(value, dict) and value.get("dataset") is None:
            raise FieldError("must be a file's path, or a mapping with `dataset`")
        if isinstance(value, dict) and value.get("split") is None:
            return {**value, "split": default_split}
        return value

    return BeforeValidator(read)


class Task(Section):
    """What the model is for, and the rows to train and judge it on."""

    kind: Annotated[Kind, words("kind", get_args(Kind))] = Field(
        default="classification", description="What the model predicts."
    )
    train: Annotated[DataReference, _rows("train")] = Field(
        description="Rows to train and calibrate on: a .csv, .tsv, .jsonl or .parquet file."
    )
    validation: Annotated[DataReference, _rows("validation")] = Field(
        description="Rows to judge on, at least 100: one half decides, the other certifies."
    )
    unlabeled: Unlabeled | None = Field(
        default=None,
        description="More text for training exits: a .txt file of one text a line, or a table "
        "with the columns of `text`.",
    )
    text: Columns = Field(default=("text",), description="One or two columns of text.")
    label: Text = Field(default="label", description="The column of the label.")
    metric: Annotated[Metric, words("metric", get_args(Metric))] = Field(
        default="accuracy", description="What is to be kept: accuracy, f1 (macro) or matthews."
    )
    max_length: int = Field(
        default=128, ge=8, le=8192, description="Tokens kept of each sample, 8 to 8192."
    )

    @model_validator(mode="after")
    def _check_columns_and_rows(self) -> Self:
        columns = (*self.text, self.label)
        if len(set(columns)) < len(columns):
            raise FieldError(
                f"must differ from the columns of `text`, but got {show(self.label)}"
                if self.label in self.text
                else "must be two different columns",
                at=("label",) if self.label in self.text else ("text",),
            )
        if self.train == self.validation:
            raise FieldError(
                "must be other rows than `train`, or every figure would flatter",
                at=("validation",),
            )
        return self

    @model_validator(mode="after")
    def _check_unlabeled(self) -> Self:
        if self.unlabeled is None:
            return self
        if self.unlabeled == self.validation.path:
            raise FieldError(
                "must be other rows than `validation`, or every figure would flatter",
                at=("unlabeled",),
            )
        if len(self.text) > 1 and self.unlabeled.lower().endswith(LINES_SUFFIX):
            raise FieldError(
                "must be a table where `text` has two columns, but got one text a line "
                f"({show(LINES_SUFFIX)})",
                f"give a file of type {listing(DATA_SUFFIXES)}",
                at=("unlabeled",),
            )
        return self


class Finetune(Section):
    """How a model without a head for the task is trained first; that is then the baseline."""

    epochs: int = Field(default=2, ge=1, le=1000, description="Passes over `train`.")
    lr: Number = Field(default=5e-5, gt=0, le=1, description="Largest learning rate.")
    batch_size: int = Field(default=32, ge=1, le=4096, description="Rows a step.")


class Budget(Section):
    """What the compressed model may cost: FLOPs, latency or both."""

    model_config = ConfigDict(
        json_schema_extra={"anyOf": [{"required": [name]} for name in ("flops", "latency")]}
    )

    flops: FlopsField | None = Field(
        default=None,
        description="FLOPs per sample: a share of the baseline's (`40%`) or absolute "
        "(`1.2 GFLOPs`); one MAC is two FLOPs.",
    )
    latency: LatencyBudgetField | None = Field(
        default=None,
        description="How long a request may take: `{p95: 8 ms, batch_size: 1}`, or a list of such "
        "mappings. The upper ends of all measured intervals must keep to it.",
    )

    @model_validator(mode="after")
    def _check_any(self) -> Self:
        if self.flops is None and self.latency is None:
            raise FieldError(
                "must have `flops`, `latency` or both",
                "write `flops: 40%` or `latency: {p95: 8 ms}`",
                at_key=True,
            )
        return self

    @property
    def latency_limits(self) -> tuple[LatencyLimit, ...]:
        """All limits on latency, the main one first; none where there is no such budget."""
        return tuple(limit for one in budgets_of(self.latency) for limit in one.limits)


class Search(Section):
    """What is tried, and for how long."""

    strategies: Strategies = Field(
        default_factory=every_strategy,
        description="Strategies to use; a mapping pins or narrows choices: "
        "`{fisher: {calibration: [256, 512]}}`. By default all that are built.",
    )
    trials: int = Field(default=40, ge=1, le=10_000, description="Recipes to try, 1 to 10,000.")
    time: TimeField = Field(default=DEFAULT_TIME, description="Wall-clock time of all runs.")
    stop: Stop | None = Field(
        default=None,
        description="End early when trials add little: `{gain: 1%, patience: 10}`, which are the "
        "defaults of the two. By default only `trials` and `time` end a search.",
    )
    looks: Looks | None = Field(
        default=None,
        description="Shares of the training rows after which a recipe is looked at: `[25%]`. Of "
        "those looked at, the best third goes on. By default each recipe gets all rows at once.",
    )
    seed: int = Field(default=0, ge=0, le=2**32 - 1, description="Seed of everything random.")

    @model_validator(mode="after")
    def _check_strategies(self) -> Self:
        seen: set[str] = set()
        for index, entry in enumerate(self.strategies):
            if entry.name in seen:
                raise FieldError(
                    f"must come once, but `{entry.name}` came again", at=("strategies", index)
                )
            seen.add(entry.name)
        return self


class Workers(Section):
    """Where trials run, and how many at a time."""

    executor: Executor = Field(
        default="ray", description="`ray` for processes, also on a cluster; `inline` for none."
    )
    count: int = Field(default=1, ge=1, le=1024, description="Trials at a time, 1 to 1024.")
    cpus_each: Number = Field(
        default=1.0, ge=0, le=1024, description="CPUs of one trial on Ray; may be a fraction."
    )
    gpus_each: Number = Field(
        default=0.0, ge=0, le=64, description="GPUs of one trial; may be a fraction."
    )
    device: Device = Field(default="auto", description="auto takes a GPU where there is one.")
    trial_timeout: TrialTimeout = Field(
        default=DEFAULT_TRIAL_TIMEOUT,
        description="Longest run of one trial; needs `executor: ray`, which can end one.",
    )
    address: Address | None = Field(
        default=None,
        description="Ray cluster to join: `auto`, `ray://host:port`; by default one is started.",
    )

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.executor == "inline" and self.count > 1:
            raise FieldError(
                f"must be 1 where `executor` is `inline`, but got {self.count}",
                "use `executor: ray` for several at a time",
                at=("count",),
            )
        if self.executor == "inline" and self.address is not None:
            raise FieldError(
                "must be left out where `executor` is `inline`",
                "use `executor: ray`",
                at=("address",),
            )
        if self.device == "cpu" and self.gpus_each > 0:
            raise FieldError(
                f"must be 0 where `device` is `cpu`, but got {self.gpus_each:g}", at=("gpus_each",)
            )
        return self
