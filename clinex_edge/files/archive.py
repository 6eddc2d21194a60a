"""What .docx and .xlsx files are inside: zip archives, checked as a whole before anything is read from them."""

from pathlib import Path
from zipfile import ZipFile

from clinex_edge.errors import InputError

_OLE = b"\xd0\xcf\x11\xe0"  # the container of older formats, and of everything with a password
_PIECE = 1 << 20


def check_archive(path: Path, most: int) -> None:
    """Unpack every member once, to nowhere, so that no byte is read later that the archive's checksums do not vouch for.

    Raises InputError for a file with a password and for one that is larger than `most` bytes unpacked; OSError and the errors of
    zipfile and zlib for one that is damaged.
    """
    with path.open("rb") as file:
        if file.read(len(_OLE)) == _OLE:
            raise InputError(
                f"{path} is protected by a password, or in an older format than its name says.",
                f"Open it in its own program and save it as {path.suffix.lower()} without a password.",
            )
    with ZipFile(path) as archive:
        members = archive.infolist()
        if sum(member.file_size for member in members) > most:
            raise InputError(f"{path} would be larger than {most // 1_000_000} MB unpacked.", "Split it into several files.")
        for member in members:
            with archive.open(member) as content:
                while content.read(_PIECE):
                    pass
