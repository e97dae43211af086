#!/usr/bin/env python3
"""The candle port (github.com/TimmyOVO/deepseek-ocr.rs) beside ours: a Small page, in turn, from one folder.

    cargo build --release -p deepseek-ocr-cli              # in the port's checkout
    cargo bench --bench page --no-run                      # here; cargo prints the program's path
    python benches/port.py --port CLI --page PROGRAM --model FOLDER --image PAGE.png --layers 6

The port holds the decoder in f32: 24 GB for the released model. `--layers N` makes a folder with the first N of its decoder's layers, which both then read,
so that a smaller machine can run them. The port's prefill counts its vision stage; ours is `page/../first`.
"""

import argparse
import json
import pathlib
import re
import shutil
import struct
import subprocess
import tempfile

TOKENS = 60


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ["port", "page", "model", "image"]:
        parser.add_argument(f"--{name}", type=pathlib.Path, required=True)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=2)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.model.parent) as folder:
        folder = pathlib.Path(folder)
        shorten(args.model, folder, args.layers)
        print(f"{'':8} {'vision and prefill':>20} {'a token':>12} {'loading':>12}")
        for _ in range(args.rounds):
            port, ours = run_port(args, folder), run_ours(args, folder)
            show("port", port)
            show("ours", ours)
            print(f"{'ratio':8} {port[0] / ours[0]:>20.1f} {port[1] / ours[1]:>12.1f} {port[2] / ours[2]:>12.0f}", flush=True)


def show(name, times):
    first, token, load = times
    print(f"{name:8} {first:>18.2f} s {1e3 * token:>9.1f} ms {load:>10.2f} s", flush=True)


def run_port(args, folder):
    weights = next(folder.glob("*.safetensors"))
    command = [args.port, "--device", "cpu", "--dtype", "bf16", "--model-config", folder / "config.json"]
    command += ["--tokenizer", folder / "tokenizer.json", "--weights", weights, "--image", args.image]
    command += ["--prompt", "<image>\nFree OCR.", "--base-size", "640", "--image-size", "640", "--crop-mode", "false"]
    command += ["--max-new-tokens", str(TOKENS)]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=True)
    text = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout + done.stderr)
    load = float(re.search(r"Model ready in ([\d.]+)s", text)[1])
    prefill = float(re.search(r"prefill=\d+ tok in ([\d.]+)s", text)[1])
    count, seconds = re.search(r"generation=(\d+) tok in ([\d.]+)s", text).groups()
    return prefill, float(seconds) / int(count), load


def run_ours(args, folder):
    command = [args.page, "--bench", "--json", "--only", "small", "--formats", "bf16", "--model", folder]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=True)
    seconds = {line["name"]: line.get("seconds") for line in map(json.loads, done.stdout.splitlines())}
    return seconds["page/bf16/small/first"], seconds["page/bf16/small/token"], seconds["page/bf16/load"]


def shorten(source, target, layers):
    """Copies a model folder with one file of weights, less the decoder's later layers."""
    weights = next(source.glob("*.safetensors"))
    for file in source.iterdir():
        if file.suffix in {".json", ".txt"} and not file.name.endswith(".index.json"):
            shutil.copyfile(file, target / file.name)
    config = json.loads((source / "config.json").read_text())
    for part in [config, config.get("language_config", {})]:
        if "num_hidden_layers" in part:
            part["num_hidden_layers"] = layers
    (target / "config.json").write_text(json.dumps(config))
    with weights.open("rb") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(size))
        header.pop("__metadata__", None)
        kept, ranges, end = {}, [], 0
        for name, tensor in sorted(header.items(), key=lambda item: item[1]["data_offsets"][0]):
            layer = re.match(r"model\.layers\.(\d+)\.", name)
            if layer is None or int(layer[1]) < layers:
                start, stop = tensor["data_offsets"]
                kept[name] = {**tensor, "data_offsets": [end, end + stop - start]}
                ranges.append((start, stop))
                end += stop - start
        text = json.dumps(kept).encode()
        text += b" " * (-(8 + len(text)) % 64)
        with (target / "model.safetensors").open("wb") as out:
            out.write(struct.pack("<Q", len(text)) + text)
            for start, stop in ranges:
                file.seek(8 + size + start)
                while start < stop:
                    part = file.read(min(stop - start, 1 << 26))
                    out.write(part)
                    start += len(part)


if __name__ == "__main__":
    main()
