"""Makes the TIFF files of the tests, and the pixels that they should give. Needs numpy, pillow, tifffile, imagecodecs
and libtiff's tools (tiffcp, fax2tiff, tiffset)."""
import os, struct, subprocess, sys, tempfile, zlib
import numpy as np, tifffile
from PIL import Image, ImageDraw

out = sys.argv[1]
tmp = tempfile.mkdtemp()
os.makedirs(out, exist_ok=True)
W, H = 37, 29
y, x = np.mgrid[0:H, 0:W]
rgb = np.stack([(x * 7) % 256, (y * 9) % 256, ((x + y) * 4) % 256], -1).astype(np.uint8)
grey = ((x * 5 + y * 3) % 256).astype(np.uint8)
bw = (((x // 3 + y // 2) % 3 == 0) | (x == y)).astype(np.uint8) * 255  # 255: white
bw[5] = 255
bw[6] = 0


def path(name): return os.path.join(out, name)


def expect(name, pixels):
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[..., None], 3, -1)
    Image.fromarray(pixels.astype(np.uint8)).save(path(name + ".png"), optimize=True)


def tiffcp(*args): subprocess.run(["tiffcp", *args], check=True)


# -- one picture of each kind; many files share it --
expect("rgb", rgb)
expect("grey", grey)
expect("bw", bw)
Image.fromarray(bw).convert("1", dither=0).save(tmp + "/bw.tif")

# Fax: every coding, bit order and photometric interpretation.
for coding in ["g3", "g3:2d", "g3:fill", "g3:2d:fill", "g4"]:
    for order in ["lsb2msb", "msb2lsb"]:
        tiffcp("-c", coding, "-f", order, "-r", "11", tmp + "/bw.tif", path(f"bw.{coding.replace(':', '-')}-{order}.tif"))
for order in ["lsb2msb", "msb2lsb"]:
    for c in ["none", "packbits", "lzw", "zip"]:
        tiffcp("-c", c, "-f", order, tmp + "/bw.tif", path(f"bw.{c}-{order}.tif"))
# Minimum is white, the usual photometric interpretation of faxes.
Image.fromarray(255 - bw).convert("1", dither=0).save(tmp + "/inverse.tif")
for coding in ["g3:2d", "g4"]:
    name = path(f"bw.{coding.replace(':', '-')}-miniswhite.tif")
    tiffcp("-c", coding, tmp + "/inverse.tif", name)
    subprocess.run(["tiffset", "-s", "262", "0", name], check=True)


def directory(entries, start, endian):
    """A directory at `start` with entries of (tag, type, values)."""
    sizes = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 7: 1, 11: 4}
    entries = sorted(entries)
    at = start + 2 + 12 * len(entries) + 4
    body, tail = b"", b""
    for tag, kind, values in entries:
        if kind == 5:
            data = b"".join(struct.pack(endian + "II", *v) for v in values)
            count = len(values)
        else:
            data = b"".join(struct.pack(endian + {1: "B", 2: "B", 3: "H", 4: "I", 7: "B", 11: "f"}[kind], v) for v in values)
            count = len(values)
        if len(data) <= 4:
            field = data.ljust(4, b"\0")
        else:
            field = struct.pack(endian + "I", at + len(tail))
            tail += data + b"\0" * (len(data) % 2)
        body += struct.pack(endian + "HHI", tag, kind, count) + field
    return struct.pack(endian + "H", len(entries)) + body + struct.pack(endian + "I", 0) + tail


def write(name, tags, strips, endian="<", tiled=False):
    """One page: strips first, then its directory."""
    offsets, data = [], b""
    for strip in strips:
        offsets.append(8 + len(data))
        data += strip + b"\0" * (len(strip) % 2)
    start = 8 + len(data)
    tags = dict(tags)
    o, c = (324, 325) if tiled else (273, 279)
    tags[o] = (4, offsets)
    tags[c] = (4, [len(s) for s in strips])
    head = (b"II*\0" if endian == "<" else b"MM\0*") + struct.pack(endian + "I", start)
    open(path(name), "wb").write(head + data + directory([(t, *v) for t, v in tags.items()], start, endian))


def base(bits, photometric, samples=1, compression=1, width=W, height=H, rows=None):
    return {256: (4, [width]), 257: (4, [height]), 258: (3, [bits] * samples), 259: (3, [compression]), 262: (3, [photometric]),
            277: (3, [samples]), 278: (4, [rows or height])}


def pack(values, bits):
    """Rows of samples, each row padded to bytes."""
    rows = []
    for row in values.reshape(values.shape[0], -1):
        text = "".join(format(int(v), f"0{bits}b") for v in row)
        text = text.ljust((len(text) + 7) // 8 * 8, "0")
        rows.append(bytes(int(text[i:i + 8], 2) for i in range(0, len(text), 8)))
    return b"".join(rows)


# Runs alone: compressions 2 and 32771, which tiffcp does not write.
Image.fromarray(bw).convert("1", dither=0).save(path("bw.rle.tif"), compression="tiff_ccitt")
Image.fromarray(bw).convert("1", dither=0).save(path("bw.rlew.tif"), compression="tiff_raw_16")

# Grey and palettes of few bits.
for bits in [2, 4, 12, 16]:
    few = grey.astype(np.uint32) * (2**bits - 1) // 255
    shown = np.rint(few * 255 / (2**bits - 1)).astype(np.uint8)
    data = pack(few, bits) if bits != 16 else few.astype("<u2").tobytes()
    expect(f"grey{bits}", shown)
    write(f"grey{bits}.plain.tif", base(bits, 1), [data])
    inverse = 2**bits - 1 - few
    data = pack(inverse, bits) if bits != 16 else inverse.astype(">u2").tobytes()
    write(f"grey{bits}.miniswhite.tif", base(bits, 0), [data], endian=">")
palette = np.stack([np.arange(256) * 3 % 256, np.arange(256) * 7 % 256, 255 - np.arange(256)], -1).astype(np.uint8)
for bits in [1, 2, 4, 8]:
    index = grey.astype(np.uint32) * (2**bits - 1) // 255
    expect(f"palette{bits}", palette[index])
    colors = palette[:2**bits].T.reshape(-1)
    write(f"palette{bits}.plain.tif", base(bits, 3) | {320: (3, [int(c) * 257 for c in colors])}, [pack(index, bits)])
    write(f"palette{bits}.narrow.tif", base(bits, 3) | {320: (3, [int(c) for c in colors])}, [pack(index, bits)], endian=">")

# Planes, strips and tiles, compressions and predictors.
for c in ["none", "lzw", "lzw:2", "zip", "zip:2", "packbits"]:
    name = c.replace(":", "-predictor")
    Image.fromarray(rgb).save(tmp + "/rgb.tif")
    tiffcp("-c", c, "-r", "8", tmp + "/rgb.tif", path(f"rgb.{name}.tif"))
    tiffcp("-c", c, "-r", "8", "-p", "separate", tmp + "/rgb.tif", path(f"rgb.{name}-planes.tif"))
    tiffcp("-c", c, "-t", "-w", "16", "-l", "16", "-B", tmp + "/rgb.tif", path(f"rgb.{name}-tiles.tif"))
tifffile.imwrite(tmp + "/rgb16.tif", rgb.astype(np.uint16) * 257, photometric="rgb", byteorder=">")
tiffcp("-c", "lzw:2", tmp + "/rgb16.tif", path("rgb.sixteen-lzw-predictor2.tif"))
tifffile.imwrite(path("rgb.sixteen-zip-predictor2-planes.tif"), (rgb.astype(np.uint16) * 257).transpose(2, 0, 1), photometric="rgb", planarconfig="separate", compression="zlib", predictor=2)
tiffcp("-8", "-c", "zip", tmp + "/rgb.tif", path("rgb.bigtiff.tif"))
for kind in ["f2", "f4", "f8"]:
    unit = grey.astype(kind) / 255
    if kind != "f2":
        expect("grey", grey)
        tifffile.imwrite(path(f"grey.float-{kind}.tif"), unit.astype(kind), photometric="minisblack", compression="zlib", predictor=3)
    else:
        tifffile.imwrite(path(f"grey.float-{kind}.tif"), unit, photometric="minisblack")
tifffile.imwrite(path("rgb.float-predictor3.tif"), rgb.astype("f4") / 255, photometric="rgb", compression="lzw", predictor=3, byteorder=">")
tifffile.imwrite(path("grey.float-255.tif"), grey.astype("f4"), photometric="minisblack", compression="zlib")

# Alpha: declared, associated, something else, not declared.
alpha = ((x * 11) % 256).astype(np.uint8)
rgba = np.dstack([rgb, alpha])
over = np.floor((rgb.astype(int) * alpha[..., None] + 255 * (255 - alpha[..., None].astype(int))) / 255 + 0.5).astype(np.uint8)
expect("alpha", over)
write("alpha.unassociated.tif", base(8, 2, 4) | {338: (3, [2])}, [rgba.tobytes()])
write("alpha.undeclared.tif", base(8, 2, 4), [rgba.tobytes()])
write("rgb.unspecified.tif", base(8, 2, 4) | {338: (3, [0])}, [rgba.tobytes()])
write("grey.unspecified.tif", base(8, 1, 2) | {338: (3, [0])}, [np.dstack([grey, alpha]).tobytes()])
premultiplied = (rgb.astype(int) * alpha[..., None] // 255).astype(np.uint8)
expect("associated", premultiplied + 255 - alpha[..., None])
write("associated.plain.tif", base(8, 2, 4) | {338: (3, [1])}, [np.dstack([premultiplied, alpha]).tobytes()])
expect("greyalpha", np.floor((grey.astype(int) * alpha + 255 * (255 - alpha.astype(int))) / 255 + 0.5))
write("greyalpha.unassociated.tif", base(8, 1, 2) | {338: (3, [2])}, [np.dstack([grey, alpha]).tobytes()])
index = grey.astype(int)
expect("palettealpha", np.floor((palette[index].astype(int) * alpha[..., None] + 255 * (255 - alpha[..., None].astype(int))) / 255 + 0.5))
write("palettealpha.unassociated.tif", base(8, 3, 2) | {320: (3, [int(c) * 257 for c in palette.T.reshape(-1)]), 338: (3, [2])}, [np.dstack([grey, alpha]).tobytes()])

# CMYK, in pixels and planes.
inks = np.dstack([255 - rgb, (x * 2).astype(np.uint8)])
expect("cmyk", np.array(Image.frombytes("CMYK", (W, H), inks.tobytes()).convert("RGB")))
write("cmyk.pixels.tif", base(8, 5, 4), [inks.tobytes()])
write("cmyk.planes.tif", base(8, 5, 4) | {284: (3, [2])}, [inks[..., i].tobytes() for i in range(4)])

# YCbCr without JPEG, subsampled; with headroom, too. libtiff says what it shows.
ycc = np.array(Image.fromarray(rgb).convert("YCbCr"))
for h, v in [(1, 1), (2, 1), (2, 2), (4, 2), (1, 2)]:
    for name, more in [("", {}), ("-video", {532: (5, [(16, 1), (235, 1), (128, 1), (240, 1), (128, 1), (240, 1)])})]:
        strips = []
        for top in range(0, H, 8):
            strip = np.pad(ycc[top:top + 8], ((0, -min(8, H - top) % v), (0, -W % h), (0, 0)), mode="edge")
            data = b""
            for by in range(0, strip.shape[0], v):
                for bx in range(0, strip.shape[1], h):
                    block = strip[by:by + v, bx:bx + h]
                    data += block[..., 0].tobytes() + bytes(block[0, 0, 1:].tolist())
            strips.append(zlib.compress(data))
        file = f"ycbcr{h}{v}{name}.plain.tif"
        write(file, base(8, 6, 3, 8, rows=8) | {530: (3, [h, v])} | more, strips)
        expect(f"ycbcr{h}{v}{name}", np.array(Image.open(path(file)).convert("RGB")))

# JPEG: subsampled or not, strips and tiles, tables in the directory or not, RGB, grey, CMYK. libtiff says what they show.
big = np.stack([np.clip(60 + x * 4, 0, 255), np.clip(40 + y * 6, 0, 255), np.clip(200 - x * 2 - y, 0, 255)], -1).astype(np.uint8)
Image.fromarray(big).save(tmp + "/big.tif")


def jpeg(name, how, *args, **kwargs):
    if how is tiffcp:
        tiffcp("-c", *args, path(f"{name}.jpeg.tif"))
    else:
        tifffile.imwrite(path(f"{name}.jpeg.tif"), *args, compression="jpeg", compressionargs={"level": 98}, **kwargs)
    if "tiffset" not in name:
        expect(name, np.array(Image.open(path(f"{name}.jpeg.tif")).convert("RGB")))


for s in [(1, 1), (2, 1), (2, 2), (4, 1)]:
    jpeg(f"ycbcr{s[0]}{s[1]}-strips", tifffile, big, photometric="rgb", subsampling=s, rowsperstrip=16)
    jpeg(f"ycbcr{s[0]}{s[1]}-tiles", tifffile, big, photometric="rgb", subsampling=s, tile=(32, 32))
jpeg("rgb-tables", tiffcp, "jpeg:r:98", "-r", "16", tmp + "/big.tif")
jpeg("ycbcr-tables", tiffcp, "jpeg:98", "-r", "16", tmp + "/big.tif")
jpeg("ycbcr-tables-tiles", tiffcp, "jpeg:98", "-t", "-w", "16", "-l", "16", tmp + "/big.tif")
jpeg("planes", tiffcp, "jpeg:r:98", "-p", "separate", tmp + "/big.tif")
jpeg("cmyk-tables", tifffile, inks, photometric="separated")
Image.fromarray(big[..., 0]).save(tmp + "/smooth.tif")
jpeg("grey-tables", tiffcp, "jpeg:98", tmp + "/smooth.tif")

# Pages among reduced copies and a mask: pages are the second, the fourth, the fifth and the seventh.
directories = [rgb[::4, ::4], rgb, rgb[::2, ::2], grey[::3, ::3], grey, bw, bw]
with tifffile.TiffWriter(path("pages.tif")) as file:
    for picture in directories:
        photometric = "rgb" if picture.ndim == 3 else "minisblack"
        file.write(picture, photometric=photometric, metadata=None, compression="zlib")
for number, tag, value in [(0, 254, 1), (2, 254, 3), (4, 254, 2), (5, 254, 4)]:
    subprocess.run(["tiffset", "-d", str(number), "-s", str(tag), str(value), path("pages.tif")], check=True)

# Animations, and the frames that Pillow shows.
frames = []
for i in range(3):
    frame = Image.new("RGBA", (20, 12), (0, 0, 0, 0))
    ImageDraw.Draw(frame).rectangle((i * 5, i * 3, i * 5 + 6, i * 3 + 4), fill=[(200, 0, 0), (0, 160, 0), (0, 0, 255)][i])
    frames.append(frame)
for name, more in [("gif", {"disposal": 2}), ("webp", {"lossless": True}), ("png", {}), ("apart.png", {"default_image": True})]:
    frames[0].save(path("animation." + name), save_all=True, append_images=frames[1:], duration=50, **more)
    shown = Image.open(path("animation." + name))
    for i in range(shown.n_frames):
        shown.seek(i)
        white = Image.new("RGBA", shown.size, "white")
        Image.alpha_composite(white, shown.convert("RGBA")).convert("RGB").save(path(f"animation.{name}.{i}.png"), optimize=True)
