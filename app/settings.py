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
    """What the operator chose; see `.env.example` for the same list with examples."""

    model_config = SettingsConfigDict(
        env_file=".env", env_ignore_empty=True, extra="ignore", frozen=True, populate_by_name=True
    )

    bind: str = Field("127.0.0.1", description="Address to listen on; 0.0.0.0 for every interface.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on.")
    data_dir: Path = Field(
        Path("data"), description="Folder of the embedded database, uploads and prepared models."
    )
    database_url: SecretStr | None = Field(
        None,
        validation_alias=AliasChoices("DATABASE_URL", "POSTGRES_URL"),
        description="A Postgres with pgvector, as postgres://…; also read from POSTGRES_URL. "
        "Without it, an embedded Postgres runs under DATA_DIR.",
    )
    encoder: str = Field(
        "auto",
        description="auto, builtin, clip, a Hugging Face hub id, a folder, or llamaindex:NAME.",
    )
    precision: Literal["auto", "fp32", "int8"] = Field(
        "auto", description="auto keeps int8 where it agrees with fp32, and fp32 elsewhere."
    )
    min_similarity: float = Field(
        0.90, ge=-1, le=1, description="Default lowest cosine similarity of a result."
    )
    top_k: int = Field(100, ge=1, le=1000, description="Most results of one search.")
    api_keys: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        (),
        description="Keys that may change the index, separated by commas. "
        "Without any, only clients on this machine may.",
    )
    fetch_allow: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Host names or CIDRs that may be fetched although they are not public, "
        "separated by commas.",
    )
    fetch_timeout_s: float = Field(20, gt=0, description="Longest time for fetching one URL.")
    max_upload_mb: float = Field(20, gt=0, description="Largest picture file, in megabytes.")
    max_pixels: int = Field(100_000_000, gt=0, description="Most pixels of one picture.")
    media_url: str | None = Field(
        None,
        description="Where uploads are kept: a folder or any fsspec URL. DATA_DIR/media if unset.",
    )

    worker: bool = Field(
        True, description="Whether the server works on jobs itself; `lookalike worker` does too."
    )
    worker_timeout_s: float = Field(
        30, ge=0.3, description="A worker not heard of for so long is dead; others take over."
    )
    retry_s: float = Field(
        2, gt=0, description="Wait before a failed fetch of a job is tried again; then doubled."
    )

    caption_model: str | None = Field(
        None,
        description="A vision model that writes titles and descriptions. Without one, no picture "
        "leaves this machine.",
    )
    caption_url: str = Field(
        "http://localhost:11434/v1",
        description="The model's server, which speaks OpenAI's chat protocol (Ollama, vLLM, …).",
    )
    caption_key: SecretStr | None = Field(None, description="The key for that server.")
    caption_rate: float = Field(60, gt=0, description="Most captions per minute.")
    caption_tokens: int = Field(
        1_000_000, gt=0, description="Most tokens that one caption job may use."
    )

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
        """The largest picture file, in bytes."""
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
