"""Each stand-in answers as its image does."""

from __future__ import annotations

import os
import posix
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from unit.kubelab.standin.programs import TIMEOUT, running

from kubelab.images.programs import OUTSIDE, standin_argv, standins
from kubelab.standin import bookinfo, client, guestbook, shop
from kubelab.standin.conversation import Conversation, Identity, Request

ZERO = {"PORT": "0"}


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_json_mock(address: str) -> None:
    with running("json-mock", environment=ZERO) as mock:
        assert mock.ask("/", address=address)[0] == 200
        assert mock.json("/public") == [{"id": 1, "body": "public information"}]
        assert mock.json("/private/1") == {"id": 1, "body": "secret information"}
        wanted = "::ffff:127.0.0.1" if address == "127.0.0.1" else address
        assert mock.json("/client-ip", address=address) == {"client-ip": wanted}
        assert mock.json("/hostname") == {"hostname": os.uname().nodename}
        assert mock.ask("/auth-header-required")[0] == 401
        assert mock.ask("/auth-header-required", headers={"Authorization": "Bearer 123456"})[0] == 200
        assert mock.json("/headers", headers={"X-Very-Secret-Token": "42"})["headers"]["x-very-secret-token"] == "42"
        assert mock.ask("/nothing") == (404, "{}")


def test_json_mock_keeps_what_it_is_given() -> None:
    with running("json-mock", environment=ZERO) as mock:
        assert mock.ask("/public", "POST", '{"body": "new"}')[0] == 201
        assert mock.ask("/public", "POST", "body=form")[0] == 201
        assert [entry["body"] for entry in mock.json("/public")] == ["public information", "new", "form"]
        assert mock.json("/public?body=new") == [{"body": "new", "id": 2}]
        assert mock.json("/public/2", "PUT", '{"body": "put"}') == {"body": "put", "id": 2}
        assert mock.json("/public/2", "PATCH", '{"more": 1}') == {"body": "put", "id": 2, "more": 1}
        assert mock.ask("/public/2", "DELETE") == (200, "{}")
        assert mock.ask("/public/2")[0] == 404


def test_starwars() -> None:
    with running("starwars", ["--port", "0"]) as star:
        assert star.json("/v1/")["name"] == "Death Star"
        assert star.ask("/v1/request-landing", "POST") == (200, "Ship landed\n")
        assert star.ask("/v1/request-landing")[0] == 405
        assert star.ask("/v2")[0] == 404
        status, trace = star.ask("/v1/exhaust-port", "PUT")
        assert status == 503
        assert trace.startswith("Panic: deathstar exploded")
        assert star.process.wait(TIMEOUT) == 2, "it explodes"


def test_agnhost_netexec() -> None:
    with running("agnhost", ["netexec", "--http-port", "0", "--udp-port=0"], listeners=2) as host:
        name = os.uname().nodename
        assert host.ask("/hostname") == (200, name)
        assert host.ask("/clientip")[1].startswith("127.0.0.1:")
        assert host.ask("/echo?msg=a%20b+c") == (200, "a b c")
        assert host.ask("/echo?msg=x&code=404")[0] == 404
        assert host.ask("/header?key=X-A", headers={"X-A": "y"}) == (200, "y")
        assert host.ask("/healthz")[0] == 200
        assert host.json("/shell?cmd=echo%20hi") == {"output": "hi\n"}
        assert host.json("/shell?cmd=false") == {"output": "", "error": "exit status 1"}
        dial = f"/dial?host=127.0.0.1&port={host.ports[1]}&protocol=udp&request=hostname&tries=2"
        assert host.json(dial) == {"responses": [name, name]}
        itself = f"/dial?host=::1&port={host.port}&request=hostname"
        assert host.json(itself) == {"responses": [name]}, "a request to itself is answered meanwhile"
        assert host.ask("/dial?host=127.0.0.1&port=1&request=hostname")[0] == 417
        assert host.ask("/dial?host=127.0.0.1")[0] == 400
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(TIMEOUT)
            sock.sendto(b"echo a b\n", ("127.0.0.1", host.ports[1]))
            assert sock.recv(100) == b"a b"


def test_agnhost_serve_hostname() -> None:
    with running("agnhost", ["serve-hostname", "--port", "0"]) as host:
        assert host.ask("/") == (200, os.uname().nodename)
    with (
        running("agnhost", ["serve-hostname", "--tcp", "--udp", "--port=0"], listeners=2) as host,
        socket.create_connection(("127.0.0.1", host.ports[0]), timeout=TIMEOUT) as sock,
    ):
        assert sock.recv(1000) == os.uname().nodename.encode()
        assert sock.recv(1000) == b""


def run(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    argv = standin_argv(name, arguments, run=OUTSIDE)
    return subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)


def test_agnhost_connect_and_what_it_lacks() -> None:
    with running("server", ["0/tcp"]) as server:
        assert run("agnhost", "connect", f"127.0.0.1:{server.port}").returncode == 0
    refused = run("agnhost", "connect", f"127.0.0.1:{server.port}", "--timeout=1s")
    assert (refused.returncode, refused.stderr) == (1, "REFUSED\n")
    lacking = run("agnhost", "webhook")
    assert lacking.returncode == 1
    assert lacking.stderr.startswith("agnhost webhook: this stand-in has netexec,")


def test_grpc_health_probe() -> None:
    with running("server", ["0/tcp"]) as server:
        found = run("grpc-health-probe", f"-addr=127.0.0.1:{server.port}", "-rpc-timeout=5s")
        assert (found.returncode, found.stdout) == (0, "status: SERVING\n")
        assert client.healthy("::1", server.port, "any.Service")
    assert run("grpc-health-probe", f"-addr=:{server.port}").returncode == 2
    assert run("grpc-health-probe").returncode == 1


@pytest.mark.parametrize(
    ("arguments", "environment", "path", "words"),
    [
        (["ealen"], ZERO, "/a?b=c", '"originalUrl": "/a?b=c"'),
        (["http-echo", "-listen=:0", "-text", "hello"], {}, "/", "hello\n"),
        (["http-echo", "-listen=:0"], {"ECHO_TEXT": "bye"}, "/", "bye\n"),
        (["whoami", "--port", "0"], {}, "/x", "GET /x HTTP/1.1\nHost: 127.0.0.1"),
        (["whoami", "--port", "0"], {}, "/api", '"remoteAddr": "127.0.0.1:'),
        (["hello-app"], ZERO | {"KUBELAB_IMAGE": "gcr.io/google-samples/hello-app:2.0"}, "/", "Version: 2.0\n"),
        (["bootcamp", "--port=0"], {"KUBELAB_IMAGE": "gcr.io/google-samples/kubernetes-bootcamp:v2"}, "/", "v=2\n"),
        (["fixed", "0", "OK!"], {}, "/", "OK!"),
        (["served-by"], ZERO, "/x?y", "HTTP/1.1 GET /x?y"),
        (["nginxdemos", "--port=0"], {"KUBELAB_IMAGE": "nginxdemos/hello:plain-text"}, "/z", "URI: /z\n"),
        (["kuard", "--address=:0"], {}, "/ready", "ok"),
        (["hello-kubernetes"], ZERO | {"MESSAGE": "<hi>"}, "/", "<h1>&lt;hi&gt;</h1>"),
        (["httpbin"], ZERO, "/get?a=1", '"args": {"a": "1"}'),
        (["httpbin"], ZERO, "/ip", '{"origin": "127.0.0.1"}'),
    ],
)
def test_demonstrations(arguments: list[str], environment: dict[str, str], path: str, words: str) -> None:
    with running("hello", arguments, environment) as server:
        status, text = server.ask(path)
        assert status == 200
        assert words in text


def test_status_codes_that_are_wanted() -> None:
    with running("hello", ["httpbin"], ZERO) as server:
        assert server.ask("/status/418")[0] == 418
        assert server.ask("/nowhere")[0] == 404
    with running("hello", ["ealen"], ZERO) as server:
        assert server.ask("/?echo_code=503")[0] == 503


def test_static_pages(tmp_path: Path) -> None:
    (tmp_path / "a.css").write_text("body {}")
    with running("static", [str(tmp_path), "Welcome & hello", "0"]) as server:
        assert "<h1>Welcome &amp; hello</h1>" in server.ask("/")[1]
        (tmp_path / "index.html").write_text("mine")
        assert server.ask("/") == (200, "mine")
        assert server.ask("/a.css") == (200, "body {}")
        assert server.ask("/b")[0] == 404
        assert server.ask("/../etc/passwd")[0] == 400
        assert server.ask("/", "POST", "x")[0] == 405


def login(user: str) -> Sequence[tuple[str, str]]:
    talk = Conversation(("::1", 1), 80, Identity({}))
    request = Request(talk, "POST", "/login", "HTTP/1.1", {}, f"username={user}&passwd=".encode())
    return bookinfo.productpage(request, "v1").headers


def test_bookinfo_fetches() -> None:
    with running("bookinfo", ["ratings", "0"]) as ratings, running("bookinfo", ["details", "0"]) as details:
        place = {"RATINGS_HOSTNAME": "127.0.0.1", "RATINGS_SERVICE_PORT": str(ratings.port)}
        with running("bookinfo", ["reviews", "v3", "0"], place) as reviews:
            found = reviews.json("/reviews/0")["reviews"]
            assert [entry["rating"] for entry in found] == [{"stars": 5, "color": "red"}, {"stars": 4, "color": "red"}]
            others = {
                "DETAILS_HOSTNAME": "127.0.0.1", "DETAILS_SERVICE_PORT": str(details.port),
                "REVIEWS_HOSTNAME": "127.0.0.1", "REVIEWS_SERVICE_PORT": str(reviews.port),
            }  # fmt: skip
            with running("bookinfo", ["productpage", "0"], others) as front:
                text = front.ask("/productpage")[1]
                assert "1234567890" in text
                assert "Reviewer1" in text
                assert '<p class="red">★★★★☆</p>' in text
                assert f"Reviews served by: <u>{os.uname().nodename}</u>" in text
                cookie = dict(login("jason"))["Set-Cookie"].partition(";")[0]
                assert "jason (<a" in front.ask("/productpage", headers={"Cookie": cookie})[1]
                details.process.kill()
                details.process.wait()
                assert "Error fetching product details!" in front.ask("/productpage")[1]
                assert front.ask("/health")[0] == 200
    image = {"KUBELAB_IMAGE": "docker.io/istio/examples-bookinfo-reviews-v1:1.20.1@sha256:00"}
    with running("bookinfo", ["0"], image) as reviews:
        assert "rating" not in reviews.json("/reviews/0")["reviews"][0]


def test_online_boutique_is_a_shop_of_those_that_answer() -> None:
    with running("boutique", ["paymentservice"], ZERO) as payment:
        behind = {"PAYMENT_SERVICE_ADDR": f"127.0.0.1:{payment.port}"}
        with running("boutique", ["checkoutservice"], ZERO | behind) as service:
            checkout = ("127.0.0.1", service.port)
            addresses = {
                "AD_SERVICE_ADDR": f"127.0.0.1:{payment.port}",
                "CHECKOUT_SERVICE_ADDR": f"[::1]:{service.port}",
            }
            with running("boutique", ["frontend"], ZERO | addresses) as front:
                assert front.ask("/_healthz") == (200, "ok")
                status, text = front.ask("/")
                assert (status, text.count('class="card"')) == (200, 9)
                assert "$19.99" in text
                assert "<b>Ad</b>" in text
                assert client.healthy(*checkout, "hipstershop.CheckoutService")
                assert "Your order is complete!" in front.ask("/cart/checkout", "POST", "email=a")[1]
                payment.process.kill()
                payment.process.wait()
                assert client.healthy(*checkout), "itself it is well"
                assert not client.healthy(*checkout, "hipstershop.CheckoutService")
                status, text = front.ask("/cart/checkout", "POST", "email=a")
                assert (status, "checkoutservice: NOT_SERVING" in text) == (500, True)
                status, text = front.ask("/")
                assert (status, "<b>Ad</b>" in text) == (200, False), "a page is there without an advertisement"


def test_a_cart_is_its_customers() -> None:
    talk = Conversation(("::1", 1), 80, Identity({}))
    sells = shop.Shop()

    def ask(method: str, target: str, body: str = "", **headers: str) -> tuple[str, str, dict[str, str]]:
        request = Request(talk, method, target, "HTTP/1.1", headers, body.encode())
        answer = sells.answer(request, recommend=True, advertise=False)
        return answer.status[:3], answer.content.decode(), dict(answer.headers)

    status, _, headers = ask("POST", "/cart", "product_id=6E92ZMYYFZ&quantity=2")
    assert (status, headers["Location"]) == ("302", "/cart")
    mine = headers["Set-Cookie"].partition(";")[0]
    page = ask("GET", "/cart", cookie=f"{mine}; shop_currency=EUR")[1]
    assert "Cart (2)" in page
    assert "€15.91" in page
    assert "€23.86" in page, "with shipping"
    assert "You May Also Like" in page
    assert "shopping cart is empty" in ask("GET", "/cart")[1]
    assert ask("POST", "/cart", "product_id=nothing")[0] == "422"
    assert ask("GET", "/product/nothing")[0] == "500"
    assert ask("POST", "/setCurrency", "currency_code=JPY")[2]["Set-Cookie"].startswith("shop_currency=JPY")
    assert "$26.97" in ask("POST", "/cart/checkout", cookie=mine)[1], "what was paid"
    assert "shopping cart is empty" in ask("GET", "/cart", cookie=mine)[1]
    assert "Max-Age=-1" in ask("GET", "/logout", cookie=mine)[2]["Set-Cookie"]


def test_guestbook_without_redis_says_who_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    identity = Identity({})
    request = Request(Conversation(("::1", 1), 80, identity), "GET", "/guestbook.php?cmd=get", "HTTP/1.1", {}, b"")
    monkeypatch.setitem(posix.environ, b"GET_HOSTS_FROM", b"env")
    answer = guestbook.answer(request)
    assert answer.status.startswith("500")
    assert b"no host of redis-follower, redis-replica, redis-slave" in answer.content


@pytest.mark.parametrize("name", standins())
def test_every_standin_starts(name: str) -> None:
    """As far as its modules load in isolated mode."""
    script = f"import sys; sys.argv = ['run.py']; sys.path.append({str(Path(client.__file__).parent)!r}); import run; "
    done = subprocess.run(
        ["python3", "-S", "-E", "-I", "-c", f"{script}assert callable(run.load({name!r}).main)"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stderr == ""
