"""Settings, read once from the environment and `.env`."""

import ipaddress
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AliasChoices, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from app.problems import WrongSetting

VERSION = version("lookalike")


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
    encoder: str = Field(
        "auto",
        description="auto, builtin, lite, clip, a Hugging Face hub id, a folder, or "
        "llamaindex:NAME. auto keeps the index's encoder; a new index gets clip if available, else "
        "builtin.",
    )
    precision: Literal["auto", "fp32", "int8"] = Field(
        "auto", description="fp32, int8, or auto: int8 if its vectors agree with those of fp32."
    )
    min_similarity: float = Field(
        0.90,
        ge=-1,
        le=1,
        description="Lowest cosine similarity of a result when searching by one whole image "
        "(inclusive). A request may ask for another.",
    )
    top_k: int = Field(100, ge=1, le=1000, description="Most results per search.")
    api_keys: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        (),
        description="Keys that may change the index, separated by commas. "
        "If unset, only clients on this machine may.",
    )
    fetch_allow: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Host names, IP addresses or CIDRs that may be fetched although they are not "
        "public, separated by commas.",
    )
    fetch_timeout_s: float = Field(
        20, gt=0, description="Time limit for fetching one URL, in seconds."
    )
    max_upload_mb: float = Field(20, gt=0, description="Largest image file, in megabytes.")
    max_pixels: int = Field(100_000_000, gt=0, description="Most pixels in one image.")
    media_url: str | None = Field(
        None,
        description="Where uploads are stored: a folder or any fsspec URL. If unset, "
        "DATA_DIR/media.",
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

    @field_validator("api_keys", "fetch_allow", mode="before")
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

    @property
    def max_upload_bytes(self) -> int:
        """The largest image file, in bytes."""
        return int(self.max_upload_mb * 1_000_000)


def read_settings(**overrides: object) -> Settings:
    """Read the environment and `.env`; `overrides` win.

    Raises `WrongSetting` with one line that names the first wrong variable.
    """
    try:
        return Settings(**overrides)  # pyright: ignore[reportArgumentType]
    except ValidationError as exc:
        first = exc.errors(include_url=False, include_context=False)[0]
        name = str(first["loc"][0]).upper()
        secret = name in {"DATABASE_URL", "POSTGRES_URL", "API_KEYS", "CAPTION_KEY"}
        given = "" if secret else f" (given: {first['input']!r})"
        raise WrongSetting(f"{name}: {first['msg']}{given}") from exc
