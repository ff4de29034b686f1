//! All four services inside this process, on loopback ports that the system picks.

use darkroom_service_kit::{LogFormat, ModelArgs, ServerConfig, ServiceHandle, telemetry};

use crate::txt2img::flags::ComputeFlags;

/// The running services. Dropping them stops them at once.
pub(crate) struct Services {
    orchestrator: ServiceHandle,
    stages: [ServiceHandle; 3],
}

impl Services {
    /// Starts the stages and the orchestrator and waits until all take calls.
    pub(crate) async fn start(flags: &ComputeFlags) -> anyhow::Result<Self> {
        telemetry::init("warn", LogFormat::Text)?;
        // Full-size weights take a while, and nothing else is shown meanwhile.
        eprintln!("loading {}", flags.model.as_deref().unwrap_or("the pocket model"));
        let (server, model) = (ServerConfig::on_port(0), model_args(flags));
        let text_encoder = darkroom_text_encoder::start(darkroom_text_encoder::Config {
            server: server.clone(),
            model: model.clone(),
            textual_inversions: flags.textual_inversions.clone(),
            loras: flags.loras.clone(),
            ..Default::default()
        });
        let denoiser = darkroom_denoiser::start(darkroom_denoiser::Config {
            server: server.clone(),
            model: model.clone(),
            loras: flags.loras.clone(),
            ..Default::default()
        });
        let vae = darkroom_vae::start(vae_config(flags, server.clone(), model));
        let (text_encoder, denoiser, vae) = tokio::try_join!(text_encoder, denoiser, vae)?;
        // The loader's own message first: the orchestrator would only say that a stage is missing.
        tokio::try_join!(text_encoder.ready(), denoiser.ready(), vae.ready())?;

        let orchestrator = darkroom_orchestrator::start(darkroom_orchestrator::Config {
            server,
            text_encoders: vec![text_encoder.grpc_addr.to_string()],
            denoisers: vec![denoiser.grpc_addr.to_string()],
            vaes: vec![vae.grpc_addr.to_string()],
            ..Default::default()
        })
        .await?;
        orchestrator.ready().await?;
        Ok(Self { orchestrator, stages: [text_encoder, denoiser, vae] })
    }

    /// Where the orchestrator listens.
    pub(crate) fn address(&self) -> String {
        format!("http://{}", self.orchestrator.grpc_addr)
    }

    /// Stops them. Nothing runs any more that anybody waits for, so nothing is waited for.
    pub(crate) async fn stop(self) {
        drop(self.orchestrator);
        drop(self.stages);
    }
}

fn vae_config(flags: &ComputeFlags, server: ServerConfig, model: ModelArgs) -> darkroom_vae::Config {
    let mut config = darkroom_vae::Config { server, model, ..Default::default() };
    if flags.no_watermark {
        config.watermark = darkroom_vae::Switch::Off;
    }
    if flags.no_safety_check {
        config.safety_policy = Some(darkroom_vae::Policy::Off);
    }
    config
}

fn model_args(flags: &ComputeFlags) -> ModelArgs {
    let mut model =
        ModelArgs { model: flags.model.clone(), threads: flags.threads, ema: flags.ema, ..Default::default() };
    if let Some(device) = &flags.device {
        model.device.clone_from(device);
    }
    if let Some(precision) = flags.precision {
        precision.name().clone_into(&mut model.precision);
    }
    model
}
