"""The load generator is part of the product: every figure in docs/performance.md can be measured again with it."""

import asyncio
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from bench import http
from bench.load import koko_server, write_tokens

pytestmark = pytest.mark.bench

ROOT = Path(__file__).parent.parent.parent


def load(*arguments: str) -> dict[str, object]:
    cores = sorted(os.sched_getaffinity(0))
    pins = ["--server-core", str(cores[0]), "--load-core", str(cores[-1])]
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "bench.load", "--json", "--port", str(port), *pins, *arguments]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=True)
    return dict(json.loads(run.stdout))


def test_the_cursors_of_a_small_load_are_delivered_to_all_members() -> None:
    result = load("--rooms", "2", "--users", "3", "--hz", "10", "--warmup", "0.2", "--seconds", "1", "--extras")
    sent = result["sent"]
    assert result["closed"] == 0 and isinstance(sent, int) and 0 < sent <= 65
    # a generator that is late sends two cursors at once, and two of one session that are read together count as one
    # [L3]
    assert sent < result["delivered"] <= result["expected"] == 2 * sent  # type: ignore[operator]
    assert 0 < result["last_receiver_ms"]["count"] <= sent and result["typing_ms"]["count"] > 0  # type: ignore[index]


def test_requests_beside_a_load_are_answered_and_no_message_is_lost() -> None:
    result = load("--rooms", "1", "--users", "2", "--hz", "5", "--warmup", "0.1", "--seconds", "2", "--probe")
    probe = result["probe"]
    assert isinstance(probe, dict) and probe["lost"] == {}
    assert set(probe["ms"]) == {"playback", "typing", "control", "join", "connect"} and all(probe["ms"].values())


def test_clients_that_obey_send_as_often_as_the_server_advises() -> None:
    # 40 users at 20 Hz each are 800 events/s; with a budget of 400 the room advises twice the interval of 50 ms
    line = ["--rooms", "1", "--users", "40", "--hz", "20", "--warmup", "0.5", "--seconds", "2", "--phases", "even"]
    line += ["--set", "limits_room_events_hz=400"]
    defiant, obedient = load(*line), load(*line, "--obey")
    assert obedient["sent"] < 0.8 * defiant["sent"]  # type: ignore[operator]
    assert obedient["advised_ms"]["p50"] >= 90.0  # type: ignore[index]


def test_slow_readers_get_older_cursors_and_the_others_nearly_all() -> None:
    # a reader of this room is offered some 20 kB/s
    line = ["--rooms", "1", "--users", "6", "--hz", "20", "--warmup", "1", "--seconds", "3"]
    result = load(*line, "--slow", "1000,1000000")
    slow, quick = result["slow"]  # type: ignore[misc]
    assert (slow["bytes_per_s"], quick["bytes_per_s"]) == (1000, 1000000) and not quick["closed"]
    assert slow["ages_ms"] and slow["ages_ms"][len(slow["ages_ms"]) // 2] > quick["ages_ms"][len(quick["ages_ms"]) // 2]
    sent = result["sent"]
    # on a busy machine two cursors of one session may arrive together, and only the newer one is delivered
    assert result["ratio"] > 0.9 and isinstance(sent, int)  # type: ignore[operator]
    assert 3 * sent < result["expected"] < 4 * sent  # type: ignore[operator]  # each of four senders gets it from three others


def test_all_clients_of_a_reconnect_storm_are_admitted() -> None:
    result = load("--rooms", "5", "--users", "10", "--storm")
    assert result["clients"] == 50 and result["join_ms"]["count"] == 50  # type: ignore[index]


def test_http_requests_follow_a_timetable_and_every_answer_is_counted(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    tokens = tmp_path / "tokens"
    write_tokens(tokens, 20)
    room = {"roomId": "video_0", "roomType": "video"}
    with koko_server(port, None):
        asyncio.run(http.fill(tokens.read_text().split()[:3], room, port))
        result = http.http_load(tokens, room, 0.5, [], rate=100.0, port=port)
    assert 0 < result["requests"] <= 55 and result["statuses"] == {"200": result["requests"]}
    assert 0.0 < result["latency_ms"]["p50"] <= result["latency_ms"]["p99"]


def test_a_small_reconnect_storm_reaches_a_server_with_little_of_a_core() -> None:
    cores = sorted(os.sched_getaffinity(0))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "bench.herd", "--port", str(port), "--rooms", "2", "--people", "5"]
    command += ["--workers", "2", "--shares", "0.6", "--server-core", str(cores[0]), "--load-core", str(cores[-1])]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    said = json.JSONDecoder().raw_decode(run.stdout.splitlines()[-1])[0]
    assert (said["people"], said["in"], said["not_resumed"], said["workers_died"]) == (10, 10, 0, 0)
