//! Any text through CLIP's tokenizer: markers in their places, and what found no place comes back as it was written; the same text as a
//! weighted prompt: whole windows, bounded weights.
#![no_main]

use std::sync::LazyLock;

use darkroom_models::fuzzing;
use darkroom_models::prompt::{Prompt, Window};
use darkroom_models::source::ModelSource;
use darkroom_models::tokenizer::Tokenizer;
use libfuzzer_sys::fuzz_target;

const LENGTH: usize = 77;
const ROOM: usize = LENGTH - 2;
const BOS: u32 = 49_406;
const EOS: u32 = 49_407;
/// What the services let through.
const MAX_CHARACTERS: usize = 8192;
const MOST_WINDOWS: usize = 13;
const MOST_WEIGHT: f32 = 1000.0;

static CLIP: LazyLock<Tokenizer> = LazyLock::new(|| fuzzing::clip_tokenizer().expect("CLIP's own vocabulary"));
static POCKET: LazyLock<Tokenizer> = LazyLock::new(|| {
    let source = ModelSource::resolve(None, Default::default()).expect("the embedded model");
    source.tokenizer().expect("its vocabulary")
});

fuzz_target!(|input: &[u8]| {
    let text = String::from_utf8_lossy(input);
    let text: String = text.chars().take(MAX_CHARACTERS).collect();
    check(&CLIP, &text, Some((BOS, EOS)));
    check(&POCKET, &text, None);
    check_weighted(&CLIP, &text);
    check_weighted(&POCKET, &text);
});

fn check_weighted(tokenizer: &Tokenizer, text: &str) {
    let Ok(prompt) = Prompt::weighted(tokenizer, text, MOST_WINDOWS) else { return };
    assert!((1..=MOST_WINDOWS).contains(&prompt.windows.len()), "{} windows of {text:?}", prompt.windows.len());
    let empty = tokenizer.encode("").ids;
    for Window { ids, weights } in &prompt.windows {
        assert_eq!((ids.len(), ids[0]), (LENGTH, empty[0]), "{text:?}");
        assert!(ids[1..].contains(&empty[1]), "a window of {text:?} has no end");
        if let Some(weights) = weights {
            assert_eq!(weights.len(), LENGTH);
            assert!(weights.iter().all(|weight| weight.abs() <= MOST_WEIGHT), "{weights:?} of {text:?}");
        }
    }
    assert!(prompt.dropped_tokens <= prompt.token_count, "{prompt:?}");
    assert_eq!(prompt.dropped_text.is_empty(), prompt.dropped_tokens == 0, "{prompt:?}");

    // A text without brackets and breaks, that fits into a window, is the plain one.
    let plain = Prompt::plain(tokenizer, text);
    if plain.dropped_tokens == 0 && !text.contains(['(', ')', '[', ']', '\\']) && !text.contains("BREAK") {
        assert_eq!(prompt.windows.len(), 1);
        assert_eq!(prompt.windows[0].ids, plain.windows[0].ids, "{text:?}");
        assert!(prompt.windows[0].weights.is_none(), "{text:?}");
    }
}

fn check(tokenizer: &Tokenizer, text: &str, markers: Option<(u32, u32)>) {
    let found = tokenizer.encode(text);
    let (ids, kept) = (&found.ids, found.token_count.min(ROOM));
    assert_eq!((ids.len(), tokenizer.length()), (LENGTH, LENGTH));
    // The empty prompt has nothing but the markers.
    let empty = tokenizer.encode("");
    let (bos, eos, pad) = (empty.ids[0], empty.ids[1], empty.ids[2]);
    assert_eq!((empty.token_count, empty.dropped_text.as_str()), (0, ""));
    if let Some(markers) = markers {
        assert_eq!((bos, eos, pad), (markers.0, markers.1, markers.1));
    }
    assert_eq!((ids[0], ids[kept + 1]), (bos, eos));
    assert!(ids[kept + 2..].iter().all(|id| *id == pad));

    // Each token spells a byte at least; composing and lowering letters makes them a few times longer at most.
    assert!(found.token_count <= 6 * text.len());
    let dropped = &found.dropped_text;
    assert!(text.trim_end().ends_with(dropped.as_str()), "{dropped:?} is no end of {text:?}");
    assert_eq!(dropped.trim(), dropped);
    assert_eq!(dropped.is_empty(), found.token_count <= ROOM, "{} tokens of {text:?}", found.token_count);

    let spaced = tokenizer.encode(&format!(" \n{text}\t "));
    assert_eq!(spaced.ids, found.ids, "white space around {text:?} makes a difference");
}
