"""The sections [access] and [webhooks] of the configuration: required keys, refused values, secrets that are not
shown."""

from pathlib import Path

import pytest

from koko_presence.config.schema import Config, ConfigError, load

SECRET = "a secret of at least 32 bytes, from your vault"
OTHER = "another secret of more than 32 bytes than that"
HOOK = f'url = "https://app.example.com/hooks"\nsecret = "{OTHER}"'


def read(tmp_path: Path, text: str, dev: bool = False) -> Config:
    path = tmp_path / "koko-presence.toml"
    path.write_text(text)
    return load(path, env={"KOKO_PRESENCE_AUTH_SECRET": SECRET}, dev=dev)


def test_a6_nothing_goes_out_unless_it_is_written() -> None:
    config = load(env={"KOKO_PRESENCE_AUTH_SECRET": SECRET})
    assert (config.access.mode, config.access.webhook.url, config.webhooks.url) == ("claims", "", "")


def test_a6_the_webhook_mode(tmp_path: Path) -> None:
    config = read(tmp_path, f'[access]\nmode = "webhook"\n[access.webhook]\n{HOOK}')
    assert config.access.webhook.secret == OTHER and OTHER in config.secrets
    assert OTHER not in repr(config)


def test_a6_the_trpc_mode(tmp_path: Path) -> None:
    text = '[access]\nmode = "trpc"\n[access.trpc]\nurl = "https://app.example.com/trpc"\n'
    config = read(tmp_path, text + 'rules = ["video_* -> video.getById(id)", "project -> project.getById(id)"]')
    assert config.access.trpc.rules[1] == "project -> project.getById(id)"
    assert config.access.trpc.scopes == ("join", "control", "broadcast")


def test_m10_webhooks_and_their_secret_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "hook").write_text(OTHER + "\n")
    text = f'[webhooks]\nurl = "http://127.0.0.1:3000/hooks"\nsecret_file = "{tmp_path}/hook"\nevents = ["user_left"]'
    config = read(tmp_path, text)
    assert (config.webhooks.secret, config.webhooks.events) == (OTHER, ("user_left",))
    assert OTHER in config.secrets and OTHER not in repr(config)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('[access]\nmode = "webhook"', 'access.webhook.url: is needed for access.mode = "webhook"'),
        ('[access]\nmode = "trpc"', 'access.trpc.url: is needed for access.mode = "trpc"'),
        ('[access]\nmode = "trpc"', "access.trpc.rules: is needed: the procedure for each room"),
        ('[access.webhook]\nurl = "https://a.example/x"', "access.webhook.secret: is needed (or access.webhook.secret_file)"),
        ('[access.webhook]\nsecret = "short"', "access.webhook.secret: has 5 bytes, at least 32 are needed"),
        ('[webhooks]\nurl = "https://a.example/x"', "webhooks.secret: is needed (or webhooks.secret_file)"),
        ('[webhooks]\nsecret = "short"', "webhooks.secret: has 5 bytes"),
        ('[webhooks]\nsecret_file = "/nowhere/x"', "webhooks.secret_file: cannot read /nowhere/x"),
        (f'[webhooks]\nurl = "http://app.example.com/x"\nsecret = "{OTHER}"', "webhooks.url: is http"),
        (f'[webhooks]\nurl = "ftp://app.example.com/x"\nsecret = "{OTHER}"', "webhooks.url: is not a URL"),
        (f'[webhooks]\nurl = "https://me:pw@app.example.com"\nsecret = "{OTHER}"', "webhooks.url: contains a user name"),
        ('[access.trpc]\nurl = "https://a.example/trpc?x=1"', "access.trpc.url: has a query"),
        ('[access.trpc]\nrules = ["video"]', "access.trpc.rules: 'video' is no rule: write it like"),
        ('[access.trpc]\nrules = ["castle -> a(b)"]', "access.trpc.rules: 'castle -> a(b)' names no type of room"),
        ("[access.trpc]\nttl_s = 61", "access.trpc.ttl_s: expected a number from 0.0 to 60.0, got 61"),
        ("[webhooks]\nevents = []", "webhooks.events: expected a list"),
        ('[webhooks]\nevents = ["user_came"]', "webhooks.events: expected a list"),
        ("[webhooks]\nbatch_events = 0", "webhooks.batch_events: expected a whole number from 1 to 1000"),
    ],
)  # fmt: skip
def test_what_is_refused_names_its_key(tmp_path: Path, text: str, fault: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read(tmp_path, text)
    assert any(line.startswith(fault) for line in refused.value.faults), refused.value.faults


def test_a_secret_of_a_wrong_type_is_not_shown(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        read(tmp_path, "[access.webhook]\nsecret = 123456789")
    assert "123456789" not in str(refused.value)


def test_dev_calls_no_webhook(tmp_path: Path) -> None:
    config = read(tmp_path, f'[access]\nmode = "webhook"\n[access.webhook]\n{HOOK}', dev=True)
    assert config.access.mode == "allow_all"
