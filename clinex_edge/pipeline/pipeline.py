"""The two-step pipeline: translate, then extract. Models are loaded when first needed, and take turns where the memory holds no two."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import compress, islice
from types import MappingProxyType
from typing import Any

from clinex_edge import __version__
from clinex_edge.decoding import get_decoder
from clinex_edge.documents import Document
from clinex_edge.errors import ContextError, ModelError
from clinex_edge.llama import machine
from clinex_edge.llama.machine import build_info
from clinex_edge.llama.model import Counters, LoadOptions, Model
from clinex_edge.llama.prefixes import prefix_store
from clinex_edge.llama.probe import speeds
from clinex_edge.models.fingerprint import sha256_of
from clinex_edge.models.registry import ModelSpec, find
from clinex_edge.models.tuned import remembered
from clinex_edge.models.vetting import vet
from clinex_edge.pipeline.extract import Extraction, Extractor
from clinex_edge.pipeline.record import Feature, Record
from clinex_edge.pipeline.translate import TranslatedTurn, Translation, Translator
from clinex_edge.tasks import load_task, load_translation

BATCH = 8  # documents that are computed together
BATCHES_AT_ONCE = 4  # batches between two switches of the model, where the memory does not hold both
Progress = Callable[[str, int, int], None]  # stage, steps done, steps in all; "loading" has none


_Translated = tuple[list[Translation | None], dict[str, float]]


@dataclass(frozen=True)
class GivenTranslation:
    """A translation made before, and what its record's provenance says of the translator."""

    turns: list[TranslatedTurn]
    provenance: dict[str, Any]


def _quiet(stage: str, done: int, total: int) -> None: ...


class Pipeline:
    """Reads documents into records.

    `model` (the extractor) and `translator` are names of `models.toml` or paths of GGUF files; None means the default.
    With `translate=False` the extractor reads the source itself and is asked in the source's language.
    Use it as a context manager, or call `close`.
    """

    def __init__(
        self,
        model: str | None = None,
        translator: str | None = None,
        *,
        task: str = "palliative-call",
        decoder: str = "joint",
        translate: bool = True,
        options: LoadOptions = LoadOptions(),  # noqa: B008  (frozen)
        progress: Progress = _quiet,
        given: Mapping[str, GivenTranslation] = MappingProxyType({}),
    ):
        """`given` holds translations to take as they are, by the sha256 of their document.

        Raises UsageError for an unknown name and TaskError for a broken task. Models are loaded when first used."""
        self.task = load_task(task)
        get_decoder(decoder)
        self.decoder = decoder
        self.translates = translate
        self.extractor_spec = find(model, "extractor")
        self.translator_spec = find(translator, "translator")
        self._options, self._progress, self._given = options, progress, given
        self._models: dict[str, Model] = {}
        self._translation = load_translation(self.translator_spec.translation_profile) if translate else None
        self._needs: dict[str, int] = {}
        self._described: dict[str, dict[str, Any]] = {}
        self._past = Counters()  # of models that are gone
        self._translator: Translator | None = None
        self._extractors: dict[str, Extractor] = {}
        self._load_seconds = 0.0
        self._prefixes = prefix_store()

    def __enter__(self) -> "Pipeline":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the models' memory back."""
        for model in self._models.values():
            self._past += model.counters
            model.close()
        self._models.clear()
        self._extractors.clear()
        self._translator = None

    def translate(self, document: Document | str) -> list[TranslatedTurn]:
        """One English turn per turn. Raises InputError, ModelError, and ContextError where a turn does not fit."""
        (translation,) = self._translate([_as_document(document)])
        if isinstance(translation, ContextError):
            raise translation
        return translation

    def extract(self, document: Document | str) -> Record:
        """The record of one document, text given as Document or plain string.

        Raises InputError for a text that is empty, no text or too long, ModelError for a model that is missing or
        damaged, NotEnoughMemoryError for one that is too big, and ContextError where the prompt alone does not fit.
        """
        return next(self.extract_all([document]))

    def extract_all(self, documents: Iterable[Document | str]) -> Iterator[Record]:
        """The records of many documents, in order; raises as `extract` does. They are taken in batches of BATCH."""
        remaining = map(_as_document, documents)
        at_once = 1 if self._fit_together() else BATCHES_AT_ONCE
        while batches := [batch for _ in range(at_once) if (batch := list(islice(remaining, BATCH)))]:
            yield from self.extract_batches(batches)

    def extract_batches(self, batches: Sequence[Sequence[Document]]) -> Iterator[Record]:
        """The records of all documents, in order; raises as `extract` does.

        A record, its timings apart, depends on the documents of its batch only: not on other batches, nor on what was read before.
        Where the memory holds both models, batch by batch is translated and read. Where it does not, all are translated, the
        translator goes, and then all are read.
        """
        together = self._fit_together()
        translated: Iterable[_Translated] = (self._translated(batch, together) for batch in batches)
        for batch, (translations, translating) in zip(batches, translated if together else list(translated), strict=True):
            stopwatch = _Stopwatch(self)
            extractions = self._extract(batch, translations)
            timings = _timings([len(d.turns) for d in batch], [self._is_translated_here(d) for d in batch], translating, stopwatch.lap())
            yield from map(self._record, batch, translations, extractions, timings)

    def _translated(self, batch: Sequence[Document], together: bool) -> _Translated:
        """The translation of each document, None where it needs none, and what they took."""
        stopwatch = _Stopwatch(self)
        if together:  # what is wrong with the extractor shows before the translation, not after it
            self._extractor(self._asked_in(batch[0]))
        foreign = [document for document in batch if self._is_translated_here(document)]
        made = iter(self._translate(foreign) if foreign else [])
        return [next(made) if self._is_translated_here(document) else self._given_turns(document) for document in batch], stopwatch.lap()

    def _record(self, document: Document, translation: Translation | None, extraction: Extraction, timings: dict[str, float]) -> Record:
        return Record.of(
            document,
            self.task.name,
            {name: Feature.of(decision) for name, decision in extraction.decisions.items()},
            translation=translation if isinstance(translation, list) else [],
            windows=[(first + 1, last) for first, last in extraction.windows],
            provenance=self._provenance(document),
            timings=timings,
        )

    def _extract(self, batch: Sequence[Document], translations: Sequence[Translation | None]) -> list[Extraction]:
        """The answers about each document; those that are asked in one language share batches."""
        turns: dict[str, dict[int, list[str]]] = defaultdict(dict)
        found: dict[int, Extraction] = {}
        for number, (document, translation) in enumerate(zip(batch, translations, strict=True)):
            if isinstance(translation, ContextError):
                found[number] = Extraction.unanswered(self.task, translation)
            else:
                read = [turn.for_model for turn in document.turns] if translation is None else [turn.text for turn in translation]
                turns[self._asked_in(document)][number] = read
        for language, documents in turns.items():
            extractor = self._extractor(language)
            extractions = extractor(list(documents.values()), lambda done, total: self._progress("extracting", done, total))
            found |= zip(documents, extractions, strict=True)
        return [found[number] for number in range(len(batch))]

    def _translate(self, documents: Sequence[Document]) -> list[Translation]:
        spec = self.translator_spec
        model = self._model(spec)
        if self._translator is None:
            self._translation = self._translation or load_translation(spec.translation_profile)
            self._translator = Translator(model, self._translation)
        total = sum(len(document.turns) for document in documents)
        return self._translator(documents, lambda done: self._progress("translating", done, total))

    def _translates(self, document: Document) -> bool:
        return self.translates and document.language != "en"

    def _is_translated_here(self, document: Document) -> bool:
        return self._translates(document) and document.sha256 not in self._given

    def _given_turns(self, document: Document) -> Translation | None:
        return self._given[document.sha256].turns if self._translates(document) else None

    def _asked_in(self, document: Document) -> str:
        return "en" if self._translates(document) else document.language

    def _fit_together(self) -> bool:
        """Whether this machine's memory holds all models that this pipeline uses at once."""
        specs = {str(s.path): s for s in (self.extractor_spec, *([self.translator_spec] if self.translates else []))}
        missing = [spec for key, spec in specs.items() if key not in self._models]
        try:
            return len(specs) == 1 or sum(map(self._needed, missing)) <= machine.free_memory()
        except ModelError:  # told where the model is first used: a document may not need it
            return True

    def _needed(self, spec: ModelSpec) -> int:
        """Bytes of memory that a model will take. Raises ModelError where it is missing or damaged."""
        key = str(spec.path)
        if key not in self._needs:
            self._needs[key] = self._load_options(spec).memory(spec.path)
        return self._needs[key]

    def _load_options(self, spec: ModelSpec) -> LoadOptions:
        """What was asked for, else what was found by tuning, else what the registry says. Raises ModelError where the file is missing."""
        given, tuning = self._options, remembered(sha256_of(spec.path))
        threads = given.threads or (None if tuning else spec.threads)
        return replace(given, ctx_size=given.ctx_size or spec.ctx_size, threads=threads, tuning=tuning or given.tuning)

    def _model(self, spec: ModelSpec) -> Model:
        """The loaded model; one file serves both roles. Another model goes where the memory does not hold both."""
        key = str(spec.path)
        if key not in self._models:
            started = time.perf_counter()
            if self._models and self._needed(spec) > machine.free_memory():
                self.close()
            spec.require()
            self._progress("loading", 0, 0)
            sha256 = sha256_of(spec.path)
            vet(spec, sha256)
            model = self._models[key] = Model(spec.path, self._load_options(spec))
            self._described[key] = {
                "name": spec.name, "file": spec.path.name, "sha256": sha256, "quantization": model.header.quantization,
                "settings": model.settings,
            }  # fmt: skip
            model.keep_prefixes(self._prefixes, sha256)
            self._load_seconds += time.perf_counter() - started
        return self._models[key]

    def _extractor(self, language: str) -> Extractor:
        if language not in self._extractors:
            spec = self.extractor_spec
            self._extractors[language] = Extractor(self._model(spec), self.task, spec.profile, language, self.decoder)
        return self._extractors[language]

    def _provenance(self, document: Document) -> dict[str, Any]:
        extractor = self._extractor(self._asked_in(document))
        result = {
            "clinex_edge": __version__,
            "llama_cpp": build_info(),
            "decoder": self.decoder,
            "profile": f"{extractor.profile.name}.{extractor.profile.language}",
            "task_sha256": self.task.sha256,
            "prompt_sha256": extractor.prompt_sha256,
            "extractor": self._described[str(self.extractor_spec.path)],
        }
        if self._translates(document) and document.sha256 in self._given:
            result["translator"] = {**self._given[document.sha256].provenance, "reused": True}
        elif self._translates(document) and self._translation:
            description = self._described[str(self.translator_spec.path)]
            result["translator"] = {**description, "prompt_sha256": self._translation.sha256}
        return result

    def speeds(self) -> dict[str, dict[str, float]]:
        """The `probe.speeds` of the models in memory, by role. Takes seconds."""
        specs = {"extractor": self.extractor_spec, "translator": self.translator_spec}
        measured = {path: speeds(model) for path, model in self._models.items()}
        return {role: measured[str(spec.path)] for role, spec in specs.items() if str(spec.path) in measured}

    @property
    def load_seconds(self) -> float:
        """Time spent on loading models so far."""
        return self._load_seconds

    @property
    def counters(self) -> Counters:
        """Tokens of all models together."""
        return sum((model.counters for model in self._models.values()), self._past)


class _Stopwatch:
    """Takes what a stage cost: seconds, loading apart, and tokens."""

    def __init__(self, pipeline: Pipeline):
        self._pipeline = pipeline
        self._since, self._loaded, self._counters = time.perf_counter(), pipeline.load_seconds, pipeline.counters

    def lap(self) -> dict[str, float]:
        loading = self._pipeline.load_seconds - self._loaded
        used = self._pipeline.counters - self._counters
        return {
            "load_s": loading, "stage_s": time.perf_counter() - self._since - loading,
            "prompt_tokens": used.prompt, "cached_tokens": used.cached, "generated_tokens": used.generated,
        }  # fmt: skip


def _timings(
    turns: Sequence[int], translated: Sequence[bool], translating: dict[str, float], extracting: dict[str, float]
) -> Iterator[dict[str, float]]:
    """The timings of each record. Documents that were computed together share seconds and tokens by their number of turns."""
    foreign = sum(compress(turns, translated))
    for own, is_translated in zip(turns, translated, strict=True):
        part, share = own / sum(turns), own / foreign if is_translated else 0.0
        seconds = {
            "load_s": part * (translating["load_s"] + extracting["load_s"]),
            "translate_s": share * translating["stage_s"],
            "extract_s": part * extracting["stage_s"],
        }
        tokens = {
            name: share * translating[name] + part * extracting[name] for name in ("prompt_tokens", "cached_tokens", "generated_tokens")
        }
        yield {name: round(value, 4) for name, value in seconds.items()} | {name: round(value) for name, value in tokens.items()}


def _as_document(document: Document | str) -> Document:
    return Document.from_text(document) if isinstance(document, str) else document
