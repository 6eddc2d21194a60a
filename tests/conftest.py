"""Shared fixtures: a private home for every test, and the embedded model loaded once."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from clinex_edge.llama.model import LoadOptions, Model
from clinex_edge.models.registry import find
from clinex_edge.pipeline.pipeline import Pipeline

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty CLINEX_HOME, so that no test sees or changes the user's own files."""
    folder = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("CLINEX_HOME", str(folder))
    monkeypatch.delenv("CLINEX_DEBUG", raising=False)
    return folder


@pytest.fixture(scope="session")
def demo() -> Iterator[Model]:
    """The embedded model with its default context."""
    model = Model(find(None, "extractor").path, LoadOptions(threads=1))
    yield model
    model.close()


@pytest.fixture(scope="session")
def pipeline() -> Iterator[Pipeline]:
    """The pipeline with all defaults."""
    with Pipeline(options=LoadOptions(threads=1)) as pipeline:
        yield pipeline
