//! One request through an orchestrator.

use darkroom_proto::v1::generate_event::Event;
use darkroom_proto::v1::image_generation_client::ImageGenerationClient;
use darkroom_proto::v1::{DenoiseRequest, GenerateRequest, Image};
use tonic::Request;

use super::target::{API_KEY, Seen, Target, number as priority_number};
use crate::load::arrivals::Arrival;
use crate::load::clock::{Digest, Facts, Spent, digest};
use crate::load::outcome::End;

impl Target {
    pub(super) async fn follow_orchestrator(&self, number: u64, arrival: Arrival, seen: &mut Seen) -> End {
        let wish = &self.wish;
        let seed = wish.first_seed + number;
        let message = GenerateRequest {
            prompt: wish.prompt(number),
            width: Some(arrival.side),
            height: Some(arrival.side),
            seed: Some(seed),
            sampler: wish.sampler.clone(),
            num_inference_steps: Some(arrival.steps),
            guidance_scale: Some(wish.guidance_scale),
            preview_every: wish.preview_every,
            output_format: wish.format.into(),
            priority: priority_number(arrival.priority),
            ..GenerateRequest::default()
        };
        let mut request = Request::new(message);
        if let Some(deadline) = wish.deadline {
            request.set_timeout(deadline);
        }
        if let Some(key) = wish.key(arrival.identity) {
            request.metadata_mut().insert(API_KEY, key);
        }
        let answer = ImageGenerationClient::new(self.channel(number))
            .max_decoding_message_size(32 << 20)
            .generate(request)
            .await;
        let mut stream = match answer {
            Ok(answer) => answer.into_inner(),
            Err(status) => return seen.status(&status),
        };
        let mut is_right = true;
        loop {
            let event = match stream.message().await {
                Ok(Some(event)) => event.event,
                Ok(None) => return seen.broken_off(),
                Err(status) => return seen.status(&status),
            };
            seen.event();
            match event {
                Some(Event::Queued(queued)) => seen.position(queued.position),
                Some(Event::Image(image)) => is_right &= self.read(number, arrival, &image, seen),
                Some(Event::ImageFailed(failed)) => return End::Failed(failed.code.into()),
                Some(Event::Completed(_)) => {
                    seen.over(&mut stream).await;
                    return if is_right { End::Completed } else { End::Wrong };
                }
                Some(Event::Started(_) | Event::Step(_)) | None => {}
            }
        }
    }

    /// Whether the picture is the one that was asked for, as far as that is to be known.
    fn read(&self, number: u64, arrival: Arrival, image: &Image, seen: &mut Seen) -> bool {
        if self.wish.read_spent {
            seen.spent = image.latents.as_ref().and_then(Spent::read);
        }
        !self.wish.check_latents
            || image.latents.as_ref().and_then(Digest::read) == Some(self.expected(number, arrival))
    }

    fn expected(&self, number: u64, arrival: Arrival) -> Digest {
        let wish = &self.wish;
        let side = arrival.side / Facts::FACTOR as u32;
        let request = DenoiseRequest {
            latent_height: side,
            latent_width: side,
            sampler: wish.sampler.clone(),
            num_inference_steps: arrival.steps,
            guidance_scale: wish.guidance_scale,
            seed: wish.first_seed + number,
            ..DenoiseRequest::default()
        };
        let negative = (wish.guidance_scale != 1.0).then(|| Digest::of_text(""));
        digest(&request, Digest::of_text(&wish.prompt(number)), negative)
    }
}
