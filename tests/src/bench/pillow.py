"""The Pillow side of the decode bench.

make PICTURES TARGET: writes the folders of pictures that both sides decode.
time FOLDER SIZE SECONDS [draft]: prints the pictures a second of one thread, by the time that it had on a core; with draft, JPEGs
are scaled while they are decoded, to no less than SIZE.
"""
import io
import os
import random
import shutil
import sys
import time

from PIL import Image


def mosaic(paths, width, height, tile):
    """Real pictures side by side: as much to decode as in a photo of that size."""
    canvas = Image.new("RGB", (width, height))
    for y in range(0, height, tile):
        for x in range(0, width, tile):
            with Image.open(random.choice(paths)) as picture:
                canvas.paste(picture.convert("RGB").resize((tile, tile), Image.BICUBIC), (x, y))
    return canvas


def make(pictures, target):
    random.seed(1)
    paths = sorted(os.path.join(pictures, name) for name in os.listdir(pictures))
    paths = [path for path in paths if path.endswith((".jpg", ".png", ".webp"))]
    shutil.rmtree(target, ignore_errors=True)
    as_it_is = os.path.join(target, "demo set as it is")
    os.makedirs(as_it_is)
    for path in random.sample(paths, min(400, len(paths))):
        shutil.copy(path, as_it_is)
    for width, height, tile, count in ((800, 600, 160, 24), (4000, 3000, 400, 4)):
        folder = os.path.join(target, f"{width}x{height} JPEG")
        os.makedirs(folder)
        for index in range(count):
            mosaic(paths, width, height, tile).save(os.path.join(folder, f"{index}.jpg"), quality=88)


def measure(folder, size, seconds, draft):
    files = []
    for name in os.listdir(folder):
        with open(os.path.join(folder, name), "rb") as file:
            files.append(file.read())
    began, count = time.thread_time(), 0
    while count < len(files) or time.thread_time() - began < seconds:
        with Image.open(io.BytesIO(files[count % len(files)])) as picture:
            if draft:
                picture.draft("RGB", (size, size))
            picture.convert("RGB").resize((size, size), Image.BICUBIC).tobytes()
        count += 1
    return count / (time.thread_time() - began)


if sys.argv[1] == "make":
    make(sys.argv[2], sys.argv[3])
else:
    print(measure(sys.argv[2], int(sys.argv[3]), float(sys.argv[4]), sys.argv[5:] == ["draft"]))
