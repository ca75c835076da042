"""The command line: parses the arguments and runs one command.

Exit codes: 0 success; 2 wrong use or configuration, where a restart does not help; 1 any other failure. All modules but
argparse are imported by the command that needs them, so that --help is fast. The module holds no state.
"""

import argparse
import sys
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from koko_presence.process.standard_streams import open_missing

if TYPE_CHECKING:
    from koko_presence.config.schema import Config

OK, FAILED, WRONG_USE = 0, 1, 2
SCOPES = ("join", "control", "broadcast", "moderate")
DEFAULT_SCOPES = ("join", "control", "broadcast")


class WrongUse(Exception):
    """The command line or configuration is wrong; the text names the remedy. Exit code 2."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    open_missing()
    given = sys.argv[1:] if argv is None else argv
    parser = _parser()
    parser.check_command(given)
    arguments, unknown = parser.parse_known_args(given)
    if unknown:
        arguments.parser.refuse(unknown[0])
    command: Callable[[argparse.Namespace], int] = arguments.command
    try:
        return command(arguments)
    except WrongUse as error:
        _complain(f"koko-presence: {error}")
        return WRONG_USE
    except BrokenPipeError:  # as in `koko-presence default-config | head`
        sys.stderr.close()
        return FAILED


def _complain(line: str) -> None:
    print(line, file=sys.stderr)


# --- the commands -------------------------------------------------------------------------------------------------


def serve(arguments: argparse.Namespace) -> int:
    """Run the server until a signal stops it."""
    flags = {
        "server.host": arguments.host,
        "server.port": arguments.port,
        "server.workers": arguments.workers,
        "log.level": arguments.log_level,
    }
    chosen = {key: value for key, value in flags.items() if value is not None}
    config = _load(arguments, chosen, dev=arguments.dev)
    from koko_presence.auth.factory import key_faults
    from koko_presence.config.queued_stream import queue_stderr

    from .config import logs
    from .config import schema as reading

    config = reading.with_secret(config)

    def load_again() -> "Config":
        again = reading.load(arguments.config, flags=chosen, dev=arguments.dev)
        faults = key_faults(again)
        if faults:
            raise reading.ConfigError(faults)
        # --dev makes a new secret at every load; tokens of this run must stay valid
        return reading.with_secret(again, config.auth.secret, anyhow=arguments.dev)

    queue_stderr()
    logs.configure(config.log, config.secrets)
    if config.server.worker_count == 1:
        from .process import worker_process

        return worker_process.run(config, dev=arguments.dev, reload_config=load_again)
    from .process import supervisor

    return supervisor.run(config, dev=arguments.dev, reload_config=load_again)


def reload(arguments: argparse.Namespace) -> int:
    """Signal the running server to reload its configuration, or to replace its workers."""
    from .process import runtime_folder

    flags = {} if arguments.port is None else {"server.port": arguments.port}
    config = _load(arguments, flags, needs_secret=False)
    if config.server.port == 0 and not config.server.runtime_dir:
        raise WrongUse("reload: a server on port 0 is found by its folder only: set server.runtime_dir")
    try:
        pid = runtime_folder.signal_server(
            runtime_folder.runtime_dir(config, config.server.port), rolling=arguments.rolling
        )
    except runtime_folder.OneWorker as fault:
        raise WrongUse(f"reload: {fault}") from None
    except runtime_folder.RuntimeFault as fault:
        _complain(f"koko-presence: reload: {fault}")
        return FAILED
    what = "replaces its workers" if arguments.rolling else "reads its configuration again"
    print(
        f"process {pid} {what}, with the file that it was started with; its log has the result and names each key that "
        "cannot change now"
    )
    return OK


def token(arguments: argparse.Namespace) -> int:
    """Print a signed token."""
    import time

    rooms = dict(_room(text) for text in arguments.room)
    settings = dict(_settings(text) for text in arguments.settings)
    config = _load(arguments)
    if not 1 <= arguments.ttl <= config.auth.max_ttl_s:
        raise WrongUse(f"token: --ttl is from 1 to {config.auth.max_ttl_s} seconds (auth.max_ttl_s)")
    from koko_presence.auth.hmac_jwt import issue_token
    from koko_presence.auth.profile import MAX_IMAGE_CHARS, clean_image

    if arguments.image is not None and clean_image(arguments.image) is None:
        raise WrongUse(
            f"token: --image: clients would not show it: use an https address of at most {MAX_IMAGE_CHARS} characters"
        )
    if not config.auth.secret_algorithms:
        raise WrongUse("token: here others sign the tokens: auth.algorithms has none of HS256, HS384, HS512")
    try:
        text = issue_token(
            config.auth.secret,
            user=arguments.user,
            name=arguments.name,
            image=arguments.image,
            rooms=rooms,
            settings=settings,
            presence=not arguments.no_presence,
            ttl_s=arguments.ttl,
            now_s=int(time.time()),
            issuer=config.auth.issuer or None,
            audience=config.auth.audience or None,
            algorithm=config.auth.secret_algorithms[0],
        )
    except ValueError as error:
        raise WrongUse(f"token: {error}") from None
    print(text)
    return OK


def _room(text: str) -> tuple[str, list[str]]:
    pattern, given, scopes = text.partition("=")
    chosen = [scope.strip() for scope in scopes.split(",")] if given else list(DEFAULT_SCOPES)
    if not pattern or "*" in pattern[:-1]:
        raise WrongUse(f"token: --room {text!r}: the pattern is a room id, or a prefix and one * at its end")
    for scope in chosen:
        if scope not in SCOPES:
            raise WrongUse(f"token: --room {text!r}: {scope!r} is no scope: use {', '.join(SCOPES)}")
    return pattern, chosen


def _settings(text: str) -> tuple[str, dict[str, Any]]:
    import msgspec

    from koko_presence.protocol.settings import SettingsChange

    pattern, given, value = text.partition("=")
    try:
        settings = msgspec.json.decode(value) if given else None
        if not pattern or not isinstance(settings, dict):
            raise ValueError('write PATTERN=JSON, for example  \'video_*={"controlMode": "moderators"}\'')
        msgspec.convert(settings, SettingsChange)  # the server ignores unknown keys of a token: here they are a slip
    except ValueError as error:
        raise WrongUse(f"token: --settings {text!r}: {error}") from None
    return pattern, settings


def check_token(arguments: argparse.Namespace) -> int:
    """Print a token's user and permissions, or why it is refused."""
    import time

    if sys.stdin.isatty():
        _complain("Paste the token and press Enter, then Ctrl-D.")
    text = sys.stdin.read().strip()
    if not text:
        raise WrongUse("check-token: reads the token from standard input:  echo TOKEN | koko-presence check-token")
    config = _load(arguments)
    from koko_presence.auth.check_token import check

    good, lines = check(config, text, int(time.time()))
    print("\n".join(lines))
    return OK if good else FAILED


def check_config(arguments: argparse.Namespace) -> int:
    """Print a summary and warnings and exit with 0, or one line per fault and exit with 2."""
    import time

    from koko_presence.config.checks import warnings

    from .config import certificate

    config = _load(arguments)
    fault = certificate.fault(config.server)
    if fault:
        _complain(fault)
        return WRONG_USE
    expiry = certificate.warning(config.server, time.time())
    for warning in [*warnings(config, arguments.config), *([expiry] if expiry else [])]:
        _complain(f"warning: {warning}")
    server, operator = config.server, config.operator
    origins = ", ".join(server.origins) or "the server's own"
    print(f"configuration is fine: {arguments.config or 'no file'}, environment")
    print(f"public    {'https' if server.tls_cert else 'http'}://{_authority(server.host, server.port)}")
    print(
        f"operator  http://{_authority(operator.host, operator.port)}, server API {'on' if operator.api_key else 'off'}"
    )
    print(f"origins   {origins}")
    print(f"access    {config.access.mode}, tokens {_tokens(config)}")
    print(
        f"limits    {config.limits.max_users_per_room} users per room, {config.limits.cursor_hz:g} cursors per second"
    )
    return OK


def _tokens(config: "Config") -> str:
    auth = config.auth
    named = {"jwt": ", ".join(auth.algorithms), "introspect": f"asked for at {auth.introspect.url}"}
    cookie = f", or the cookie {auth.cookie}" if auth.cookie else ""
    return "; ".join(named[name] for name in auth.verifiers) + cookie


def default_config(arguments: argparse.Namespace) -> int:
    """Print a configuration file with every key and its default."""
    from koko_presence.config.default_file import default_config_text

    sys.stdout.write(default_config_text())
    return OK


def health(arguments: argparse.Namespace) -> int:
    """Exit with 0 when the server is ready, otherwise with 1."""
    from .admin import health_check

    ready, line = health_check.query(_operator_url(arguments, "health", "readyz"))
    if ready:
        print(line)
        return OK
    _complain(line)
    return FAILED


def top(arguments: argparse.Namespace) -> int:
    """Show the server's metrics live."""
    from .admin import top as screen

    if not 0.1 <= arguments.interval <= 60:
        raise WrongUse("top: --interval is from 0.1 to 60 seconds")
    return screen.run(_operator_url(arguments, "top", "metrics"), arguments.interval, arguments.once)


def _operator_url(arguments: argparse.Namespace, command: str, path: str) -> str:
    url: str | None = arguments.url
    if url is None:
        operator = _load(arguments, needs_secret=False).operator
        if operator.port == 0:
            raise WrongUse(f"{command}: operator.port is 0, so the address is not known: set a port, or use --url")
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(operator.host, operator.host)
        return f"http://{_authority(host, operator.port)}/{path}"
    if not _is_address(url):
        raise WrongUse(f"{command}: --url {url!r} is no address: use http://HOST:PORT/{path}")
    from urllib.parse import urlsplit

    return url if urlsplit(url).path.strip("/") else f"{url.rstrip('/')}/{path}"  # at / is the live page


def _is_address(url: str) -> bool:
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # invalid port
        return False


def version(arguments: argparse.Namespace) -> int:
    """Print the versions that a bug report needs."""
    import platform
    from importlib.metadata import version as installed

    from . import __version__

    print(f"koko-presence {__version__}")
    print(f"Python {platform.python_version()}")
    for package in ("picows", "uvloop", "msgspec"):
        print(f"{package} {installed(package)}")
    try:
        from ._fastpath import build_info

        print(f"compiled {build_info.VERSION} ({', '.join(f'{k} {v}' for k, v in build_info.BUILT_AGAINST.items())})")
        build_info.check_abi()
    except ImportError as error:
        _complain(f"koko-presence: {error}")
        return FAILED
    return OK


def _authority(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _load(
    arguments: argparse.Namespace, flags: dict[str, Any] | None = None, *, dev: bool = False, needs_secret: bool = True
) -> "Config":
    from koko_presence.config.schema import ConfigError, load

    try:
        config = load(arguments.config, flags=flags, dev=dev, needs_secret=needs_secret)
        faults = []
        if needs_secret:
            from koko_presence.auth.factory import key_faults

            faults = key_faults(config)
    except ConfigError as error:
        faults = error.faults
    if faults:
        for fault in faults:
            _complain(fault)
        raise SystemExit(WRONG_USE)
    return config


# --- arguments ----------------------------------------------------------------------------------------------------


# what operators type who know other servers
_OTHER_WORDS = {
    "start": "a server is started with  koko-presence serve",
    "run": "a server is started with  koko-presence serve",
    "stop": "a server stops at SIGTERM or Ctrl-C, under systemd with  systemctl stop koko-presence",
    "drain": "a server drains at SIGTERM or Ctrl-C, or at POST /api/drain on the operator port",
    "restart": "stop the server and start it again, under systemd with  systemctl restart koko-presence",
    "status": "whether a server is ready is told by  koko-presence health, more by  koko-presence top",
    "metrics": "they are at /metrics on the operator port, and  koko-presence top  shows them",
}


class _Parser(argparse.ArgumentParser):
    """Reports wrong use in one line instead of the whole usage, with the help of the command that it concerns."""

    commands: Collection[str] = ()  # names; of the parser of the whole command line only

    def error(self, message: str) -> NoReturn:
        end = "" if message.endswith("?") else "."
        self.exit(WRONG_USE, f"{self.prog}: {message}{end} Try: {self.prog} --help\n")

    def check_command(self, given: Sequence[str]) -> None:
        """Refuse a command line whose first argument is no command, with what is most likely meant."""
        if not given or given[0] in ("-h", "--help", *self.commands):
            return
        from koko_presence.config.schema import closest

        first = given[0]
        near = closest(first.strip("-"), self.commands, 0.6)
        later = next((each for each in given[1:] if each in self.commands), "")
        if first.startswith("-") and later:
            self.error(f"the command comes first: {self.prog} {later} {first} ...")
        what = f"unknown option {first}" if first.startswith("-") else f"unknown command {first!r}"
        if first in _OTHER_WORDS:
            self.error(f"{what}; {_OTHER_WORDS[first]}")
        self.error(f"{what}; did you mean {self.prog} {near}?" if near else what)

    def refuse(self, unknown: str) -> NoReturn:
        """Report an argument that this command does not take, with what is most likely meant."""
        if not unknown.startswith("-"):
            self.error(f"unexpected argument {unknown!r}")
        from koko_presence.config.schema import closest, keys

        flag = unknown.partition("=")[0]
        options = [name for action in self._actions for name in action.option_strings]
        near = next((name for name in options if name.startswith(f"-{flag}")), "") or closest(flag, options, 0.6)
        if near:
            self.error(f"unknown option {flag}; did you mean {near}?")
        name = flag.lstrip("-").replace("-", "_")
        found = [key for key in keys() if name in (key.name, key.dotted, key.dotted.replace(".", "_"))]
        if found:
            places = " or ".join(key.dotted for key in found)
            self.error(f"unknown option {flag}; in the configuration file it is {places}")
        self.error(f"unknown option {flag}")


class _Help(argparse.RawDescriptionHelpFormatter):
    """Keeps the examples as written, and the help of the longest command on its line."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=26, width=120)
        # argparse ignores the indentation of commands when it computes the longest of them
        self._action_max_length = len("    default-config")


_EXAMPLES = """\
examples:
  koko-presence serve --dev                       a working demo on this machine
  koko-presence default-config > presence.toml    every key, to start from
  koko-presence check-config --config presence.toml
  koko-presence serve --config presence.toml --workers auto
  koko-presence reload --config presence.toml     after changes in the file

configuration: a TOML file, then KOKO_PRESENCE_<SECTION>_<KEY> in the environment, then flags; later wins.
exit codes: 0 success, 2 wrong use or configuration, 1 any other failure.
"""
_SERVE_NOTES = """\
signals:
  SIGTERM, Ctrl-C   drain: clients are disconnected within server.drain_s, then exit; a second one exits at once
  SIGHUP            reload the configuration                (koko-presence reload)
  SIGUSR1           write the stacks of the main process and all workers to the log
  SIGUSR2           replace the workers while they serve    (koko-presence reload --rolling)
"""
_RELOAD_NOTES = """\
Limits, origins, keys and the log level are applied at once, and connections stay open. --rolling also applies a new
certificate, access mode, room options and demo: each worker is replaced by a new one, and its clients reconnect. Host,
port, number of workers, the operator's address and a new version of the program need a restart: until then the server
keeps the old ones, its log names the key (`KEY has changed, which takes a restart`), and health and top need --url.
A server whose port has been changed in the file is found with --port and the old one. --config and --port only find
the server, which reads the file that it was started with.

examples:
  koko-presence check-config --config presence.toml && koko-presence reload --config presence.toml
  koko-presence reload --config presence.toml --rolling
  koko-presence reload --port 9000                a server that was started with --port 9000
"""
_TOKEN_EXAMPLES = """\
examples:
  koko-presence token --user u1 --name Ada --room 'video_123=join,control,broadcast' --room 'project_*=join'
  koko-presence token --user u1 --room '*' --ttl 60 | koko-presence check-token
  koko-presence token --user u1 --room 'video_*' --settings 'video_*={"title": "Trailer", "waitForViewers": 5}'

scopes: join (enter the room), control (playback), broadcast, moderate (take control).
"""


def _parser() -> _Parser:
    parser = _Parser(
        prog="koko-presence",
        description="A real-time presence server: members of rooms, their cursors, and shared playback.",
        epilog=_EXAMPLES,
        formatter_class=_Help,
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, dest="name of the command")
    parser.commands = commands.choices

    def add(name: str, run: Callable[[argparse.Namespace], int], what: str, **more: Any) -> argparse.ArgumentParser:
        added = commands.add_parser(
            name,
            help=what,
            description=what[0].upper() + what[1:] + ".",
            formatter_class=_Help,
            **more,
        )
        added.set_defaults(command=run, parser=added)
        return added

    def add_config(to: argparse.ArgumentParser) -> None:
        to.add_argument("--config", metavar="FILE", help="TOML file; see koko-presence default-config")

    serving = add(
        "serve",
        serve,
        "run the server; Ctrl-C or SIGTERM drains it, SIGHUP reloads the configuration",
        epilog=_SERVE_NOTES,
    )
    add_config(serving)
    serving.add_argument("--host", metavar="H", help="address to listen on (server.host, default 127.0.0.1)")
    serving.add_argument("--port", metavar="P", help="port to listen on (server.port, default 8080)")
    serving.add_argument("--workers", metavar="N|auto", help="worker processes (server.workers, default 1)")
    serving.add_argument("--log-level", metavar="L", help="debug, info, warning, error or critical (log.level)")
    serving.add_argument(
        "--dev", action="store_true", help="demo for this machine only: its own secret, every user may enter every room"
    )

    renewing = add("reload", reload, "reload the configuration of the running server", epilog=_RELOAD_NOTES)
    add_config(renewing)
    renewing.add_argument("--port", metavar="P", help="the server's port, when it was started with --port")
    renewing.add_argument("--rolling", action="store_true", help="replace all workers without interrupting the service")

    making = add("token", token, "print a signed token", epilog=_TOKEN_EXAMPLES)
    add_config(making)
    making.add_argument("--user", required=True, metavar="ID", help="user id, the claim `sub`")
    making.add_argument("--name", metavar="N", help="display name")
    making.add_argument("--image", metavar="URL", help="picture, an https address")
    making.add_argument(
        "--room",
        action="append",
        default=[],
        metavar="PATTERN[=scope,scope]",
        help=f"room id or prefix*, and its scopes (default {','.join(DEFAULT_SCOPES)}); may be repeated",
    )
    making.add_argument(
        "--settings",
        action="append",
        default=[],
        metavar="PATTERN=JSON",
        help="room id or prefix*, and the settings that such a room gets if this user makes it; may be repeated",
    )
    making.add_argument(
        "--no-presence", action="store_true", help="the user may enter and see, and is never shown to others"
    )
    making.add_argument("--ttl", type=int, default=3600, metavar="SECONDS", help="lifetime of the token (default 3600)")

    add_config(add("check-token", check_token, "read a token from standard input and print its user and permissions"))
    add_config(add("check-config", check_config, "check the configuration and print a summary, or one line per fault"))
    add("default-config", default_config, "print a commented TOML file with every key, its default and its unit")
    health_command = add("health", health, "exit 0 when the server is ready; for scripts and probes")
    add_config(health_command)
    health_command.add_argument("--url", help="address to query (default: /readyz on the operator port)")
    watching = add("top", top, "show connections, messages, latencies and workers live, from the operator port")
    add_config(watching)
    watching.add_argument("--url", help="address to query (default: /metrics on operator.host and operator.port)")
    watching.add_argument("--interval", type=float, default=1.0, metavar="SECONDS", help="between readings (default 1)")
    watching.add_argument("--once", action="store_true", help="one plain screen from two readings; for scripts")
    add("version", version, "print the versions of koko-presence and of its main dependencies")
    return parser
