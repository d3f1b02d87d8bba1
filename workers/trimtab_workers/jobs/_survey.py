"""The survey: what is known of a study before anything is trained."""

from __future__ import annotations

from dataclasses import dataclass

from trimtab_strategies.cost import EncoderShape, LengthHistogram
from trimtab_workers.executors import WorkerContext
from trimtab_workers.jobs._place import Place


@dataclass(frozen=True)
class Survey:
    """Facts about a study's model and data, with the hashes that tell when either changed."""

    model_fingerprint: str
    data_fingerprint: str
    family: str
    has_head: bool
    shape: EncoderShape
    histogram: LengthHistogram
    labels: tuple[str, ...]
    n_train: int
    n_search: int
    n_certify: int
    n_rows: int
    n_truncated: int
    longest_allowed: int
    model_bytes: int
    n_unlabeled: int = 0


@dataclass(frozen=True)
class SurveyJob:
    """Reads the model's configuration and all data; every input error comes out here."""

    place: Place

    def run(self, context: WorkerContext) -> Survey:
        """Checks the model's folder, reads and splits the rows, and tokenises them."""
        from trimtab_workers.sources import check_model_folder, model_fingerprint

        folder = self.place.model_folder()
        facts = check_model_folder(folder)
        data = self.place.data(context)
        return Survey(
            model_fingerprint=model_fingerprint(folder),
            data_fingerprint=data.fingerprint,
            family=facts.model_type,
            has_head=facts.has_head,
            shape=EncoderShape.dense(
                facts.hidden_size, facts.num_layers, facts.num_heads, facts.intermediate_size
            ),
            histogram=self.place.histogram(context),
            labels=tuple(data.labels.names),
            n_train=len(data.train),
            n_search=len(data.search),
            n_certify=len(data.certify),
            n_rows=data.n_rows,
            n_truncated=data.truncated,
            longest_allowed=data.max_length,
            model_bytes=sum(file.stat().st_size for file in folder.glob("*.safetensors")),
            n_unlabeled=0 if data.unlabeled is None else len(data.unlabeled),
        )
