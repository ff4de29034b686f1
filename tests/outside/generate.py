"""Draws one picture as any Python program would, with stubs generated from the protos, and looks at the file that comes back.

Usage: generate.py ADDRESS
"""

import io
import sys

import grpc
from darkroom.v1 import image_generation_pb2 as pb
from darkroom.v1 import image_generation_pb2_grpc as rpc
from PIL import Image
from sd_parsers import ParserManager

PROMPT = "a red circle on a white background"
STEPS = 50

stub = rpc.ImageGenerationStub(grpc.insecure_channel(sys.argv[1]))

steps, picture, completed = [], None, None
request = pb.GenerateRequest(prompt=PROMPT, seed=42, num_inference_steps=STEPS, preview_every=10)
for event in stub.Generate(request, timeout=120):
    kind = event.WhichOneof("event")
    if kind == "step":
        steps.append(event.step)
    elif kind == "image":
        picture = event.image
    elif kind == "completed":
        completed = event.completed

assert [step.step for step in steps] == list(range(1, STEPS + 1)), "a step event for each step, in order"
for step in steps:
    assert (step.step % 10 == 0) == step.HasField("preview"), f"previews at every tenth step, not at {step.step}"
assert Image.open(io.BytesIO(steps[-1].preview.data)).format == "PNG"
assert picture and completed and completed.images == 1 and completed.failed == 0, "one picture, completed"

decoded = Image.open(io.BytesIO(picture.data))
assert (decoded.format, decoded.mode, decoded.size) == ("PNG", "RGB", (picture.width, picture.height))
assert PROMPT in decoded.text["parameters"] and "Seed: 42" in decoded.text["parameters"], decoded.text
middle = decoded.getpixel((picture.width // 2, picture.height // 2))
corner = decoded.getpixel((2, 2))
assert middle[0] > 160 and max(middle[1:]) < 110, f"the middle should be red, is {middle}"
assert min(corner) > 220, f"the corner should be white, is {corner}"
print(f"{decoded.width} x {decoded.height} {decoded.format}, {len(picture.data)} bytes, {completed.seconds.total:.2f} s")

# What others read from the settings in the file.
WORDS = "a red circle: large, (round:1.2)\non a white background, \"plain\""
request = pb.GenerateRequest(
    prompt=WORDS, negative_prompt="blue, green:\nyellow", width=72, height=64, seed=2**40, sampler="ddim", eta=0.5,
    num_inference_steps=3, guidance_scale=3.5, clip_skip=1,
)
data = next(event.image.data for event in stub.Generate(request, timeout=120) if event.WhichOneof("event") == "image")
found = ParserManager().parse(Image.open(io.BytesIO(data)))
assert [prompt.value for prompt in found.prompts] == [request.prompt], found
assert [prompt.value for prompt in found.negative_prompts] == [request.negative_prompt], found
(sampler,), (model,) = found.samplers, found.models
settings = {**found.metadata, **sampler.parameters}
assert sampler.name == "DDIM" and model.name == "pocket", found
for key, value in {"steps": 3, "cfg_scale": 3.5, "seed": 2**40, "Size": "72x64", "Clip skip": 2, "Eta DDIM": 0.5}.items():
    assert str(settings[key]) == str(value), (key, settings)
print(f"sd-parsers reads all settings back: {settings}")

try:
    list(stub.Generate(pb.GenerateRequest(prompt=PROMPT, width=500), timeout=10))
except grpc.RpcError as error:
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT and "width" in error.details(), error
    print(f"width 500: {error.code().name}: {error.details()}")
else:
    raise AssertionError("width 500 should be refused")
