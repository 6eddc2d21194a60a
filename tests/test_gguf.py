"""The check of model files: whatever is wrong with one, a ModelError says so before llama.cpp sees it."""

import ctypes
import os
import random
import shutil
import struct
from pathlib import Path

import llama_cpp
import pytest

from clinex_edge.errors import ModelError
from clinex_edge.llama import gguf
from clinex_edge.llama.gguf import read_header
from clinex_edge.llama.model import Model
from clinex_edge.models.registry import find

EMBEDDED = find(None, "extractor").path
U32, I32, F32, BOOL, STRING, ARRAY, U64 = 4, 5, 6, 7, 8, 9, 10


@pytest.fixture
def copy(tmp_path):
    """A copy of the embedded model that a test may damage."""
    return Path(shutil.copy(EMBEDDED, tmp_path / "copy.gguf"))


# --- building files --------------------------------------------------------------------------------------------------


def u32(number):
    return struct.pack("<I", number)


def u64(number):
    return struct.pack("<Q", number)


def string(text):
    data = text if isinstance(text, bytes) else text.encode()
    return u64(len(data)) + data


def pair(key, kind, value):
    return string(key) + u32(kind) + value


def array(kind, count, data):
    return u32(kind) + u64(count) + data


def tensor(name="w", shape=(32,), kind=0, offset=0):
    return string(name) + u32(len(shape)) + b"".join(map(u64, shape)) + u32(kind) + u64(offset)


ARCHITECTURE = pair("general.architecture", STRING, string("llama"))


def build(pairs=(ARCHITECTURE,), tensors=(), data=b"", version=3, magic=b"GGUF", n_tensors=None, n_pairs=None):
    head = magic + u32(version) + u64(len(tensors) if n_tensors is None else n_tensors) + u64(len(pairs) if n_pairs is None else n_pairs)
    head += b"".join(pairs) + b"".join(tensors)
    return head + b"\0" * (-len(head) % 32) + data


@pytest.fixture(autouse=True)
def nothing_remembered(monkeypatch):
    """These files change within the clock's resolution."""
    monkeypatch.setattr(gguf, "_read", gguf._read.__wrapped__)


def read(tmp_path, content):
    path = tmp_path / "built.gguf"
    path.write_bytes(content)
    return read_header(path)


# --- whole files -----------------------------------------------------------------------------------------------------


def test_the_embedded_model_is_read():
    header = read_header(EMBEDDED)
    assert (header.architecture, header.quantization) == ("llama", "Q8_0")
    assert header.size == EMBEDDED.stat().st_size
    assert header.context_length >= 512
    assert header.chat_template
    assert header.metadata["tokenizer.ggml.tokens"] is None  # too long to keep


@pytest.mark.parametrize("version", [2, 3])
def test_a_small_file_is_read(tmp_path, version):
    pairs = [
        ARCHITECTURE,
        pair("llama.context_length", U32, u32(1234)),
        pair("general.file_type", U32, u32(15)),
        pair("tokenizer.chat_template", STRING, string("درد {{ x }}")),
        pair("a.negative", I32, struct.pack("<i", -5)),
        pair("a.float", F32, struct.pack("<f", 0.5)),
        pair("a.truth", BOOL, b"\1"),
        pair("short", ARRAY, array(U32, 64, u32(7) * 64)),
        pair("long", ARRAY, array(U32, 65, u32(7) * 65)),
        pair("texts", ARRAY, array(STRING, 2, string("a") + string("ب"))),
        pair("empty", ARRAY, array(STRING, 0, b"")),
        pair("bad.utf8", STRING, string(b"a\xff")),
    ]
    header = read(tmp_path, build(pairs, [tensor()], b"\0" * 128, version))
    assert (header.context_length, header.quantization, header.chat_template) == (1234, "Q4_K_M", "درد {{ x }}")
    assert (header.metadata["a.negative"], header.metadata["a.float"], header.metadata["a.truth"]) == (-5, 0.5, True)
    assert header.metadata["short"] == [7] * 64
    assert header.metadata["long"] is None
    assert header.metadata["texts"] == ["a", "ب"]
    assert header.metadata["empty"] == []
    assert header.metadata["bad.utf8"] == "a\ufffd"


def test_what_a_file_does_not_say_has_a_default(tmp_path):
    header = read(tmp_path, build(tensors=[tensor()], data=b"\0" * 128))
    assert (header.context_length, header.quantization, header.chat_template) == (2048, "unknown", None)


def test_the_alignment_of_the_file_counts(tmp_path):
    pairs = [ARCHITECTURE, pair("general.alignment", U32, u32(4096))]
    content = build(pairs, [tensor()])
    with pytest.raises(ModelError, match="cut off"):
        read(tmp_path, content + b"\0" * 128)
    assert read(tmp_path, content.ljust(4096, b"\0") + b"\0" * 128).architecture == "llama"


@pytest.mark.parametrize(
    ("shape", "kind", "size"),
    [((32,), 0, 128), ((3, 5), 1, 30), ((32, 2), 8, 68), ((256, 1, 2), 14, 420), ((2, 2, 2, 2), 28, 128), ((64,), 39, 34)],
)
def test_a_tensor_needs_its_very_last_byte(tmp_path, shape, kind, size):
    assert read(tmp_path, build(tensors=[tensor(shape=shape, kind=kind)], data=b"\0" * size))
    with pytest.raises(ModelError, match="cut off"):
        read(tmp_path, build(tensors=[tensor(shape=shape, kind=kind)], data=b"\0" * (size - 1)))


def ggml(function, result):
    folder = Path(llama_cpp.__file__).parent / "lib"
    library = next(p for pattern in ("*ggml-base*.so", "*ggml-base*.dylib", "*ggml-base*.dll") for p in folder.glob(pattern))
    call = getattr(ctypes.CDLL(str(library)), function)
    call.restype = result
    return call


def test_block_sizes_are_those_of_ggml():
    values, size = ggml("ggml_blck_size", ctypes.c_int64), ggml("ggml_type_size", ctypes.c_size_t)
    assert {kind: (values(kind), size(kind)) for kind in gguf._BLOCKS} == gguf._BLOCKS


@pytest.mark.parametrize("kind", range(42))
def test_every_type_of_ggml_is_known(kind):
    if ggml("ggml_blck_size", ctypes.c_int64)(kind):  # 0: removed from ggml
        assert kind in gguf._BLOCKS


# --- damaged files ---------------------------------------------------------------------------------------------------


def test_every_truncation_is_a_model_error(copy):
    rng = random.Random(3)
    size = copy.stat().st_size
    end = 170_000  # about where the header ends
    places = {*range(40), size - 1, size - 2, size - 33, size // 2, *(rng.randrange(end) for _ in range(250))}
    places |= {rng.randrange(size) for _ in range(100)} | {rng.randrange(1000) for _ in range(60)}
    for place in sorted(places, reverse=True):  # downwards, so that the file need not be written again
        os.truncate(copy, place)
        with pytest.raises(ModelError) as caught:
            read_header(copy)
        assert str(copy) in str(caught.value)
        assert caught.value.hint


def test_flipped_bytes_of_the_header_are_read_or_are_a_model_error(copy):
    rng = random.Random(4)
    outcomes = set()
    with copy.open("r+b", buffering=0) as file:
        for _ in range(250):
            at = rng.choice([rng.randrange(24), rng.randrange(1500), rng.randrange(165_000)])
            file.seek(at)
            original = file.read(8)
            file.seek(at)
            file.write(rng.choice([b"\xff" * 8, b"\0" * 8, rng.randbytes(1), rng.randbytes(8)]))
            try:
                read_header(copy)
                outcomes.add("read")
            except ModelError:
                outcomes.add("refused")
            file.seek(at)
            file.write(original)
    assert outcomes == {"read", "refused"}
    assert copy.read_bytes() == EMBEDDED.read_bytes()


HUGE = 2**64 - 1
HOSTILE = {
    "magic in lower case": (build(magic=b"gguf"), "not a GGUF file"),
    "older magic": (build(magic=b"ggjt"), "not a GGUF file"),
    "version 1": (build(version=1), "version 1 is not known"),
    "version 4": (build(version=4), "version 4 is not known"),
    "big-endian": (build(version=3 << 24), "is not known"),
    "huge number of tensors": (build(n_tensors=HUGE), "announces"),
    "huge number of pairs": (build(n_pairs=HUGE), "announces"),
    "more tensors than there are": (build(n_tensors=3_999_999), "damaged"),
    "more pairs than there are": (build(n_pairs=3_999_999), "damaged"),
    "one pair too few": (build([ARCHITECTURE, pair("a", U32, u32(1))], n_pairs=1, n_tensors=1), "damaged"),
    "huge key": (build([u64(HUGE) + b"key"]), "ends in the middle"),
    "huge signed key": (build([u64(2**63) + b"key"]), "ends in the middle"),
    "huge text": (build([pair("general.architecture", STRING, u64(HUGE) + b"llama")]), "ends in the middle"),
    "text one byte too long": (build([pair("general.architecture", STRING, u64(100) + b"llama")]), "ends in the middle"),
    "value of unknown type": (build([ARCHITECTURE, pair("a", 13, u64(0))]), "unknown type 13"),
    "value of huge type": (build([ARCHITECTURE, pair("a", 2**32 - 1, u64(0))]), "unknown type"),
    "array of unknown type": (build([ARCHITECTURE, pair("a", ARRAY, array(99, 1, u64(0)))]), "array of unknown type 99"),
    "array of arrays": (build([ARCHITECTURE, pair("a", ARRAY, array(ARRAY, 1, u64(0) * 9))]), "array of unknown type 9"),
    "huge array": (build([ARCHITECTURE, pair("a", ARRAY, array(U64, HUGE, u64(0)))]), "announces"),
    "array longer than the file": (build([ARCHITECTURE, pair("a", ARRAY, array(U64, 4_000_000, u64(0)))]), "ends in the middle"),
    "array of texts longer than the file": (build([ARCHITECTURE, pair("a", ARRAY, array(STRING, 4_000_000, u64(0)))]), "damaged"),
    "no architecture": (build([pair("a", U32, u32(1))]), "does not name an architecture"),
    "architecture is a number": (build([pair("general.architecture", U32, u32(1))]), "does not name an architecture"),
    "architecture is a list": (build([pair("general.architecture", ARRAY, array(STRING, 1, string("llama")))]), "does not name"),
    "no pairs at all": (build([]), "does not name an architecture"),
    "tensor of unknown type": (build(tensors=[tensor(kind=4)], data=b"\0" * 999), "unknown type or shape"),
    "tensor of huge type": (build(tensors=[tensor(kind=2**32 - 1)], data=b"\0" * 999), "unknown type or shape"),
    "tensor of no dimensions": (build(tensors=[tensor(shape=())], data=b"\0" * 999), "unknown type or shape"),
    "tensor of five dimensions": (build(tensors=[tensor(shape=(1, 1, 1, 1, 1))], data=b"\0" * 999), "unknown type or shape"),
    "tensor of huge dimensions": (build(tensors=[string("w") + u32(2**32 - 1) + u64(1) * 20]), "ends in the middle"),
    "tensor with an empty dimension": (build(tensors=[tensor(shape=(32, 0))], data=b"\0" * 999), "unknown type or shape"),
    "tensor of broken blocks": (build(tensors=[tensor(shape=(33,), kind=8)], data=b"\0" * 999), "whole blocks"),
    "huge tensor": (build(tensors=[tensor(shape=(2**62,) * 4)], data=b"\0" * 999), "cut off"),
    "tensor whose size wraps to 0": (build(tensors=[tensor(shape=(2**32, 2**32))], data=b"\0" * 999), "cut off"),
    "huge offset": (build(tensors=[tensor(offset=HUGE)], data=b"\0" * 999), "cut off"),
    "offset that wraps": (build(tensors=[tensor(offset=2**64 - 128)], data=b"\0" * 999), "cut off"),
    "tensor name longer than the file": (build(tensors=[u64(HUGE) + b"w"]), "ends in the middle"),
    "alignment 0": (build([ARCHITECTURE, pair("general.alignment", U32, u32(0))]), "alignment"),
    "alignment below 0": (build([ARCHITECTURE, pair("general.alignment", I32, struct.pack("<i", -32))]), "alignment"),
    "huge alignment": (build([ARCHITECTURE, pair("general.alignment", U32, u32(2**32 - 1))]), "alignment"),
    "alignment is a text": (build([ARCHITECTURE, pair("general.alignment", STRING, string("32"))]), "alignment"),
    "alignment is a list": (build([ARCHITECTURE, pair("general.alignment", ARRAY, array(U32, 65, u32(32) * 65))]), "alignment"),
    "empty": (b"", "not a GGUF file"),
    "magic alone": (b"GGUF", "not a GGUF file"),
    "text": ("بیمار درد دارد.\n".encode() * 50, "not a GGUF file"),
    "Git LFS pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "not a GGUF file"),
    "zeros": (b"\0" * 4096, "not a GGUF file"),
    "magic and zeros": (b"GGUF" + b"\0" * 4096, "version 0"),
    "magic and ones": (b"GGUF" + b"\xff" * 4096, "damaged"),
    "magic and text": (b"GGUF" + b"version https://git-lfs.github.com/spec/v1", "damaged"),
}


@pytest.mark.parametrize(("content", "message"), HOSTILE.values(), ids=list(HOSTILE))
def test_a_hostile_file_is_a_model_error(tmp_path, content, message):
    with pytest.raises(ModelError, match=message) as caught:
        read(tmp_path, content)
    assert str(tmp_path / "built.gguf") in str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize(
    "wrong",
    [
        pair("llama.context_length", STRING, string("long")),
        pair("llama.context_length", ARRAY, array(U32, 1, u32(1024))),
        pair("llama.context_length", ARRAY, array(U32, 65, u32(1024) * 65)),
        pair("llama.context_length", F32, struct.pack("<f", float("nan"))),
        pair("llama.context_length", I32, struct.pack("<i", -1)),
        pair("general.file_type", ARRAY, array(U32, 1, u32(7))),
        pair("tokenizer.chat_template", U32, u32(7)),
    ],
    ids=["text", "list", "long list", "nan", "negative", "file type list", "template number"],
)
def test_metadata_of_the_wrong_type_is_a_model_error(tmp_path, wrong):
    with pytest.raises(ModelError):
        read(tmp_path, build([ARCHITECTURE, wrong], [tensor()], b"\0" * 128))


def test_a_folder_is_a_model_error(tmp_path):
    with pytest.raises(ModelError, match="cannot be read"):
        read_header(tmp_path)


def test_a_missing_file_is_a_model_error(tmp_path):
    for path in (tmp_path / "none.gguf", tmp_path / "no" / "folder.gguf", EMBEDDED / "inside.gguf"):
        with pytest.raises(ModelError) as caught:
            read_header(path)
        assert str(path) in str(caught.value)


@pytest.mark.parametrize("share", [0.0, 0.00001, 0.01, 0.5, 0.999999])
def test_a_truncated_model_is_not_loaded(copy, share):
    os.truncate(copy, int(copy.stat().st_size * share))
    with pytest.raises(ModelError):
        Model(copy)


@pytest.mark.parametrize("name", ["text.gguf", "folder.gguf", "missing.gguf"])
def test_what_is_no_model_is_not_loaded(tmp_path, name):
    (tmp_path / "text.gguf").write_text("No model.\n" * 100)
    (tmp_path / "folder.gguf").mkdir()
    with pytest.raises(ModelError, match=name):
        Model(tmp_path / name)


def test_a_whole_header_without_weights_is_not_loaded(tmp_path):
    path = tmp_path / "empty.gguf"
    path.write_bytes(build())
    with pytest.raises(ModelError, match=r"llama\.cpp cannot load"):
        Model(path)
