//! The four kinds of service, by name.

/// A kind of service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Service {
    /// The public door.
    Orchestrator,
    /// CLIP.
    TextEncoder,
    /// The UNet.
    Denoiser,
    /// The autoencoder.
    Vae,
}

impl Service {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Orchestrator, Self::TextEncoder, Self::Denoiser, Self::Vae];

    /// Those that hold a model.
    pub const STAGES: [Self; 3] = [Self::TextEncoder, Self::Denoiser, Self::Vae];

    /// The name in errors and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Orchestrator => "orchestrator",
            Self::TextEncoder => "text_encoder",
            Self::Denoiser => "denoiser",
            Self::Vae => "vae",
        }
    }

    /// The program that is this service alone.
    #[must_use]
    pub fn program(self) -> &'static str {
        match self {
            Self::Orchestrator => "darkroom-orchestrator",
            Self::TextEncoder => "darkroom-text-encoder",
            Self::Denoiser => "darkroom-denoiser",
            Self::Vae => "darkroom-vae",
        }
    }

    /// The gRPC service that it serves.
    #[must_use]
    pub fn grpc_name(self) -> &'static str {
        match self {
            Self::Orchestrator => "darkroom.v1.ImageGeneration",
            Self::TextEncoder => "darkroom.v1.TextEncoder",
            Self::Denoiser => "darkroom.v1.Denoiser",
            Self::Vae => "darkroom.v1.Vae",
        }
    }
}
