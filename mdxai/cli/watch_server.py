"""The local page of `mdxai watch --serve`: of this machine alone, with a token, read-only."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from mdxai.errors import MdxaiError, one_line
from mdxai.record.reader import read_run
from mdxai.report.page import report_page
from mdxai.report.run_summary import read_run_summary
from mdxai.report.watch_page import watch_page
from mdxai.report.watched_run import RunState, Watch

HERE = "127.0.0.1"
# The token must not leave in a Referer; a run's page holds its own scripts and asks for nothing.
HEADERS = {
    "Content-Type": "text/html; charset=utf-8", "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; "
    "img-src data: blob:; script-src 'unsafe-inline'; form-action 'none'; base-uri 'none'",
}  # fmt: skip


class WatchServer:
    """Serves the page of the runs that it watches.

    Args:
        watch: the runs.
        seconds: after which the page renews itself; runs are not read more often.
        port: 0 for any that is free.

    Raises:
        OSError: when the port is taken.
    """

    def __init__(self, watch: Watch, seconds: float = 5.0, port: int = 0) -> None:
        self._watch, self._seconds = watch, seconds
        self._token = secrets.token_urlsafe(24)
        self._lock = threading.Lock()
        self._seen: tuple[float, list[RunState]] = (-1e9, [])
        self._http = ThreadingHTTPServer((HERE, port), self._handler())

    @property
    def url(self) -> str:
        """The address of the page, with its token."""
        return f"http://{HERE}:{self._http.server_port}/?token={self._token}"

    def serve(self) -> None:
        """Serve until `stop`, or Ctrl-C."""
        try:
            self._http.serve_forever(poll_interval=0.2)
        finally:
            self._http.server_close()

    def close(self) -> None:
        """Give up the port, where nothing was served."""
        self._http.server_close()

    @contextmanager
    def in_background(self) -> Iterator[str]:
        """Serve in a thread; hand over the address."""
        thread = threading.Thread(target=self.serve, daemon=True)
        thread.start()
        try:
            yield self.url
        finally:
            self._http.shutdown()
            thread.join()

    def states(self) -> list[RunState]:
        """Return the runs, looked at again once they are `seconds` old."""
        with self._lock:
            then, states = self._seen
            if time.monotonic() - then > 0.8 * self._seconds:
                states = self._watch.look()
                self._seen = (time.monotonic(), states)
            return states

    def answer(self, path: str, host: str) -> tuple[HTTPStatus, str]:
        """Return status and page for a request.

        A request under another host name comes from a foreign page whose name was bound to this
        address; it is refused like one without the token.
        """
        parts = urlsplit(path)
        given = parse_qs(parts.query).get("token", [""])[0]
        known = host in (f"{name}:{self._http.server_port}" for name in (HERE, "localhost"))
        if not known or not secrets.compare_digest(given.encode(), self._token.encode()):
            return HTTPStatus.FORBIDDEN, "This page needs the address that mdxai watch printed."
        if parts.path == "/":
            return HTTPStatus.OK, watch_page(self.states(), self._seconds, self._token)
        found = [s for s in self.states() if parts.path == f"/run/{s.key}"]
        if not found:
            return HTTPStatus.NOT_FOUND, "There is no such page."
        folder = Path(found[0].path)
        try:
            return HTTPStatus.OK, report_page(read_run_summary(read_run(folder)), folder)
        except MdxaiError as error:
            return HTTPStatus.CONFLICT, one_line(error).replace("<", "&lt;")

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            """Answers GET and nothing else."""

            def do_GET(self) -> None:
                status, text = server.answer(self.path, self.headers.get("Host", ""))
                body = text.encode()
                self.send_response(status)
                for name, value in (HEADERS | {"Content-Length": str(len(body))}).items():
                    self.send_header(name, value)
                with suppress(ConnectionError):  # the browser has left meanwhile
                    self.end_headers()
                    self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                """Print nothing: requests carry the token."""

        return Handler
