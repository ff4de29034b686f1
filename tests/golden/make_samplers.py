"""Makes samplers/*.json: trajectories of diffusers' schedulers and CompVis' samplers over a synthetic model.

    python make_samplers.py --compvis CHECKOUT   # of CompVis/stable-diffusion, commit 21f890f

Needs torch, numpy, scipy, torchsde, diffusers and k-diffusion. The model is `eps_i(x, t) = 0.8 * x_i + 0.1 * sin(0.01 * t + i)`: smooth, different for
every element and timestep, and such that no trajectory grows. Latents are float64 wherever a scheduler lets them be; its
tables stay the float32 ones that it computes itself.
"""

import argparse
import importlib
import importlib.util
import json
import pathlib
import sys
import types

import diffusers
import numpy
import torch

HERE = pathlib.Path(__file__).parent / "samplers"
ELEMENTS = 8
STEPS = [1, 2, 3, 4, 7, 10, 25, 50]
OTHER_STEPS = [1, 2, 3, 7, 20]
# Those with two evaluations a step or a corrector, at more counts, the others of them with every spacing.
MORE = {"heun", "dpm2", "unipc"}
MORE_STEPS = [5, 20]
MORE_OTHER_STEPS = [5, 50]

V1 = {"num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
SCHEDULERS = {
    "plms": (diffusers.PNDMScheduler, {"skip_prk_steps": True}),
    "ddim": (diffusers.DDIMScheduler, {"clip_sample": False}),
    "dpmpp_2m": (diffusers.DPMSolverMultistepScheduler, {}),
    "euler": (diffusers.EulerDiscreteScheduler, {}),
    "euler_a": (diffusers.EulerAncestralDiscreteScheduler, {}),
    "heun": (diffusers.HeunDiscreteScheduler, {}),
    "dpm2": (diffusers.KDPM2DiscreteScheduler, {}),
    "unipc": (diffusers.UniPCMultistepScheduler, {}),
    "lms": (diffusers.LMSDiscreteScheduler, {}),
    "dpm2_a": (diffusers.KDPM2AncestralDiscreteScheduler, {}),
    "dpmpp_2m_sde": (diffusers.DPMSolverMultistepScheduler, {"algorithm_type": "sde-dpmsolver++"}),
    "dpmpp_sde": (diffusers.DPMSolverSDEScheduler, {}),
    "lcm": (diffusers.LCMScheduler, {}),
    "ddpm": (diffusers.DDPMScheduler, {"clip_sample": False}),
}
# Those that draw noise at every step.
DRAWING = {"euler_a", "dpm2_a", "dpmpp_2m_sde", "lcm", "ddpm"}
# Those whose timesteps are the schedule's own; of the others Euler a has no other spacing in diffusers.
WHOLE = {"plms", "ddim", "lcm", "ddpm"}
SPACINGS = {"karras": "use_karras_sigmas", "exponential": "use_exponential_sigmas"}
SPACED = [1, 2, 5, 20]
# What a v1 model without a scheduler config means: the spacing is each class' own.
DEFAULT = {"steps_offset": 1, "set_alpha_to_one": False}
DEFAULT_EULER = {"timestep_spacing": "linspace"}
OTHER_CONFIGS = [
    DEFAULT | {"timestep_spacing": "trailing"},
    DEFAULT | {"timestep_spacing": "linspace"},
    DEFAULT | {"timestep_spacing": "leading"},
    {"timestep_spacing": "leading", "steps_offset": 0, "set_alpha_to_one": True},
    DEFAULT | {"timestep_spacing": "leading", "beta_schedule": "linear"},
]


# Steps, and how much of a picture is lost to noise.
STRENGTHS = [(20, 0.75), (10, 1.0), (50, 0.02), (7, 0.5), (3, 0.34), (1, 1.0), (4, 0.8)]


def model(x, t):
    phase = torch.arange(x.numel(), dtype=torch.float64).reshape(x.shape)
    return 0.8 * x.to(torch.float64) + 0.1 * torch.sin(0.01 * float(t) + phase)


def numbers(tensor):
    return [float(f"{value:.8g}") for value in torch.as_tensor(tensor).to(torch.float64).flatten().tolist()]


def normal(seed):
    return torch.randn(1, 2, 2, ELEMENTS // 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def make_scheduler(sampler, config):
    cls, fixed = SCHEDULERS[sampler]
    if sampler not in ("plms", "ddim", "lcm"):
        config = {key: value for key, value in config.items() if key != "set_alpha_to_one"}
    return cls(**(V1 | fixed | config))


def begin(scheduler, n, strength, original, noise):
    """As StableDiffusionImg2ImgPipeline's get_timesteps and prepare_latents."""
    t_start = max(n - min(int(n * strength), n), 0)
    timesteps = scheduler.timesteps[t_start * scheduler.order :]
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(t_start * scheduler.order)
    return timesteps, scheduler.add_noise(original, noise, timesteps[:1])


class Path:
    """Increments of one path of Brownian motion in sigma, for two stages a step, of unit normal draws in their order."""

    def __init__(self, draw):
        self.draw, self.first = draw, None

    def __call__(self, sigma, sigma_next):
        drawn = self.draw()
        if self.first is None:
            self.first = (sigma_next, drawn)
            return drawn
        (middle, first), self.first = self.first, None
        part = lambda high, low: ((high - low) / (sigma - sigma_next)) ** 0.5
        return part(sigma, middle) * first + part(middle, sigma_next) * drawn


def diffusers_case(sampler, n, config, eta=0.0, strength=None, spacing=None):
    options = {} if spacing is None else {SPACINGS[spacing]: True}
    scheduler = make_scheduler(sampler, config | options)
    scheduler.set_timesteps(n)
    initial, original = normal(1), normal(2)
    latents, timesteps = initial * float(scheduler.init_noise_sigma), scheduler.timesteps
    if strength is not None:
        timesteps, latents = begin(scheduler, n, strength, original, initial)
    noise, evaluations = [], []
    draw = lambda: noise.append(normal(100 + len(noise))) or noise[-1]
    path = Path(draw)
    for i, t in enumerate(timesteps):
        model_input = scheduler.scale_model_input(latents, t)
        output = model(model_input, t)
        options = {}
        if sampler == "ddim" and eta > 0:
            noise.append(normal(100 + i))
            options = {"eta": eta, "variance_noise": noise[-1]}
        if sampler in DRAWING:
            module = sys.modules[type(scheduler).__module__]
            module.randn_tensor = lambda *_, **__: draw()
        if sampler == "dpmpp_sde":
            scheduler.noise_sampler = path
        evaluations.append({"timestep": float(t)})
        # Elsewhere the model's input is the latents themselves, or scaled as here.
        if sampler in ("euler", "euler_a"):
            evaluations[-1]["input"] = numbers(model_input)
        latents = scheduler.step(output, t, latents, **options).prev_sample
        evaluations[-1]["latents"] = numbers(latents)
    picture = {} if strength is None else {"strength": strength, "way": "diffusers", "original": numbers(original)}
    picture |= {} if spacing is None else {"spacing": spacing}
    return {
        "sampler": sampler,
        "num_inference_steps": n,
        "eta": eta,
        "config": V1 | config,
        **picture,
        "initial_noise": numbers(initial),
        "init_noise_sigma": float(scheduler.init_noise_sigma),
        "noise": [numbers(draw) for draw in noise],
        "evaluations": evaluations,
    }


def import_k_diffusion():
    """Its samplers alone: the package itself asks for more than they need."""
    folder = pathlib.Path(importlib.util.find_spec("k_diffusion").submodule_search_locations[0])
    package = types.ModuleType("k_diffusion")
    package.__path__ = [str(folder)]
    sys.modules["k_diffusion"] = package
    append_dims = lambda x, dims: x[(...,) + (None,) * (dims - x.ndim)]
    package.utils = sys.modules["k_diffusion.utils"] = types.SimpleNamespace(append_dims=append_dims)
    return importlib.import_module("k_diffusion.sampling")


def k_diffusion_case(sampling, sampler, n, spacing=None, strength=None):
    """k-diffusion's sampling function over the sigmas of diffusers' scheduler, or its own spacing between their ends."""
    scheduler = diffusers.EulerDiscreteScheduler(**(V1 | DEFAULT_EULER))
    scheduler.set_timesteps(n)
    table = numpy.array(((1 - scheduler.alphas_cumprod.double()) / scheduler.alphas_cumprod.double()) ** 0.5)
    sigmas = scheduler.sigmas.double()
    if spacing is not None:
        spaced = getattr(sampling, f"get_sigmas_{spacing}")
        sigmas = spaced(n, sigmas[-2].item(), sigmas[0].item()).double()
    initial, original = normal(1), normal(2)
    if strength is not None:
        sigmas = sigmas[n - min(int(n * strength), n) :]
    latents = initial * sigmas[0] + (0.0 if strength is None else original)
    noise, evaluations, states = [], [], []

    def denoiser(x, sigma):
        states.append(numbers(x))
        t = scheduler._sigma_to_t(numpy.array(sigma[0]), numpy.log(table))
        evaluations.append({"timestep": float(t)})
        return x - sigma * model(x / (sigma**2 + 1) ** 0.5, t)

    def draw(*_):
        noise.append(normal(100 + len(noise)))
        return noise[-1]

    options = {"noise_sampler": draw} if sampler.endswith("_a") else {}
    functions = {"euler_a": "sample_euler_ancestral", "dpm2_a": "sample_dpm_2_ancestral", "lms": "sample_lms"}
    function = functions[sampler]
    result = getattr(sampling, function)(denoiser, latents, sigmas, disable=True, **options)
    for evaluation, state in zip(evaluations, states[1:] + [numbers(result)]):
        evaluation["latents"] = state
    picture = {} if strength is None else {"strength": strength, "way": "diffusers", "original": numbers(original)}
    picture |= {} if spacing is None else {"spacing": spacing}
    return {
        "sampler": sampler,
        "num_inference_steps": n,
        "eta": 0.0,
        "config": V1,
        **picture,
        "initial_noise": numbers(initial),
        "init_noise_sigma": float(sigmas[0]),
        "noise": [numbers(value) for value in noise],
        "evaluations": evaluations,
    }


def import_compvis(checkout):
    """CompVis' samplers import a training framework; nothing of it is needed here."""
    sys.path.insert(0, checkout)
    sys.modules["ldm.util"] = types.SimpleNamespace(instantiate_from_config=None)
    sys.modules["einops"] = types.SimpleNamespace(repeat=None)
    from ldm.models.diffusion import ddim, plms
    from ldm.modules.diffusionmodules import util

    # Their buffers always move to a GPU.
    for cls in (ddim.DDIMSampler, plms.PLMSSampler):
        cls.register_buffer = lambda self, name, value: setattr(self, name, value)
    return ddim, plms, util


def compvis_model(util, apply_model):
    """ldm.models.diffusion.ddpm.DDPM.register_schedule, with v1-inference.yaml's numbers, around `apply_model`."""
    betas = util.make_beta_schedule("linear", 1000, linear_start=V1["beta_start"], linear_end=V1["beta_end"])
    alphas_cumprod = numpy.cumprod(1.0 - betas)
    table = lambda values: torch.tensor(values, dtype=torch.float32)
    return types.SimpleNamespace(
        num_timesteps=1000,
        device=torch.device("cpu"),
        betas=table(betas),
        alphas_cumprod=table(alphas_cumprod),
        alphas_cumprod_prev=table(numpy.append(1.0, alphas_cumprod[:-1])),
        apply_model=apply_model,
    )


def compvis_case(modules, sampler, n, eta=0.0, strength=None):
    ddim, plms, util = modules
    states, timesteps, noise = [], [], []

    def apply_model(x, t, _):
        # What the model is given is what the evaluation before made.
        states.append(numbers(x))
        timesteps.append(float(t[0]))
        return model(x, t[0])

    def noise_like(shape, device, repeat):
        draw = normal(100 + len(noise)).reshape(shape)
        noise.append(draw)
        return draw

    source = compvis_model(util, apply_model)
    ddim.noise_like = plms.noise_like = noise_like
    cls = plms.PLMSSampler if sampler == "plms" else ddim.DDIMSampler
    initial, original = normal(1), normal(2)
    # They fill coefficient tensors of the default type.
    torch.set_default_dtype(torch.float64)
    if strength is None:
        result, _ = cls(source).sample(n, 1, tuple(initial.shape[1:]), eta=eta, verbose=False, x_T=initial)
    else:
        # scripts/img2img.py
        chosen = cls(source)
        chosen.make_schedule(n, ddim_eta=eta, verbose=False)
        t_enc = int(strength * n)
        z_enc = chosen.stochastic_encode(original, torch.tensor([t_enc]), noise=initial)
        result = chosen.decode(z_enc, None, t_enc)
    torch.set_default_dtype(torch.float32)
    states = states[1:] + [numbers(result)]
    picture = {} if strength is None else {"strength": strength, "way": "compvis", "original": numbers(original)}
    return {
        "sampler": sampler,
        "num_inference_steps": n,
        "eta": eta,
        "config": V1,
        **picture,
        "initial_noise": numbers(initial),
        "init_noise_sigma": 1.0,
        "noise": [numbers(draw) for draw in noise] if eta > 0 else [],
        "evaluations": [{"timestep": t, "latents": latents} for t, latents in zip(timesteps, states)],
    }


def same_timesteps(sampler, spacing, n, timesteps):
    """Fails unless other samplers' timesteps are made of these, so that one column stands for all of them."""

    def of(other):
        scheduler = make_scheduler(other, DEFAULT | {"timestep_spacing": spacing})
        scheduler.set_timesteps(n)
        return scheduler.timesteps.double()

    if sampler == "dpmpp_2m":
        # With 1000 leading ones DPM-Solver's are all the same, and so are UniPC's.
        assert torch.equal(of("unipc"), timesteps), (spacing, n)
    else:
        heun, dpm2 = of("heun"), of("dpm2")
        assert torch.equal(heun, torch.cat([timesteps[:1], timesteps[1:].repeat_interleave(2)])), (spacing, n)
        assert torch.equal(dpm2[::2], timesteps), (spacing, n)


def timesteps_table():
    """For every n a fingerprint of the timesteps, sum of (i + 1) * t_i, or null where diffusers gives another count, a
    timestep that was not trained, or one timestep over and over (DPM-Solver with 1000 leading steps)."""
    columns = {}
    for sampler in ("plms", "dpmpp_2m", "euler"):
        # Euler's others are those of PLMS.
        for spacing in ("leading", "trailing", "linspace") if sampler != "euler" else ("linspace",):
            scheduler = make_scheduler(sampler, DEFAULT | {"timestep_spacing": spacing})
            column = []
            for n in range(1, 1001):
                scheduler.set_timesteps(n)
                timesteps = scheduler.timesteps.double()
                # PLMS' own list has its second timestep twice.
                timesteps = torch.cat([timesteps[:1], timesteps[2:]]) if sampler == "plms" and n > 1 else timesteps
                # Rounded, PLMS' linspace is nobody else's.
                if n % 10 < 3 and (sampler, spacing) != ("plms", "linspace"):
                    same_timesteps(sampler, spacing, n, timesteps)
                fits = len(timesteps) == n and 0 <= timesteps.min() and timesteps.max() <= 999
                fits = fits and len(timesteps.unique()) >= n - 1
                weights = torch.arange(1, len(timesteps) + 1, dtype=torch.float64)
                column.append(round(float((weights * timesteps).sum()), 3) if fits else None)
            columns[f"{sampler} {spacing}"] = column
    return columns


def write(name, made_from, body):
    """One line an evaluation, a draw or a column."""
    header = {"script": "tests/golden/make_samplers.py", "made_from": made_from}
    text = json.dumps(header | body)
    for mark in ('{"sampler"', '{"timestep":', '"noise": [', '"evaluations": [', '"plms ', '"dpmpp_2m ', '"euler '):
        text = text.replace(mark, "\n" + mark)
    (HERE / name).write_text(text + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--compvis", required=True, help="a checkout of CompVis/stable-diffusion")
    parser.add_argument("--fast", action="store_true", help="leave out timesteps.json, which takes ten minutes")
    arguments = parser.parse_args()
    checkout = arguments.compvis
    torch.set_num_threads(1)
    HERE.mkdir(exist_ok=True)

    sampling = import_k_diffusion()
    versions = f"diffusers {diffusers.__version__}, torch {torch.__version__}, numpy {numpy.__version__}"
    for sampler, (cls, _) in SCHEDULERS.items():
        etas = [0.0, 0.5, 1.0] if sampler == "ddim" else [0.0]
        # What float32 leaves of DPM2 a's way down is nothing in two or three steps: k-diffusion takes them in float64.
        exact = [2, 3] if sampler == "dpm2_a" else []
        cases = [diffusers_case(sampler, n, DEFAULT, eta) for eta in etas for n in STEPS if n not in exact]
        others = [n for n in OTHER_STEPS if n not in exact]
        cases += [diffusers_case(sampler, n, config, etas[-1] / 2) for config in OTHER_CONFIGS for n in others]
        cases += [k_diffusion_case(sampling, sampler, n) for n in exact]
        if sampler in MORE:
            cases += [diffusers_case(sampler, n, DEFAULT) for n in MORE_STEPS]
            cases += [diffusers_case(sampler, n, config) for config in OTHER_CONFIGS[:3] for n in MORE_OTHER_STEPS]
        if sampler not in WHOLE and sampler != "euler_a":
            spaced = [n for n in SPACED if n not in exact]
            cases += [diffusers_case(sampler, n, DEFAULT, spacing=spacing) for spacing in SPACINGS for n in spaced]
        if sampler == "euler_a":
            cases += [k_diffusion_case(sampling, sampler, n, spacing) for spacing in SPACINGS for n in SPACED]
        write(f"{sampler}.json", f"{cls.__name__} of {versions}", {"cases": cases})
    # LMS' own way is followed in k-diffusion: see services/libs/samplers/src/lms.rs.
    names = [name for name in SCHEDULERS if name != "lms"]
    cases = [diffusers_case(name, n, DEFAULT, strength=strength) for name in names for n, strength in STRENGTHS]
    for spacing in ("trailing", "linspace", "leading"):
        spaced = [name for name in names if name != "lcm"]
        cases += [diffusers_case(name, 9, DEFAULT | {"timestep_spacing": spacing}, strength=0.6) for name in spaced]
    cases += [diffusers_case(name, 12, DEFAULT, strength=0.7, spacing="karras") for name in ("dpmpp_2m", "heun", "dpm2_a")]
    cases += [k_diffusion_case(sampling, "lms", n, strength=strength) for n, strength in STRENGTHS]
    cases.append(diffusers_case("ddim", 20, DEFAULT, eta=0.7, strength=0.75))
    write("strength.json", versions, {"cases": cases})
    if not arguments.fast:
        write("timesteps.json", versions, {"columns": timesteps_table()})

    modules = import_compvis(checkout)
    cases = [compvis_case(modules, "plms", 50)] + [compvis_case(modules, "ddim", 50, eta) for eta in (0.0, 0.5, 1.0)]
    cases += [compvis_case(modules, "ddim", 50, strength=strength) for strength in (0.02, 0.3, 0.5, 0.75, 0.8, 0.99)]
    cases.append(compvis_case(modules, "ddim", 50, eta=0.6, strength=0.4))
    write("compvis.json", f"CompVis/stable-diffusion 21f890f, torch {torch.__version__}, numpy {numpy.__version__}", {"cases": cases})


if __name__ == "__main__":
    main()
