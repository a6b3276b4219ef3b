"""A small JPEG writer for files that no common encoder makes: any sampling, any order of scans, any markers."""
import math
import struct

ZIGZAG = sorted(range(64), key=lambda i: (i // 8 + i % 8, (i // 8 if (i // 8 + i % 8) % 2 else i % 8)))
COS = [[math.cos((2 * x + 1) * u * math.pi / 16) * (math.sqrt(0.125) if u == 0 else 0.5) for x in range(8)] for u in range(8)]
# Every DC size 0 to 11 and every AC symbol has a code of the same length: no tables to tune.
DC_SYMBOLS = list(range(12))
AC_SYMBOLS = [0x00, 0xF0] + [run << 4 | size for run in range(16) for size in range(1, 11)]


def segment(marker, data):
    return bytes([0xFF, marker]) + struct.pack(">H", len(data) + 2) + data


def huffman_tables():
    dc = bytes([0] * 3 + [12] + [0] * 12) + bytes(DC_SYMBOLS)
    ac = bytes([0] * 7 + [len(AC_SYMBOLS)] + [0] * 8) + bytes(AC_SYMBOLS)
    return segment(0xC4, b"\x00" + dc) + segment(0xC4, b"\x10" + ac)


class Bits:
    def __init__(self):
        self.out, self.acc, self.count = bytearray(), 0, 0

    def put(self, value, length):
        self.acc, self.count = self.acc << length | value, self.count + length
        while self.count >= 8:
            byte = self.acc >> (self.count - 8) & 0xFF
            self.out.append(byte)
            if byte == 0xFF:
                self.out.append(0)
            self.count -= 8
            self.acc &= (1 << self.count) - 1

    def flush(self):
        if self.count:
            self.put((1 << (8 - self.count)) - 1, 8 - self.count)


def amplitude(bits, value, size):
    if size:
        bits.put(value if value > 0 else value + (1 << size) - 1, size)


def put_block(bits, block, before):
    difference = block[0] - before
    size = abs(difference).bit_length()
    bits.put(DC_SYMBOLS.index(size), 4)
    amplitude(bits, difference, size)
    run = 0
    for value in block[1:]:
        if value == 0:
            run += 1
            continue
        while run > 15:
            bits.put(AC_SYMBOLS.index(0xF0), 8)
            run -= 16
        size = abs(value).bit_length()
        bits.put(AC_SYMBOLS.index(run << 4 | size), 8)
        amplitude(bits, value, size)
        run = 0
    if run:
        bits.put(AC_SYMBOLS.index(0), 8)
    return block[0]


def transform(plane, by, bx, quantum):
    rows = [[plane(bx * 8 + x, by * 8 + y) - 128 for x in range(8)] for y in range(8)]
    half = [[sum(row[x] * COS[u][x] for x in range(8)) for u in range(8)] for row in rows]
    full = [[sum(half[y][u] * COS[v][y] for y in range(8)) for u in range(8)] for v in range(8)]
    return [max(-1023, min(1023, round(full[i // 8][i % 8] / quantum))) for i in ZIGZAG]


def write(width, height, planes, sampling, scans=None, markers=(), ids=None, quantum=6, restart=0, sof=0xC0, end=True):
    """planes: functions (x, y) -> 0..255 over the whole picture, one a component; sampling: (h, v) of each."""
    hmax, vmax = max(h for h, _ in sampling), max(v for _, v in sampling)
    ids = ids or list(range(1, len(planes) + 1))
    out = b"\xff\xd8" + b"".join(markers)
    out += segment(0xDB, b"\x00" + bytes([quantum] * 64))
    frame = struct.pack(">BHHB", 8, height, width, len(planes))
    frame += b"".join(bytes([i, h << 4 | v, 0]) for i, (h, v) in zip(ids, sampling))
    out += segment(sof, frame) + huffman_tables()
    if restart:
        out += segment(0xDD, struct.pack(">H", restart))
    blocks = []
    mcux, mcuy = -(-width // (8 * hmax)), -(-height // (8 * vmax))
    for plane, (h, v) in zip(planes, sampling):
        sx, sy = hmax / h, vmax / v

        def sample(x, y, plane=plane, sx=sx, sy=sy):
            return plane(min(int(x * sx), width - 1), min(int(y * sy), height - 1))

        blocks.append([[transform(sample, y, x, quantum) for x in range(mcux * h)] for y in range(mcuy * v)])
    for scan in scans or [list(range(len(planes)))]:
        header = bytes([len(scan)]) + b"".join(bytes([ids[c], 0]) for c in scan) + bytes([0, 63, 0])
        out += segment(0xDA, header)
        bits, before, done = Bits(), [0] * len(planes), 0
        if len(scan) == 1:
            (c,) = scan
            h, v = sampling[c]
            across, down = -(-(-(-width * h // hmax)) // 8), -(-(-(-height * v // vmax)) // 8)
            units = [[(c, y, x)] for y in range(down) for x in range(across)]
        else:
            units = [[(c, my * sampling[c][1] + y, mx * sampling[c][0] + x)
                      for c in scan for y in range(sampling[c][1]) for x in range(sampling[c][0])]
                     for my in range(mcuy) for mx in range(mcux)]
        for unit in units:
            if restart and done and done % restart == 0:
                bits.flush()
                bits.out += bytes([0xFF, 0xD0 + (done // restart - 1) % 8])
                before = [0] * len(planes)
            for c, y, x in unit:
                before[c] = put_block(bits, blocks[c][y][x], before[c])
            done += 1
        bits.flush()
        out += bytes(bits.out)
    return out + (b"\xff\xd9" if end else b"")


def jfif(major=1):
    return segment(0xE0, b"JFIF\0" + bytes([major, 1, 0, 0, 1, 0, 1, 0, 0]))


def adobe(transform_code):
    return segment(0xEE, b"Adobe\0" + bytes([100, 0, 0, 0, 0, transform_code]))
