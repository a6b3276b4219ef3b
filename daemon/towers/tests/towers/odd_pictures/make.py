#!/usr/bin/env python3
"""Writes odd_pictures.zip: odd pictures and what Pillow 13 reads of each.

    python3 -m venv venv && venv/bin/pip install pillow==13.0.0 && venv/bin/python make.py

index.tsv has a line for each: its name, and DIGEST, or - and what Pillow says where it does not read it. DIGEST.rgb is
`Image.open(NAME).convert("RGB")`: width and height (16 bits, little-endian), then the pixels. The same script writes the same pictures: every choice is from a seed. The test beside it needs the archive alone.
"""
import hashlib
import io
import os
import random
import struct
import warnings
import zipfile
import zlib

import PIL
from PIL import Image

import jpegs

assert PIL.__version__ == "13.0.0", PIL.__version__
warnings.simplefilter("ignore")
HERE = os.path.dirname(os.path.abspath(__file__))
PIXELS_MAX = 20_000
files = {}


def add(name, data):
    assert name not in files, name
    files[name] = bytes(data)


def scene(seed, width, height, mode="RGB"):
    """Waves, an edge and a little noise: something to lose in every channel."""
    rng = random.Random(seed)
    a, b, c = (rng.uniform(0.5, 3) for _ in range(3))
    picture = Image.new("RGBA", (width, height))
    for y in range(height):
        for x in range(width):
            edge = 90 if (x * 2 > width) != (y * 3 > height) else 0
            pixel = [int(x * 255 / width * a + edge) % 256, int(y * 255 / height * b) % 256, int((x + y) * 4 * c + edge) % 256]
            picture.putpixel((x, y), tuple(pixel) + ((x * 11 + y * 5) % 256,))
    return picture.convert(mode) if mode != "RGBA" else picture


def saved(picture, kind, **options):
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def waves(*factors):
    return [lambda x, y, f=f: int(128 + 100 * (((x * f[0] + y * f[1]) % 64) / 32 - 1)) for f in factors]


def truncations(name, data, ending, lengths):
    for label, length in lengths:
        add(f"{name}-cut-{label}.{ending}", data[:length])


def flips(name, data, ending, seed, count, first=8):
    rng = random.Random(seed)
    for index in range(count):
        changed = bytearray(data)
        changed[rng.randrange(first, len(data))] ^= 1 << rng.randrange(8)
        add(f"{name}-flip-{index}.{ending}", changed)


# JPEG

def jpeg_pictures():
    three, four = waves((3, 1), (1, 4), (5, 5)), waves((3, 1), (1, 4), (5, 5), (2, 7))
    for h, v in ((1, 1), (2, 1), (1, 2), (2, 2), (4, 1), (1, 4), (4, 2), (2, 4), (3, 1), (1, 3), (3, 3), (3, 2)):
        for label, scans in (("one-scan", None), ("apart", [[0], [1], [2]]), ("y-then-c", [[0], [1, 2]]), ("backwards", [[2], [1], [0]])):
            if label == "one-scan" and h * v + 2 > 10:
                continue
            data = jpegs.write(35, 29, three, [(h, v), (1, 1), (1, 1)], scans, [jpegs.jfif()])
            add(f"jpeg-{h}x{v}-{label}.jpg", data)
    for sampling in ([(1, 1), (2, 2), (2, 2)], [(1, 1), (2, 1), (1, 2)], [(2, 2), (2, 1), (1, 2)], [(2, 2), (1, 2), (2, 1)], [(1, 2), (2, 1), (1, 1)],
                     [(2, 1), (2, 1), (2, 1)], [(2, 2), (2, 2), (2, 2)], [(1, 1), (1, 1), (2, 2)], [(1, 2), (1, 2), (1, 2)], [(3, 1), (2, 1), (1, 1)]):
        label = "-".join(f"{h}{v}" for h, v in sampling)
        add(f"jpeg-sampling-{label}.jpg", jpegs.write(35, 29, three, sampling, None, [jpegs.jfif()]))
        add(f"jpeg-sampling-{label}-apart.jpg", jpegs.write(35, 29, three, sampling, [[0], [1], [2]], [jpegs.jfif()]))
    flat = [(1, 1)] * 4
    for code in (None, 0, 1, 2, 3, 9):
        for with_jfif in (False, True):
            markers = ([jpegs.jfif()] if with_jfif else []) + ([jpegs.adobe(code)] if code is not None else [])
            label = f"adobe-{code}{'-jfif' if with_jfif else ''}"
            add(f"jpeg-3-{label}.jpg", jpegs.write(20, 17, three, flat[:3], None, markers))
            add(f"jpeg-4-{label}.jpg", jpegs.write(20, 17, four, flat, None, markers))
    add("jpeg-ids-rgb.jpg", jpegs.write(20, 17, three, flat[:3], ids=list(b"RGB")))
    add("jpeg-ids-012.jpg", jpegs.write(20, 17, three, flat[:3], ids=[0, 1, 2]))
    add("jpeg-ids-rgb-jfif.jpg", jpegs.write(20, 17, three, flat[:3], markers=[jpegs.jfif()], ids=list(b"RGB")))
    add("jpeg-ids-odd.jpg", jpegs.write(20, 17, three, flat[:3], ids=[7, 8, 9]))
    add("jpeg-cmyk-sampled.jpg", jpegs.write(35, 29, four, [(2, 2), (1, 1), (1, 1), (2, 2)], None, [jpegs.adobe(2)]))
    add("jpeg-two-components.jpg", jpegs.write(20, 17, three[:2], flat[:2]))
    add("jpeg-gray-22.jpg", jpegs.write(35, 29, three[:1], [(2, 2)]))
    add("jpeg-gray-sof1.jpg", jpegs.write(35, 29, three[:1], [(1, 1)], sof=0xC1))
    add("jpeg-no-height.jpg", jpegs.write(20, 0, three[:1], flat[:1]) if False else jpegs.write(20, 17, three, flat[:3]).replace(
        struct.pack(">BHH", 8, 17, 20), struct.pack(">BHH", 8, 0, 20)))
    add("jpeg-taller-than-data.jpg", jpegs.write(20, 17, three, flat[:3]).replace(struct.pack(">BHH", 8, 17, 20), struct.pack(">BHH", 8, 40, 20)))
    for restart in (1, 2, 5):
        add(f"jpeg-restart-{restart}.jpg", jpegs.write(35, 29, three, [(2, 1), (1, 1), (1, 1)], restart=restart, markers=[jpegs.jfif()]))
    plain = jpegs.write(35, 29, three, [(2, 2), (1, 1), (1, 1)], markers=[jpegs.jfif()])
    restarts = jpegs.write(35, 29, three, [(1, 1)] * 3, markers=[jpegs.jfif()], restart=2)
    add("jpeg-restart-wrong.jpg", restarts.replace(b"\xff\xd1", b"\xff\xd5", 1))
    add("jpeg-restart-gone.jpg", restarts.replace(b"\xff\xd1", b"", 1))
    frame = plain.index(b"\xff\xc0")
    scan = plain.index(b"\xff\xda")
    inserts = {
        "garbage": b"\x00\x11\x22\x33", "fill": b"\xff" * 5, "zero-ff": b"\xff\x00\x00", "comment": jpegs.segment(0xFE, b"\xff\xd9hello\x00"),
        "restart": b"\xff\xd3", "tem": b"\xff\x01", "dnl": jpegs.segment(0xDC, b"\0\x1d"), "unknown": b"\xff\x02\x00\x04ab",
        "jpg0": jpegs.segment(0xF0, b"ab"), "exif": jpegs.segment(0xE1, b"Exif\0\0II*\0\xff\xff\xff\xff"), "icc": jpegs.segment(0xE2, b"ICC_PROFILE\0\x02\x03bad"),
        "jfif-9": jpegs.jfif(9), "adobe-7": jpegs.adobe(7), "short-app": b"\xff\xe5\x00\x02", "length-0": b"\xff\xe5\x00\x00", "soi": b"\xff\xd8",
        "eoi": b"\xff\xd9", "thumbnail": jpegs.segment(0xE1, b"Exif\0\0II*\0" + b"\xff\xd8\xff\xda\x00\x02\x11\xff\xd9"), "mpf": jpegs.segment(0xE2, b"MPF\0II*\0\x08\0\0\0\0\0"),
        "photoshop": jpegs.segment(0xED, b"Photoshop 3.0\08BIM\x03\xed\0\0\0\0\0\x10junk"),
    }
    for label, data in inserts.items():
        for place, at in (("start", 2), ("frame", frame), ("scan", scan), ("end", len(plain) - 2), ("after", len(plain))):
            add(f"jpeg-{label}-before-{place}.jpg", plain[:at] + data + plain[at:])
    add("jpeg-noisy-header-and-cut.jpg", (plain[:frame] + b"\x01\x02" + plain[frame:])[:-2])
    add("jpeg-noisy-twice.jpg", plain[:2] + b"\x07" + jpegs.jfif(5) + plain[2:frame] + b"\x01\x02" + plain[frame:])
    add("jpeg-end-twice.jpg", plain + b"\xff\xd9\xff\xd9")
    add("jpeg-two-files.jpg", plain + plain)
    add("jpeg-no-tables.jpg", plain.replace(b"\xff\xc4", b"\xff\xe7"))
    add("jpeg-no-quantum.jpg", plain.replace(b"\xff\xdb", b"\xff\xe7"))
    add("jpeg-missing-scan.jpg", jpegs.write(35, 29, three, [(1, 1)] * 3, [[0], [1]], [jpegs.jfif()]))
    add("jpeg-scan-twice.jpg", jpegs.write(35, 29, three, [(1, 1)] * 3, [[0], [1], [2], [1]], [jpegs.jfif()]))
    for mode, label in (("RGB", "rgb"), ("L", "gray"), ("CMYK", "cmyk")):
        picture = scene(5, 37, 31, "RGB").convert(mode)
        for progressive in (False, True):
            data = saved(picture, "JPEG", quality=80, progressive=progressive, subsampling=2 if mode == "RGB" else -1)
            name = f"jpeg-pillow-{label}{'-progressive' if progressive else ''}"
            add(f"{name}.jpg", data)
            size = len(data)
            truncations(name, data, "jpg", (("end", size - 2), ("one", size - 1), ("tail", size - 40), ("half", size // 2), ("head", 60)))
            body = data.index(b"\xff\xda") + 20
            for index, at in enumerate((body, (body + size) // 2, size - 30)):
                add(f"{name}-closed-{index}.jpg", data[:at] + b"\xff\xd9")
                add(f"{name}-hole-{index}.jpg", data[:at] + data[at + 9:])
            flips(name, data, "jpg", 7, 12, first=2)
    rgb = scene(6, 40, 24)
    add("jpeg-keep-rgb.jpg", saved(rgb, "JPEG", quality=85, keep_rgb=True))
    add("jpeg-restart-rows.jpg", saved(rgb, "JPEG", quality=85, restart_marker_rows=1))
    add("jpeg-quality-3.jpg", saved(rgb, "JPEG", quality=3))
    add("jpeg-quality-100.jpg", saved(rgb, "JPEG", quality=100, subsampling=0))
    exif = Image.Exif()
    exif[0x0112] = 6
    add("jpeg-exif-rotated.jpg", saved(rgb, "JPEG", quality=85, exif=exif))
    for width, height in ((1, 1), (1, 40), (40, 1), (7, 9), (17, 16)):
        add(f"jpeg-size-{width}x{height}.jpg", saved(scene(3, width, height), "JPEG", quality=85))


# PNG

def chunk(name, data, crc=None):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data) if crc is None else crc)


def chunks_of(png):
    at, found = 8, []
    while at < len(png):
        length, name = struct.unpack(">I4s", png[at:at + 8])
        found.append((name, png[at + 8:at + 8 + length]))
        at += 12 + length
    return found


SIGNATURE = b"\x89PNG\r\n\x1a\n"


def png_of(parts):
    return SIGNATURE + b"".join(chunk(*part) for part in parts)


def raw_png(width, height, depth, kind, rows, extra=(), interlace=0, level=6):
    return png_of([(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, interlace)), *extra, (b"IDAT", zlib.compress(rows, level)), (b"IEND", b"")])


def png_pictures():
    rng = random.Random(11)
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
    palette = (b"PLTE", bytes(rng.randrange(256) for _ in range(48)))
    for kind, depths in ((0, (1, 2, 4, 8, 16)), (2, (8, 16)), (3, (1, 2, 4, 8)), (4, (8, 16)), (6, (8, 16))):
        for depth in depths:
            width, height = 13, 9
            line = -(-width * depth * channels[kind] // 8)
            def row(limit=256):
                return bytes(rng.randrange(limit) for _ in range(line))
            limit = 16 if kind == 3 and depth == 8 else 256
            rows = b"".join(bytes([0]) + row(limit) for _ in range(height))
            filtered = b"".join(bytes([y % 5]) + row(limit) for y in range(height))
            extra = [palette] if kind == 3 else []
            name = f"png-kind-{kind}-{depth}"
            add(f"{name}.png", raw_png(width, height, depth, kind, rows, extra))
            if kind != 3:
                add(f"{name}-filters.png", raw_png(width, height, depth, kind, filtered, extra))
            transparent = {0: struct.pack(">H", 3), 2: struct.pack(">HHH", 3, 4, 5), 3: bytes([0, 128, 255, 7])}.get(kind)
            if transparent:
                add(f"{name}-transparent.png", raw_png(width, height, depth, kind, rows, [*extra, (b"tRNS", transparent)]))
                add(f"{name}-transparent-short.png", raw_png(width, height, depth, kind, rows, [*extra, (b"tRNS", transparent[:1])]))
            else:
                add(f"{name}-transparent.png", raw_png(width, height, depth, kind, rows, [(b"tRNS", b"\0\1")]))
    for mode in ("RGB", "L", "RGBA", "LA", "P", "1"):
        picture = scene(8, 24, 18).convert("RGBA" if mode in ("RGBA", "LA") else "RGB").convert(mode) if mode != "P" else scene(8, 24, 18).quantize(20)
        data = saved(picture, "PNG")
        name = f"png-pillow-{mode.lower()}"
        add(f"{name}.png", data)
        size = len(data)
        truncations(name, data, "png", (("crc", size - 2), ("end", size - 12), ("idat-crc", size - 16), ("adler", size - 20), ("tail", size - 30), ("half", size // 2), ("head", 40)))
        flips(name, data, "png", 9, 10)
    base = saved(scene(8, 24, 18), "PNG")
    parts = chunks_of(base)
    head, body = parts[0], b"".join(data for name, data in parts if name == b"IDAT")
    end = (b"IEND", b"")
    raw = zlib.decompress(body)
    add("png-crc-text.png", png_of([head, (b"tEXt", b"a\0b", 1), (b"IDAT", body), end]))
    add("png-crc-text-after.png", png_of([head, (b"IDAT", body), (b"tEXt", b"a\0b", 1), end]))
    add("png-crc-gamma.png", png_of([head, (b"gAMA", struct.pack(">I", 45455), 1), (b"IDAT", body), end]))
    add("png-crc-physical.png", png_of([head, (b"pHYs", struct.pack(">IIB", 1, 1, 0), 1), (b"IDAT", body), end]))
    add("png-crc-profile.png", png_of([head, (b"iCCP", b"a\0\0" + zlib.compress(b"b"), 1), (b"IDAT", body), end]))
    add("png-crc-idat.png", png_of([head, (b"IDAT", body, 1), end]))
    add("png-crc-second-idat.png", png_of([head, (b"IDAT", body[:50]), (b"IDAT", body[50:], 1), end]))
    add("png-crc-iend.png", png_of([head, (b"IDAT", body), (b"IEND", b"", 1)]))
    add("png-crc-head.png", png_of([(*head, 1), (b"IDAT", body), end]))
    add("png-split.png", png_of([head, *[(b"IDAT", body[at:at + 7]) for at in range(0, len(body), 7)], end]))
    add("png-empty-idat.png", png_of([head, (b"IDAT", b""), (b"IDAT", body), (b"IDAT", b""), end]))
    add("png-no-end.png", png_of([head, (b"IDAT", body)]))
    add("png-after-end.png", base + b"trailing bytes")
    add("png-two-files.png", base + base)
    add("png-adler.png", png_of([head, (b"IDAT", body[:-1] + bytes([body[-1] ^ 1])), end]))
    add("png-no-adler.png", png_of([head, (b"IDAT", body[:-4]), end]))
    add("png-more-data.png", png_of([head, (b"IDAT", zlib.compress(raw + b"\0" * 200)), end]))
    add("png-after-stream.png", png_of([head, (b"IDAT", body + b"0123456789"), end]))
    add("png-few-rows.png", png_of([head, (b"IDAT", zlib.compress(raw[:-80])), end]))
    add("png-bad-filter.png", png_of([head, (b"IDAT", zlib.compress(b"\x09" + raw[1:])), end]))
    add("png-idat-apart.png", png_of([head, (b"IDAT", body[:50]), (b"tEXt", b"a\0b"), (b"IDAT", body[50:]), end]))
    add("png-unknown-ancillary.png", png_of([head, (b"abCd", b"12345"), (b"IDAT", body), end]))
    add("png-unknown-critical.png", png_of([head, (b"ABCD", b"12345"), (b"IDAT", body), end]))
    add("png-palette-in-rgb.png", png_of([head, palette, (b"IDAT", body), end]))
    add("png-palette-17-bytes.png", raw_png(13, 9, 8, 3, b"".join(b"\0" + bytes(x % 5 for x in range(13)) for _ in range(9)), [(b"PLTE", palette[1][:17])]))
    add("png-palette-too-short.png", raw_png(13, 9, 8, 3, b"".join(b"\0" + bytes(x * 3 for x in range(13)) for _ in range(9)), [palette]))
    add("png-palette-absent.png", raw_png(13, 9, 8, 3, b"".join(b"\0" + bytes(x * 3 for x in range(13)) for _ in range(9))))
    add("png-palette-late.png", png_of([(b"IHDR", struct.pack(">IIBBBBB", 13, 9, 8, 3, 0, 0, 0)), (b"IDAT", zlib.compress(b"\0" * 14 * 9)), palette, end]))
    for label, part in {
        "text-no-key": (b"tEXt", b"no separator"), "text-latin": (b"tEXt", b"k\0\xff\xfe"), "ztxt-bad": (b"zTXt", b"k\0\0notzlib"), "ztxt-method": (b"zTXt", b"k\0\x07x"),
        "itxt-bad": (b"iTXt", b"k\0\1\0\0\0notzlib"), "itxt-short": (b"iTXt", b"k"), "gamma-short": (b"gAMA", b"\0"), "gamma-0": (b"gAMA", b"\0\0\0\0"), "gamma": (b"gAMA", struct.pack(">I", 200000)),
        "chroma-short": (b"cHRM", b"\0\0"), "srgb-short": (b"sRGB", b""), "srgb-9": (b"sRGB", b"\x09"), "physical-short": (b"pHYs", b"\0"), "time-short": (b"tIME", b"\0"),
        "profile-bad": (b"iCCP", b"name\0\0notzlib"), "profile-method": (b"iCCP", b"name\0\x05x"), "profile-empty": (b"iCCP", b""), "exif-bad": (b"eXIf", b"junk"),
        "background": (b"bKGD", b"\0\1\0\2\0\3"), "background-short": (b"bKGD", b"\0"), "bits": (b"sBIT", b"\5\5\5"), "bits-bad": (b"sBIT", b"\x63"), "histogram": (b"hIST", b"\0\1"),
        "transparency-long": (b"tRNS", b"\0" * 9), "transparency-empty": (b"tRNS", b""), "head-twice": head, "actl-short": (b"acTL", b"\0\0"), "actl-0": (b"acTL", b"\0" * 8), "actl": (b"acTL", struct.pack(">II", 1, 0)), "fctl-alone": (b"fcTL", b"\0" * 26),
        "fdat-alone": (b"fdAT", b"\0" * 9), "lower": (b"idat", b"junk"), "digits": (b"1234", b"junk"), "cicp": (b"cICP", b"\1\x0d\0\1"), "mdcv": (b"mDCV", b"\0"), "splt": (b"sPLT", b"\0"), "ster": (b"sTER", b"\x07"),
    }.items():
        add(f"png-{label}.png", png_of([head, part, (b"IDAT", body), end]))
        add(f"png-{label}-after.png", png_of([head, (b"IDAT", body), part, end]))
    add("png-interlaced.png", interlaced())
    first, second = scene(8, 24, 18), scene(9, 24, 18)
    animated = saved(first, "PNG", save_all=True, append_images=[second])
    add("png-animated.png", animated)
    add("png-animated-default.png", saved(first, "PNG", save_all=True, default_image=True, append_images=[second, first]))
    truncations("png-animated", animated, "png", (("tail", len(animated) - 30), ("half", len(animated) // 2)))


def interlaced():
    """Adam7, RGB."""
    width, height = 13, 9
    picture, rows = scene(4, width, height), b""
    for x0, y0, dx, dy in ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)):
        for y in range(y0, height, dy):
            if x0 < width:
                rows += b"\0" + b"".join(bytes(picture.getpixel((x, y))) for x in range(x0, width, dx))
    return raw_png(width, height, 8, 2, rows, interlace=1)


# GIF

def lzw(indices, bits):
    """Codes of one width only: a clear before the table would grow."""
    clear, width, out, acc, count = 1 << bits, bits + 1, bytearray(), 0, 0
    codes = []
    for index, value in enumerate(indices):
        if index % max(1, (1 << bits) - 2) == 0:
            codes.append(clear)
        codes.append(value)
    for code in [*codes, clear + 1]:
        acc, count = acc | code << count, count + width
        while count >= 8:
            out.append(acc & 255)
            acc, count = acc >> 8, count - 8
    if count:
        out.append(acc & 255)
    return bytes(out)


def blocks(data, size=255):
    return b"".join(bytes([len(data[at:at + size])]) + data[at:at + size] for at in range(0, len(data), size)) + b"\0"


def gif_frame(left, top, width, height, indices=None, bits=4, local=None, transparent=None, disposal=0, interlace=False, code_bits=None, data=None, extra=0):
    out = b""
    if transparent is not None or disposal:
        out += b"\x21\xf9\x04" + bytes([disposal << 2 | (transparent is not None)]) + b"\x0a\0" + bytes([transparent or 0]) + b"\0"
    flags = (0x80 | (len(local) // 3).bit_length() - 2 if local else 0) | (0x40 if interlace else 0)
    out += b"\x2c" + struct.pack("<HHHHB", left, top, width, height, flags) + (local or b"")
    if indices is None:
        indices = [(x // 2 + y) % (1 << bits) for y in range(height) for x in range(width)]
    stream = lzw(indices, bits) if data is None else data
    return out + bytes([code_bits or bits]) + blocks(stream + b"\x55" * extra)


def gif(width, height, frames, table=None, background=0, version=b"89a", trailer=b"\x3b", aspect=0):
    flags = 0x80 | (len(table) // 3).bit_length() - 2 if table else 0
    return b"GIF" + version + struct.pack("<HHBBB", width, height, flags, background, aspect) + (table or b"") + b"".join(frames) + trailer


def gif_pictures():
    rng = random.Random(13)
    table = bytes(rng.randrange(256) for _ in range(48))
    local = bytes(rng.randrange(256) for _ in range(48))
    places = {"whole": (0, 0, 20, 15), "small": (3, 2, 9, 7), "corner": (11, 8, 9, 7), "beside": (25, 18, 6, 5), "sticks-out": (15, 10, 12, 11),
              "larger": (0, 0, 31, 26), "wider": (0, 0, 31, 15), "below": (2, 15, 5, 5)}
    for label, place in places.items():
        for name, options, extra in (("plain", {}, {}), ("transparent", {"transparent": 7}, {}), ("transparent-0", {"transparent": 0}, {}), ("background", {}, {"background": 5}),
                                     ("background-transparent", {"transparent": 3}, {"background": 5}), ("local", {"local": local}, {"background": 2}),
                                     ("local-alone", {"local": local}, {"table": None}), ("local-transparent", {"local": local, "transparent": 4}, {}), ("no-table", {}, {"table": None}),
                                     ("disposal-2", {"disposal": 2}, {"background": 5}), ("disposal-3", {"disposal": 3}, {}), ("transparent-200", {"transparent": 200}, {})):
            add(f"gif-{label}-{name}.gif", gif(20, 15, [gif_frame(*place, **options)], **{"table": table, **extra}))
    whole = gif_frame(0, 0, 20, 15)
    plain = gif(20, 15, [whole], table)
    add("gif-87a.gif", gif(20, 15, [whole], table, version=b"87a"))
    add("gif-88z.gif", gif(20, 15, [whole], table, version=b"88z"))
    add("gif-no-trailer.gif", gif(20, 15, [whole], table, trailer=b""))
    add("gif-trailing.gif", plain + b"junk" * 9)
    add("gif-interlaced.gif", gif(20, 15, [gif_frame(0, 0, 20, 15, interlace=True)], table))
    add("gif-two-frames.gif", gif(20, 15, [whole, gif_frame(2, 2, 5, 5, local=local)], table))
    add("gif-second-larger.gif", gif(20, 15, [whole, gif_frame(0, 0, 40, 35)], table))
    add("gif-first-empty.gif", gif(20, 15, [gif_frame(0, 0, 0, 0, indices=[]), whole], table))
    add("gif-canvas-0.gif", gif(0, 0, [whole], table))
    add("gif-no-frame.gif", gif(20, 15, [], table))
    add("gif-background-99.gif", gif(20, 15, [gif_frame(3, 2, 9, 7)], table, background=99))
    add("gif-small-table.gif", gif(20, 15, [whole], table[:12]))
    add("gif-code-8.gif", gif(20, 15, [gif_frame(0, 0, 20, 15, bits=8, indices=[(x * 3) % 256 for x in range(300)])], table))
    add("gif-code-1.gif", gif(20, 15, [gif_frame(0, 0, 20, 15, code_bits=1)], table))
    add("gif-code-0.gif", gif(20, 15, [gif_frame(0, 0, 20, 15, code_bits=0)], table))
    add("gif-code-12.gif", gif(20, 15, [gif_frame(0, 0, 20, 15, code_bits=12)], table))
    add("gif-code-13.gif", gif(20, 15, [gif_frame(0, 0, 20, 15, code_bits=13)], table))
    add("gif-data-too-long.gif", gif(20, 15, [gif_frame(0, 0, 20, 15, indices=[5] * 400)], table))
    add("gif-data-too-short.gif", gif(20, 15, [gif_frame(0, 0, 20, 15, indices=[5] * 200)], table))
    add("gif-data-empty.gif", gif(20, 15, [gif_frame(0, 0, 20, 15, data=b"")], table))
    add("gif-after-end-code.gif", gif(20, 15, [gif_frame(0, 0, 20, 15, extra=30)], table))
    add("gif-no-end-code.gif", gif(20, 15, [gif_frame(0, 0, 20, 15, data=lzw([(x // 2) % 16 for x in range(300)], 4)[:-1])], table))
    add("gif-garbage-before-frame.gif", gif(20, 15, [b"\x00\x00\x07", whole], table))
    for label, block in (("comment", b"\x21\xfe" + blocks(b"hello" * 80)), ("netscape", b"\x21\xff\x0bNETSCAPE2.0\x03\x01\0\0\0"), ("text", b"\x21\x01" + blocks(b"\0" * 12) ),
                         ("unknown", b"\x21\x77" + blocks(b"abc")), ("empty-comment", b"\x21\xfe\0"), ("control-short", b"\x21\xf9\x01\x01\0"), ("control-twice", b"\x21\xf9\x04\x01\0\0\x05\0" * 2),
                         ("xmp", b"\x21\xff\x0bXMP DataXMP" + b"<x/>" + bytes(range(255, -1, -1)) + b"\0")):
        add(f"gif-{label}-before.gif", gif(20, 15, [block, whole], table))
        add(f"gif-{label}-after.gif", gif(20, 15, [whole, block], table))
    real = saved(scene(8, 40, 30).quantize(64), "GIF")
    add("gif-pillow.gif", real)
    truncations("gif-pillow", real, "gif", (("trailer", len(real) - 1), ("end", len(real) - 2), ("tail", len(real) - 30), ("half", len(real) // 2), ("table", 50), ("head", 11)))
    flips("gif-pillow", real, "gif", 15, 14, first=6)
    flips("gif-plain", plain, "gif", 16, 14, first=6)
    frames = [scene(seed, 30, 20).quantize(32) for seed in (1, 2, 3)]
    add("gif-animated.gif", saved(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=50, loop=0))


# WebP

def riff(parts, size=None):
    body = b"WEBP" + b"".join(name + struct.pack("<I", len(data) if length is None else length) + data + b"\0" * (len(data) & 1) for name, data, length in parts)
    return b"RIFF" + struct.pack("<I", len(body) if size is None else size) + body


def riff_chunks(webp):
    at, found = 12, []
    while at + 8 <= len(webp):
        name, length = struct.unpack("<4sI", webp[at:at + 8])
        found.append((name, webp[at + 8:at + 8 + length], None))
        at += 8 + length + (length & 1)
    return found


def webp_pictures():
    rgb, rgba = scene(21, 29, 23), scene(21, 29, 23, "RGBA")
    kinds = {
        "lossy": saved(rgb, "WEBP", quality=80), "lossless": saved(rgb, "WEBP", lossless=True), "lossless-alpha": saved(rgba, "WEBP", lossless=True, exact=True),
        "alpha": saved(rgba, "WEBP", quality=70), "lossy-10": saved(rgb, "WEBP", quality=10), "palette": saved(rgb.quantize(9).convert("RGB"), "WEBP", lossless=True),
    }
    for label, data in kinds.items():
        add(f"webp-{label}.webp", data)
        size = len(data)
        truncations(f"webp-{label}", data, "webp", (("one", size - 1), ("tail", size - 20), ("half", size // 2), ("head", 26)))
        flips(f"webp-{label}", data, "webp", 17, 10, first=12)
        parts = riff_chunks(data)
        width, height = 29, 23
        flags = 0x10 if "alpha" in label else 0
        bare = [part for part in parts if part[0] != b"VP8X"]
        extended = (b"VP8X", struct.pack("<I", flags) + struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3], None)
        add(f"webp-{label}-size-small.webp", riff(parts, size=len(data) - 20))
        add(f"webp-{label}-size-large.webp", riff(parts, size=len(data) + 400))
        add(f"webp-{label}-size-0.webp", riff(parts, size=0))
        add(f"webp-{label}-trailing.webp", data + b"trailing junk")
        add(f"webp-{label}-odd-trailing.webp", data + b"t")
        add(f"webp-{label}-extended.webp", riff([extended, *bare]))
        add(f"webp-{label}-unknown-before.webp", riff([extended, (b"JUNK", b"12345", None), *bare]))
        add(f"webp-{label}-unknown-after.webp", riff([extended, *bare, (b"JUNK", b"12345", None)]))
        add(f"webp-{label}-plain-unknown-after.webp", riff([*bare, (b"JUNK", b"12345", None)]))
        add(f"webp-{label}-plain-unknown-before.webp", riff([(b"JUNK", b"12345", None), *bare]))
        add(f"webp-{label}-exif.webp", riff([extended, *bare, (b"EXIF", b"junk", None), (b"XMP ", b"<junk", None)]))
        add(f"webp-{label}-exif-too-long.webp", riff([extended, *bare, (b"EXIF", b"junk", 4000)]))
        add(f"webp-{label}-last-too-long.webp", riff([*parts[:-1], (*parts[-1][:2], len(parts[-1][1]) + 50)]))
        add(f"webp-{label}-exif-flag-alone.webp", riff([(b"VP8X", struct.pack("<I", flags | 0x0C) + extended[1][4:], None), *bare]))
        add(f"webp-{label}-profile-flag-alone.webp", riff([(b"VP8X", struct.pack("<I", flags | 0x20) + extended[1][4:], None), *bare]))
        add(f"webp-{label}-profile-bad.webp", riff([(b"VP8X", struct.pack("<I", flags | 0x20) + extended[1][4:], None), (b"ICCP", b"junk", None), *bare]))
        add(f"webp-{label}-no-alpha-flag.webp", riff([(b"VP8X", struct.pack("<I", 0) + extended[1][4:], None), *bare]))
        add(f"webp-{label}-alpha-flag.webp", riff([(b"VP8X", struct.pack("<I", 0x10) + extended[1][4:], None), *bare]))
        add(f"webp-{label}-other-canvas.webp", riff([(b"VP8X", struct.pack("<I", flags) + b"\x30\0\0\x20\0\0", None), *bare]))
        add(f"webp-{label}-reserved-bits.webp", riff([(b"VP8X", struct.pack("<I", flags | 0xFFFFFF01) + extended[1][4:], None), *bare]))
        add(f"webp-{label}-extended-long.webp", riff([(b"VP8X", extended[1] + b"\0\0\0\0", None), *bare]))
        add(f"webp-{label}-twice.webp", riff([extended, *bare, *bare]))
    other = scene(22, 29, 23)
    for label, options in (("lossy", {"quality": 70}), ("lossless", {"lossless": True})):
        data = saved(rgb, "WEBP", save_all=True, append_images=[other, rgb], **options)
        add(f"webp-animated-{label}.webp", data)
        truncations(f"webp-animated-{label}", data, "webp", (("tail", len(data) - 20), ("half", len(data) // 2)))
        parts = riff_chunks(data)
        moved = []
        for name, chunk_data, length in parts:
            if name == b"ANMF":
                chunk_data = b"\2\0\0\1\0\0" + chunk_data[6:]
            if name == b"VP8X":
                chunk_data = chunk_data[:4] + b"\x27\0\0\x1f\0\0"
            moved.append((name, chunk_data, length))
        add(f"webp-animated-{label}-moved.webp", riff(moved))
        coloured = [(name, b"\x20\x40\x80\xff" + part[4:] if name == b"ANIM" else part, length) for name, part, length in moved]
        add(f"webp-animated-{label}-background.webp", riff(coloured))
    transparent = saved(rgba, "WEBP", save_all=True, append_images=[rgba.transpose(Image.Transpose.FLIP_LEFT_RIGHT)], lossless=True, exact=True)
    add("webp-animated-alpha.webp", transparent)


# BMP

def bmp_pictures():
    for mode in ("RGB", "L", "1", "P", "RGBA"):
        picture = scene(31, 19, 11).quantize(12) if mode == "P" else scene(31, 19, 11, "RGBA").convert(mode)
        data = saved(picture, "BMP")
        add(f"bmp-{mode.lower()}.bmp", data)
        truncations(f"bmp-{mode.lower()}", data, "bmp", (("one", len(data) - 1), ("half", len(data) // 2)))
        add(f"bmp-{mode.lower()}-trailing.bmp", data + b"junk")
        top = bytearray(data)
        top[22:26] = struct.pack("<i", -11)
        add(f"bmp-{mode.lower()}-top-down.bmp", top)
        size = bytearray(data)
        size[2:6] = b"\0\0\0\0"
        add(f"bmp-{mode.lower()}-size-0.bmp", size)


jpeg_pictures()
png_pictures()
gif_pictures()
webp_pictures()
bmp_pictures()
expected, index = {}, []
for name, data in sorted(files.items()):
    try:
        with Image.open(io.BytesIO(data), formats=["JPEG", "PNG", "GIF", "WEBP", "BMP"]) as opened:
            if opened.width * opened.height > PIXELS_MAX:
                print(f"left out: {name} of {opened.width} x {opened.height}")
                continue
            rgb = opened.convert("RGB")
    except Exception as error:  # noqa: BLE001: whatever it says, Pillow does not read it
        index.append((name, "-", f"{type(error).__name__}: {error}".split(" at 0x")[0].replace("<_io.BytesIO object", "")))
        continue
    pixels = struct.pack("<HH", *rgb.size) + rgb.tobytes()
    digest = hashlib.sha256(pixels).hexdigest()[:16]
    expected[digest] = pixels
    index.append((name, digest, ""))
with zipfile.ZipFile(os.path.join(HERE, "odd_pictures.zip"), "w") as archive:
    def put(name, data):
        archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), data, zipfile.ZIP_DEFLATED, 9)

    put("index.tsv", "".join("\t".join(line) + "\n" for line in index))
    for name, _, _ in index:
        put(name, files[name])
    for digest, pixels in sorted(expected.items()):
        put(f"{digest}.rgb", pixels)
print(f"{len(index)} pictures, of which Pillow reads {sum(digest != '-' for _, digest, _ in index)}")
