"""Writes small PDF files, object by object."""

import zlib


def pdf(*contents, resources="", page="", catalog="", fonts="", more=(), packed=False):
    """A page for each content stream; the others are entries added to a dictionary in PDF syntax. /F is Helvetica, /I a large picture;
    `more` holds objects that are numbered from behind those of the pages (7 for one page). `packed` compresses the contents."""
    streams = [content if isinstance(content, bytes) else content.encode("latin-1") for content in contents]
    pages = [5 + 2 * number for number in range(len(streams))]
    objects = [
        f"<< /Type /Catalog /Pages 2 0 R {catalog} >>".encode(),
        f"<< /Type /Pages /Count {len(pages)} /Kids [{' '.join(f'{number} 0 R' for number in pages)}] >>".encode(),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
        stream("/Type /XObject /Subtype /Image /Width 1240 /Height 1754 /ColorSpace /DeviceGray /BitsPerComponent 1", b""),
    ]
    for number, content in zip(pages, streams, strict=True):
        entries = f"/Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents {number + 1} 0 R {page}"
        objects.append(f"<< {entries} /Resources << /Font << /F 3 0 R {fonts} >> {resources} >> >>".encode())
        objects.append(stream("", content, packed))
    objects += more
    data, places = b"%PDF-1.4\n", []
    for number, content in enumerate(objects, 1):
        places.append(len(data))
        data += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    data += b"xref\n0 %d\n0000000000 65535 f \n%s" % (len(objects) + 1, table) + b"trailer\n<< /Size %d /Root 1 0 R >>\n" % (
        len(objects) + 1
    )
    return data + b"startxref\n%d\n%%%%EOF\n" % data.index(b"xref\n")


def shown(*lines):
    """The content stream that shows these lines."""
    body = " T* ".join("({}) Tj".format(line.replace("\\", "\\\\").replace("(", "\\(").replace(")", "\\)")) for line in lines)
    return f"BT /F 12 Tf 14 TL 50 700 Td {body} ET"


def persian(*contents, shapes, packed=False, **options):
    """As `pdf`, with a font /P in which `shapes` are what the codes 01, 02 and so on stand for; each shape is 6 points wide at size 12."""
    first = 5 + 2 * len(contents)
    codes = "".join(f"<{code:02x}> <{text.encode('utf-16-be').hex()}>\n" for code, text in enumerate(shapes, 1))
    maps = f"begincmap\n1 begincodespacerange\n<00> <ff>\nendcodespacerange\n{len(shapes)} beginbfchar\n{codes}endbfchar\nendcmap"
    font = f"/Type /Font /Subtype /Type3 /FontBBox [0 0 500 700] /FontMatrix [0.001 0 0 0.001 0 0] /FirstChar 1 /LastChar {len(shapes)}"
    entries = f"{font} /Widths [{'500 ' * len(shapes)}] /Encoding << /Differences [] >> /CharProcs << >> /ToUnicode {first + 1} 0 R"
    more = [f"<< {entries} >>".encode(), stream("", maps.encode(), packed)]
    return pdf(*contents, fonts=f"/P {first} 0 R", more=more, packed=packed, **options)


def codes(*texts, shapes):
    """The shapes of these texts, from left to right, as a PDF string."""
    return f"<{bytes(shapes.index(text) + 1 for text in texts).hex()}>"


def stream(entries, content, packed=False):
    if packed:
        entries, content = f"{entries} /Filter /FlateDecode", zlib.compress(content)
    return b"<< %s /Length %d >>\nstream\n%s\nendstream" % (entries.encode(), len(content), content)
