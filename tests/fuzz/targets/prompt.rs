//! Any text through CLIP's tokenizer: markers in their places, and what found no place comes back as it was written.
#![no_main]

use std::sync::LazyLock;

use darkroom_models::fuzzing;
use darkroom_models::source::ModelSource;
use darkroom_models::tokenizer::Tokenizer;
use libfuzzer_sys::fuzz_target;

const LENGTH: usize = 77;
const ROOM: usize = LENGTH - 2;
const BOS: u32 = 49_406;
const EOS: u32 = 49_407;
/// What the services let through.
const MAX_CHARACTERS: usize = 8192;

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
});

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
