"""The outside world: an image host that can do everything wrong that a host can."""

import asyncio
import hashlib
from base64 import b64decode
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

from PIL import Image
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from tests.samples import encode, png


class RawHost:
    """Answers each path with the bytes given for it, and keeps the heads of requests."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.answers: dict[str, bytes] = {}
        self.heads: list[bytes] = []

    def url(self, path: str) -> str:
        return f"{self.address}/{path}"

    def add(self, path: str, *headers: str | bytes, body: bytes = b"", status: str = "200") -> str:
        """Answer with these header lines and this body, and return the URL."""
        given = [line.encode() if isinstance(line, str) else line for line in headers]
        length = f"Content-Length: {len(body)}".encode()
        lines = [f"HTTP/1.1 {status} So".encode(), *given, length, b"Connection: close"]
        self.answers[path] = b"\r\n".join(lines) + b"\r\n\r\n" + body
        return self.url(path)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.heads.append(head)
        path = head.split(b" ")[1].decode().lstrip("/")
        writer.write(self.answers.get(path, b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n"))
        # Whoever asked may have heard enough.
        with suppress(ConnectionError):
            await writer.drain()
        writer.close()


@asynccontextmanager
async def raw_host() -> AsyncGenerator[RawHost]:
    """Run a host whose answers may be no HTTP at all."""
    host = RawHost("")
    server = await asyncio.start_server(host.answer, "127.0.0.1", 0)
    host.address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield host


class ImageHost:
    """Serves `pictures` by name, and counts the requests (`asked`) and bodies (`sent`)."""

    def __init__(self) -> None:
        self.address = ""
        self.pictures: dict[str, bytes] = {}
        self.lists: dict[str, tuple[bytes, str]] = {}
        self.password, self.refusal = "me:hunter2", 401
        self.asked: Counter[str] = Counter()
        self.sent: Counter[str] = Counter()
        self.now = 0
        self.most_at_once = 0
        self.troubles: dict[str, list[tuple[int, dict[str, str]]]] = {}
        self.open = asyncio.Event()
        self.waiting = 0

    async def waited_for(self, requests: int) -> None:
        """Wait until this many requests wait for the gate to open."""
        while self.waiting < requests:  # noqa: ASYNC110
            await asyncio.sleep(0.005)

    def url(self, path: str) -> str:
        return f"{self.address}/{path}"

    def add(self, name: str, data: bytes) -> str:
        """Serve `data` and return its URL."""
        self.pictures[name] = data
        return self.url(f"pictures/{name}")

    def add_list(self, name: str, data: bytes, media_type: str = "text/plain") -> str:
        """Serve a list of URLs and return its URL."""
        self.lists[name] = (data, media_type)
        return self.url(f"lists/{name}")

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/pictures/{name}", self.picture),
                Route("/seed/{seed:int}.png", self.seed),
                Route("/tiny/{seed:int}.bmp", self.tiny),
                Route("/troubled/{name}/{picture}", self.troubled),
                Route("/status/{status:int}", self.status),
                Route("/never", self.never),
                Route("/drip", self.drip),
                Route("/large", self.large),
                Route("/declared/{length:int}", self.declared),
                Route("/html", self.html),
                Route("/cut", self.cut),
                Route("/hops/{count:int}", self.hops),
                Route("/to", self.to),
                Route("/locked/{name}", self.locked),
                Route("/padded/{padding:path}", self.padded),
                Route("/lists/{name}", self.list),
                Route("/together/{expected:int}/{name}", self.together),
            ]
        )

    async def picture(self, request: Request) -> Response:
        name = request.path_params["name"]
        self.asked[name] += 1
        if name not in self.pictures:
            return PlainTextResponse("no such picture", 404)
        if "gate" in request.query_params:
            self.waiting += 1
            await self.open.wait()
            self.waiting -= 1
        data = self.pictures[name]
        etag = f'"{hashlib.sha256(data).hexdigest()}"'
        headers = {"etag": etag} if "etag" in request.query_params else {}
        if headers and request.headers.get("if-none-match") == etag:
            return Response(status_code=304, headers=headers)
        self.sent[name] += 1
        return Response(data, headers=headers)

    async def troubled(self, request: Request) -> Response:
        """Answer with the name's troubles, one per request, and then with the picture."""
        name = request.path_params["name"]
        self.asked[name] += 1
        if self.troubles.get(name):
            status, headers = self.troubles[name].pop(0)
            return PlainTextResponse("not now", status, headers)
        return Response(self.pictures[request.path_params["picture"]])

    async def seed(self, request: Request) -> Response:
        if "slow" in request.query_params:
            await asyncio.sleep(0.02)
        return Response(png(request.path_params["seed"]), media_type="image/png")

    async def tiny(self, request: Request) -> Response:
        """A picture of one colour, different for each seed."""
        colour = request.path_params["seed"].to_bytes(3, "little")
        return Response(encode(Image.new("RGB", (8, 8), tuple(colour)), "BMP"))

    async def status(self, request: Request) -> Response:
        return PlainTextResponse("as you wish", request.path_params["status"])

    async def never(self, request: Request) -> Response:
        await asyncio.Event().wait()
        raise AssertionError

    async def drip(self, request: Request) -> Response:
        async def drops() -> AsyncGenerator[bytes]:
            yield png(1)[:100]
            await asyncio.Event().wait()

        return StreamingResponse(drops())

    async def large(self, request: Request) -> Response:
        async def flood() -> AsyncGenerator[bytes]:
            for _ in range(200):
                yield b"\x89PNG" * 16_384

        return StreamingResponse(flood())

    async def declared(self, request: Request) -> Response:
        length = str(request.path_params["length"])
        return Response(b"", headers={"content-length": length})

    async def html(self, request: Request) -> Response:
        return Response("<h1>Not a picture</h1>", media_type="text/html")

    async def cut(self, request: Request) -> Response:
        data = png(1)
        return Response(data[: len(data) // 5], media_type="image/png")

    async def hops(self, request: Request) -> Response:
        count = request.path_params["count"]
        return RedirectResponse("/seed/1.png" if count == 0 else f"/hops/{count - 1}")

    async def to(self, request: Request) -> Response:
        return RedirectResponse(request.query_params["url"])

    async def locked(self, request: Request) -> Response:
        """A picture for those who know the password."""
        kind, _, said = request.headers.get("authorization", "").partition(" ")
        if b64decode(said if kind == "Basic" else "").decode() != self.password:
            return PlainTextResponse("who are you?", self.refusal)
        return await self.picture(request)

    async def padded(self, request: Request) -> Response:
        """A picture at URLs of any length."""
        return Response(png(len(request.path_params["padding"]) % 100))

    async def list(self, request: Request) -> Response:
        name = request.path_params["name"]
        self.asked[name] += 1
        if name not in self.lists:
            return PlainTextResponse("no such list", 404)
        data, media_type = self.lists[name]
        return Response(data, headers={"content-type": media_type})

    async def together(self, request: Request) -> Response:
        """Answer once `expected` requests are here at once, and record the most at once."""
        self.now += 1
        self.most_at_once = max(self.most_at_once, self.now)
        while self.most_at_once < request.path_params["expected"]:  # noqa: ASYNC110
            await asyncio.sleep(0)
        for _ in range(50):
            await asyncio.sleep(0)
        self.now -= 1
        return Response(png(1))
