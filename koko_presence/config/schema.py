"""The configuration: one Struct per section, read from a TOML file, then the environment, then flags; later wins.

The schema is the only list of keys and has their descriptions. Names of environment variables, checks of flags and the
text of `default-config` are made from it. Reading does not stop at the first fault: `ConfigError.faults` has all of
them, each with its key. No value of a secret is logged or printed here.
"""

import os
import re
import secrets as random_secrets
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import Meta, Struct, inspect

from koko_presence.protocol.limits import Limits, RoomOptions

from . import cpu_cores
from .auth import Auth, check_auth
from .host_names import WITHOUT_HOST, is_loopback
from .integrations import Access, Webhooks, check_outgoing
from .sections import MIN_SECRET_BYTES, SECRET_NAMES, Section, ValueFile
from .trusted_proxies import Header, Proxies

__all__ = [
    "Access",
    "Auth",
    "Config",
    "ConfigError",
    "Log",
    "Operator",
    "Section",
    "Server",
    "is_loopback",
    "load",
    "with_secret",
]

ENV_PREFIX = "KOKO_PRESENCE_"
LIKELY = 0.75  # similarity of two names (0 to 1) from which one of them is taken for a misspelt other one
# values that can be read from a file instead, which the key with _file at its end names
SECRETS = (
    "auth.secret", "operator.api_key", "auth.introspect.authorization", "auth.public_key", "access.webhook.secret",
    "webhooks.secret",
)  # fmt: skip

Port = Annotated[int, Meta(ge=0, le=65_535)]


class Server(Section, frozen=True):
    host: Annotated[str, Meta(description="Address of the public port. 0.0.0.0 or :: listens on every interface.")] = (
        "127.0.0.1"
    )
    port: Annotated[Port, Meta(description="Public port for WebSocket and HTTP. With 0 the system chooses one.")] = 8080
    workers: Annotated[
        Annotated[int, Meta(ge=1, le=1024)] | Literal["auto"],
        Meta(
            description='Number of worker processes. "auto" starts one for each usable core. From 2 on a supervisor '
            "watches and replaces them."
        ),
    ] = 1
    runtime_dir: Annotated[
        str,
        Meta(
            description="Directory for the workers' sockets and supervisor.pid, accessible to this user only (mode "
            "0700). Empty: systemd's RUNTIME_DIRECTORY, or koko-presence-<uid>-<port> in the directory for temporary "
            "files."
        ),
    ] = ""
    backlog: Annotated[
        int, Meta(ge=1, le=65_535, description="Connections that the kernel may hold before they are accepted.")
    ] = 4096
    origins: Annotated[
        tuple[str, ...],
        Meta(
            description="Origins (scheme://host[:port]) whose pages may connect, besides the server's own pages; also "
            'those of apps, such as capacitor://localhost, and "null" and "file://" for pages without a host. '
            "Clients that send no Origin, as all but browsers, may always connect."
        ),
    ] = ()
    tls_cert: Annotated[
        str, Meta(description="PEM file with the certificate chain. Empty: no TLS here, as behind a reverse proxy.")
    ] = ""
    tls_key: Annotated[str, Meta(description="PEM file with the certificate's private key.")] = ""
    demo: Annotated[bool, Meta(description="Serve the demo page at /demo.")] = False
    trusted_proxies: Annotated[
        tuple[str, ...],
        Meta(
            description='Proxies whose header gives the address of the client: addresses, networks, and "unix" for '
            "Unix sockets. Empty: limits by address count the connecting peers."
        ),
    ] = ()
    forwarded_header: Annotated[
        Header,
        Meta(
            description='Header of trusted_proxies with the address of the client: "x-forwarded-for" or "forwarded" '
            "(RFC 7239). The other one is ignored, and the proxy should remove it."
        ),
    ] = "x-forwarded-for"
    proxy_protocol: Annotated[
        bool,
        Meta(
            description="Each connection must begin with a PROXY protocol header, version 2, and come from "
            "trusted_proxies."
        ),
    ] = False
    keepalive_s: Annotated[
        float,
        Meta(
            gt=0.0,
            le=3600.0,
            description="Time for which an HTTP connection stays open between two requests. A proxy in front should "
            "close idle connections earlier.",
        ),
    ] = 75.0
    memory_bytes: Annotated[
        int,
        Meta(
            ge=0,
            le=1 << 50,
            description="Memory that all workers together may use. From 90 % on new connections are refused. 0: only "
            "the limit of the control group counts, if there is one.",
        ),
    ] = 0
    drain_delay_s: Annotated[
        float,
        Meta(
            ge=0.0,
            le=3600.0,
            description="Time after a stop signal in which new connections are still accepted while /readyz already "
            "answers 503, so that a load balancer can send them elsewhere.",
        ),
    ] = 0.0
    drain_s: Annotated[
        float,
        Meta(
            ge=0.0,
            le=3600.0,
            description="Time over which the clients are then disconnected, with close code 1012. A second signal "
            "ends the server at once.",
        ),
    ] = 10.0

    @property
    def worker_count(self) -> int:
        """The number of worker processes; with "auto" one for each core that this process may use."""
        return cpu_cores.usable() if self.workers == "auto" else self.workers


class Operator(Section, frozen=True):
    host: Annotated[
        str, Meta(description="Address of the operator port: metrics, readiness, server API. Keep it private.")
    ] = "127.0.0.1"
    port: Annotated[Port, Meta(description="Operator port. With 0 the system chooses one.")] = 9080
    hosts: Annotated[
        tuple[str, ...],
        Meta(
            description="Further host names that requests to the operator port may carry, such as metrics.internal. "
            "Addresses, localhost and operator.host are always allowed. Other names are refused, so that no web page "
            "can reach the port by a name of its own (DNS rebinding)."
        ),
    ] = ()
    api_key: Annotated[str, Meta(description="Bearer key of the server API. Empty: the server API is off.")] = ""
    api_key_file: ValueFile = ""

    def __repr__(self) -> str:
        return f"Operator(host={self.host!r}, port={self.port}, api_key={'set' if self.api_key else 'unset'})"


class Log(Section, frozen=True):
    level: Annotated[
        Literal["debug", "info", "warning", "error", "critical"],
        Meta(description='Lowest level that is logged: "debug", "info", "warning", "error" or "critical".'),
    ] = "info"
    format: Annotated[
        Literal["json", "console"], Meta(description='"json": one object per line. "console": text for a terminal.')
    ] = "json"


class Config(Section, frozen=True):
    """The whole configuration. Secrets that were read from files are in the keys without _file."""

    server: Server = Server()
    operator: Operator = Operator()
    auth: Auth = Auth()
    access: Access = Access()
    limits: Limits = Limits()
    rooms: RoomOptions = RoomOptions()
    webhooks: Webhooks = Webhooks()
    log: Log = Log()

    @property
    def secrets(self) -> list[str]:
        """Values that must not be logged."""
        auth, outgoing = self.auth, (self.access.webhook.secret, self.webhooks.secret)
        found = (auth.secret, auth.introspect.authorization, self.operator.api_key, *outgoing)
        return [secret for secret in found if secret]


class ConfigError(Exception):
    """The configuration cannot be used. `faults` has one line per fault, which begins with its key."""

    def __init__(self, faults: list[str]) -> None:
        self.faults = faults
        super().__init__("\n".join(faults))


class Key(NamedTuple):
    """One key of the schema. `section` is dotted for a table within a section, as in `auth.jwks`."""

    section: str
    name: str
    type: Any
    default: Any
    description: str

    @property
    def dotted(self) -> str:
        return f"{self.section}.{self.name}"

    @property
    def variable(self) -> str:
        return f"{ENV_PREFIX}{self.dotted}".replace(".", "_").upper()

    def of(self, config: "Config") -> Any:
        """The value of the key in `config`."""
        table: Any = config
        for name in self.dotted.split("."):
            table = getattr(table, name)
        return table


def keys() -> Iterator[Key]:
    """All keys in the order of the sections; the keys of a section before those of its tables."""
    for section in msgspec.structs.fields(Config):
        yield from _keys_of(section.name, section.type, section.default)


def _keys_of(section: str, table: Any, defaults: Any) -> Iterator[Key]:
    tables = []
    for field in msgspec.structs.fields(table):
        if isinstance(field.type, type) and issubclass(field.type, Struct):
            tables.append(field)
        else:
            metadata = getattr(field.type, "__metadata__", ())
            description = next((meta.description for meta in reversed(metadata) if meta.description), "")
            yield Key(section, field.name, field.type, getattr(defaults, field.name), description)
    for field in tables:
        yield from _keys_of(f"{section}.{field.name}", field.type, getattr(defaults, field.name))


def load(
    path: str | Path | None = None,
    env: Mapping[str, str] | None = None,
    flags: Mapping[str, Any] | None = None,
    *,
    dev: bool = False,
    needs_secret: bool = True,
) -> Config:
    """Read the configuration from `path` (TOML), `env` (default: of this process) and `flags` (dotted key to value).

    `dev` applies the rules of `serve --dev`. `needs_secret=False` is for commands that need no secret: files of secrets
    are not read, and missing secrets are no fault. Errors: ConfigError with every fault found.
    """
    faults: list[str] = []
    known = {key.dotted: key for key in keys()}
    values: dict[str, Any] = {}
    tables = {} if path is None else _tables_of(Path(path), faults)
    if tables:
        values |= _from_file(tables, known, faults)
    values |= _from_environment(os.environ if env is None else env, known, faults)
    for dotted, value in (flags or {}).items():
        flag = "--" + known[dotted].name.replace("_", "-") if known[dotted].section != "log" else "--log-level"
        _put(values, known[dotted], value, f"{dotted} ({flag})", isinstance(value, str), faults)
    if tables is None:  # further faults would only follow from that
        raise ConfigError(faults)
    if dev:
        values |= _dev_rules(values)
    if needs_secret:  # a command without the need may run as a user who cannot read the files
        for dotted in SECRETS:
            _read_secret_file(values, dotted, faults)
    _check_rules({dotted: values.get(dotted, key.default) for dotted, key in known.items()}, dev, needs_secret, faults)
    if faults:
        raise ConfigError(faults)
    sections: dict[str, Any] = {}
    for dotted, value in values.items():
        table = sections
        for name in known[dotted].section.split("."):
            table = table.setdefault(name, {})
        table[known[dotted].name] = value
    return msgspec.convert(sections, Config)


def with_secret(config: Config, otherwise: str = "", *, anyhow: bool = False) -> Config:
    """`config` with a secret for resume tokens: its own, else `otherwise`, else a random one. `anyhow` prefers
    `otherwise` to its own. A random secret is sufficient, since sessions to resume do not outlive a restart."""
    secret = (otherwise if anyhow else "") or config.auth.secret or otherwise or random_secrets.token_urlsafe(32)
    return msgspec.structs.replace(config, auth=msgspec.structs.replace(config.auth, secret=secret))


# --- the three sources --------------------------------------------------------------------------------------------


def _tables_of(path: Path, faults: list[str]) -> dict[str, Any] | None:
    """The tables of the TOML file at `path`; None after a fault."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        faults.append(f"{path}: cannot be read: {error.strerror}")
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        faults.append(f"{path}: is not valid TOML: {error}")
    return None


def _from_file(tables: Mapping[str, Any], known: Mapping[str, Key], faults: list[str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    sections = {key.section for key in known.values()}
    for section, table in tables.items():
        if section not in sections:
            faults.append(f"{section}: no such section{_hint(section, known, sections)}")
        else:
            _from_table(section, table, sections, known, values, faults)
    return values


def _from_table(
    section: str, table: Any, sections: set[str], known: Mapping[str, Key], values: dict[str, Any], faults: list[str]
) -> None:
    if not isinstance(table, dict):
        faults.append(f"{section}: is a section: write [{section}] and its keys below it")
        return
    for name, value in table.items():
        dotted = f"{section}.{name}"
        if dotted in known:
            _put(values, known[dotted], value, dotted, False, faults)
        elif dotted in sections:
            _from_table(dotted, value, sections, known, values, faults)
        else:
            faults.append(f"{dotted}: no such key{_hint(dotted, known, sections)}")


def _from_environment(env: Mapping[str, str], known: Mapping[str, Key], faults: list[str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    variables = {key.variable: key for key in known.values()}
    for variable, text in env.items():
        if not variable.startswith(ENV_PREFIX):
            continue
        key = variables.get(variable)
        if key is None:
            faults.append(f"{variable}: no such variable{_variable_hint(variable, variables)}")
        elif text != "":
            _put(values, key, text, f"{key.dotted} ({variable})", True, faults)
    return values


def _put(values: dict[str, Any], key: Key, value: Any, where: str, is_text: bool, faults: list[str]) -> None:
    kind = inspect.type_info(key.type)
    if isinstance(kind, inspect.Metadata):  # its description
        kind = kind.type
    given: Any = value
    if is_text and isinstance(kind, inspect.VarTupleType):
        given = [part.strip() for part in value.split(",") if part.strip()]
    try:
        values[key.dotted] = msgspec.convert(given, type=key.type, strict=not is_text)
    except msgspec.ValidationError:
        shown = "a secret that is not shown" if key.name in SECRET_NAMES else repr(value)[:80]
        faults.append(f"{where}: expected {expected(kind)}, got {shown}")


def closest(name: str, among: Iterable[str], cutoff: float) -> str:
    """The name of `among` that is most similar; empty when none has the similarity `cutoff` (0 to 1)."""
    import difflib  # imported here: only a fault needs it

    found = difflib.get_close_matches(name, sorted(among), n=1, cutoff=cutoff)
    return found[0] if found else ""


def _hint(dotted: str, known: Mapping[str, Key], sections: set[str]) -> str:
    """What an unknown key or section is most likely meant to be: a similar one of the same section, the same or a
    similar key of other sections, or a similar name altogether."""
    section, _, name = dotted.rpartition(".")
    siblings = {each.rpartition(".")[2]: each for each in (*known, *sections) if each.rpartition(".")[0] == section}
    near = closest(name, siblings, LIKELY)
    if near:
        return f"; did you mean {siblings[near]}?"
    places = [f"[{key.section}]" for key in known.values() if key.name == name]
    if places:
        return f"; {name} stands in {_either(places, 'and')}"
    near = closest(name, {key.name for key in known.values()}, LIKELY)
    if near:
        return f"; did you mean {_either([key.dotted for key in known.values() if key.name == near], 'or')}?"
    return _nearest(dotted, {*known, *sections})


def _variable_hint(variable: str, variables: Mapping[str, Key]) -> str:
    """As `_hint`, for an unknown environment variable."""
    text = variable.removeprefix(ENV_PREFIX).lower()
    sections = {key.section.replace(".", "_") for key in variables.values()}
    names = {text, *(text.removeprefix(f"{section}_") for section in sections)}
    places = [each for each, key in variables.items() if key.name in names]
    return f"; did you mean {_either(places, 'or')}?" if places else _nearest(variable, variables)


def _nearest(name: str, among: Iterable[str]) -> str:
    found = closest(name, among, 0.5)
    return f"; did you mean {found}?" if found else "; `koko-presence default-config` prints every key"


def _either(names: Sequence[str], word: str) -> str:
    return f"{', '.join(names[:-1])} {word} {names[-1]}" if len(names) > 1 else names[0]


def expected(kind: inspect.Type) -> str:
    """A description of the values of this type, for a fault."""
    match kind:
        case inspect.BoolType():
            return "true or false"
        case inspect.IntType() | inspect.FloatType():
            number = "a whole number" if isinstance(kind, inspect.IntType) else "a number"
            if kind.gt is not None:
                return f"{number} above {kind.gt:g}" + (f" and at most {kind.le:g}" if kind.le is not None else "")
            return f"{number} from {kind.ge} to {kind.le}"
        case inspect.LiteralType():
            return " or ".join(sorted(f'"{value}"' for value in kind.values))
        case inspect.VarTupleType():
            item = "texts in brackets" if isinstance(kind.item_type, inspect.StrType) else expected(kind.item_type)
            return f"a list of {item}" + (", not empty" if kind.min_length else "")
        case inspect.UnionType():
            return " or ".join(expected(part) for part in kind.types)
    return "a text"


# --- rules that no type can express -------------------------------------------------------------------------------


def _dev_rules(values: Mapping[str, Any]) -> dict[str, Any]:
    rules = {
        "auth.secret": random_secrets.token_urlsafe(32),
        "auth.secret_file": "",
        # verifies the tokens of /dev/token, in addition to the configured ones
        "auth.verifiers": tuple(dict.fromkeys(("jwt", *values.get("auth.verifiers", ())))),
        "auth.algorithms": tuple(dict.fromkeys(("HS256", *values.get("auth.algorithms", ())))),
        "access.mode": "allow_all",
        "server.demo": True,
    }
    return rules if "log.format" in values else rules | {"log.format": "console"}


def _read_secret_file(values: dict[str, Any], dotted: str, faults: list[str]) -> None:
    named = f"{dotted}_file"
    if not values.get(named):
        return
    if values.get(dotted):
        faults.append(f"{dotted}: is set, and {named} too: keep one of them")
        return
    # for systemd's credentials: "${CREDENTIALS_DIRECTORY}/secret"
    path = os.path.expandvars(values[named])
    try:
        values[dotted] = Path(path).read_text(encoding="utf-8").strip()
    except OSError as error:
        faults.append(f"{named}: cannot read {path}: {error.strerror}")
        return
    except UnicodeDecodeError:
        faults.append(f"{named}: {path} is not text: write the secret as text, such as base64")
        return
    if not values[dotted]:
        faults.append(f"{named}: {path} is empty")


def _check_rules(value: Mapping[str, Any], dev: bool, needs_secret: bool, faults: list[str]) -> None:
    check_auth(value, needs_secret, faults)
    check_outgoing(value, needs_secret, faults)
    for origin in value["server.origins"]:
        problem = origin_problem(origin)
        if problem:
            faults.append(f"server.origins: {origin[:80]!r} {problem}")
    if not dev and len(value["server.host"].split()) != 1:
        faults.append(
            f"server.host: {value['server.host'][:80]!r} is no address: write one of this machine, or 0.0.0.0 or :: "
            "for all that it has"
        )
    _check_tls(value, faults)
    _check_proxies(value, faults)
    size = len(value["operator.api_key"].encode())
    if needs_secret and 0 < size < MIN_SECRET_BYTES and not is_loopback(value["operator.host"]):  # [Q2]
        faults.append(
            f"operator.api_key: has {size} bytes, at least {MIN_SECRET_BYTES} are needed where others can reach the "
            "operator port: make one with  openssl rand -base64 48"
        )
    if value["server.port"] == value["operator.port"] != 0:
        faults.append(f"operator.port: {value['operator.port']} is server.port too: give them different ports")
    if value["limits.send_soft_bytes"] > value["limits.send_hard_bytes"]:
        faults.append("limits.send_soft_bytes: is above limits.send_hard_bytes: it must be at most that")
    if dev:
        for dotted in ("server.host", "operator.host"):
            if not is_loopback(value[dotted]):
                faults.append(
                    f"{dotted}: --dev gives a token to any client, so it listens on loopback only, got "
                    f"{value[dotted]!r}: use 127.0.0.1, or serve without --dev"
                )


def _check_tls(value: Mapping[str, Any], faults: list[str]) -> None:
    if bool(value["server.tls_cert"]) != bool(value["server.tls_key"]):
        missing = "tls_key" if value["server.tls_cert"] else "tls_cert"
        faults.append(f"server.{missing}: is needed too: TLS takes a certificate and its key")
    for dotted in ("server.tls_cert", "server.tls_key"):
        if value[dotted] and not os.access(value[dotted], os.R_OK):
            faults.append(f"{dotted}: cannot read {value[dotted]}")


def _check_proxies(value: Mapping[str, Any], faults: list[str]) -> None:
    for text in value["server.trusted_proxies"]:
        try:
            Proxies([text])
        except ValueError:
            faults.append(
                f"server.trusted_proxies: {text[:80]!r} is no address, no network and not unix: write 192.0.2.7, "
                "10.0.0.0/8 with zeros behind the network, or unix"
            )
    if value["server.proxy_protocol"] and not value["server.trusted_proxies"]:
        faults.append("server.trusted_proxies: is needed with server.proxy_protocol: list who may connect")


_ORIGIN = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<host>[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::(?P<port>[0-9]{1,5}))?"
)
_DEFAULT_PORTS = {("http", "80"), ("https", "443")}
_OriginRule = tuple[Callable[[str], bool], str]
_COMMON_MISTAKES: tuple[_OriginRule, ...] = (
    (lambda origin: "*" in origin, "is a pattern: list every origin, as in https://app.example.com"),
    (lambda origin: origin.lower() != origin, "has capitals, which browsers never send: write it in lower case"),
    (lambda origin: origin.endswith("/"), "ends with a slash, which browsers never send: leave it out"),
)


def origin_problem(origin: str) -> str:
    """Return why no browser and no app sends exactly this Origin [RFC 6454 section 7]; empty when one can send it."""
    if origin in WITHOUT_HOST:
        return ""
    for is_mistake, problem in _COMMON_MISTAKES:
        if is_mistake(origin):
            return problem
    found = _ORIGIN.fullmatch(origin)
    if found is None or int(found["port"] or 1) not in range(1, 65_536):
        return "is no origin: write scheme://host or scheme://host:port, as in https://app.example.com"
    if (found["scheme"], found["port"]) in _DEFAULT_PORTS:
        return "names the scheme's own port, which browsers leave out: leave it out"
    return ""
