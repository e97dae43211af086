"""Makes family.safetensors: JPEGs of every layout (`NAME`, bytes) and the pixels that libjpeg-turbo decodes (`NAME.rgb`, rows x columns x 3).

Needs `cjpeg` of libjpeg-turbo, Pillow, NumPy and safetensors; the file in the repository is of cjpeg 2.1.5 and Pillow 13.0.0
(libjpeg-turbo 3.2.0). Run it in this folder.
"""

import io
import itertools
import subprocess
import tempfile

import numpy as np
from PIL import Image
from safetensors.numpy import save_file

SIZES = [(35, 27), (16, 16), (1, 1), (67, 5), (5, 67), (33, 32), (2, 9), (9, 2)]
ONE_SCAN_EACH = "0;\n1;\n2;\n"
ONE_COMPONENT_A_SCAN = "".join(f"{c}: {part};\n" for part in ["0-0, 0, 1", "1-5, 0, 2", "6-63, 0, 2", "1-63, 2, 1", "0-0, 1, 0", "1-63, 1, 0"] for c in range(3))
family = {}


def picture(width, height):
    y, x = np.mgrid[0:height, 0:width].astype(float)
    red = 127 + 100 * np.sin(x / 5 + y / 9) + 20 * np.cos(y * 1.1)
    green = (x * 255 / max(width - 1, 1) + 30 * ((x // 6 + y // 5) % 2)) % 256
    blue = 255 - y * 255 / max(height - 1, 1) * 0.8 - 40 * ((x * y // 50) % 2)
    return np.clip(np.stack([red, green, blue], -1), 0, 255).astype(np.uint8)


def add(name, jpeg):
    image = Image.open(io.BytesIO(jpeg)).convert("RGB")
    family[name] = np.frombuffer(jpeg, np.uint8)
    family[f"{name}.rgb"] = np.asarray(image)


def cjpeg(name, pixels, *options, scans=None):
    kind = b"P5" if pixels.ndim == 2 else b"P6"
    pnm = kind + b" %d %d 255\n" % (pixels.shape[1], pixels.shape[0]) + pixels.tobytes()
    with tempfile.NamedTemporaryFile("w") as script:
        if scans:
            script.write(scans)
            script.flush()
            options = [*options, "-scans", script.name]
        done = subprocess.run(["cjpeg", "-quality", "90", *options], input=pnm, capture_output=True)
    if done.returncode == 0:
        add(name, done.stdout)
    else:
        print(name, done.stderr.decode().strip())


KINDS = {
    "baseline": ([], None),
    "scans": ([], ONE_SCAN_EACH),
    "progressive": (["-progressive"], None),
    "progressive-scans": ([], ONE_COMPONENT_A_SCAN),
    "restart": (["-restart", "2B"], None),
    "scans-restart": (["-restart", "1B"], ONE_SCAN_EACH),
    "progressive-restart": (["-progressive", "-restart", "1"], None),
}

# Luminance of 1 to 4 samples in each direction: those that cannot be interleaved are left out by cjpeg.
sizes = itertools.cycle(SIZES)
for across, down in itertools.product(range(1, 5), range(1, 5)):
    for kind, (options, scans) in KINDS.items():
        width, height = (35, 27) if kind in ("baseline", "scans") else next(sizes)
        name = f"luma-{across}x{down}-{kind}-{width}x{height}"
        cjpeg(name, picture(width, height), "-sample", f"{across}x{down},1x1,1x1", *options, scans=scans)
# Every component with factors of its own, chrominance finer than luminance among them.
for factors in ["1x1,2x2,2x2", "1x1,2x1,1x1", "2x2,1x2,2x1", "2x2,2x1,2x1", "1x1,1x2,1x2", "2x1,1x1,2x1", "1x1,4x4,1x1", "3x1,1x1,3x1",
                "4x2,2x1,1x2", "2x2,2x2,1x1", "2x2,2x2,2x2", "1x2,1x1,1x2", "3x3,1x1,3x1"]:
    for kind in ["baseline", "scans", "progressive"]:
        options, scans = KINDS[kind]
        cjpeg(f"each-{factors.replace(',', '-')}-{kind}", picture(35, 27), "-sample", factors, *options, scans=scans)
for kind, options in {"baseline": [], "progressive": ["-progressive"], "restart": ["-restart", "1B"], "rows": ["-restart", "1"], "optimized": ["-optimize"]}.items():
    cjpeg(f"grey-{kind}", picture(35, 27)[..., 1].copy(), *options)
    cjpeg(f"rgb-{kind}", picture(35, 27), "-rgb", *options)
for factors in ["2x2", "4x3"]:
    cjpeg(f"grey-{factors}", picture(35, 27)[..., 1].copy(), "-sample", factors)


def saved(image, **options):
    file = io.BytesIO()
    image.save(file, "JPEG", quality=90, **options)
    return file.getvalue()


def without_jfif(jpeg):
    return jpeg[:2] + jpeg[4 + int.from_bytes(jpeg[4:6], "big"):]


def named(jpeg, ids):
    jpeg = bytearray(jpeg)
    frame, scan = jpeg.find(b"\xff\xc0"), jpeg.find(b"\xff\xda")
    for i, value in enumerate(ids):
        jpeg[frame + 10 + 3 * i] = jpeg[scan + 5 + 2 * i] = value
    return bytes(jpeg)


def adobe(transform):
    return b"\xff\xee\0\x0eAdobe\0d\0\0\0\0" + bytes([transform])


# The markers that decide the colour space.
rgb = Image.fromarray(picture(35, 27))
jfif = saved(rgb, subsampling=0)
for name, ids in {"rgb": b"RGB", "012": b"\0\1\2", "234": b"\2\3\4"}.items():
    add(f"ids-{name}", named(without_jfif(jfif), ids))
    add(f"ids-{name}-jfif", named(jfif, ids))
for transform in range(3):
    add(f"adobe-{transform}", jfif[:2] + adobe(transform) + without_jfif(jfif)[2:])
    add(f"adobe-{transform}-jfif", jfif[:20] + adobe(transform) + jfif[20:])
    add(f"adobe-{transform}-rgb", named(jfif[:2] + adobe(transform) + without_jfif(jfif)[2:], b"RGB"))
pixels = picture(35, 27).astype(int)
black = (255 - pixels.max(-1)) // 2
inks = [255 - pixels[..., i] - black for i in range(3)] + [black]
cmyk = Image.merge("CMYK", [Image.fromarray(np.clip(ink, 0, 255).astype(np.uint8)) for ink in inks])
for progressive, subsampling in itertools.product([False, True], [0, 2]):
    jpeg = saved(cmyk, progressive=progressive, subsampling=subsampling)
    at = jpeg.find(b"Adobe") - 4
    after = at + 2 + int.from_bytes(jpeg[at + 2:at + 4], "big")
    name = f"cmyk-{'progressive' if progressive else 'baseline'}-{subsampling}"
    for transform in [0, 2]:
        add(f"{name}-adobe-{transform}", jpeg[:at] + adobe(transform) + jpeg[after:])
    add(f"{name}-bare", jpeg[:at] + jpeg[after:])

print(len(family) // 2, "files")
save_file(family, "family.safetensors")
