//! What is shown at one moment, as lines.

use std::time::Instant;

use console::{style, truncate_str};
use darkroom_client::{Error, ServerInfo};

use super::rates::{History, Rates};
use crate::failure::describe;
use crate::operate::span::told;
use crate::operate::workers;

/// The last answer, and whatever became of the look after it.
pub(super) struct Frame {
    server: String,
    info: ServerInfo,
    history: History,
    /// Since when there is no answer, and why.
    lost: Option<(Instant, Instant, String)>,
}

impl Frame {
    /// After the first look.
    pub(super) fn new(server: &str, info: ServerInfo) -> Self {
        let mut history = History::default();
        history.add(&info);
        Self { server: server.to_owned(), info, history, lost: None }
    }

    /// After a further look.
    pub(super) fn look(&mut self, answer: Result<ServerInfo, Error>, now: Instant) {
        match answer {
            Ok(info) => {
                self.history.add(&info);
                (self.info, self.lost) = (info, None);
            }
            Err(error) => {
                let since = self.lost.take().map_or(now, |(since, ..)| since);
                self.lost = Some((since, now, describe(&error)));
            }
        }
    }

    /// All lines, of `width` characters and `height` in number at most.
    pub(super) fn lines(&self, width: Option<usize>, height: Option<usize>) -> Vec<String> {
        let mut lines = match &self.lost {
            None => workers::headline(&self.server, &self.info),
            Some((since, now, why)) => {
                let lost = style(format!("no answer for {}", told(*now - *since))).red();
                vec![
                    format!("darkroom {} at {}: {lost}, before that:", self.info.version, self.server),
                    format!("  {why}"),
                ]
            }
        };
        lines.extend([rates(&self.history.rates()), workers::queue(&self.info), workers::stages(&self.info)]);
        if let Some(width) = width {
            lines.iter_mut().for_each(|line| *line = truncate_str(line, width, "…").into_owned());
        }
        lines.push(String::new());
        lines.extend(workers::load(&self.info.workers).lines(width));
        if let Some(height) = height
            && lines.len() > height
        {
            let hidden = lines.len() - height.saturating_sub(1);
            lines.truncate(height.saturating_sub(1));
            lines.push(format!("… and {hidden} more"));
        }
        lines
    }
}

fn rates(rates: &Rates) -> String {
    let Rates { over, images, failed_images, admitted_requests, refused_requests, steps } = rates;
    let mut line = format!(
        "last {}: {images:.1} images/min, {steps:.1} steps/s, {admitted_requests:.1} requests/min",
        told(*over)
    );
    if *refused_requests > 0.0 {
        line += &format!(", {}", style(format!("{refused_requests:.1} refused/min")).yellow());
    } else {
        line += ", none refused";
    }
    if *failed_images > 0.0 {
        line += &format!(", {}", style(format!("{failed_images:.1} images failed/min")).red());
    }
    line
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use darkroom_client::Totals;

    use super::*;
    use crate::operate::workers::tests::{denoiser, info, worker};

    #[test]
    fn a_frame_tells_rates_queue_and_workers() {
        let mut frame = Frame::new("http://x:7000", info(vec![worker("vae", "ready"), denoiser("ready")]));
        let lines = frame.lines(None, None);
        assert_eq!(lines[0], "darkroom 0.1.0 at http://x:7000: ready, up 1 min 40 s");
        assert_eq!(lines[1], "last 1 min 40 s: 42.0 images/min, 30.0 steps/s, 0.0 requests/min, none refused");
        assert_eq!(lines.len(), 8);

        let totals = Totals { images: 72, steps: 3100, failed_images: 1, refused_requests: 3, ..Totals::default() };
        let next = ServerInfo { uptime: Duration::from_secs(110), totals, ..info(vec![denoiser("ready")]) };
        frame.look(Ok(next), Instant::now());
        let lines = frame.lines(None, None);
        assert_eq!(
            lines[1],
            "last 10 s: 12.0 images/min, 10.0 steps/s, 0.0 requests/min, 18.0 refused/min, 6.0 images failed/min"
        );
    }

    #[test]
    fn a_server_that_is_lost_is_told_and_comes_back() {
        let mut frame = Frame::new("http://x:7000", info(vec![denoiser("ready")]));
        let start = Instant::now();
        for seconds in [0, 12] {
            frame.look(Err(Error::Contract("it lies".into())), start + Duration::from_secs(seconds));
        }
        let lines = frame.lines(None, None);
        assert_eq!(lines[0], "darkroom 0.1.0 at http://x:7000: no answer for 12 s, before that:");
        assert!(lines[1].contains("it lies") && lines.last().unwrap().starts_with("denoiser"), "{lines:?}");
        frame.look(Ok(info(Vec::new())), start);
        assert!(frame.lines(None, None)[0].contains(": ready"));
    }

    #[test]
    fn a_frame_fits_the_terminal() {
        let frame =
            Frame::new("http://a-long-name.of-a-namespace.svc.cluster.local:7000", info(vec![denoiser("ready"); 100]));
        let lines = frame.lines(Some(60), Some(20));
        assert_eq!(lines.len(), 20);
        assert!(lines.iter().all(|line| console::measure_text_width(line) <= 60), "{lines:?}");
        // Six lines above the workers, and the last one.
        assert_eq!(lines[19], "… and 87 more");
    }
}
