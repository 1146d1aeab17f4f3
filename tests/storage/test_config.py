"""The project's own settings of DVC are in git, so that nothing that opens a remote may stand there."""

import configparser
from pathlib import Path

import pytest

CONFIG = Path(__file__).resolve().parents[2] / ".dvc" / "config"
# What DVC's remotes call their secrets: S3, Azure, Google, OSS, SSH, HTTP and WebDAV, HDFS.
SECRETS = {
    "access_key_id", "secret_access_key", "session_token", "connection_string", "sas_token", "account_key",
    "client_secret", "oss_key_id", "oss_key_secret", "password", "passphrase", "token", "custom_auth_header",
    "gdrive_client_secret", "hdfs_token", "sse_customer_key",
}  # fmt: skip


def secrets_in(text: str) -> list[str]:
    """Name the secrets in settings: options, and passwords in addresses."""
    settings = configparser.ConfigParser(interpolation=None, strict=False)
    settings.read_string("\n".join(line.strip() for line in text.splitlines()))
    options = [(name, value) for part in settings.sections() for name, value in settings.items(part)]
    return [name for name, value in options if name in SECRETS or has_password(value)]


def has_password(value: str) -> bool:
    """Tell whether an address has something after a colon, before its @."""
    person = value.partition("://")[2].rpartition("@")[0]
    return ":" in person


def test_no_secret_is_in_the_settings_that_git_has() -> None:
    assert secrets_in(CONFIG.read_text()) == []


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("secret_access_key = x", ["secret_access_key"]),
        ("url = ssh://me:word@host/store", ["url"]),
        ("url = ssh://me@host:22/store", []),
        ("url = s3://bucket/store", []),
        ("endpointurl = http://127.0.0.1:9000", []),
    ],
)
def test_what_a_secret_looks_like(line: str, found: list[str]) -> None:
    assert secrets_in(f"[core]\n    remote = storage\n['remote \"storage\"']\n    {line}\n") == found
