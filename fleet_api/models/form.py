"""multipart/form-data as it comes: small fields are kept, the bytes of the one file are passed on, nothing else is held.

The parsing is python-multipart's.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from fleet_api.errors import InvalidValue

MAX_PARTS, MAX_FIELD, MAX_HEADERS = 20, 4096, 8192
BROKEN = "The form could not be read: it is not multipart/form-data, or was cut off."


@dataclass(slots=True)
class Form:
    """What has come of a form. ``filename`` is None until the file begins."""

    fields: dict[str, str] = field(default_factory=dict)
    filename: str | None = None


class FormReader:
    """Reads one form. :meth:`file` gives the file's bytes; ``form.fields`` are whole once it has ended."""

    def __init__(self, content_type: str, chunks: AsyncIterator[bytes]) -> None:
        kind, options = parse_options_header(content_type)
        boundary = options.get(b"boundary")
        if kind != b"multipart/form-data" or not boundary:
            raise InvalidValue("The body must be multipart/form-data with a boundary, or JSON.")
        self.form = Form()
        self._chunks = chunks
        self._out = bytearray()
        self._name = ""
        self._part: bytearray | None = None
        self._header = [bytearray(), bytearray()]
        self._headers: dict[bytes, bytes] = {}
        self._parts = 0
        self._ended = False
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin,
                    "on_part_data": self._data,
                    "on_part_end": self._end,
                    "on_header_field": lambda data, start, end: self._more(0, data[start:end]),
                    "on_header_value": lambda data, start, end: self._more(1, data[start:end]),
                    "on_header_end": self._header_end,
                    "on_headers_finished": self._headers_finished,
                    "on_end": self._finish,
                },
            )
        except FormParserError:
            raise InvalidValue("The boundary of the form is too long; it may have 70 characters.") from None

    async def begin(self) -> None:
        """Read up to the file's first bytes, or to the end. Raises InvalidValue for what is no form."""
        async for chunk in self._chunks:
            self._feed(chunk)
            if self.form.filename is not None or self._ended:
                return

    async def file(self) -> AsyncIterator[bytes]:
        """Yield the file's bytes and read the form to its end. Raises InvalidValue for one that is broken or cut off."""
        yield self._taken()
        async for chunk in self._chunks:
            self._feed(chunk)
            yield self._taken()
        if not self._ended:
            raise InvalidValue(BROKEN)

    def _taken(self) -> bytes:
        taken = bytes(self._out)
        self._out.clear()
        return taken

    def _feed(self, chunk: bytes) -> None:
        try:
            self._parser.write(chunk)
        except FormParserError:
            raise InvalidValue(BROKEN) from None

    def _begin(self) -> None:
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise InvalidValue(f"The form has more than {MAX_PARTS} parts.")
        self._headers, self._part = {}, None

    def _more(self, which: int, data: bytes) -> None:
        self._header[which] += data
        if len(self._header[which]) > MAX_HEADERS:
            raise InvalidValue("The head of a part of the form is too large.")

    def _header_end(self) -> None:
        self._headers[bytes(self._header[0]).lower()] = bytes(self._header[1])
        self._header = [bytearray(), bytearray()]

    def _headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        self._name = _text(options.get(b"name", b""))
        if self._name != "file":
            self._part = bytearray()
        elif self.form.filename is not None:
            raise InvalidValue("file: the form holds two files; one is taken.")
        else:
            self.form.filename = _text(options.get(b"filename", b""))

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._part is None:
            self._out += data[start:end]
            return
        self._part += data[start:end]
        if len(self._part) > MAX_FIELD:
            raise InvalidValue(f"{self._name[:40] or 'a field'}: it has more than {MAX_FIELD} bytes.")

    def _end(self) -> None:
        if self._part is not None:
            if self._name in self.form.fields:
                raise InvalidValue(f"{self._name[:40]}: it is there twice.")
            self.form.fields[self._name] = _text(bytes(self._part))

    def _finish(self) -> None:
        self._ended = True


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidValue("The form holds a text that is not UTF-8.") from None
