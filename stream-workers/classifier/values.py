"""Random values for the placeholders of the corpus templates.

A template holds `{{name}}`, `{{int}}`, `{{iso}}` and so on where a provider
would put data. This module owns what these become. It draws everything from
the `random.Random` it is given, so that a seed gives the same corpus again.
"""

from __future__ import annotations

import re
import uuid
from datetime import datetime, timedelta, timezone
from random import Random
from typing import Any, Callable

FIRST = (
    "Ada Amara Anton Beatriz Bruno Carla Chidi Dana Deniz Elif Emil Farah Felix Gita "
    "Hanna Hugo Ines Ivan Jonas Juno Kaito Lena Leo Lucia Mara Mateo Mei Milan Nadia "
    "Nora Omar Paula Quinn Rafael Rina Sami Selma Tariq Thea Uma Viktor Wanda Yara Zoe"
).split()
LAST = (
    "Abe Adeyemi Berg Bianchi Castro Chen Dubois Eriksen Fischer Garcia Haas Ito Jansen "
    "Kaya Khan Kowalski Laurent Lopez Maier Moreau Nakamura Novak Okafor Olsen Park Patel "
    "Petrov Quist Rossi Sato Silva Singh Tanaka Torres Ueda Varga Weber Yilmaz Zhang"
).split()
WORDS = (
    "account action after again agenda amber answer archive area batch before blue branch "
    "bright bundle button cable cache calm candle carbon change chapter check circle clear "
    "client cloud copper corner daily data delta design detail draft early east engine "
    "entry error event every export feature field final first flow follow forest format "
    "garden general green group harbor header hello hour import index island item journal "
    "kitchen label large later launch layer letter level light limit linen local long "
    "main maple market matter meeting metric mirror module monday month morning network "
    "north note number ocean office open order orange output page panel paper people "
    "plan please plum point policy print process product profile project public quarter "
    "question quick quiet random ready reason record region release remote renewal reply "
    "report request result review river road round sample schema season second section "
    "server service session shadow short signal silver small south spring stable status "
    "stone storage summer support system table team test thanks theme thread tiger today "
    "token topic track travel update upload usage user value version video view violet "
    "warm week welcome west white window winter work yellow yesterday zone"
).split()
PRODUCTS = (
    "Canvas Tote|Desk Lamp|Espresso Cup|Garden Chair|Linen Shirt|Oak Shelf|Pro Plan|"
    "Running Shoe|Starter Plan|Steel Bottle|Team Plan|Travel Mug|Wool Blanket|Yoga Mat|"
    "Ceramic Vase|Phone Case|Rain Jacket|Notebook A5|Team Seat|Trail Socks"
).split("|")
COMPANY_TAILS = ("Ltd", "Inc", "GmbH", "Labs", "Group", "Studio", "& Co", "Works", "AB", "SAS")
CITIES = (
    "Lisbon Oslo Nairobi Osaka Lyon Porto Austin Toronto Lima Krakow Ghent Perth Pune "
    "Bergen Leipzig Tampere Accra Quito Denver Bristol"
).split()
COUNTRIES = "US GB DE FR ES IT NL SE NO PL PT BR MX CA AU JP IN KE ZA CH".split()
CURRENCIES = "USD EUR GBP JPY CAD AUD CHF SEK BRL INR".split()
TLDS = ("com", "io", "net", "org", "dev", "co", "example")
BRANCHES = "main master develop staging release/2.4 feature/login fix/typo chore/deps hotfix".split()
EXTENSIONS = "pdf png jpg csv docx xlsx mp4 zip txt md json wav".split()
EPOCH = 1_640_995_200  # 2022-01-01, the earliest moment a value may have
SPAN_S = 4 * 365 * 86_400

#: `{{name}}`, or `{{one:this|that|the other}}`, in whose choices plain placeholders may stand.
PLACEHOLDER = re.compile(r"\{\{(?:one:((?:[^{}]|\{\{\w+\}\})*)|(\w+))\}\}")
#: Placeholders which become a JSON number or boolean when they are all of a value.
BARE = frozenset({"int", "unix", "unix_ms", "cents", "amount", "bool"})


def moment(rng: Random) -> datetime:
    """A moment between 2022 and 2025, to the microsecond, in UTC."""
    start = datetime.fromtimestamp(EPOCH, timezone.utc)
    return start + timedelta(seconds=rng.randrange(SPAN_S), microseconds=rng.randrange(1_000_000))


def iso(rng: Random) -> str:
    """A timestamp in one of the spellings that senders use."""
    when = moment(rng)
    style = rng.randrange(5)
    if style == 0:
        return when.strftime("%Y-%m-%dT%H:%M:%SZ")
    if style == 1:
        return when.strftime("%Y-%m-%dT%H:%M:%S.") + f"{when.microsecond // 1000:03d}Z"
    if style == 2:
        return when.strftime("%Y-%m-%dT%H:%M:%S+00:00")
    if style == 3:
        return when.strftime("%Y-%m-%dT%H:%M:%S.%f+02:00")
    return when.strftime("%Y-%m-%d %H:%M:%S")


def hexadecimal(rng: Random, digits: int) -> str:
    """That many lower-case hexadecimal digits."""
    return f"{rng.getrandbits(4 * digits):0{digits}x}"


def identifier(rng: Random) -> str:
    """An id: digits, hexadecimal, mixed letters, or a UUID."""
    style = rng.randrange(5)
    if style == 0:
        return str(rng.randrange(1000, 10 ** rng.randrange(5, 13)))
    if style == 1:
        return hexadecimal(rng, 24)
    if style == 2:
        return new_uuid(rng)
    alphabet = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
    if style == 3:
        alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
    return "".join(rng.choices(alphabet, k=rng.randrange(8, 27)))


def new_uuid(rng: Random) -> str:
    """A version 4 UUID from the given source of randomness."""
    return str(uuid.UUID(int=rng.getrandbits(128), version=4))


def words(rng: Random, low: int, high: int) -> str:
    """Between `low` and `high` words with blanks between them."""
    return " ".join(rng.choices(WORDS, k=rng.randint(low, high)))


def domain(rng: Random) -> str:
    """A host name of two made-up parts."""
    return f"{rng.choice(WORDS)}{rng.choice(('', '-'))}{rng.choice(WORDS)}.{rng.choice(TLDS)}"


def user(rng: Random) -> str:
    """A login name."""
    return f"{rng.choice(FIRST).lower()}{rng.choice(('', '.', '_', '-'))}{rng.choice(LAST).lower()}"


def url(rng: Random) -> str:
    """An https address with a path that says nothing of the event."""
    host = rng.choice(("", "app.", "www.", "api.")) + domain(rng)
    return f"https://{host}/{rng.choice(WORDS)}/{identifier(rng)}"


MAKERS: dict[str, Callable[[Random], Any]] = {
    "id": identifier,
    "int": lambda r: r.randrange(10 ** r.randrange(1, 8)),
    "uuid": new_uuid,
    "hex": lambda r: hexadecimal(r, r.choice((16, 24, 32))),
    "name": lambda r: f"{r.choice(FIRST)} {r.choice(LAST)}",
    "first": lambda r: r.choice(FIRST),
    "email": lambda r: f"{user(r)}@{domain(r)}",
    "company": lambda r: f"{r.choice(WORDS).title()} {r.choice(COMPANY_TAILS)}",
    "domain": domain,
    "url": url,
    "iso": iso,
    "unix": lambda r: EPOCH + r.randrange(SPAN_S),
    "unix_ms": lambda r: 1000 * (EPOCH + r.randrange(SPAN_S)) + r.randrange(1000),
    "date": lambda r: moment(r).strftime("%Y-%m-%d"),
    "sentence": lambda r: words(r, 4, 14).capitalize() + r.choice((".", "", "!", "?")),
    "title": lambda r: words(r, 2, 6).capitalize(),
    "word": lambda r: r.choice(WORDS),
    "amount": lambda r: round(r.uniform(1, 10 ** r.randrange(1, 5)), 2),
    "cents": lambda r: r.randrange(100, 10 ** r.randrange(3, 7)),
    "currency": lambda r: r.choice(CURRENCIES) if r.random() < 0.6 else r.choice(CURRENCIES).lower(),
    "country": lambda r: r.choice(COUNTRIES),
    "phone": lambda r: f"+{r.randrange(1, 99)}{r.randrange(10**8, 10**10)}",
    "ip": lambda r: ".".join(str(r.randrange(1, 255)) for _ in range(4)),
    "repo": lambda r: f"{r.choice(WORDS)}-{r.choice(WORDS)}",
    "branch": lambda r: r.choice(BRANCHES),
    "sha": lambda r: hexadecimal(r, 40),
    "version": lambda r: f"{r.randrange(9)}.{r.randrange(20)}.{r.randrange(20)}",
    "bool": lambda r: r.random() < 0.5,
    "user": user,
    "city": lambda r: r.choice(CITIES),
    "product": lambda r: r.choice(PRODUCTS),
    "filename": lambda r: f"{r.choice(WORDS)}-{r.choice(WORDS)}.{r.choice(EXTENSIONS)}",
}


def leftover(text: str) -> list[str]:
    """What looks like a placeholder and is none."""
    return re.findall(r"\{\{[^}]*\}?", PLACEHOLDER.sub("", text))


def fill_text(text: str, rng: Random) -> str:
    """Replaces each placeholder of `text`. Raises KeyError for one that is not known."""

    def one(match: re.Match[str]) -> str:
        if match.group(1) is not None:
            return fill_text(rng.choice(match.group(1).split("|")), rng)
        made = MAKERS[match.group(2)](rng)
        if isinstance(made, bool):
            return "true" if made else "false"
        return str(made)

    return PLACEHOLDER.sub(one, text)


def fill(node: Any, rng: Random) -> Any:
    """Fills the placeholders of a whole JSON value; a bare numeric one becomes a number."""
    if isinstance(node, dict):
        return {fill_text(key, rng): fill(value, rng) for key, value in node.items()}
    if isinstance(node, list):
        return [fill(value, rng) for value in node]
    if isinstance(node, str):
        whole = PLACEHOLDER.fullmatch(node)
        if whole and whole.group(2) in BARE:
            return MAKERS[whole.group(2)](rng)
        return fill_text(node, rng)
    return node
