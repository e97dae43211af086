#!/usr/bin/env python3
"""Times PyTorch on the work that our benches time, and sets the two side by side.

    pip install torch transformers            # PyPI; 2.15 and 5.23 when this was written
    python benches/compare.py                 # PyTorch alone: one JSON object a line
    python benches/compare.py --against       # A B A B with our benches, then a table of ratios
    python benches/compare.py --quick --only step,prefill --against
    python benches/compare.py --device cuda --against --rounds 1     # on a GPU, beside `cargo bench --bench gpu`
    python benches/compare.py --only gpu --tiny                      # rehearses that on the CPU: its times say nothing

The modules are those of `transformers.models.unlimited_ocr`, which has the towers and the decoder of DeepSeek-OCR, at
their true sizes with random weights. Attention is `sdpa`; of the ways that the module offers to run its experts the
fastest one counts. Full attention with a plain cache stands in for that model's own sliding window.
"""

import argparse
import importlib.util
import json
import os
import shlex
import statistics
import subprocess
import sys
import time

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")

# Products of the model's shapes: rows, inputs, outputs. The first is the largest dense one of the Base view.
SHAPES = [(4096, 768, 3072), (4096, 3072, 768), (4096, 768, 2304), (257, 1024, 4096), (300, 1280, 1280), (300, 1280, 3584)]

# Vision tokens with line ends, and the prompt around them: what our `page` bench reads.
MODES = {"small": (640, 111), "base": (1024, 273)}
TEXT_TOKENS = 5
NEW_TOKENS = 300

EXPERTS = ["eager", "batched_mm", "grouped_mm"]
VOCABULARY = 129280
DEVIATION = 0.02

# Named as our benches are.
PARTS = ["linear", "encoder", "prefill", "step", "page"]

# What our `gpu` bench runs: pages encoded together, positions of a prompt, rows decoded together, and the mix of pages. PyTorch has no
# rows that come and go: a batch takes as long as its longest row, so that answers of one length are the best that it can be given.
GPU = {"pages": [1, 8], "prompts": [300, 1000], "rows": [1, 8, 64, 256], "mix": [512, 700, 256], "modes": {"tiny": (512, 73), "small": (640, 111), "base": (1024, 273), "large": (1280, 421)}}
TINY = {"pages": [1, 2], "prompts": [30], "rows": [1, 3], "mix": [4, 6, 3], "modes": {"tiny": (512, 73)}}
MIX_TEXT = 8


def main():
    options = parse()
    if options.against:
        return against(options)
    import torch

    torch.set_num_threads(options.threads)
    torch.set_grad_enabled(False)
    torch.manual_seed(0)
    if options.only == ["gpu"]:
        with torch.device(options.device):
            return gpu(Model(torch.bfloat16, options))
    parts = {"linear": linears, "encoder": encoders, "prefill": prefills, "step": steps, "page": pages}
    for dtype in [torch.bfloat16, torch.float32]:
        model = Model(dtype, options)
        for part in options.only:
            # The f32 of the towers and of single products is what our f32 path is compared with.
            if dtype == torch.bfloat16 or part in ("linear", "encoder"):
                parts[part](model)
        del model


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help="parts, separated by commas; all that the device has otherwise")
    parser.add_argument("--device", default="cpu", help="of PyTorch; another one than `cpu` runs `gpu`")
    parser.add_argument("--tiny", action="store_true", help="two layers and small batches, for `gpu`")
    parser.add_argument("--quick", action="store_true", help="fewer repetitions, 40 tokens instead of 300")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--against", action="store_true", help="alternate with our benches and print ratios")
    parser.add_argument("--feature", default="cuda", help="our backend for `gpu`")
    parser.add_argument("--pages", type=int, help="pages of the mix of `gpu`; with `--tokens` and `--rows` as our bench has them")
    parser.add_argument("--tokens", type=int)
    parser.add_argument("--rows", type=int)
    parser.add_argument("--rounds", type=int, default=2, help="rounds of `--against`")
    parser.add_argument("--binaries", help="folder of our built benches, instead of `cargo bench`")
    parser.add_argument("--ours", default="", help="more options for our benches: --ours='--formats bf16 --only base'")
    parser.add_argument("--lines", help="add the JSON lines of `--against` to this file as they come")
    options = parser.parse_args()
    options.only = options.only.split(",") if options.only else PARTS if options.device == "cpu" else ["gpu"]
    unknown = set(options.only) - set(PARTS) - {"gpu"}
    if unknown:
        parser.error(f"unknown parts {sorted(unknown)}, expected some of {PARTS + ['gpu']}")
    if "gpu" in options.only and len(options.only) > 1 or "gpu" not in options.only and options.device != "cpu":
        parser.error("`gpu` runs alone, and nothing else runs on another device")
    return options


class Model:
    """The modules of one data type, made when they are first asked for."""

    def __init__(self, dtype, options):
        import torch

        self.dtype, self.options = dtype, options
        self.name = {torch.bfloat16: "bf16", torch.float32: "f32"}[dtype]
        self._whole, self._filled = None, set()

    def vision(self):
        """Towers and projector."""
        model = self._skeleton().model
        self._fill(model.vision_tower)
        self._fill(model.multi_modal_projector)
        return model

    def whole(self):
        self.vision()
        self._fill(self._whole)
        return self._whole

    def experts(self, implementation):
        self._whole.config.text_config._experts_implementation = implementation

    def _skeleton(self):
        """The modules without numbers: memory that was never written to takes no room."""
        import torch
        from transformers import UnlimitedOcrConfig, UnlimitedOcrForConditionalGeneration, UnlimitedOcrTextConfig

        if self._whole is None:
            layers = 2 if self.options.tiny else 12
            text = UnlimitedOcrTextConfig(num_hidden_layers=layers, layer_types=["full_attention"] * layers)
            config = UnlimitedOcrConfig(text_config=text)
            if self.options.tiny:
                config.vision_config.sam_config.num_hidden_layers = layers
                config.vision_config.encoder_config.num_hidden_layers = layers
            config._attn_implementation = "sdpa"
            with torch.device("meta"):
                model = UnlimitedOcrForConditionalGeneration(config)
            self._whole = model.to(self.dtype).to_empty(device=self.options.device).eval()
            language = self._whole.model.language_model
            language.rotary_emb = type(language.rotary_emb)(config=config.text_config).to(self.options.device)
            for module in model.modules():
                if isinstance(getattr(module, "position_ids", None), torch.Tensor):
                    module.position_ids.copy_(torch.arange(module.position_ids.shape[-1])[None])
        return self._whole

    def _fill(self, module):
        for name, parameter in module.named_parameters():
            if parameter not in self._filled:
                self._filled.add(parameter)
                # As our benches have it: embeddings near one, else all positions take the same experts.
                fill(parameter, 1.0 if "embed_tokens" in name else DEVIATION)
        for part in module.modules():
            if "Norm" in type(part).__name__:
                part.weight.data.fill_(1.0)


def fill(parameter, deviation):
    """Uniform numbers, generated once and repeated: 6.7 GB of fresh ones would take a minute."""
    import torch

    global NUMBERS
    if "NUMBERS" not in globals():
        NUMBERS = (torch.rand(1 << 22) * 2 - 1) * 3**0.5
    flat = parameter.data.view(-1)
    for start in range(0, flat.numel(), NUMBERS.numel()):
        piece = flat[start : start + NUMBERS.numel()]
        # Another offset each time, so that no two matrices are alike.
        offset = start // NUMBERS.numel() * 977 + flat.numel() % 4093
        piece.copy_(NUMBERS.roll(offset)[: piece.numel()] * deviation)


def timed(work, options, budget=6.0):
    """The fastest of several runs; the first one, which prepares buffers, does not count."""
    start = time.perf_counter()
    work()
    wait(options)
    once = time.perf_counter() - start
    runs = 2 if options.quick else 3
    runs = max(runs, min(200, int((budget / (4 if options.quick else 1)) / max(once, 1e-6))))
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        work()
        wait(options)
        times.append(time.perf_counter() - start)
    return min(times)


def wait(options):
    """Until the device has done what was asked."""
    import torch

    if options.device != "cpu":
        torch.accelerator.synchronize()


def report(name, seconds, **more):
    print(json.dumps({"name": f"torch/{name}", "seconds": seconds, **more}), flush=True)


def linears(model):
    """Dense products: what oneDNN makes of the model's shapes."""
    import torch

    for rows, inputs, outputs in SHAPES:
        x = torch.randn(rows, inputs).to(model.dtype)
        weight = (torch.randn(outputs, inputs) * DEVIATION).to(model.dtype)
        seconds = timed(lambda: torch.nn.functional.linear(x, weight), model.options, 1.0)
        rate = 2 * rows * inputs * outputs / seconds
        report(f"linear/{model.name}/{rows}x{inputs}x{outputs}", seconds, gflops=round(rate / 1e9, 1))


def encoders(model):
    import torch

    whole = model.vision()
    for mode, (side, _) in MODES.items():
        pixels = torch.randn(1, 3, side, side).to(model.dtype)

        def work():
            return whole.multi_modal_projector(whole.vision_tower(pixels).last_hidden_state)

        assert torch.isfinite(work()).all()
        report(f"encoder/{model.name}/{mode}", timed(work, model.options))


def read(model, rows, positions):
    """A cache after a prompt of random tokens."""
    import torch
    from transformers import DynamicCache

    cache = DynamicCache()
    ids = torch.randint(0, VOCABULARY, (rows, positions))
    out = model.whole()(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
    assert torch.isfinite(out.logits).all()
    return cache


def fastest_experts(work, model, positions, budget=6.0):
    """Seconds and name of the fastest way to run the experts."""
    times = {}
    for implementation in EXPERTS:
        # It copies the weights of each position's experts: 13 GB for 116 positions, 80 seconds.
        if implementation == "batched_mm" and positions > 4:
            continue
        model.experts(implementation)
        try:
            times[implementation] = timed(work, model.options, budget)
        except (RuntimeError, NotImplementedError, ValueError) as error:
            print(f"{implementation}: {error}", file=sys.stderr)
    best = min(times, key=times.get)
    model.experts(best)
    return times[best], best, {name: round(seconds, 5) for name, seconds in times.items()}


def prefills(model):
    model.whole()
    for positions in [116, 300]:
        seconds, best, all_of_them = fastest_experts(lambda: read(model, 1, positions), model, positions)
        report(f"prefill/{model.name}/{positions}", seconds, experts=best, tried=all_of_them)


def steps(model):
    import torch

    model.whole()
    for rows in [1, 4, 16]:
        model.experts("eager")
        cache = read(model, rows, 32 if model.options.quick else 300)

        def work():
            ids = torch.randint(0, VOCABULARY, (rows, 1))
            model.whole()(input_ids=ids, past_key_values=cache, use_cache=True)

        seconds, best, all_of_them = fastest_experts(work, model, rows, 2.0)
        report(f"step/{model.name}/batch{rows}", seconds, experts=best, tried=all_of_them)


def pages(model):
    """From pixels to tokens, the most probable token each time."""
    import torch
    from transformers import DynamicCache

    side, vision = MODES["small"]
    tokens = 40 if model.options.quick else NEW_TOKENS
    whole = model.whole()
    pixels = torch.randn(1, 3, side, side).to(model.dtype)
    text = torch.randint(0, 100_000, (TEXT_TOKENS,))
    placeholders = torch.full((vision,), whole.config.image_token_id)
    ids = torch.cat([text[:1], placeholders, text[1:]])[None]

    def generate():
        cache = DynamicCache()
        start = time.perf_counter()
        out = whole(input_ids=ids, pixel_values=pixels, past_key_values=cache, use_cache=True, logits_to_keep=1)
        first = time.perf_counter() - start
        token = out.logits[:, -1].argmax(-1, keepdim=True)
        for _ in range(tokens - 1):
            out = whole(input_ids=token, past_key_values=cache, use_cache=True)
            token = out.logits[:, -1].argmax(-1, keepdim=True)
        return time.perf_counter() - start, first

    times = {}
    for implementation in ["eager", "grouped_mm"]:
        model.experts(implementation)
        try:
            times[implementation] = min(generate() for _ in range(1 if model.options.quick else 2))
        except (RuntimeError, NotImplementedError, ValueError) as error:
            print(f"{implementation}: {error}", file=sys.stderr)
    best = min(times, key=times.get)
    model.experts(best)
    seconds, first = times[best]
    per_token = (seconds - first) / (tokens - 1)
    report(f"page/{model.name}/small", seconds, experts=best, tokens=tokens)
    report(f"page/{model.name}/small/first", first)
    report(f"page/{model.name}/small/token", per_token)


def gpu(model):
    """The cases of our `gpu` bench; tensors are made on the device."""
    import torch

    options, sizes = model.options, TINY if model.options.tiny else GPU
    whole = model.vision()
    for mode, (side, _) in sizes["modes"].items():
        for pages in sizes["pages"]:
            pixels = torch.randn(pages, 3, side, side, dtype=model.dtype)
            seconds = timed(lambda: encode(whole, pixels), options)
            report(f"gpu/encoder/{mode}/pages{pages}", seconds)
    model.whole()
    for positions in sizes["prompts"]:
        seconds, best, tried = fastest_experts(lambda: read(model, 1, positions), model, positions)
        report(f"gpu/prefill/{positions}", seconds, experts=best, tried=tried)
    for rows in sizes["rows"]:
        gpu_step(model, rows, sizes["prompts"][0])
    gpu_pages(model, sizes)


def encode(whole, pixels):
    return whole.multi_modal_projector(whole.vision_tower(pixels).last_hidden_state)


def gpu_step(model, rows, positions):
    """A token for each row, chosen on the device and read by the host, as a loop that looks for the end has to."""
    import torch

    model.experts("grouped_mm")
    cache = read(model, rows, positions)

    def work():
        ids = torch.randint(0, VOCABULARY, (rows, 1))
        logits = model.whole()(input_ids=ids, past_key_values=cache, use_cache=True).logits
        return logits[:, -1].argmax(-1).tolist()

    seconds, best, tried = fastest_experts(work, model, rows, 2.0)
    report(f"gpu/step/batch{rows}", seconds, experts=best, tried=tried)


def gpu_pages(model, sizes):
    """Batches of pages from pixels to tokens: encoded, read and stepped together."""
    import torch
    from transformers import DynamicCache

    pages, tokens, rows = [getattr(model.options, name) or size for name, size in zip(["pages", "tokens", "rows"], sizes["mix"])]
    mode = list(sizes["modes"])[0] if model.options.tiny else "base"
    (side, vision), whole = sizes["modes"][mode], model.whole()
    ids = torch.randint(0, 100_000, (rows, MIX_TEXT + vision))
    ids[:, 1 : 1 + vision] = whole.config.image_token_id

    def batch():
        pixels = torch.randn(rows, 3, side, side, dtype=model.dtype)
        cache = DynamicCache()
        out = whole(input_ids=ids, pixel_values=pixels, past_key_values=cache, use_cache=True, logits_to_keep=1)
        token = out.logits[:, -1].argmax(-1, keepdim=True)
        for _ in range(tokens - 1):
            token.tolist()
            out = whole(input_ids=token, past_key_values=cache, use_cache=True)
            token = out.logits[:, -1].argmax(-1, keepdim=True)
        return token.tolist()

    batch() if model.options.tiny else None
    start = time.perf_counter()
    for _ in range(-(-pages // rows)):
        batch()
    # A batch that is not full counts as much as its pages.
    seconds = (time.perf_counter() - start) * pages / (-(-pages // rows) * rows)
    report(f"gpu/pages/{mode}/rows{rows}", seconds, pages=pages, pages_per_second=pages / seconds)


def against(options):
    """Alternates our benches and PyTorch, so that both meet the same neighbours on the machine."""
    lines = []
    for round_ in range(options.rounds):
        for part in options.only:
            for command in [ours(part, options)] + ([theirs(part, options)] if importlib.util.find_spec("torch") else []):
                found = run(command, round_)
                lines += found
                if options.lines:
                    with open(options.lines, "a") as file:
                        file.writelines(json.dumps(line) + "\n" for line in found)
    table(lines)


def table(lines):
    seen = {}
    for line in lines:
        if "seconds" in line:
            seen.setdefault(line["name"], []).append(line["seconds"])
    best = {name: min(times) for name, times in seen.items()}
    print("| work | ours | limit / ours | PyTorch | PyTorch / ours |")
    print("|---|---:|---:|---:|---:|")
    # Times and limits that were measured next to each other: the machine changes from round to round.
    fractions = {}
    for line in lines:
        if "fraction" in line:
            fractions.setdefault(line["name"], []).append(line["fraction"])
    for name, seconds in best.items():
        if name.startswith("torch/"):
            continue
        rival = best.get(f"torch/{rival_of(name)}")
        fraction = f"{statistics.median(fractions[name]):.2f}" if name in fractions else ""
        ratio = f"{rival / seconds:.2f}" if rival else ""
        print(f"| `{name}` | {seconds:.4g} s | {fraction} | {f'{rival:.4g} s' if rival else ''} | {ratio} |")
    for name, seconds in best.items():
        if name.startswith("torch/") and not any(f"torch/{rival_of(other)}" == name for other in best):
            print(f"| `{name}` | | | {seconds:.4g} s | |")
    for line in lines:
        if "value" in line:
            print(f"\n`{line['name']}`: {line['value']:.4g}", end="")
    print()
    spread = max((max(times) / min(times) for times in seen.values() if len(times) > 1), default=1)
    middle = statistics.median([max(times) / min(times) for times in seen.values()])
    print(f"\nslowest over fastest round: {middle:.2f} in the middle, {spread:.2f} at most; load {os.getloadavg()[0]:.1f}")


def rival_of(name):
    """Our exact products and our quantised weights are compared with PyTorch's bf16."""
    for format_ in ["/exact/", "/q8/", "/q4/"]:
        name = name.replace(format_, "/bf16/")
    return name


def ours(part, options):
    if options.binaries:
        command = [os.path.join(options.binaries, part), "--json"]
    else:
        command = ["cargo", "bench", "--quiet", "--bench", part, "--", "--json"]
    if part == "gpu":
        # Cargo gives the device's backend to the bench by its feature.
        command = command[:2] + ["--features", options.feature] + command[2:] if not options.binaries else command
        command += ["--device", options.feature] + (["--mini"] if options.tiny else [])
        for name in ["pages", "tokens", "rows"]:
            command += [f"--{name}", str(getattr(options, name))] if getattr(options, name) else []
    return command + (["--quick"] if options.quick else []) + shlex.split(options.ours)


def theirs(part, options):
    command = [sys.executable, os.path.abspath(__file__), "--only", part, "--threads", str(options.threads)]
    command += ["--device", options.device] + (["--tiny"] if options.tiny else [])
    for name in ["pages", "tokens", "rows"]:
        command += [f"--{name}", str(getattr(options, name))] if getattr(options, name) else []
    return command + (["--quick"] if options.quick else [])


def run(command, round_):
    print("+", " ".join(command), file=sys.stderr, flush=True)
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return [{**line, "round": round_} for line in lines]


if __name__ == "__main__":
    main()
