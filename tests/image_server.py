"""A server on loopback that does what servers of images do, and worse, for several tests."""

from collections import Counter
import contextlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
import io
import socket
import threading
import time

import numpy as np
from PIL import Image

from tests.encoded_images import encoded, many_scans

# Seconds that a downloader under test waits for an answer.
TIMEOUT = 2.0


def jpeg(seed=0, size=(40, 30)):
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, "JPEG")
    return encoded.getvalue()


IMAGE = jpeg()
PLACEHOLDER = jpeg(99)
# An image of many pixels in few bytes.
BOMB = io.BytesIO()
Image.new("L", (9000, 9000)).save(BOMB, "PNG")
# One of few pixels and much work; and an image with more of a comment than fits into a JPEG.
SCANS = many_scans((900, 900), 30)
COMMENTED = encoded(Image.new("P", (40, 30), 2), "GIF", comment=b"!" * 70_000)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, body, status=200, length=None, **headers):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        server = self.server
        with server.lock:
            server.seen[self.path] += 1
            seen = server.seen[self.path]
            server.active += 1
            server.most = max(server.most, server.active)
        try:
            self.serve(self.path.split("?")[0].removeprefix("/").split("/")[0], seen)
        except (BrokenPipeError, ConnectionResetError):
            pass
        finally:
            with server.lock:
                server.active -= 1

    def serve(self, kind, seen):
        if kind == "slow":
            time.sleep(TIMEOUT + 1)
            self.answer(IMAGE)
        elif kind == "delayed":
            time.sleep(0.2)
            self.answer(IMAGE)
        elif kind == "gated":
            self.server.gate.wait(60)
            self.answer(IMAGE)
        elif kind == "elsewhere":  # another user's, on this server
            path = self.path.removeprefix("/elsewhere/")
            self.answer(b"", 302, Location=f"http://user{path}@127.0.0.1:{self.server.server_port}/delayed/{path}")
        elif kind == "scans":
            self.answer(SCANS)
        elif kind == "commented":
            self.answer(COMMENTED)
        elif kind == "truncated":
            self.answer(IMAGE[:-200], length=len(IMAGE))
            self.close_connection = True
        elif kind == "longer":  # than it says
            self.answer(IMAGE, length=len(IMAGE) // 2)
            self.close_connection = True
        elif kind == "missing":
            self.answer(b"no", 404)
        elif kind == "gone":
            self.answer(b"no", 410)
        elif kind == "busy":
            self.answer(*((b"", 429) if seen == 1 else (IMAGE,)), **({"Retry_After": "1"} if seen == 1 else {}))
        elif kind == "always_busy":
            self.answer(b"", 429, Retry_After="9999")
        elif kind == "later":
            self.answer(b"", 429, Retry_After="100")
        elif kind == "never":
            self.answer(b"", 429, Retry_After="Mon, 01 Jan 99999999999999999999 00:00:00 GMT")
        elif kind == "nowhere":
            self.answer(b"", 503, Retry_After="Mon, 01 Jan 2035 00:00:00 +99999999999999")
        elif kind == "down":
            self.answer(*((b"", 503) if seen == 1 else (IMAGE,)))
        elif kind == "loop":
            self.answer(b"", 302, Location=self.path)
        elif kind == "private":
            self.answer(b"", 302, Location=f"http://127.0.0.2:{self.server.server_port}/fine/secret")
        elif kind == "no_redirect":
            self.answer(b"", 302, Location="http://[::bad")
        elif kind == "file_redirect":
            self.answer(b"", 302, Location="file:///etc/passwd")
        elif kind == "moved":
            self.answer(b"", 301, Location="/fine/moved")
        elif kind == "html":
            self.answer(b"<!DOCTYPE html><title>hello</title>", Content_Type="image/jpeg")
        elif kind == "gigantic":
            self.answer(b"", length=10**12)
            self.close_connection = True
        elif kind == "endless":
            self.send_response(200)
            self.end_headers()
            while True:
                self.wfile.write(IMAGE * 100)
        elif kind == "trickle":
            self.send_response(200)
            self.end_headers()
            while True:
                self.wfile.write(b"\xff")
                time.sleep(0.05)
        elif kind == "bomb":
            self.answer(BOMB.getvalue())
        elif kind == "placeholder":
            self.answer(PLACEHOLDER)
        elif kind == "flickr":
            self.answer(b"", 302, Location="/pw/images/en-us/photo_unavailable.png")
        elif kind == "empty":
            self.answer(b"")
        elif kind == "hangup":
            self.close_connection = True
            self.connection.close()
        elif kind == "numbered":
            self.answer(jpeg(int(self.path.rsplit("/", 1)[1])))
        else:
            self.answer(IMAGE)


class Server(ThreadingHTTPServer):
    request_queue_size = 256
    daemon_threads = True

    def handle_error(self, *_):
        pass  # clients that hang up

    def process_request(self, request, address):
        with self.lock:
            self.connections.add(request)
            self.most_open = max(self.most_open, sum(map(_is_open, self.connections)))
        super().process_request(request, address)

    def shutdown_request(self, request):
        with self.lock:
            self.connections.discard(request)
        super().shutdown_request(request)


def _is_open(connection):
    """Whether the client has not closed a connection yet: its thread here may hear of that a moment later."""
    try:
        return connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False


@contextlib.contextmanager
def image_server(host="127.0.0.1"):
    """Runs a server. Its `url`, how often each path was `seen`, the `most` requests and `most_open` connections at a
    time, and the `gate` that holds some answers back.
    """
    running = Server((host, 0), Handler)
    running.lock, running.seen, running.gate = threading.Lock(), Counter(), threading.Event()
    running.active = running.most = running.most_open = 0
    running.connections = set()
    running.url = f"http://{host}:{running.server_port}"
    threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield running
    running.gate.set()
    running.shutdown()
    running.server_close()
