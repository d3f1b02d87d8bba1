"""No credential is told, however an error writes the address that it stands in."""

from __future__ import annotations

import random

import pytest

from trimtab_storage._redaction import told

SECRETS = ("minio", "hunter2", "s3cret")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("no https://minio:hunter2@store.local:9000/b", "no https://…@store.local:9000/b"),
        ("no HTTPS://hunter2@store.local", "no HTTPS://…@store.local"),
        ("no https://minio:hunter2@s3cret@store.local", "no https://…@store.local"),
        ("no https://minio:hunter2/s3cret@store.local", "no https://…@store.local"),
        ("no https://minio:hunter2?s3cret#@store.local", "no https://…@store.local"),
        ("no https://minio:hunter2 s3cret@store.local", "no https://…@store.local"),
        ("no https://:hunter2@[::1]:9000/b", "no https://…@[::1]:9000/b"),
        ("no https://minio:hunter2%40s3cret@store.local", "no https://…@store.local"),
        ('{"url": "https:\\/\\/minio:hunter2@store"}', '{"url": "https:\\/\\/…@store"}'),
        ("at to=https%3A%2F%2Fminio%3Ahunter2%40store", "at to=https%3A%2F%2F…@store"),
        ("https%253A%252F%252Fminio%253Ahunter2%2540store", "https%253A%252F%252F…@store"),
        ("https://a.b, then https://minio:hunter2@store.local", "https://…@store.local"),
        ("no proxy minio:hunter2@proxy.local:3128", "no proxy …@proxy.local:3128"),
        ("no https://minio:hunter2", "no https://…"),
        ("no https://minio:123hunter2...", "no https://…"),
        ("no https://x.local/b?sig=hunter2&a=s3cret", "no https://x.local/b?…"),
    ],
)
def test_user_and_password_are_left_out(text: str, line: str) -> None:
    assert told(OSError(text)) == f"OSError: {line}"
    assert told(OSError(f"{text}\nhunter2")) == f"OSError: {line}"


@pytest.mark.parametrize(
    "text",
    [
        "Could not connect to the endpoint URL: http://127.0.0.1:5000/models/x",
        "Could not connect to http://store.local:9000.",
        "Could not connect to http://[::1]:9000, after 4 tries",
        "Cannot connect to host store.local:443 ssl:default [Name or service not known]",
        "https://store.local: timed out",
        "file:///mnt/a: not there",
    ],
)
def test_where_it_failed_is_told(text: str) -> None:
    assert told(OSError(text)) == f"OSError: {text}"


@pytest.mark.parametrize("name", ["AWS_ENDPOINT_URL", "HTTPS_PROXY", "all_proxy"])
def test_what_the_environment_holds_is_known(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "https://minio:hunter2%20s3cret@store.local:9000/bucket")
    assert told(OSError("user minio:hunter2%20s3cret at x")) == "OSError: user … at x"
    assert told(OSError("the password hunter2 s3cret is no good")) == (
        "OSError: the password … is no good"
    )
    monkeypatch.setenv("https_proxy", "minio:hunter2\ns3cret@proxy.local")
    assert told(OSError("no //minio:hunter2\ns3cret@proxy.local")) == "OSError: no //…@proxy.local"


def test_a_secret_that_is_a_part_of_another_leaves_nothing_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("A_KEY", "hunter2")
    monkeypatch.setenv("B_KEY", "hunter2-s3cret")
    assert told(OSError("key hunter2-s3cret is bad")) == "OSError: key … is bad"


def test_long_errors_are_cut_without_telling_more(rng: random.Random) -> None:
    for _ in range(50):
        start = "x" * rng.randrange(400)
        line = told(OSError(f"{start} https://minio:hunter2@store.local " + "y" * 10**5))
        assert len(line) <= 310
        assert not any(secret in line for secret in SECRETS)
    assert told(OSError("a:" * 10**5))
