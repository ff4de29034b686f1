//! Each field's refusal, as a table, and the defaults.

use super::*;
use crate::tests::fakes;

const LIMITS: Limits = Limits { max_images: 16, max_side: 2048 };

fn request() -> GenerateRequest {
    GenerateRequest { prompt: "a red circle".into(), ..GenerateRequest::default() }
}

fn check(request: GenerateRequest) -> Result<Job, String> {
    let mut drawn = 0;
    let random = || {
        drawn += 1;
        drawn
    };
    validate(request, &fakes::model(), LIMITS, None, random).map_err(|refusal| refusal.to_string())
}

#[test]
fn absent_fields_take_the_models_defaults() {
    let job = check(request()).unwrap();
    let defaults = fakes::model().defaults;
    assert_eq!((job.width, job.height), (defaults.width, defaults.height));
    assert_eq!((job.num_images, job.num_inference_steps), (1, defaults.num_inference_steps));
    assert_eq!((job.guidance_scale, job.eta, job.clip_skip), (defaults.guidance_scale, 0.0, 0));
    assert_eq!((job.sampler.as_str(), job.model.as_str()), ("plms", "fake"));
    assert_eq!((job.output, job.priority), (Output::Picture(Format::Png), Priority::Normal));
    assert_eq!((job.seed, job.request_id.as_str()), (1, "0000000000000002"));
}

#[test]
fn given_fields_are_kept() {
    let job = check(GenerateRequest {
        request_id: "mine 1".into(),
        width: Some(128),
        seed: Some(u64::MAX),
        sampler: "ddim".into(),
        eta: Some(1.0),
        guidance_scale: Some(1.0),
        output_format: v1::OutputFormat::Latents.into(),
        priority: v1::Priority::High.into(),
        ..request()
    })
    .unwrap();
    assert_eq!((job.request_id.as_str(), job.width, job.eta), ("mine 1", 128, 1.0));
    assert_eq!((job.output, job.priority), (Output::Latents, Priority::High));
    assert!(!job.guided(&fakes::model()));
    assert_eq!(job.image_seed(2), 1);
    // At any scale, where the model looks at it.
    let (plain, distilled) = (fakes::model(), Model { embedded_guidance: true, ..fakes::model() });
    let job = check(GenerateRequest { guidance_scale: Some(7.5), ..request() }).unwrap();
    assert!(job.guided(&plain) && !job.guided(&distilled));
}

#[test]
fn prompts_are_plain_unless_that_is_said() {
    let said = |prompt_syntax| check(GenerateRequest { prompt_syntax, ..request() }).map(|job| job.prompt_syntax);
    assert_eq!(said(0), Ok(PromptSyntax::Plain));
    assert_eq!(said(1), Ok(PromptSyntax::Plain));
    assert_eq!(said(2), Ok(PromptSyntax::Weighted));
    assert_eq!(said(3), Err("prompt_syntax: 3 is not known, use PLAIN or WEIGHTED".into()));
}

#[test]
fn noise_is_a_cpus_and_of_one_seed_unless_that_is_said() {
    let said = |rng, variation_strength, variation_seed| {
        check(GenerateRequest { rng, variation_strength, variation_seed, seed: Some(5), ..request() })
    };
    let job = said(0, Some(0.0), None).unwrap();
    assert_eq!((job.rng, job.variation, job.image_seed(2)), (v1::Rng::Cpu, None, 7));
    let job = said(2, Some(0.5), Some(u64::MAX)).unwrap();
    let Some(v1::Variation { seed, strength }) = job.image_variation(2) else { panic!("no variation") };
    assert_eq!((job.rng, job.image_seed(2), seed, strength), (v1::Rng::Cuda, 5, 1, 0.5));
    assert_eq!(said(1, Some(1.0), None).unwrap().variation, Some(v1::Variation { seed: 1, strength: 1.0 }));
    assert_eq!(said(3, None, None).unwrap_err(), "rng: 3 is not known, use CPU or CUDA");
    assert_eq!(said(0, Some(1.5), None).unwrap_err(), "variation_strength: 1.5 is not allowed, it must be 0 to 1");
    assert_eq!(
        said(0, None, Some(9)).unwrap_err(),
        "variation_seed: 9 does nothing without a variation_strength of more than 0, to 1"
    );
}

#[test]
fn a_second_pass_is_larger_and_has_steps_to_take() {
    let said = |width, height, strength| {
        let hires = Some(v1::Hires { width, height, strength });
        check(GenerateRequest { hires, width: Some(128), height: Some(64), num_inference_steps: Some(10), ..request() })
    };
    let job = said(128, 256, None).unwrap();
    assert_eq!((job.final_size(), job.hires_steps(), job.scaled_to_last(10)), ([128, 256], 7, 3));
    assert_eq!(said(256, 256, Some(1.0)).unwrap().hires_steps(), 10);
    assert_eq!(said(120, 256, None).unwrap_err(), "hires.width: 120 is not allowed, the first pass has 128 already");
    assert_eq!(
        said(256, 65, None).unwrap_err(),
        "hires.height: 65 is not allowed, it must be a multiple of 8 from 64 to 512"
    );
    assert_eq!(
        said(256, 256, Some(0.05)).unwrap_err(),
        "hires.strength: 0.05 is not allowed, with 10 steps it must be 0.1 to 1"
    );
}

#[test]
fn each_wrong_field_is_named_with_its_value_and_its_range() {
    let long = format!("sampler: \"{}\"… is not known, use one of plms, ddim, euler", "x".repeat(80));
    let cases: Vec<(GenerateRequest, &str)> = vec![
        (GenerateRequest::default(), "prompt: is empty, 1 to 8192 characters are needed"),
        (GenerateRequest { prompt: " \n".into(), ..request() }, "prompt: is empty, 1 to 8192 characters are needed"),
        (
            GenerateRequest { prompt: "ä".repeat(10_000), ..request() },
            "prompt: has 10000 characters, at most 8192 are allowed",
        ),
        (
            GenerateRequest { negative_prompt: "x".repeat(8193), ..request() },
            "negative_prompt: has 8193 characters, at most 8192 are allowed",
        ),
        (
            GenerateRequest { width: Some(500), ..request() },
            "width: 500 is not allowed, it must be a multiple of 8 from 64 to 512",
        ),
        (
            GenerateRequest { height: Some(0), ..request() },
            "height: 0 is not allowed, it must be a multiple of 8 from 64 to 512",
        ),
        (
            GenerateRequest { width: Some(100_000), ..request() },
            "width: 100000 is not allowed, it must be a multiple of 8 from 64 to 512",
        ),
        (
            GenerateRequest { num_inference_steps: Some(0), ..request() },
            "num_inference_steps: 0 is not allowed, it must be 1 to 1000",
        ),
        (
            GenerateRequest { num_inference_steps: Some(100_000), ..request() },
            "num_inference_steps: 100000 is not allowed, it must be 1 to 1000",
        ),
        (
            GenerateRequest { sampler: "k_lms".into(), ..request() },
            "sampler: \"k_lms\" is not known, use one of plms, ddim, euler",
        ),
        (GenerateRequest { sampler: "x".repeat(1 << 20), ..request() }, &long),
        (
            GenerateRequest { model: "sdxl".into(), ..request() },
            "model: \"sdxl\" is not served here, known is \"fake\"",
        ),
        (
            GenerateRequest { guidance_scale: Some(f64::NAN), ..request() },
            "guidance_scale: NaN is not allowed, it must be 0 to 50",
        ),
        (
            GenerateRequest { guidance_scale: Some(50.5), ..request() },
            "guidance_scale: 50.5 is not allowed, it must be 0 to 50",
        ),
        (
            GenerateRequest { guidance_scale: Some(f64::NEG_INFINITY), ..request() },
            "guidance_scale: -inf is not allowed, it must be 0 to 50",
        ),
        (GenerateRequest { eta: Some(1.5), ..request() }, "eta: 1.5 is not allowed, it must be 0 to 1"),
        (GenerateRequest { eta: Some(0.5), ..request() }, "eta: 0.5 is only for the sampler ddim, plms takes 0"),
        (GenerateRequest { num_images: Some(0), ..request() }, "num_images: 0 is not allowed, it must be 1 to 16"),
        (GenerateRequest { num_images: Some(17), ..request() }, "num_images: 17 is not allowed, it must be 1 to 16"),
        (GenerateRequest { clip_skip: Some(2), ..request() }, "clip_skip: 2 is not allowed, it must be 0 to 1"),
        (
            GenerateRequest { request_id: "x".repeat(129), ..request() },
            "request_id: has 129 characters, at most 128 are allowed",
        ),
        (
            GenerateRequest { request_id: "a\nb".into(), ..request() },
            "request_id: holds '\\n', only printable ASCII is allowed",
        ),
        (
            GenerateRequest { output_format: 77, ..request() },
            "output_format: 77 is not known, use PNG, JPEG, WEBP or LATENTS",
        ),
        (GenerateRequest { priority: -1, ..request() }, "priority: -1 is not known, use LOW, NORMAL or HIGH"),
    ];
    for (request, message) in cases {
        assert_eq!(check(request).unwrap_err(), message);
    }
}

#[test]
fn what_a_request_says_of_its_picture_is_checked() {
    let model = fakes::model();
    let init = |request: GenerateRequest, size| {
        let request = GenerateRequest { init_image: "hash".into(), ..request };
        validate(request, &model, LIMITS, Some(size), || 1).map_err(|refusal| refusal.to_string())
    };
    let job = init(request(), [100, 135]).unwrap();
    assert_eq!((job.width, job.height, job.init.map(|init| init.strength), job.steps()), (96, 128, Some(0.75), 3));
    let masked = GenerateRequest { mask_image: "hash".into(), width: Some(72), ..request() };
    let job = init(masked, [100, 64]).unwrap();
    assert_eq!((job.width, job.height, job.init.map(|init| (init.strength, init.masked))), (72, 64, Some((1.0, true))));

    let strength = |strength| GenerateRequest { strength: Some(strength), ..request() };
    let refused = [
        (init(strength(0.0), [64, 64]), "strength: 0 is not allowed, with 4 steps it must be 0.25 to 1"),
        (init(strength(0.24), [64, 64]), "strength: 0.24 is not allowed, with 4 steps it must be 0.25 to 1"),
        (init(strength(1.01), [64, 64]), "strength: 1.01 is not allowed, with 4 steps it must be 0.25 to 1"),
        (init(strength(f64::NAN), [64, 64]), "strength: NaN is not allowed, with 4 steps it must be 0.25 to 1"),
        (init(request(), [31, 64]), "init_image: is 31x64 pixels, say a width and a height from 64 to 512 for it"),
        (init(request(), [64, 4000]), "init_image: is 64x4000 pixels, say a width and a height from 64 to 512 for it"),
        (
            init(GenerateRequest { strength_way: 1, ..request() }, [64, 64]),
            "strength_way: COMPVIS is only for the sampler ddim, for plms use DIFFUSERS",
        ),
        (
            init(GenerateRequest { strength_way: 9, ..request() }, [64, 64]),
            "strength_way: 9 is not known, use COMPVIS or DIFFUSERS",
        ),
        (check(strength(0.5)), "strength: is only for requests with an init_image"),
        (
            check(GenerateRequest { mask_image: "hash".into(), ..request() }),
            "mask_image: is only for requests with an init_image",
        ),
    ];
    for (found, message) in refused {
        assert_eq!(found.unwrap_err(), message);
    }
}

#[test]
fn a_samplers_own_bounds_are_kept() {
    let mut model = fakes::model();
    let cost = |sampler: &str, max_steps, spacings: &[&str]| v1::SamplerCost {
        sampler: sampler.into(),
        evaluations_per_step: 1,
        extra_evaluations: 0,
        max_steps,
        sigma_spacings: spacings.iter().map(|&name| name.into()).collect(),
    };
    model.sampler_costs = vec![cost("plms", 1000, &[]), cost("euler", 50, &["karras", "exponential"])];
    let check = |sampler: &str, steps, spacing: &str| {
        let request = GenerateRequest {
            sampler: sampler.into(),
            num_inference_steps: Some(steps),
            sigma_spacing: spacing.into(),
            ..request()
        };
        let job = validate(request, &model, LIMITS, None, || 1).map_err(|refusal| refusal.to_string());
        job.map(|job| job.sigma_spacing)
    };
    assert_eq!(check("euler", 50, "karras").unwrap(), "karras");
    assert_eq!(check("plms", 1000, "").unwrap(), "");
    assert_eq!(check("euler", 51, "").unwrap_err(), "num_inference_steps: 51 is not allowed, it must be 1 to 50");
    assert_eq!(
        check("plms", 4, "exponential").unwrap_err(),
        "sigma_spacing: \"exponential\" is not for the sampler plms, which has none"
    );
    assert_eq!(
        check("euler", 4, "linear").unwrap_err(),
        "sigma_spacing: \"linear\" is not known, use one of karras, exponential"
    );
}

#[test]
fn loras_are_the_models_each_once_with_a_weight() {
    let lora = |name: &str, weight| v1::Lora { name: name.into(), weight };
    let ask = |loras: &[v1::Lora]| {
        let job = check(GenerateRequest { loras: loras.to_vec(), ..request() });
        job.map(|job| job.loras.into_iter().map(|lora| (lora.name, lora.weight)).collect::<Vec<_>>())
    };
    let taken = ask(&[lora("ink", None), lora("flat", Some(-10.0))]).unwrap();
    assert_eq!(taken, [("ink".to_owned(), 1.0), ("flat".to_owned(), -10.0)]);
    for (loras, message) in [
        (vec![lora("oil", None)], "loras: \"oil\" is not known, use one of flat, ink"),
        (vec![lora("ink", None), lora("ink", Some(0.5))], "loras: \"ink\" is named twice"),
        (vec![lora("ink", Some(10.5))], "loras: the weight 10.5 of \"ink\" is not allowed, it must be -10 to 10"),
        (vec![lora("ink", Some(f64::NAN))], "loras: the weight NaN of \"ink\" is not allowed, it must be -10 to 10"),
        (vec![lora("ink", None); 9], "loras: has 9, at most 8 are allowed"),
    ] {
        assert_eq!(ask(&loras).unwrap_err(), message);
    }
}
