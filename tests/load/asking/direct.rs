//! One request to a clock's denoiser itself: what the generator, the wire and the clock take without an orchestrator.

use darkroom_proto::v1::DenoiseRequest;
use darkroom_proto::v1::denoise_event::Event;
use darkroom_proto::v1::denoiser_client::DenoiserClient;
use tonic::Request;

use super::target::{Seen, Target};
use crate::load::arrivals::Arrival;
use crate::load::clock::{Facts, Spent, embedding};
use crate::load::outcome::End;

impl Target {
    pub(super) async fn follow_denoiser(&self, number: u64, arrival: Arrival, seen: &mut Seen) -> End {
        let wish = &self.wish;
        let side = arrival.side / Facts::FACTOR as u32;
        let message = DenoiseRequest {
            latent_height: side,
            latent_width: side,
            prompt_embeds: Some(embedding(&wish.prompt(number))),
            negative_prompt_embeds: (wish.guidance_scale != 1.0).then(|| embedding("")),
            sampler: wish.sampler.clone(),
            num_inference_steps: arrival.steps,
            guidance_scale: wish.guidance_scale,
            seed: wish.first_seed + number,
            preview_every: wish.preview_every,
            ..DenoiseRequest::default()
        };
        let mut request = Request::new(message);
        if let Some(deadline) = wish.deadline {
            request.set_timeout(deadline);
        }
        let mut stream = match DenoiserClient::new(self.channel(number)).denoise(request).await {
            Ok(answer) => answer.into_inner(),
            Err(status) => return seen.status(&status),
        };
        loop {
            let event = match stream.message().await {
                Ok(Some(event)) => event.event,
                Ok(None) => return seen.broken_off(),
                Err(status) => return seen.status(&status),
            };
            seen.event();
            if let Some(Event::Finished(finished)) = event {
                seen.spent = Some(Spent { queued: finished.queue_seconds as f32, computed: finished.seconds as f32 });
                seen.over(&mut stream).await;
                return End::Completed;
            }
        }
    }
}
