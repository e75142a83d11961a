"""The pages of Online Boutique's front end: what is sold, in which currency, what lies in whose cart.

In: requests with the cookies `shop_session-id` and `shop_currency`. Out: HTML, or a redirection after a form, at the
paths of the original: `/`, `/product/ID`, `/cart`, `/cart/empty`, `/cart/checkout`, `/setCurrency`, `/logout`. Which
services a page asks is `needs`; who asks them is `boutique`. Carts are this process' own.
"""

from __future__ import annotations

import posix

from kubelab.standin.conversation import Request, Response, escape

HTML = "text/html; charset=utf-8"
PRODUCTS: dict[str, tuple[str, int, str]] = {
    "OLJCESPC7Z": ("Sunglasses", 1999, "#f4b400"),
    "66VCHSJNUP": ("Tank Top", 1899, "#0f9d58"),
    "1YMWWN1N4O": ("Watch", 10999, "#4285f4"),
    "L9ECAV7KIM": ("Loafers", 8999, "#a1673b"),
    "2ZYFJ3GM2N": ("Hairdryer", 2499, "#db4437"),
    "0PUK6V6EV0": ("Candle Holder", 1899, "#7e57c2"),
    "LS4PSXUNUM": ("Salt & Pepper Shakers", 1849, "#607d8b"),
    "9SIQT8TOJO": ("Bamboo Glass Jar", 549, "#8d9f3f"),
    "6E92ZMYYFZ": ("Mug", 899, "#00acc1"),
}
"""By id: name, price in cents of a dollar, colour of the picture."""
CURRENCIES = {
    "USD": ("$", 1.0),
    "EUR": ("€", 0.8846),
    "CAD": ("$", 1.3382),
    "JPY": ("¥", 111.81),
    "GBP": ("£", 0.7605),
    "TRY": ("₺", 5.4177),
}
"""Sign, and what a dollar is worth."""
SHIPPING = 899
SESSION, CURRENCY = "shop_session-id", "shop_currency"
AGE = 172800
STYLE = """
body{margin:0;font-family:"DM Sans","Helvetica Neue",Arial,sans-serif;color:#111;background:#fff}
header{display:flex;align-items:center;gap:24px;padding:14px 48px;border-bottom:1px solid #ddd}
header a.name{font-size:24px;font-weight:700;color:#853b5c;text-decoration:none;margin-right:auto}
.note{background:#853b5c;color:#fff;text-align:center;padding:8px;font-size:14px}
main{max-width:1100px;margin:32px auto;padding:0 24px}
.grid{display:grid;grid-template-columns:repeat(3,1fr);gap:36px 28px}
.card{text-decoration:none;color:inherit}
.card svg,.one svg{width:100%;border-radius:4px;display:block}
.card b,.card span{display:block;margin-top:8px}
.card span{color:#605f64;margin-top:2px}
.one{display:grid;grid-template-columns:1fr 1fr;gap:48px}
.ad{background:#eef3fb;border-radius:4px;padding:12px 16px;margin:40px 0}
button{background:#853b5c;color:#fff;border:0;border-radius:24px;padding:12px 28px;font-size:16px;cursor:pointer}
table{width:100%;border-collapse:collapse;margin:16px 0}td,th{text-align:left;padding:10px;border-bottom:1px solid #eee}
td:last-child,th:last-child{text-align:right}
label{display:block;margin:8px 0}input{padding:6px;width:100%;box-sizing:border-box}
footer{border-top:1px solid #ddd;color:#605f64;font-size:13px;padding:20px 48px;margin-top:48px}
"""


def needs(request: Request) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Services without which the page cannot be, and those that it does without; by the names of their variables."""
    path = request.path
    if path == "/":
        return ("currency", "product_catalog", "cart"), ("ad",)
    if path.startswith("/product/"):
        return ("product_catalog", "currency", "cart"), ("recommendation", "ad")
    if path == "/cart" and request.method == "POST":
        return ("product_catalog", "cart"), ()
    if path == "/cart":
        return ("currency", "cart", "shipping", "product_catalog"), ("recommendation",)
    if path == "/cart/checkout":
        return ("checkout", "currency"), ("recommendation",)
    return (("cart",), ()) if path == "/cart/empty" else ((), ())


def cookies(request: Request) -> dict[str, str]:
    pairs = (part.strip().partition("=") for part in request.headers.get("cookie", "").split(";"))
    return {name: value for name, _, value in pairs if name}


def form(request: Request) -> dict[str, str]:
    """Fields of a form that was sent."""
    body = request.body.decode("latin-1")
    return Request(request.talk, "GET", f"/?{body}", request.version, {}, b"").parameters


class Visit:
    """One request of one customer, who is known by a cookie or gets one."""

    def __init__(self, request: Request) -> None:
        found = cookies(request)
        self.request = request
        self.known = SESSION in found
        self.session = found.get(SESSION) or posix.urandom(16).hex()
        currency = found.get(CURRENCY, "USD")
        self.currency = currency if currency in CURRENCIES else "USD"

    def price(self, cents: int) -> str:
        sign, rate = CURRENCIES[self.currency]
        return f"{sign}{cents * rate / 100:.2f}"

    def page(self, title: str, body: str, items: int, status: str = "200 OK") -> Response:
        options = "".join(
            f"<option{' selected' if name == self.currency else ''}>{name}</option>" for name in CURRENCIES
        )
        choice = (
            '<form method="POST" action="/setCurrency"><select name="currency_code" onchange="this.form.submit()">'
            f"{options}</select></form>"
        )
        node, pod = (escape(posix.environ.get(name, b"").decode()) for name in (b"KUBELAB_NODE", b"KUBELAB_POD"))
        text = (
            f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
            f"<style>{STYLE}</style></head>\n<body>\n"
            '<div class="note">A shop of stand-ins: nothing is sold, nothing is paid</div>\n'
            f'<header><a class="name" href="/">Online Boutique</a>{choice}<a href="/cart">Cart ({items})</a></header>\n'
            f"<main>\n{body}</main>\n<footer>session-id: {self.session} · pod: {pod} · node: {node}</footer>\n"
            "</body></html>\n"
        )
        return Response(text, status, HTML, () if self.known else self._cookie(SESSION, self.session))

    def go(self, place: str, *more: tuple[str, str]) -> Response:
        given = () if self.known else self._cookie(SESSION, self.session)
        return Response("", "302 Found", HTML, [("Location", place), *given, *more])

    @staticmethod
    def _cookie(name: str, value: str, age: int = AGE) -> tuple[tuple[str, str], ...]:
        return (("Set-Cookie", f"{name}={value}; Path=/; Max-Age={age}"),)


class Shop:
    """All carts: products and how many of each, by session."""

    def __init__(self) -> None:
        self.carts: dict[str, dict[str, int]] = {}

    def answer(self, request: Request, recommend: bool, advertise: bool) -> Response:
        """What services that a page does without had to say is shown where they answered."""
        visit, path, sent = Visit(request), request.path, form(request)
        cart = self.carts.get(visit.session, {})
        posted = request.method == "POST"
        if path == "/":
            return visit.page("Online Boutique", _home(visit) + _ad(advertise), _count(cart))
        if path.startswith("/product/"):
            name = path.removeprefix("/product/")
            if name not in PRODUCTS:
                return failure(request, f"could not retrieve product: no product with ID {name}")
            more = _recommended(recommend, {name}) + _ad(advertise)
            return visit.page(PRODUCTS[name][0], _product(visit, name) + more, _count(cart))
        if path == "/cart" and posted:
            return self._add(visit, sent)
        if path == "/cart":
            return visit.page("Cart", _cart(visit, cart) + _recommended(recommend, set(cart)), _count(cart))
        if path == "/cart/empty" and posted:
            self.carts.pop(visit.session, None)
            return visit.go("/")
        if path == "/cart/checkout" and posted:
            order = self.carts.pop(visit.session, {})
            return visit.page("Order", _order(visit, order) + _recommended(recommend, set()), 0)
        if path == "/setCurrency" and posted:
            given = sent.get("currency_code", "")
            chosen = Visit._cookie(CURRENCY, given) if given in CURRENCIES else ()
            return visit.go(request.headers.get("referer") or "/", *chosen)
        if path == "/logout":
            gone = [cookie for name in (SESSION, CURRENCY) for cookie in Visit._cookie(name, "", -1)]
            return Response("", "302 Found", HTML, [("Location", "/"), *gone])
        return Response("404 page not found\n", "404 Not Found", "text/plain; charset=utf-8")

    def _add(self, visit: Visit, sent: dict[str, str]) -> Response:
        product, amount = sent.get("product_id", ""), sent.get("quantity", "1")
        if product not in PRODUCTS or not amount.isdecimal() or not 1 <= int(amount) <= 10:
            problem = f"invalid product_id {product!r} or quantity {amount!r}"
            return failure(visit.request, problem, "422 Unprocessable Entity")
        cart = self.carts.setdefault(visit.session, {})
        cart[product] = cart.get(product, 0) + int(amount)
        return visit.go("/cart")


def failure(request: Request, problem: str, status: str = "500 Internal Server Error") -> Response:
    """The page that names what did not work."""
    body = f"<h1>Uh, oh!</h1>\n<p>Something has failed. Details:</p>\n<p><b>HTTP Status:</b> {status}</p>\n"
    return Visit(request).page("Error", f"{body}<pre>{escape(problem)}</pre>\n", 0, status)


def _count(cart: dict[str, int]) -> int:
    return sum(cart.values())


def _total(cart: dict[str, int]) -> int:
    return sum(PRODUCTS[name][1] * amount for name, amount in cart.items())


def _picture(name: str) -> str:
    title, _, colour = PRODUCTS[name]
    initials = "".join(word[0] for word in title.split() if word[0].isalpha())
    return (
        f'<svg viewBox="0 0 300 240" role="img" aria-label="{escape(title)}"><rect width="300" height="240" '
        f'fill="{colour}" opacity=".18"/><circle cx="150" cy="120" r="72" fill="{colour}"/><text x="150" y="140" '
        f'font-size="56" font-weight="700" fill="#fff" text-anchor="middle">{initials}</text></svg>'
    )


def _cards(visit: Visit | None, names: list[str]) -> str:
    cards = []
    for name in names:
        title, cents, _ = PRODUCTS[name]
        price = f"<span>{visit.price(cents)}</span>" if visit is not None else ""
        cards.append(f'<a class="card" href="/product/{name}">{_picture(name)}<b>{escape(title)}</b>{price}</a>\n')
    return f'<div class="grid">\n{"".join(cards)}</div>\n'


def _home(visit: Visit) -> str:
    return f"<h1>Hot Products</h1>\n{_cards(visit, list(PRODUCTS))}"


def _product(visit: Visit, name: str) -> str:
    title, cents, _ = PRODUCTS[name]
    amounts = "".join(f"<option>{amount}</option>" for amount in (1, 2, 3, 4, 5, 10))
    return (
        f'<div class="one"><div>{_picture(name)}</div><div><h1>{escape(title)}</h1><h2>{visit.price(cents)}</h2>'
        f'<form method="POST" action="/cart"><input type="hidden" name="product_id" value="{name}">'
        f'<label>Quantity <select name="quantity">{amounts}</select></label>'
        "<button>Add To Cart</button></form></div></div>\n"
    )


def _recommended(told: bool, without: set[str]) -> str:
    names = [name for name in PRODUCTS if name not in without][:4]
    return f"<h2>You May Also Like</h2>\n{_cards(None, names[:3])}" if told else ""


def _ad(told: bool) -> str:
    return (
        '<p class="ad"><b>Ad</b> Mug for sale. <a href="/product/6E92ZMYYFZ">Buy two, get the third</a></p>\n'
        if told
        else ""
    )


def _rows(visit: Visit, cart: dict[str, int]) -> str:
    rows = "".join(
        f"<tr><td>{escape(PRODUCTS[name][0])}<br>SKU #{name}</td><td>Quantity: {amount}</td>"
        f"<td>{visit.price(PRODUCTS[name][1] * amount)}</td></tr>\n"
        for name, amount in cart.items()
    )
    return (
        f"<table>\n{rows}<tr><td>Shipping</td><td></td><td>{visit.price(SHIPPING)}</td></tr>\n"
        f"<tr><th>Total</th><th></th><th>{visit.price(_total(cart) + SHIPPING)}</th></tr></table>\n"
    )


FIELDS = (
    ("email", "someone@example.com"), ("street_address", "1600 Amphitheatre Parkway"), ("zip_code", "94043"),
    ("city", "Mountain View"), ("state", "CA"), ("country", "United States"),
    ("credit_card_number", "4432-8015-6152-0454"), ("credit_card_expiration_month", "1"),
    ("credit_card_expiration_year", "2039"), ("credit_card_cvv", "672"),
)  # fmt: skip


def _cart(visit: Visit, cart: dict[str, int]) -> str:
    if not cart:
        return '<h1>Your shopping cart is empty!</h1>\n<p><a href="/">Continue Shopping</a></p>\n'
    fields = "".join(
        f'<label>{name.replace("_", " ")}<input name="{name}" value="{value}"></label>' for name, value in FIELDS
    )
    return (
        f"<h1>Cart ({_count(cart)})</h1>\n"
        f'<form method="POST" action="/cart/empty"><button>Empty Cart</button></form>\n{_rows(visit, cart)}'
        f'<form method="POST" action="/cart/checkout">{fields}<button>Place Order</button></form>\n'
    )


def _order(visit: Visit, cart: dict[str, int]) -> str:
    number, tracking = (posix.urandom(8).hex() for _ in range(2))
    return (
        "<h1>Your order is complete!</h1>\n<table>\n"
        f"<tr><td>Confirmation #</td><td>{number}</td></tr>\n<tr><td>Tracking #</td><td>{tracking}</td></tr>\n"
        f"<tr><td>Total Paid</td><td>{visit.price(_total(cart) + SHIPPING)}</td></tr></table>\n"
    )
