#!/usr/bin/env python3
"""Writes classify_corpus.tsv: values with and without personal data and secrets, as seen in traces.

Everything is invented by a seeded generator; check digits are computed here, apart from the code
under test. Columns: expected kind (`-` for none), attribute name, value, in which every \u00a4 is to be
removed.

    python3 classify_corpus.py > classify_corpus.tsv
    python3 classify_corpus.py --check       # exit code 1 when the committed file differs
"""

import base64
import json
import pathlib
import sys

# A generator of our own: the library's may change between versions.
STATE = 20240501


def below(limit):
    global STATE
    STATE = (STATE * 6364136223846793005 + 1442695040888963407) % 2**64
    return (STATE >> 33) % limit


def pick(items):
    return items[below(len(items))]


def digits(count):
    return "".join(str(below(10)) for _ in range(count))


def chars(alphabet, count):
    return "".join(pick(alphabet) for _ in range(count))


LOWER = "abcdefghijklmnopqrstuvwxyz"
UPPER = LOWER.upper()
HEX = "0123456789abcdef"
BASE62 = LOWER + UPPER + "0123456789"
BASE64 = BASE62 + "+/"
BASE64URL = BASE62 + "-_"
BASE32 = UPPER + "234567"
FIRST = "ana bob chen dara emil fatima george hana ivan julia kofi lena mateo nina omar priya".split()
LAST = "adler brown costa diaz evans fischer garcia haas ito jones kim lopez meyer novak okafor".split()
HOSTS = "example.com mail.example.org corp.example.co.uk acme.io shop.example.de univ.example.edu".split()
SERVICES = "cart checkout payment inventory robot-control analytics auth gateway search".split()
NEUTRAL = "app.note log.message http.url url.full db.statement event.detail rpc.request message.body".split()
# Frames in which a value of any kind stands.
FRAMES = [
    "{}",
    "{}",
    "failed for {} after 3 attempts",
    "GET /v1/items?q={}&page=2 HTTP/1.1",
    '{{"field":"{}","ok":true}}',
    "value={}; path=/",
    "SELECT * FROM t WHERE c = '{}' LIMIT 10",
    "({})",
    "a,{},b",
    "retry [{}] in 20 ms",
]


def framed(value):
    return pick(FRAMES).format(value)


# --- what must be found ---


def email():
    local = pick(
        [
            f"{pick(FIRST)}.{pick(LAST)}",
            f"{pick(FIRST)}{below(100)}",
            f"{pick(FIRST)[0]}{pick(LAST)}",
            f"{pick(FIRST)}+{pick(SERVICES)}",
            f"{pick(FIRST)}_{pick(LAST)}".upper(),
        ]
    )
    at = pick(["@", "@", "@", "%40"])
    return local + at + pick(HOSTS)


def luhn(body):
    total = 0
    for index, digit in enumerate(reversed(body)):
        value = int(digit)
        if index % 2 == 0:
            value = value * 2 - 9 if value >= 5 else value * 2
        total += value
    return body + str(-total % 10)


def card():
    prefix, length = pick(
        [("4", 16), ("4", 16), ("51", 16), ("55", 16), ("2221", 16), ("2720", 16), ("34", 15), ("37", 15),
         ("6011", 16), ("65", 16), ("3528", 16), ("36", 14), ("305", 14), ("62", 16), ("62", 19)]
    )
    number = luhn(prefix + digits(length - len(prefix) - 1))
    separator = pick(["", "", " ", "-"])
    if separator and length == 16:
        return separator.join(number[i : i + 4] for i in range(0, 16, 4))
    if separator and length == 15:
        return separator.join([number[:4], number[4:10], number[10:]])
    return number


def phone():
    country, lengths = pick(
        [("1", [3, 3, 4]), ("44", [2, 4, 4]), ("49", [2, 8]), ("33", [1, 2, 2, 2, 2]), ("81", [2, 4, 4]),
         ("91", [5, 5]), ("351", [3, 3, 3]), ("61", [1, 4, 4])]
    )
    groups = [str(1 + below(9)) + digits(n - 1) for n in lengths]
    style = below(5)
    if style == 0:
        return "+" + country + "".join(groups)
    if style == 1:
        return "+" + country + " " + " ".join(groups)
    if style == 2:
        return "+" + country + "-" + "-".join(groups)
    area, exchange, line = str(2 + below(8)) + pick("02345678") + digits(1), str(2 + below(8)) + digits(2), digits(4)
    if style == 3:
        return f"({area}) {exchange}-{line}"
    return f"{area}-{exchange}-{line}"


def ssn():
    while True:
        area = below(899) + 1
        if area != 666:
            break
    separator = pick(["-", "-", " "])
    return separator.join([f"{area:03}", f"{1 + below(99):02}", f"{1 + below(9999):04}"])


def nino():
    while True:
        prefix = pick("ABCEGHJKLMNOPRSTWXYZ") + pick("ABCEGHJKLMNPRSTWXYZ")
        if prefix not in ("BG", "GB", "NK", "KN", "TN", "NT", "ZZ"):
            break
    number, suffix = digits(6), pick("ABCD")
    if below(2):
        return prefix + number + suffix
    return f"{prefix} {number[:2]} {number[2:4]} {number[4:]} {suffix}"


def iban():
    country, length = pick(
        [("DE", 22), ("GB", 22), ("FR", 27), ("ES", 24), ("NL", 18), ("NO", 15), ("CH", 21), ("IT", 27), ("PL", 28)]
    )
    bank = chars(UPPER, 4) if country in ("GB", "NL") else ""
    body = bank + digits(length - 4 - len(bank))
    number = "".join(str(int(c, 36)) for c in body + country + "00")
    text = f"{country}{98 - int(number) % 97:02}{body}"
    if below(2):
        return text
    return " ".join(text[i : i + 4] for i in range(0, length, 4))


def url64(data):
    return base64.urlsafe_b64encode(data.encode()).decode().rstrip("=")


def jwt():
    header = url64(json.dumps({"alg": pick(["HS256", "RS256", "ES256"]), "typ": "JWT"}, separators=(",", ":")))
    claims = url64(json.dumps({"sub": digits(8), "exp": int("17" + digits(8))}, separators=(",", ":")))
    return f"{header}.{claims}.{chars(BASE64URL, 43)}"


def aws():
    return pick(["AKIA", "ASIA"]) + chars(BASE32, 16)


def private_key():
    label = pick(["RSA ", "EC ", "", "OPENSSH "])
    return f"-----BEGIN {label}PRIVATE KEY-----\\n{chars(BASE64, 64)}\\n{chars(BASE64, 40)}\\n-----END {label}PRIVATE KEY-----"


def bearer():
    if below(3) == 0:
        pair = f"{pick(FIRST)}:{chars(BASE62, 8 + below(8))}"
        return "Basic " + base64.b64encode(pair.encode()).decode()
    return pick(["Bearer ", "bearer "]) + chars(BASE64URL, 20 + below(30)) + digits(2)


def url_credentials():
    scheme = pick(["postgres", "https", "amqp", "redis", "mongodb"])
    return f"{scheme}://{pick(FIRST)}:{chars(BASE62, 10)}@{pick(SERVICES)}.{pick(HOSTS)}:5432/main"


def issued():
    return pick(
        [
            lambda: pick(["ghp_", "gho_", "ghs_"]) + chars(BASE62, 36),
            lambda: "glpat-" + chars(BASE64URL, 20),
            lambda: "xoxb-" + digits(12) + "-" + chars(BASE62, 24),
            lambda: "sk_live_" + chars(BASE62, 24),
            lambda: "AIza" + chars(BASE64URL, 35),
            lambda: "npm_" + chars(BASE62, 36),
            lambda: "sk-proj-" + chars(BASE64URL, 48),
            lambda: "hvs." + chars(BASE62, 24),
        ]
    )()


def named_value():
    name = pick(["password", "passwd", "api_key", "apiKey", "client_secret", "access_token", "X-Auth-Token", "secret"])
    value = chars(BASE62, 6 + below(12))
    return pick([f"{name}={value}", f'"{name}":"{value}"', f'"{name}": "{value}"', f"user=7&{name}={value}&x=1"])


def random_secret():
    return pick(
        [lambda: chars(BASE62, 32), lambda: chars(BASE62, 40), lambda: chars(BASE64, 44), lambda: chars(BASE62, 64)]
    )()


# --- what must not be found ---


def uuid():
    return "-".join(chars(HEX, n) for n in (8, 4, 4, 4, 12))


def iso_time():
    return f"20{20 + below(10)}-{1 + below(12):02}-{1 + below(28):02}T{below(24):02}:{below(60):02}:{below(60):02}.{digits(6)}Z"


def camel():
    words = "Order Service Factory Bean V2 Http Client Impl Request Handler Json Proto3 Mapper Cache Retry X509 Oauth2".split()
    return "".join(pick(words) for _ in range(4 + below(4)))


def path():
    parts = [pick(SERVICES), "v" + str(1 + below(3)), pick(LAST) + "s", str(below(100000)), pick(FIRST) + "Detail"]
    return "/" + "/".join(parts[: 2 + below(4)])


def harmless():
    return pick(
        [
            uuid,
            lambda: uuid().upper(),
            lambda: chars(HEX, 32),
            lambda: chars(HEX, 16),
            lambda: chars(HEX, 40),
            lambda: chars(HEX, 64),
            lambda: "sha256:" + chars(HEX, 64),
            lambda: f"00-{chars(HEX, 32)}-{chars(HEX, 16)}-01",
            iso_time,
            lambda: "17" + digits(8),
            lambda: "17" + digits(11),
            lambda: "17" + digits(14),
            lambda: "17" + digits(17),
            lambda: digits(16),
            lambda: digits(1 + below(12)),
            lambda: f"{below(1000)}.{digits(12)}",
            lambda: f"0.{digits(16)}",
            lambda: ".".join(str(below(256)) for _ in range(4)),
            lambda: f"{'.'.join(str(below(256)) for _ in range(4))}:{1024 + below(60000)}",
            lambda: ":".join(chars(HEX, 4) for _ in range(8)),
            lambda: ":".join(chars(HEX, 2) for _ in range(6)),
            lambda: f"v{below(10)}.{below(30)}.{below(100)}-rc.{below(9)}+build.{digits(8)}",
            lambda: f"{pick(SERVICES)}-{chars('bcdfghjklmnpqrstvwxz2456789', 9)}-{chars('bcdfghjklmnpqrstvwxz2456789', 5)}",
            lambda: f"{pick(SERVICES)}.default.svc.cluster.local:{8000 + below(1000)}",
            lambda: f"registry.example.com/{pick(SERVICES)}@sha256:{chars(HEX, 64)}",
            lambda: f"git@github.com:acme/{pick(SERVICES)}.git",
            lambda: f"logo@{1 + below(3)}x.png",
            lambda: f"{pick(LAST)}@{below(9)}.{below(9)}.{below(9)}",
            lambda: f"spiffe://cluster.local/ns/default/sa/{pick(SERVICES)}",
            camel,
            lambda: "com.example." + camel() + "$" + camel(),
            path,
            lambda: "https://" + pick(HOSTS) + path() + f"?page={below(100)}&limit=50",
            lambda: f"ORD-{digits(4)}-{digits(6)}",
            lambda: f"INV{digits(10)}",
            lambda: f"{digits(3)}-{digits(3)}-{digits(3)}",
            lambda: f"{digits(4)}/{digits(2)}/{digits(2)} {digits(2)}:{digits(2)}",
            lambda: f"isbn 978-{digits(1)}-{digits(4)}-{digits(4)}-{digits(1)}",
            lambda: chars("0123456789ABCDEFGHJKMNPQRSTVWXYZ", 26),
            lambda: chars(BASE64URL, 21),
            lambda: base64.b64encode(pick(SERVICES).encode()).decode(),
            lambda: f"arn:aws:s3:::{pick(SERVICES)}-bucket-{digits(12)}",
            lambda: f"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/{below(150)}.0.{digits(4)}.{below(300)}",
            lambda: f"bearer token required for {pick(SERVICES)}",
            lambda: f"basic authentication failed in {below(100)} ms",
            lambda: f"page_token=abc{digits(4)}&max_tokens={digits(3)}",
            lambda: f"token_count: {digits(4)}, input_tokens={digits(3)}",
            lambda: f"password={pick(['***', 'null', '<hidden>', '${SECRET}'])}",
            lambda: f"+{below(9)}.{digits(2)} % in {digits(3)} s",
            lambda: f"timeout +{digits(3)}ms -{digits(2)}ms",
            lambda: f"eyJust-a-word.{pick(FIRST)}.{pick(LAST)}",
            lambda: f"({below(900) + 100}) items, {digits(3)}-{digits(2)} left",
            lambda: f"{pick(FIRST)} {pick(LAST)} ordered {below(50)} units",
            lambda: f"{pick('ABCEGHJ')}{pick('ABCEGHJ')}{digits(4)}{pick('ABCD')}",
            lambda: f"DE{digits(20)}X",
        ]
    )()


KINDS = [
    ("email", email, 160),
    ("payment_card", card, 200),
    ("phone", phone, 200),
    ("us_ssn", ssn, 120),
    ("uk_nino", nino, 120),
    ("iban", iban, 160),
    ("jwt", jwt, 80),
    ("aws_access_key", aws, 80),
    ("private_key", private_key, 40),
    ("authorization_value", bearer, 120),
    ("url_credentials", url_credentials, 80),
    ("issued_token", issued, 120),
    ("named_value", named_value, 160),
    ("random_secret", random_secret, 160),
]


# The reader takes this out again. Without it, the secret scanners of code hosts would refuse the file,
# although every token in it is invented.
MARK = "\u00a4"
MARKED = {"aws_access_key", "issued_token", "jwt", "private_key", "url_credentials"}


def lines():
    yield "# expected kind\tattribute name\tvalue"
    for kind, make, count in KINDS:
        for _ in range(count):
            value = make()
            if kind in MARKED:
                value = value[:3] + MARK + value[3:]
            yield f"{kind}\t{pick(NEUTRAL)}\t{framed(value)}"
    for _ in range(2400):
        yield f"-\t{pick(NEUTRAL)}\t{framed(harmless())}"


if __name__ == "__main__":
    text = "".join(line + "\n" for line in lines())
    if "--check" in sys.argv:
        committed = pathlib.Path(__file__).with_suffix(".tsv").read_text()
        sys.exit(0 if text == committed else "classify_corpus.tsv differs from the script's output")
    sys.stdout.write(text)
