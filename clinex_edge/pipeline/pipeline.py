"""The two-step pipeline: translate, then extract. Each model is loaded once, when it is first needed."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from clinex_edge import __version__
from clinex_edge.decoding import get_decoder
from clinex_edge.documents import Document
from clinex_edge.errors import ContextError
from clinex_edge.llama.model import Counters, LoadOptions, Model, build_info
from clinex_edge.llama.prefixes import prefix_store
from clinex_edge.models.fingerprint import sha256_of
from clinex_edge.models.registry import ModelSpec, find
from clinex_edge.pipeline.extract import Extractor
from clinex_edge.pipeline.record import Feature, Record
from clinex_edge.pipeline.translate import TranslatedTurn, Translator
from clinex_edge.tasks import load_task, load_translation

Progress = Callable[[str, int, int], None]  # stage, steps done, steps in all


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
    ):
        """Raises UsageError for an unknown name and TaskError for a broken task. Models are loaded when first used."""
        self.task = load_task(task)
        get_decoder(decoder)
        self.decoder = decoder
        self.translates = translate
        self.extractor_spec = find(model, "extractor")
        self.translator_spec = find(translator, "translator")
        self._options, self._progress = options, progress
        self._models: dict[str, Model] = {}
        self._fingerprints: dict[str, str] = {}
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
            model.close()
        self._models.clear()
        self._extractors.clear()
        self._translator = None

    def translate(self, document: Document | str) -> list[TranslatedTurn]:
        """One English turn per turn. Raises InputError, ModelError, and ContextError where a turn does not fit."""
        document = _as_document(document)
        if self._translator is None:
            spec = self.translator_spec
            self._translator = Translator(self._model(spec), load_translation(spec.translation_profile))
        total = len(document.turns)
        return self._translator(document, lambda done: self._progress("translating", done, total))

    def extract(self, document: Document | str) -> Record:
        """The record of one document, text given as Document or plain string.

        Raises InputError for a text that is empty, no text or too long, ModelError for a model that is missing or
        damaged, and ContextError where the prompt alone does not fit.
        """
        document = _as_document(document)
        stopwatch = _Stopwatch(self)
        translated = self.translates and document.language != "en"
        extractor = self._extractor("en" if translated else document.language)
        translation: list[TranslatedTurn] = []
        turns = [turn.for_model for turn in document.turns]
        if translated:
            try:
                translation = self.translate(document)
            except ContextError as error:
                unanswered = {f: Feature.unanswered(str(error)) for f in self.task.field_ids}
                return Record.of(document, self.task.name, unanswered, provenance=self._provenance(extractor, translated))
            turns = [turn.text for turn in translation]
        stopwatch.lap("translate_s")
        extraction = extractor(turns, lambda done, total: self._progress("extracting", done, total))
        stopwatch.lap("extract_s")
        return Record.of(
            document,
            self.task.name,
            {name: Feature.of(decision) for name, decision in extraction.decisions.items()},
            translation=translation,
            windows=[(first + 1, last) for first, last in extraction.windows],
            provenance=self._provenance(extractor, translated),
            timings=stopwatch.timings(),
        )

    def _model(self, spec: ModelSpec) -> Model:
        """The loaded model; one file serves both roles."""
        key = str(spec.path)
        if key not in self._models:
            started = time.perf_counter()
            given = self._options
            options = replace(given, ctx_size=given.ctx_size or spec.ctx_size, threads=given.threads or spec.threads)
            self._models[key] = Model(spec.path, options)
            self._models[key].keep_prefixes(self._prefixes, self._fingerprint(spec))
            self._load_seconds += time.perf_counter() - started
        return self._models[key]

    def _extractor(self, language: str) -> Extractor:
        if language not in self._extractors:
            spec = self.extractor_spec
            self._extractors[language] = Extractor(self._model(spec), self.task, spec.profile, language, self.decoder)
        return self._extractors[language]

    def _provenance(self, extractor: Extractor, translated: bool) -> dict[str, Any]:
        result = {
            "clinex_edge": __version__,
            "llama_cpp": build_info(),
            "decoder": self.decoder,
            "profile": f"{extractor.profile.name}.{extractor.profile.language}",
            "task_sha256": self.task.sha256,
            "prompt_sha256": extractor.prompt_sha256,
            "extractor": self._model_provenance(self.extractor_spec),
        }
        if translated and self._translator:
            prompt = self._translator.prompt
            result["translator"] = {**self._model_provenance(self.translator_spec), "prompt_sha256": prompt.sha256}
        return result

    def _fingerprint(self, spec: ModelSpec) -> str:
        key = str(spec.path)
        if key not in self._fingerprints:
            self._fingerprints[key] = sha256_of(spec.path)
        return self._fingerprints[key]

    def _model_provenance(self, spec: ModelSpec) -> dict[str, Any]:
        quantization = self._model(spec).header.quantization
        return {"name": spec.name, "file": spec.path.name, "sha256": self._fingerprint(spec), "quantization": quantization}

    @property
    def load_seconds(self) -> float:
        """Time spent on loading models so far."""
        return self._load_seconds

    @property
    def counters(self) -> Counters:
        """Tokens of all loaded models together."""
        return sum((model.counters for model in self._models.values()), Counters())


class _Stopwatch:
    """Times the stages of one document, loading apart, and counts its tokens."""

    def __init__(self, pipeline: Pipeline):
        self._pipeline = pipeline
        self._counters, self._load_at_start = pipeline.counters, pipeline.load_seconds
        self._laps: dict[str, float] = {}
        self._begin()

    def _begin(self) -> None:
        self._since, self._loaded = time.perf_counter(), self._pipeline.load_seconds

    def lap(self, name: str) -> None:
        loading = self._pipeline.load_seconds - self._loaded
        self._laps[name] = time.perf_counter() - self._since - loading
        self._begin()

    def timings(self) -> dict[str, float]:
        used = self._pipeline.counters - self._counters
        seconds = {"load_s": self._pipeline.load_seconds - self._load_at_start, **self._laps}
        return {
            **{name: round(value, 4) for name, value in seconds.items()},
            "prompt_tokens": used.prompt,
            "cached_tokens": used.cached,
            "generated_tokens": used.generated,
        }


def _as_document(document: Document | str) -> Document:
    return Document.from_text(document) if isinstance(document, str) else document
