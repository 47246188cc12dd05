"""The page over HTTP, on this machine alone.

It listens on 127.0.0.1. It refuses requests without the random token in the address, and requests under another host
name (a foreign site whose name points to 127.0.0.1). The browser's cache keeps nothing.
"""

from __future__ import annotations

import hmac
import json
import secrets
import socket
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from deidlib.errors import DeidlibError, InputError
from deidlib.pages import templates
from deidlib.review import views
from deidlib.review.cases import Cohort
from deidlib.review.decisions import Overtaken
from deidlib.review.masks import save_mask
from deidlib.review.pictures import Gone

ADDRESS = "127.0.0.1"
_NAMES = ("127.0.0.1", "localhost")
_LARGEST_BODY = 16384
_LARGEST_MASK = 64 << 20
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
#: The mask page is one file, with its script and style in it.
_MASK_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
_ASSETS = {"review.js": "text/javascript; charset=utf-8", "review.css": "text/css; charset=utf-8"}


class ReviewServer(ThreadingHTTPServer):
    """Serves one review to one reviewer.

    Parameters
    ----------
    cohort : Cohort
        The review.
    role : str
        Role of the reviewer, written with each decision.
    reviewer : int
        1 or 2.
    port : int
        0: any free one.
    mask_page : callable, optional
        Gives the HTML of a page on which the mask of a photograph (``release_photo_id``) is drawn, and which sends the
        mask to where it came from.
    """

    # A thread that is stopped in the middle of a read of Parquet ends the whole program (``terminate`` of C++), so
    # closing waits for each answer that is being written.
    daemon_threads = False

    def __init__(self, cohort: Cohort, role: str, reviewer: int = 1, port: int = 0, mask_page=None):
        self.cohort, self.role, self.reviewer = cohort, role, reviewer
        self.mask_page = mask_page
        self.token = secrets.token_urlsafe(32)
        self._connections: set[socket.socket] = set()
        try:
            super().__init__((ADDRESS, port), _Handler)
        except OSError as error:
            raise InputError(f"port {port} cannot be used ({error.strerror}); name another one with --port") from None

    @property
    def address(self) -> str:
        """Where the page is."""
        return f"http://{ADDRESS}:{self.server_port}/{self.token}/"

    def process_request(self, request, client_address) -> None:
        """Answer a connection in a thread of its own."""
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request) -> None:
        """Close a connection."""
        self._connections.discard(request)
        super().shutdown_request(request)

    def server_close(self) -> None:
        """Take no more requests, and wait for the answers that are being written."""
        for connection in list(self._connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RD)  # a connection that a browser keeps open ends at once
        super().server_close()

    def handle_error(self, request, client_address) -> None:
        """Ignore a browser that closed the connection."""


class _Handler(BaseHTTPRequestHandler):
    server: ReviewServer
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "deidlib", ""
    timeout = 60

    def do_GET(self) -> None:
        self._answer(self._get)

    def do_POST(self) -> None:
        self._answer(self._post)

    def log_message(self, format: str, *args) -> None:
        """Write no log: its lines would hold the token."""

    def _answer(self, act) -> None:
        try:
            place = self._place()
            if place is None:
                self._send(HTTPStatus.FORBIDDEN, b"Open the whole address that `deidlib review` printed.", "text/plain")
            else:
                act(place)
        except Gone as error:
            self._say(HTTPStatus.NOT_FOUND, error)
        except (Overtaken, views.Changed) as error:
            self._say(HTTPStatus.CONFLICT, error)
        except DeidlibError as error:
            self._say(HTTPStatus.BAD_REQUEST, error)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        except Exception as error:
            self._say(HTTPStatus.INTERNAL_SERVER_ERROR, f"unexpected {type(error).__name__}; nothing was written")

    def _place(self) -> list[str] | None:
        """Path after the token; None for a request that must not be answered."""
        host = self.headers.get("Host", "")
        if urlsplit(f"//{host}").hostname not in _NAMES:
            return None
        origin = self.headers.get("Origin")
        if origin is not None and urlsplit(origin).netloc != host:
            return None
        if self.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
            return None
        token, *rest = urlsplit(self.path).path.removeprefix("/").split("/")
        good = hmac.compare_digest(token.encode(), self.server.token.encode())
        return rest if good and rest else None

    def _get(self, place: list[str]) -> None:
        cohort, reviewer = self.server.cohort, self.server.reviewer
        match place:
            case [""]:
                self._send(HTTPStatus.OK, page().encode(), "text/html; charset=utf-8")
            case [name] if name in _ASSETS:
                self._send(HTTPStatus.OK, asset(name), _ASSETS[name])
            case ["overview"]:
                overview = {
                    "patients": views.overview(cohort, reviewer),
                    "texts": views.texts(),
                    "reviewers": cohort.settings.reviewers,
                    "reviewer": reviewer,
                    "role": self.server.role,
                    "masks": self.server.mask_page is not None,
                }
                self._send_json(overview)
            case ["mask", photo] if self.server.mask_page:
                text = self.server.mask_page(cohort.case(photo).photo)
                self._send(HTTPStatus.OK, text.encode(), "text/html; charset=utf-8", _MASK_POLICY)
            case ["photo", photo]:
                self._send_json(views.detail(cohort, cohort.case(photo), reviewer))
            case [size, photo, which] if size in ("picture", "thumbnail") and which in ("original", "result"):
                self._send_picture(size, photo, which)
            case _:
                raise Gone("there is nothing here")

    def _post(self, place: list[str]) -> None:
        match place:
            case ["decision"]:
                self._take_decision()
            case ["mask", photo] if self.server.mask_page:
                self._take_mask(photo)
            case _:
                raise Gone("there is nothing here")

    def _take_decision(self) -> None:
        try:
            given = json.loads(self._body("application/json", _LARGEST_BODY))
        except ValueError as error:
            if isinstance(error, InputError):
                raise
            given = None
        if not isinstance(given, dict):
            raise InputError("a decision is a JSON object")
        server = self.server
        case = views.decide(server.cohort, given, server.role, server.reviewer)
        self._send_json(views.detail(server.cohort, case, server.reviewer))

    def _take_mask(self, photo: str) -> None:
        cohort = self.server.cohort
        case = cohort.case(photo)
        shape = case.outcome.photo["height"], case.outcome.photo["width"]
        if None in shape:
            raise InputError("this photograph could not be decoded, so no mask can be drawn on it")
        save_mask(cohort.private, case.shard, case.photo, self._body("image/png", _LARGEST_MASK), shape)
        self._send_json({"saved": True})

    def _body(self, kind: str, largest: int) -> bytes:
        if self.headers.get("Content-Type", "").split(";")[0] != kind:
            raise InputError(f"this is sent as {kind}")
        length = self.headers.get("Content-Length", "")
        if not length.isdigit() or int(length) > largest:
            self.close_connection = True
            raise InputError("this is too long for what it should be")
        return self.rfile.read(int(length))

    def _send_picture(self, size: str, photo: str, which: str) -> None:
        cohort = self.server.cohort
        case = cohort.case(photo)
        if which == "original":
            png = cohort.pictures.original(case.shard, case.photo)
        elif case.attempt is None:
            raise Gone("no image was made of this photograph")
        else:
            png = cohort.pictures.result(case.shard, case.attempt, case.photo)
        if size == "picture":
            self._send(HTTPStatus.OK, png, "image/png")
        else:
            self._send(HTTPStatus.OK, cohort.pictures.thumbnail(png), "image/jpeg")

    def _say(self, status: HTTPStatus, error: object) -> None:
        self._send_json({"error": str(error)}, status)

    def _send_json(self, value, status: HTTPStatus = HTTPStatus.OK) -> None:
        self._send(status, json.dumps(value).encode(), "application/json")

    def _send(self, status: HTTPStatus, data: bytes, kind: str, policy: str = POLICY) -> None:
        if status >= HTTPStatus.BAD_REQUEST:
            self.close_connection = True  # what was sent with the request may not have been read
        self.send_response(status)
        for name, value in (_HEADERS | {"Content-Security-Policy": policy}).items():
            self.send_header(name, value)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def page(static: bool = False) -> str:
    """The page's HTML; ``static``: one that takes its data from a file beside it."""
    return templates.render("review/page.html.j2", static=static)


def asset(name: str) -> bytes:
    """Script or style of the page."""
    return (templates.template_folder() / "review" / name).read_bytes()
