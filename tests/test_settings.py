from pathlib import Path

import pytest

from app.problems import WrongSetting
from app.settings import read_settings


def test_defaults() -> None:
    settings = read_settings()
    assert (settings.bind, settings.port, settings.min_similarity) == ("127.0.0.1", 8000, 0.90)
    assert (settings.encoder, settings.database_url, settings.api_keys) == ("auto", None, ())


def test_the_environment_and_dotenv_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("PORT=9000\nTOP_K=5\nENCODER=\n")
    monkeypatch.setenv("PORT", "9001")
    settings = read_settings()
    assert (settings.port, settings.top_k, settings.encoder) == (9001, 5, "auto")


@pytest.mark.parametrize("name", ["DATABASE_URL", "POSTGRES_URL"])
def test_the_database_has_two_names(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "postgres://user:pass@host/db?sslmode=require")
    url = read_settings().database_url
    assert url is not None
    assert url.get_secret_value().startswith("postgres://user")


def test_lists_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_KEYS", "one, two,")
    monkeypatch.setenv("FETCH_ALLOW", "intranet.example,10.0.0.0/8")
    settings = read_settings()
    assert [key.get_secret_value() for key in settings.api_keys] == ["one", "two"]
    assert settings.fetch_allow == ("intranet.example", "10.0.0.0/8")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "http"),
        ("PORT", "70000"),
        ("MIN_SIMILARITY", "90"),
        ("TOP_K", "0"),
        ("PRECISION", "fp16"),
        ("FETCH_ALLOW", "10.0.0.0/99"),
        ("MAX_PIXELS", "-1"),
        ("MAX_UPLOAD_MB", "much"),
        ("FETCH_TIMEOUT_S", "0"),
        ("READ_ACCESS", "none"),
        ("CORS_ORIGINS", "*"),
        ("CORS_ORIGINS", "app.example.com"),
        ("CORS_ORIGINS", "https://app.example.com/"),
        ("CORS_ORIGINS", "null"),
        ("RATE_LIMIT", "60"),
        ("RATE_LIMIT", "4/minute"),
        ("RATE_LIMIT", "60/minute,much/day"),
        ("TRUSTED_HOSTS", "https://photos.example"),
    ],
)
def test_a_wrong_value_names_the_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(WrongSetting) as caught:
        read_settings()
    assert caught.value.detail.startswith(f"{name}: ")
    assert value in caught.value.detail
    assert "\n" not in caught.value.detail


def test_settings_do_not_show_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_KEYS", "hunter2")
    monkeypatch.setenv("DATABASE_URL", "postgres://user:hunter2@host/db")
    assert "hunter2" not in repr(read_settings())
