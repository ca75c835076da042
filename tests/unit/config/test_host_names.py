"""Which names in a Host header count as own, and what a page gets that points its own name at this server's address."""

import asyncio

import pytest
from aiohttp import ClientSession
from aiohttp.test_utils import make_mocked_request

from koko_presence.admin.operator_port import OperatorPort
from koko_presence.config.host_names import host_of, is_own
from koko_presence.config.schema import Operator
from koko_presence.server.http.site import HttpSide
from koko_presence.server.origins import Origins
from koko_presence.server.refused_origins import RefusedOrigins


@pytest.mark.parametrize(
    ("authority", "host"),
    [
        ("localhost", "localhost"), ("LOCALHOST:9080", "localhost"), ("localhost.:1", "localhost"), ("[::1]:9080", "::1"),
        ("127.0.0.1:9080", "127.0.0.1"), ("", ""), ("a@localhost", ""), ("localhost/x", ""), ("localhost:x", ""), ("[::1", ""),
    ],
)  # fmt: skip
def test_the_host_of_an_authority(authority: str, host: str) -> None:
    assert host_of(authority) == host


@pytest.mark.parametrize(
    ("hosts", "own"),
    [
        ([], True), (["localhost:1"], True), (["x.localhost"], True), (["127.0.0.1"], True), (["[::1]:1"], True),
        (["10.1.2.3:9080"], True), (["metrics.internal:9080"], True), (["METRICS.internal"], True),
        (["evil.example"], False), (["localhost.evil.example"], False), (["127.0.0.1.evil.example"], False), ([""], False),
        (["localhost", "localhost"], False), (["evil@localhost"], False),
    ],
)  # fmt: skip
def test_which_hosts_are_own(hosts: list[str], own: bool) -> None:
    assert is_own(hosts, ("metrics.internal",)) is own


@pytest.mark.parametrize("path", ["/", "/healthz", "/readyz", "/metrics", "/nothing"])
def test_dns_rebinding_does_not_reach_the_operator_port(path: str) -> None:
    async def test() -> None:
        async def metrics() -> str:
            return "1"

        operator = OperatorPort(lambda: "", metrics)
        port = await operator.start(Operator(port=0, hosts=("Metrics.internal",)))
        try:
            async with ClientSession(f"http://127.0.0.1:{port}") as client:
                for host, refused in (
                    ("evil.example", True),
                    ("metrics.internal", False),
                    (f"localhost:{port}", False),
                ):
                    async with client.get(path, headers={"host": host}) as response:
                        assert (response.status == 421) is refused
                        if refused:
                            assert "operator.hosts" in await response.text()
        finally:
            await operator.stop()

    asyncio.run(test())


def test_dns_rebinding_gets_no_token_and_nothing_else_of_dev() -> None:
    side = HttpSide(local_only=True)
    side.add_dev_tokens(lambda user, name: "a token", Origins, RefusedOrigins(lambda: 0.0))
    for host, status in (("evil.example:8080", 421), ("localhost:8080", 200), ("127.0.0.1:8080", 200)):
        request = make_mocked_request("GET", "/dev/token?user=ann", headers={"host": host})
        assert asyncio.run(side._handle(request)).status == status


@pytest.mark.parametrize(
    ("origin", "may_read"),
    [
        ("https://app.example.com", True), ("http://127.0.0.1:3000", True), ("http://localhost:5173", True),
        ("http://[::1]:3000", True), ("https://app.localhost:3000", True), ("http://127.0.0.1:8080", True),
        ("http://evil.example", False), ("http://localhost.evil.example:5173", False), ("null", False),
        ("http://localhost:5173/x", False), ("http://u@localhost:5173", False), ("http://localhost:x", False),
        ("capacitor://localhost", False),
    ],
)  # fmt: skip
def test_with_dev_a_page_of_a_listed_origin_or_of_this_machine_may_read_a_development_token(
    origin: str, may_read: bool, caplog: pytest.LogCaptureFixture
) -> None:
    side, origins = HttpSide(local_only=True), Origins(("https://app.example.com",), local_only=True)
    side.add_dev_tokens(lambda user, name: "a token", lambda: origins, RefusedOrigins(lambda: 0.0))
    headers = {"host": "127.0.0.1:8080", "origin": origin}
    request = make_mocked_request("GET", "/dev/token?user=ann", headers=headers)
    response = asyncio.run(side._handle(request))
    assert response.headers.get("Access-Control-Allow-Origin") == (origin if may_read else None)
    logged = [record.getMessage() for record in caplog.records if record.name == "koko_presence.origins"]
    assert len(logged) == (0 if may_read else 1) and all(origin in text for text in logged)
