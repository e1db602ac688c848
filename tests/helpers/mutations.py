"""Random damage: to bytes, to what compressed formats hold inside, to texts and to JSON."""

import copy
import gzip
import io
import json
import re
import struct
import zipfile
import zlib

# Where programs that count, index and allocate go wrong.
NUMBERS = (
    0,
    1,
    -1,
    2,
    3,
    7,
    255,
    256,
    32767,
    -32768,
    65535,
    65536,
    2**31 - 1,
    -(2**31),
    2**31,
    2**32 - 1,
    2**32,
    2**62,
)
NUMBERS += (2**63 - 1, -(2**63), 2**64, 10**30, 10**400, 0.5, -0.0, 1e-300, 1e300, float("nan"), float("inf"))
TEXTS = (
    *(
        "",
        " ",
        "a",
        "0",
        "-1",
        "nan",
        "1e999",
        "../../etc/passwd",
        "/etc/passwd",
        "a/b",
        "C:\\x",
        "\n",
        "\x00",
        "\x1b[31m",
    ),
    *("\ud800", "é", "x" * 5000, "9" * 5000, "os.system", "torch.hub.load", "builtins.eval", "__class__", "{}", "%s%n"),
)
OBJECTS = (None, True, False, [], {}, [[]], [{}], {"a": {}}, [None], [0] * 1000, [[0, 0, 1, 1]] * 3, {"0": 0}, "null")


def number(rng):
    return NUMBERS[rng.integers(len(NUMBERS))]


def value(rng):
    """Anything that JSON can hold."""
    pool = (NUMBERS, TEXTS, OBJECTS)[rng.integers(3)]
    return copy.deepcopy(pool[rng.integers(len(pool))])  # damage that follows must not stay in the pool


def damage(content, rng):
    """Changes bytes, more often near the front, where headers are."""
    data = bytearray(content)
    for _ in range(1 + rng.geometric(0.4)):
        if not data:
            return b"\0" * int(rng.integers(10))
        near = int(min(len(data) - 1, rng.exponential(200))) if rng.random() < 0.7 else int(rng.integers(len(data)))
        kind = rng.integers(7)
        if kind == 0:
            data[near] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            data[near] = int(rng.integers(256))
        elif kind == 2:
            del data[near:]
        elif kind == 3:
            del data[near : near + int(rng.integers(1, 40))]
        elif kind == 4:
            data[near:near] = data[near : near + int(rng.integers(1, 40))]
        elif kind == 5:
            layout = ("<h", ">h", "<i", ">i", "<q", ">q", "<f", ">f")[rng.integers(8)]
            try:
                raw = struct.pack(layout, number(rng))
            except (struct.error, OverflowError):
                continue
            data[near : near + len(raw)] = raw
        else:
            data[near : near + int(rng.integers(1, 20))] = rng.bytes(int(rng.integers(1, 20)))
    return bytes(data)


def damage_text(content, rng):
    """Changes numbers and words of a header in ASCII that binary data may follow."""
    words = list(re.finditer(rb"-?\d+(\.\d+)?|[A-Za-z]{3,}", content[:600]))
    if not words or rng.random() < 0.2:
        return damage(content, rng)
    word = words[rng.integers(len(words))]
    new = str(number(rng)) if rng.random() < 0.7 else str(TEXTS[rng.integers(len(TEXTS))])
    return content[: word.start()] + new.encode("utf-8", "replace") + content[word.end() :]


def damage_gzip(content, rng):
    """What is compressed is damaged, so that a reader gets to see it."""
    if rng.random() < 0.2:
        return damage(content, rng)
    return gzip.compress(damage(gzip.decompress(content), rng), 1)


def damage_png(content, rng):
    """A chunk is damaged and its checksum made to fit; image data is damaged before compression."""
    if rng.random() < 0.2:
        return damage(content, rng)
    chunks, start = [], 8
    while start + 8 <= len(content):
        (length,) = struct.unpack(">I", content[start : start + 4])
        chunks.append((content[start + 4 : start + 8], content[start + 8 : start + 8 + length]))
        start += 12 + length
    place = int(rng.integers(len(chunks)))
    kind, data = chunks[place]
    if kind == b"IDAT" and rng.random() < 0.5:
        data = zlib.compress(damage(zlib.decompress(data), rng))
    elif kind == b"IHDR":
        data = damage(data, rng)[:13].ljust(13, b"\0")
    else:
        data = damage(data, rng)
    chunks[place] = kind, data
    parts = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    ]
    return content[:8] + b"".join(parts)


def damage_zip(content, rng):
    """A member of an archive is damaged, lost, renamed or doubled."""
    if rng.random() < 0.2:
        return damage(content, rng)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    place, kind = int(rng.integers(len(members))), rng.integers(6)
    name, data = members[place]
    if kind == 0:
        del members[place]
    elif kind == 1:
        members[place] = members[(place + 1) % len(members)][0] + "x", data
    else:
        members[place] = name, (damage_text if kind < 4 else damage)(data, rng)
    result = io.BytesIO()
    with zipfile.ZipFile(result, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return result.getvalue()


def places(content, path=()):
    """Yields the path of every value in JSON."""
    entries = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, entry in entries:
        yield (*path, key)
        yield from places(entry, (*path, key))


def damage_json(content, rng):
    """Changes, removes, doubles or wraps some values; `content` stays as it is."""
    content = json.loads(json.dumps(content))
    for _ in range(1 + (rng.random() < 0.3)):
        found = list(places(content))
        if not found:
            return value(rng)
        *parents, last = found[rng.integers(len(found))]
        holder = content
        for key in parents:
            holder = holder[key]
        kind = rng.integers(10)
        if kind == 0:
            del holder[last]
        elif kind == 1:
            holder[last] = [holder[last]] * int(rng.integers(1, 4))
        elif kind == 2 and isinstance(holder, dict):
            holder[str(TEXTS[rng.integers(len(TEXTS))])] = holder.pop(last)
        elif kind == 3 and isinstance(holder, list):
            holder.append(holder[last])
        elif kind == 4 and type(holder[last]) in (int, float):
            holder[last] = -holder[last] if rng.random() < 0.3 else holder[last] * (10, 1000, 0.1, 1.5)[rng.integers(4)]
        else:
            holder[last] = value(rng)
    return content


def json_text(content, rng):
    """JSON as bytes, sometimes damaged or nested too deep."""
    kind = rng.random()
    if kind < 0.03:
        return b"[" * 200_000
    if kind < 0.06:
        return b'{"a":' * 50_000 + b"1" + b"}" * 50_000
    text = json.dumps(content).encode()
    return damage(text, rng) if kind < 0.2 else text
