"""Makes `tests/golden/weights/*`: a checkpoint as torch and PyTorch Lightning leave it, and prompts as transformers splits them.

    pip install torch transformers numpy    # made with torch 2.15, transformers 5.23, numpy 2
    python tests/golden/make_weights.py

`lightning.ckpt` holds a few small tensors under CompVis' names (views, shared storages, four element types), among the objects
that Lightning saves beside them; `lightning.json` holds what torch says the tensors are. `tokenizer.json` holds prompts
and the tokens that `CLIPTokenizer` splits them into with CLIP's vocabulary and with the pocket model's.
"""

import collections
import json
import sys
import types
from pathlib import Path

import numpy as np
import torch
from transformers import CLIPTokenizer

HERE = Path(__file__).parent / "weights"
ROOT = Path(__file__).parents[2]
CLIP = ROOT / "services/libs/models/assets/clip-tokenizer"
POCKET = ROOT / "deploy/models/pocket/tokenizer"


def stand_in(module: str, name: str) -> type:
    """A class that pickles under a name of a package that need not be installed."""
    parent = ""
    for part in module.split("."):
        parent = f"{parent}.{part}" if parent else part
        sys.modules.setdefault(parent, types.ModuleType(parent))
    made = type(name, (), {"__module__": module})
    setattr(sys.modules[module], name, made)
    return made


def tensors() -> dict:
    """A text tower of one layer, as small as the reader's inference allows, in every way that torch stores a tensor."""
    rng = torch.Generator().manual_seed(1)
    number = lambda *shape: torch.randn(*shape, generator=rng)
    prefix = "cond_stage_model.transformer.text_model."
    layer = prefix + "encoder.layers.0."
    both = number(64, 4)
    padded = number(6, 70)
    return {
        prefix + "embeddings.position_ids": torch.arange(7).expand(1, -1),
        prefix + "embeddings.token_embedding.weight": number(9, 64).half(),
        prefix + "embeddings.position_embedding.weight": number(7, 64).bfloat16(),
        # Rows of a wider table, starting within it.
        layer + "mlp.fc1.weight": padded[1:4, 5:69],
        layer + "mlp.fc1.bias": number(3).double(),
        # A transposed view, and two views of one storage.
        layer + "mlp.fc2.weight": number(3, 64).t(),
        layer + "self_attn.k_proj.weight": both[:, :2],
        layer + "self_attn.v_proj.weight": both[:, 2:],
        layer + "layer_norm1.weight": torch.nn.Parameter(torch.ones(64)),
        prefix + "final_layer_norm.bias": number(4, 16).permute(1, 0).reshape(-1)[::2].contiguous(),
        "model_ema.decay": torch.tensor(0.9999),
        "model_ema.num_updates": torch.tensor(470000, dtype=torch.int32),
        "betas": torch.linspace(0, 1, 10),
    }


def lightning_checkpoint(state: dict) -> dict:
    """What Lightning 1.4 puts around a state_dict, with the kinds of objects that a reader must step over."""
    callback = stand_in("pytorch_lightning.callbacks.model_checkpoint", "ModelCheckpoint")
    attributes = stand_in("pytorch_lightning.utilities.parsing", "AttributeDict")
    schedule = stand_in("ldm.lr_scheduler", "LambdaLinearScheduler")()
    schedule.__dict__.update(lr_warm_up_steps=[10000], f_start=[1e-6], verbosity_interval=0, itself=schedule)
    monitored = attributes()
    monitored.__dict__.update(scale_factor=0.18215, seed=2**70, tags={"v1", "laion"})
    return {
        "epoch": 0,
        "global_step": 470000,
        "pytorch-lightning_version": "1.4.2",
        "state_dict": collections.OrderedDict(state),
        "callbacks": {
            callback: {"monitor": "val/loss", "best_model_score": torch.tensor(0.25), "best_model_path": Path("a/b.ckpt")},
            "numpy": [np.float32(0.5), np.arange(3), np.dtype("float64"), b"\x00\xff", 1 + 2j, slice(1, 2)],
        },
        "optimizer_states": [{"state": {0: {"step": 1, "exp_avg": torch.zeros(4)}}, "param_groups": [{"betas": (0.9, 0.999)}]}],
        "lr_schedulers": [schedule, None, True, -1, -(2**40), 3.5, frozenset({1})],
        "hyper_parameters": monitored,
    }


def make_checkpoint() -> None:
    state = tensors()
    torch.save(lightning_checkpoint(state), HERE / "lightning.ckpt")
    expected = {
        name: {"dtype": str(value.dtype).removeprefix("torch."), "shape": list(value.shape), "values": value.double().flatten().tolist()}
        for name, value in state.items()
        if name.startswith("cond_stage_model.") and value.is_floating_point()
    }
    (HERE / "lightning.json").write_text(json.dumps(expected, indent=None, separators=(",", ":")) + "\n")


PROMPTS = [
    "",
    " ",
    "a photograph of an astronaut riding a horse",
    "A  Photograph\tOF\n\nan   astronaut ",
    "it's they're I've don't we'll he'd I'm 'tis '90s O'Neil",
    "1234567890 3.14 1,000 x2 2x ½ ² Ⅳ ४२",
    "hello,world!!! (very)((nested)) [brackets] {braces} <tag> a:1.2",
    "red-green_blue/white\\black|gray~tilde`tick^hat",
    "café naïve Ångström ÉCOLE cafe\u0301 ﬁne ſ ẞ İstanbul ΑΣ",
    "日本語の写真 猫と犬 한국어 텍스트 ภาษาไทย العربية עברית हिन्दी",
    "🐱🐶 👩‍👩‍👧‍👦 family 🏳️‍🌈 flag 👍🏽 ☺️ 🇨🇭",
    "zero\u200bwidth non\u00a0breaking \u2003em\u2003space\u3000ideographic \ufefffeff soft\u00adhyphen",
    "control\x00nul\x07bell\x1b[31mescape\x7fdel\x85next\x1cfs",
    "line\u2028separator\u2029paragraph\x0bvt\x0cff\r\ncrlf",
    "<|startoftext|> hello <|endoftext|> world",
    "<|ENDOFTEXT|> <|endoftext |> <|endoftext|><|endoftext|>",
    "a<|startoftext|>b",
    "supercalifragilisticexpialidocious antidisestablishmentarianism",
    "w" * 300,
    "ab " * 100,
    "a painting of a very long prompt, " * 12,
    "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𝓈𝒸𝓇𝒾𝓅𝓉 ｆｕｌｌｗｉｄｔｈ ℃ ™ © ® € £ ¥",
    "a small red circle left of a large blue star on a white background",
    "\ud7ff\ue000\U0010ffff\ufffd",
    "!@#$%^&*()_+-=[]{};':\",./<>?",
    "'s's 's' 'S 'RE ''s don''t",
    "ﷺ ǅ ŉ ΐ ᾳ Ꮿ ꭰ",
]


def make_prompts() -> None:
    out = {"versions": "transformers 5.23"}
    for name, folder in (("clip", CLIP), ("pocket", POCKET)):
        tokenizer = CLIPTokenizer.from_pretrained(folder)
        out[name] = []
        for prompt in PROMPTS:
            tokens = tokenizer(prompt, add_special_tokens=False)["input_ids"]
            padded = tokenizer(prompt, padding="max_length", max_length=77, truncation=True)["input_ids"]
            # So the tokens alone say everything.
            framed = [tokenizer.bos_token_id, *tokens[:75], tokenizer.eos_token_id]
            assert padded == framed + [tokenizer.pad_token_id] * (77 - len(framed)), prompt
            out[name].append({"prompt": prompt, "tokens": tokens})
    (HERE / "tokenizer.json").write_text(json.dumps(out, ensure_ascii=True, separators=(",", ":")).replace('{"prompt"', '\n{"prompt"') + "\n")


if __name__ == "__main__":
    HERE.mkdir(exist_ok=True)
    make_checkpoint()
    make_prompts()
