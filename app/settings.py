"""Settings, read once from the environment and `.env`."""

import ipaddress
import re
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AliasChoices,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from app.problems import WrongSetting

VERSION = version("lookalike")

_RATE_LIMIT = re.compile(r"([0-9]{1,9})/(second|minute|hour|day)")
_SECRETS = {
    "DATABASE_URL",
    "POSTGRES_URL",
    "DATABASE_READ_URL",
    "API_KEYS",
    "CAPTION_KEY",
    "RATE_LIMIT_URL",
    "MILVUS_TOKEN",
    "MILVUS_URL",
}

# What one request that decodes counts as.
LEAST_LIMIT = 5

_ORIGIN = re.compile(r"https?://[a-z0-9.-]+(:[0-9]{1,5})?|https?://\[[0-9a-f:]+\](:[0-9]{1,5})?")
_HOST = re.compile(r"(\*\.)?[\w.-]+|[0-9A-Fa-f:]+", re.ASCII)


class Settings(BaseSettings):
    """The settings; `.env.example` is the same list with the defaults."""

    model_config = SettingsConfigDict(
        env_file=".env", env_ignore_empty=True, extra="ignore", frozen=True, populate_by_name=True
    )

    bind: str = Field("127.0.0.1", description="Address to listen on; 0.0.0.0 for all interfaces.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on.")
    data_dir: Path = Field(
        Path("data"), description="Folder for the embedded database, uploads and converted models."
    )
    database_url: SecretStr | None = Field(
        None,
        validation_alias=AliasChoices("DATABASE_URL", "POSTGRES_URL"),
        description="A Postgres with pgvector, as postgres://…; POSTGRES_URL works too. "
        "If unset, an embedded Postgres runs under DATA_DIR.",
    )
    database_read_url: SecretStr | None = Field(
        None,
        description="A streaming replica of that Postgres, which searches read while it is less "
        "than 5 seconds behind. If unset, they read DATABASE_URL.",
    )
    encoder: str = Field(
        "auto",
        description="auto, builtin, lite, clip, a Hugging Face hub id, a folder, or "
        "llamaindex:NAME: what sees what an image shows. auto keeps the index's encoder; a new "
        "index gets clip if available, else lite.",
    )
    vector_index: Literal["auto", "halfvec", "bit", "milvus"] = Field(
        "auto",
        description="The kind of a new index of vectors: halfvec, bit (a quarter of its size, "
        "slower searches), milvus (at MILVUS_URL), or auto: halfvec while it fits the database's "
        "memory. `lookalike vectors rebuild` makes another one of an index that there is.",
    )
    milvus_url: str | None = Field(
        None,
        pattern=r"^https?://[^/@\s]+/?$",
        description="A Milvus for VECTOR_INDEX=milvus, as http://host:19530, or https:// for TLS. "
        "Each server and worker of an index in Milvus needs it.",
    )
    milvus_token: SecretStr | None = Field(
        None, description="Its token, or a user and password as user:password."
    )
    milvus_database: str = Field("default", description="The database there.")
    copy_encoder: Literal["builtin", "off"] = Field(
        "builtin",
        description="The encoder that knows the same image again, however altered: builtin, or "
        "off for one vector per image, that of ENCODER.",
    )
    precision: Literal["auto", "fp32", "int8"] = Field(
        "auto", description="fp32, int8, or auto: int8 if its vectors agree with those of fp32."
    )
    faces: Literal["off", "boxes", "attributes", "vectors"] = Field(
        "off",
        description="What to keep of the faces in images: off, boxes, attributes (with guesses of "
        "age and gender), or vectors (to search by a face, and for people). docs/faces.md says "
        "what that means in law.",
    )
    providers: Literal["auto", "cpu", "cuda", "coreml", "openvino"] = Field(
        "auto",
        description="The processor that embeds images: cpu, cuda, coreml, openvino, or auto: cuda "
        "if it is there and agrees with the CPU, else cpu.",
    )
    min_similarity: float = Field(
        0.90,
        ge=-1,
        le=1,
        description="Lowest cosine similarity of a result when searching by one whole image "
        "(inclusive). A request may ask for another. Where images have two vectors, there is none "
        "unless it is set.",
    )
    verify_ms: float = Field(
        150,
        ge=0,
        description="Most milliseconds that a search spends on comparing its query image with the "
        "nearest images in detail.",
    )
    top_k: int = Field(100, ge=1, le=1000, description="Most results per search.")
    api_keys: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        (),
        description="Keys that may read and change the index, separated by commas, beside those of "
        "`lookalike keys`. If there are none, only clients on this machine may change it.",
    )
    read_access: Literal["auto", "public", "key"] = Field(
        "auto",
        description="Who may search: public (everyone), key (only with a key), or auto: everyone, "
        "unless there are no keys and BIND is a loopback address; then only clients on this "
        "machine.",
    )
    trusted_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Host names that this server answers to, beside localhost, separated by "
        "commas; *.example.com for all below example.com. If unset, any, within READ_ACCESS.",
    )
    forwarded_allow_ips: str = Field(
        "127.0.0.1",
        description="Addresses or CIDRs of proxies whose X-Forwarded-For and X-Forwarded-Proto "
        "are believed, separated by commas.",
    )
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Origins, such as https://app.example.com, whose pages may use the API from a "
        "browser, separated by commas; * for all. If unset, none.",
    )
    rate_limit: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Most requests of one client, such as 60/minute or 60/minute,5000/day; a "
        "request that decodes images counts as 5. If unset, any number.",
    )
    rate_limit_url: SecretStr | None = Field(
        None,
        description="A Redis, as redis://…, that counts for several servers together. If unset, "
        "each counts for itself.",
    )
    fetch_allow: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Host names, IP addresses or CIDRs that may be fetched although they are not "
        "public, separated by commas.",
    )
    fetch_timeout_s: float = Field(
        20, gt=0, description="Time limit for fetching one URL, in seconds."
    )
    search_timeout_s: float = Field(
        30,
        gt=0,
        description="Time limit for one search with all its URLs, in seconds.",
    )
    max_upload_mb: float = Field(20, gt=0, description="Largest image file, in megabytes.")
    max_pixels: int = Field(100_000_000, gt=0, description="Most pixels in one image.")
    max_decoded_mb: float = Field(
        1000,
        ge=50,
        description="Most memory for images being decoded, for one and for all at once, in "
        "megabytes. Images wait for it, queries first.",
    )
    request_timeout_s: float = Field(
        30,
        gt=0,
        description="Seconds in which the head of a request must arrive, and its body, which has "
        "another second per 10 kB.",
    )
    max_connections: int = Field(1000, ge=1, description="Most open connections.")
    max_connections_per_client: int = Field(
        100, ge=1, description="Most open connections of one address that is no trusted proxy."
    )
    max_requests: int = Field(
        256, ge=1, description="Most requests being answered at once, event streams apart."
    )
    max_requests_per_client: int = Field(
        100, ge=1, description="Most of them of one address (of one /64 of IPv6)."
    )
    media_url: str | None = Field(
        None,
        description="Where uploads are stored: a folder or any fsspec URL. If unset, "
        "DATA_DIR/media.",
    )
    thumbnails: Literal["auto", "database", "media"] = Field(
        "auto",
        description="Where new thumbnails are stored: database, media (files in MEDIA_URL), or "
        "auto: media for a new index whose MEDIA_URL is a bucket, else database. `lookalike media "
        "move` moves those that there are.",
    )
    thumbnail_redirects: bool = Field(
        False,
        description="Whether browsers load thumbnails in MEDIA_URL from the bucket itself, by URLs "
        "signed for an hour; otherwise this server sends them.",
    )

    worker: bool = Field(
        True,
        description="Whether the server works on jobs too; otherwise only `lookalike worker` does.",
    )
    worker_timeout_s: float = Field(
        30,
        ge=0.3,
        description="Seconds without a sign of life after which a worker counts as dead and "
        "others take over its work.",
    )
    retry_s: float = Field(
        2,
        gt=0,
        description="Seconds before a failed fetch of a job is retried; doubled for each further "
        "attempt.",
    )

    job_days: float = Field(
        30,
        gt=0,
        description="Days for which a job and its items are kept after it has ended.",
    )

    trash_days: float = Field(
        30, gt=0, description="Days after which images in the trash are deleted for good."
    )

    caption_model: str | None = Field(
        None,
        description="A vision model that writes titles and descriptions. If unset, no image "
        "leaves this machine.",
    )
    caption_url: str = Field(
        "http://localhost:11434/v1",
        description="The model's server, which must support OpenAI's chat API (Ollama, vLLM, …).",
    )
    caption_key: SecretStr | None = Field(None, description="API key for that server.")
    caption_rate: float = Field(60, gt=0, description="Most captions per minute.")
    caption_tokens: int = Field(1_000_000, gt=0, description="Most tokens per caption job.")

    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="The lowest level that is logged: debug, info, warning or error."
    )
    log_format: Literal["text", "json"] = Field(
        "text", description="text for people, or json: one object per line."
    )
    metrics_port: int | None = Field(
        None,
        ge=0,
        le=65535,
        description="Port on which `lookalike worker` offers /metrics. If unset, it offers none; "
        "the server does on its own port.",
    )

    @field_validator(
        "log_level", "log_format", "providers", "vector_index", "thumbnails", mode="before"
    )
    @classmethod
    def _lower(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    @field_validator(
        "api_keys", "cors_origins", "fetch_allow", "rate_limit", "trusted_hosts", mode="before"
    )
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("fetch_allow")
    @classmethod
    def _check_networks(cls, entries: tuple[str, ...]) -> tuple[str, ...]:
        for entry in entries:
            if "/" in entry:
                ipaddress.ip_network(entry)
        return entries

    @field_validator("cors_origins")
    @classmethod
    def _check_origins(cls, origins: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        for origin in origins:
            if origin != "*" and not _ORIGIN.fullmatch(origin):
                raise ValueError(f"{origin} is not an origin like https://app.example.com")
        if "*" in origins and info.data.get("read_access") == "auto":
            raise ValueError("* needs READ_ACCESS=public or READ_ACCESS=key")
        return origins

    @field_validator("rate_limit")
    @classmethod
    def _check_limits(cls, limits: tuple[str, ...]) -> tuple[str, ...]:
        for limit in limits:
            found = _RATE_LIMIT.fullmatch(limit)
            if found is None or int(found[1]) < LEAST_LIMIT:
                raise ValueError(
                    f"{limit} is not a limit like 60/minute, of at least {LEAST_LIMIT} per second, "
                    "minute, hour or day"
                )
        return limits

    @field_validator("trusted_hosts")
    @classmethod
    def _check_hosts(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        for host in hosts:
            if not _HOST.fullmatch(host):
                raise ValueError(f"{host} is not a host name; leave out the port and the scheme")
        return tuple(host.lower() for host in hosts)

    @property
    def max_upload_bytes(self) -> int:
        """The largest image file, in bytes."""
        return int(self.max_upload_mb * 1_000_000)

    @property
    def max_decoded_bytes(self) -> int:
        """The memory for images being decoded, in bytes."""
        return int(self.max_decoded_mb * 1_000_000)


def read_settings(**overrides: object) -> Settings:
    """Read the environment and `.env`; `overrides` win.

    Raises `WrongSetting` with one line that names the first wrong variable.
    """
    try:
        return Settings(**overrides)  # pyright: ignore[reportArgumentType]
    except ValidationError as exc:
        first = exc.errors(include_url=False, include_context=False)[0]
        name = str(first["loc"][0]).upper()
        secret = name in _SECRETS
        given = "" if secret else f" (given: {first['input']!r})"
        raise WrongSetting(f"{name}: {first['msg']}{given}") from exc
