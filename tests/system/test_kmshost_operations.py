"""/health and /metrics of a real service, on their loopback listener, and the warning of K15 from a real process."""

import http.client
import json
import socket
import time
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

import authority_process
from kmshost_process import Home, Host
from polling import until
from volact.children import free_port
from world import DAY, PRODUCT, Machine

pytestmark = pytest.mark.sockets

POLICY = '[policy]\nthresholds = [{ count = "machines", minimum = 3 }]\n'
WAIT = 30


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> authority_process.Home:
    home = authority_process.Home(tmp_path_factory.mktemp("authority"))
    home.set_up(POLICY)
    return home


def get(port: int, path: str, host: str | None = None) -> tuple[int, bytes]:
    """Ask in plain HTTP; status 0 if nobody listens."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT)
    try:
        connection.request("GET", path, headers={"Host": host} if host else {})
        answer = connection.getresponse()
        return answer.status, answer.read()
    except OSError:
        return 0, b""
    finally:
        connection.close()


def scrape(port: int) -> dict[str, dict[tuple[str, ...], float]]:
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(get(port, "/metrics")[1].decode()):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sample.labels.values())] = sample.value
    return found


def test_health_and_metrics_of_a_host_from_its_first_minute_on(
    authority: authority_process.Home, tmp_path: Path
) -> None:
    """Not activated, activated, three machines; then the listener moves, meets a taken port, and is turned off."""
    port = free_port()
    home = Home(tmp_path / "host", authority)
    home.init()
    settings = home.folder / "kmshost.toml"
    settings.write_text(f'ops_listen = "127.0.0.1:{port}"\n')
    with Host(home) as host, host.connect() as connection:
        status, body = until(lambda: (found := get(port, "/health"))[0] and found)
        assert (status, json.loads(body)["checks"]["activated"]["ok"]) == (503, False)
        home.install_key(authority.key("kms-host"))
        home.activate_by_file()
        found = json.loads(until(lambda: (found := get(port, "/health"))[0] == 200 and found[1]))
        assert (found["status"], found["host"]) == ("ok", home.host)
        for machine in [Machine(home.pub) for _ in range(3)]:
            last = connection.check_in(machine)
        assert "token" in last
        told = until(lambda: (found := scrape(port))["volact_kmshost_answers_total"].get(("ok",)) and found)
        assert told["volact_kmshost_answers_total"] == {("ok",): 1, ("count-insufficient",): 2}
        assert told["volact_kmshost_events_total"][("12290", "ok")] == 1
        required = "volact_kmshost_required"
        assert until(lambda: scrape(port).get(required, {}).get(("machines", PRODUCT))) == 3
        assert told["process_resident_memory_bytes"][()] > 0
        shared = "volact_kmshost_requests_total"
        assert until(lambda: scrape(port).get(shared, {}).get(("ok", "Initial grace"))) == 1
        assert get(port, "/metrics", host="evil.example")[0] == 404
        assert get(port, "/v1/host")[0] == 404
        assert connection.caller.get("/metrics").status == connection.caller.get("/health").status == 404
        moved = free_port()
        settings.write_text(f'ops_listen = "127.0.0.1:{moved}"\n')
        until(lambda: get(moved, "/health")[0] == 200 and get(port, "/health")[0] == 0)
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            settings.write_text(f'ops_listen = "127.0.0.1:{taken.getsockname()[1]}"\n')
            log = home.folder / "serve.log"
            until(lambda: "Cannot listen on 127.0.0.1 port" in log.read_text())
            time.sleep(1.2)
            assert log.read_text().count("Cannot listen on 127.0.0.1 port") == 1
            assert get(moved, "/health")[0] == 200
            assert "token" in connection.check_in(machine)
            settings.write_text('ops_listen = "0.0.0.0:1690"\n')
            until(lambda: "no loopback address" in log.read_text())
            status, body = get(moved, "/health")
            check = json.loads(body)["checks"]["settings"]
            assert (status, check["ok"]) == (200, True)
            assert "no loopback address" in check["warning"]
        settings.write_text('ops_listen = ""\n')
        until(lambda: get(moved, "/health")[0] == 0)
        assert "token" in connection.introduction()


def test_a_service_refuses_to_tell_the_network(authority: authority_process.Home, tmp_path: Path) -> None:
    home = Home(tmp_path / "host", authority, ops_listen="192.0.2.1:1690")
    home.init()
    refused = home.run("serve", "--listen", "127.0.0.1:0", code=2)
    assert "no loopback address" in refused["detail"]


def test_k15_a_loss_is_foreseen_and_warned_of_while_it_serves(
    authority: authority_process.Home, tmp_path: Path
) -> None:
    """Three machines, one of which does not come back; the laboratory's clock passes the weeks."""
    home = Home(tmp_path / "host", authority, ops_listen="")
    clock = home.folder / "clock"
    clock.write_text("+0d")
    home.environ["VOLACT_LAB_CLOCK"] = str(clock)
    home.set_up()
    machines = [Machine(home.pub) for _ in range(3)]

    def call(day: int, some: list[Machine]) -> None:
        moved = home.folder / "moved"
        moved.write_text(f"+{day}d")
        moved.rename(clock)
        for one in some:
            connection.check_in(one, iat=int(time.time()) + day * DAY)

    with Host(home) as host, host.connect() as connection:
        call(0, machines)
        for day in (7, 14, 17):
            call(day, machines[1:])
        (event,) = until(lambda: home.run("events", "--event", "12295"))
        assert (event["result"], event["required"], event["current"]) == ("count-will-fall", 3, 3)
        (product,) = home.run("forecast")["products"]
        assert product["enough"] is True
        assert product["expected_loss"] == min(row["until"] for row in home.run("clients"))[:10]
        lines = (home.folder / "serve.log").read_text().splitlines()
        log = [json.loads(line) for line in lines if line.startswith("{")]
        (line,) = [one for one in log if one.get("event_id") == 12295]
        assert (line["event"], line["product"]) == ("count will fall", PRODUCT)
        assert "Falls below 3 machines on" in product["sentence"]
    with Host(home) as host:  # a restart does not say it again
        time.sleep(2)
        assert len(home.run("events", "--event", "12295")) == 1
