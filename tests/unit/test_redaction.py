"""What looks like a secret is not shown; what does not is left alone."""

import pytest

from processes.redaction import DEFAULT, REDACTED, redaction_of

SECRET = "hunter2"  # noqa: S105  it is to be found nowhere


@pytest.mark.parametrize(
    "name",
    ["password", "DB_PASSWORD", "dbPassword", "passwd", "client_secret", "token", "api_token", "accessToken", "api_key",
     "apikey", "Authorization", "credentials", "cookie", "session_cookies", "private_key", "dsn", "passphrase", "pwd"],
)  # fmt: skip
def test_name_makes_a_value_secret(name: str) -> None:
    """The words that people use for them, in every case and as a part of a name."""
    assert DEFAULT.value(name, repr(SECRET)) == REDACTED


@pytest.mark.parametrize("name", ["tokenizer", "secretary", "key", "user", "path", "passes", "cookiecutter", "n"])
def test_name_that_only_resembles_one_is_shown(name: str) -> None:
    """A word within another word is another word."""
    assert DEFAULT.value(name, "'value'") == "'value'"


@pytest.mark.parametrize("text", ["None", "True", "''"])
def test_absence_of_a_secret_is_shown(text: str) -> None:
    """That there was no password is what the reader wants to know."""
    assert DEFAULT.value("password", text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"postgres://me:{SECRET}@db.example/etl", f"postgres://me:{REDACTED}@db.example/etl"),
        (f"redis://:{SECRET}@host and amqp://u:p@ss{SECRET}@h", f"redis://:{REDACTED}@host and amqp://u:{REDACTED}@h"),
        (f"Authorization: Bearer {SECRET}", f"Authorization: Bearer {REDACTED}"),
        (f"host=db password={SECRET} user=me", f"host=db password={REDACTED} user=me"),
        (f"{{'db_password': '{SECRET}', 'n': 1}}", f"{{'db_password': {REDACTED}, 'n': 1}}"),
        (f'Config(api_key="{SECRET}", n=1)', f"Config(api_key={REDACTED}, n=1)"),
        (f'password = "{SECRET} and \\" more"; go()', f"password = {REDACTED}; go()"),
        (f"password='{SECRET} that was cut", f"password={REDACTED}"),
        (
            f"key: -----BEGIN RSA PRIVATE KEY-----\n{SECRET}\n-----END RSA PRIVATE KEY----- end",
            f"key: {REDACTED} end",
        ),
        (f"-----BEGIN PRIVATE KEY-----\n{SECRET}", REDACTED),
    ],
)
def test_secret_in_a_text_is_taken_out(text: str, shown: str) -> None:
    """And nothing but the secret."""
    assert DEFAULT.text(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "https://host.example:80/a@b",
        "tokenizer='a b'",
        "page 3 of 7",
        "the secret is out",
        "password",
        "token = next(it)",
    ],
)
def test_text_without_a_secret_is_left_alone(text: str) -> None:
    """It is the very text."""
    assert DEFAULT.text(text) is text or DEFAULT.text(text) == text


def test_rule_can_be_extended() -> None:
    """By parts of names, beside the default ones."""
    rule = redaction_of(("iban",))
    assert rule.value("customer_iban", "'DE00'") == REDACTED
    assert rule.text("{'iban': 'DE00'}") == f"{{'iban': {REDACTED}}}"
    assert rule.value("password", repr(SECRET)) == REDACTED
    assert DEFAULT.value("customer_iban", "'DE00'") == "'DE00'"


@pytest.mark.parametrize("name", ["IBAN", "stra\u00dfe", "a.b"])
def test_added_name_is_found_in_every_case(name: str) -> None:
    """Also where letters are none of ASCII's."""
    rule = redaction_of((name,))
    for text in (name, name.lower(), name.capitalize(), f"x_{name}_y"):
        assert rule.text(f"{text}='{SECRET}'") == f"{text}={REDACTED}"


@pytest.mark.parametrize("name", ["pa\u017f\u017fword", "api\u212aey", "to\u212aen"])
def test_name_in_letters_that_only_ignoring_case_makes_equal_is_found(name: str) -> None:
    """A long s is an s, the sign for kelvin a k: the quick look that spares the long one must not miss them."""
    assert DEFAULT.text(f"{name}='{SECRET}'") == f"{name}={REDACTED}"


def test_rule_can_be_switched_off() -> None:
    """Then everything is shown."""
    rule = redaction_of(False)
    assert rule.value("password", repr(SECRET)) == repr(SECRET)
    assert rule.text(f"postgres://me:{SECRET}@db") == f"postgres://me:{SECRET}@db"
