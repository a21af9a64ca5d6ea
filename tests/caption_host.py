"""A server with OpenAI's chat protocol that describes images by their colour."""

import base64
import json
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

from PIL import Image
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from app.pictures.colours import dominant_colours

TOKENS = 100


@dataclass
class CaptionHost:
    """Records its requests; `troubles` are answers to give instead of descriptions, in order."""

    address: str = ""
    asked: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    troubles: list[Response | str] = field(default_factory=list)

    def app(self) -> Starlette:
        return Starlette(routes=[Route("/v1/chat/completions", self.chat, methods=["POST"])])

    async def chat(self, request: Request) -> Response:
        body = await request.json()
        self.asked.append(body)
        self.keys.append(request.headers["authorization"])
        trouble = self.troubles.pop(0) if self.troubles else None
        if isinstance(trouble, Response):
            return trouble
        text = trouble if isinstance(trouble, str) else self.describe(body)
        return JSONResponse(
            {
                "id": "chat-1",
                "object": "chat.completion",
                "created": 1,
                "model": body["model"],
                "choices": [
                    {
                        "index": 0,
                        "finish_reason": "stop",
                        "message": {"role": "assistant", "content": text},
                    }
                ],
                "usage": {
                    "prompt_tokens": TOKENS - 20,
                    "completion_tokens": 20,
                    "total_tokens": TOKENS,
                },
            }
        )

    def describe(self, body: dict[str, Any]) -> str:
        [url] = [
            part["image_url"]["url"]
            for part in body["messages"][-1]["content"]
            if part["type"] == "image_url"
        ]
        image = Image.open(BytesIO(base64.b64decode(url.partition("base64,")[2])))
        colour = dominant_colours(image.convert("RGB"))[0]["name"]
        caption = {"title": f"Something {colour}", "description": f"A plain {colour} surface."}
        return f"```json\n{json.dumps(caption)}\n```"
