//! Single safetensors files: sound ones, ones cut short, and headers that lie.

use super::builder::{FC1, POSITIONS, TOKENS};
use super::{refusal, text_encoder};

/// Bytes of [`tower`]'s tensors.
pub(crate) const DATA: usize = 8 * 256;

/// A file with this header, and so many bytes behind it.
fn file(header: &str, data: usize) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &vec![0; data]].concat()
}

fn entry(name: &str, dtype: &str, shape: &str, from: u64, to: u64) -> String {
    format!("\"{name}\":{{\"dtype\":\"{dtype}\",\"shape\":{shape},\"data_offsets\":[{from},{to}]}}")
}

/// A text tower of one layer and two tokens.
pub(crate) fn tower() -> Vec<u8> {
    let entries = [
        entry(TOKENS, "F32", "[3,64]", 0, 768),
        entry(POSITIONS, "F32", "[3,64]", 768, 1536),
        entry(FC1, "F32", "[2,64]", 1536, 2048),
    ];
    file(&format!("{{\"__metadata__\":{{\"format\":\"pt\"}},{}}}", entries.join(",")), DATA)
}

#[test]
fn a_sound_file_equals_the_checkpoint_of_the_same_tensors() {
    let safetensors = text_encoder("model.safetensors", &tower()).unwrap();
    let checkpoint = text_encoder("model.ckpt", &super::builder::checkpoint()).unwrap();
    assert_eq!(safetensors.revision(), checkpoint.revision());
}

#[test]
fn the_bytes_decide_what_a_file_is_not_its_name() {
    assert!(text_encoder("misnamed.ckpt", &tower()).is_ok());
    assert!(text_encoder("misnamed.safetensors", &super::builder::checkpoint()).is_ok());
}

#[test]
fn a_file_cut_short_anywhere_is_refused() {
    let whole = tower();
    for len in 0..whole.len() {
        let message = refusal("short.safetensors", &whole[..len]);
        assert!(message.contains("cut short"), "{message}");
    }
    let longer = [whole, vec![0; 3]].concat();
    assert!(refusal("longer.safetensors", &longer).contains("it has bytes that no tensor owns"));
}

#[test]
fn headers_that_lie_are_refused() {
    for (bytes, message) in [
        (file("{", 0), "its safetensors header is invalid"),
        ([&u64::MAX.to_le_bytes()[..], b"{}"].concat(), "it announces a header of 18446744073709551615 bytes"),
        ([&5000_u64.to_le_bytes()[..], b"{}"].concat(), "it announces a header of 5000 bytes and has 2 bytes left"),
        (file(&format!("{{{}}}", entry("a", "F32", "[4]", 0, 8)), 8), "invalid shape, data type, or offset"),
        (file(&format!("{{{}}}", entry("a", "F99", "[4]", 0, 16)), 16), "unknown variant `F99`"),
        (
            file(&format!("{{{},{}}}", entry("a", "F32", "[4]", 0, 16), entry("b", "F32", "[4]", 8, 24)), 24),
            "invalid offset for tensor `b`",
        ),
        (
            file(&format!("{{{}}}", entry("a", "F32", "[4611686018427387904,4]", 0, 16)), 16),
            "overflow computing buffer size",
        ),
        (file(&format!("{{{}}}", entry("a", "F32", "[4]", 16, 32)), 32), "invalid offset for tensor `a`"),
        // The second of two, longer than any number says.
        (
            file(
                &format!(
                    "{{{},{}}}",
                    entry("a", "F32", "[4]", 0, 16),
                    entry("b", "F32", "[56797,56797,56797,56797,56797]", 16, u64::MAX)
                ),
                16,
            ),
            "overflow computing buffer size",
        ),
        // Offsets that wrap around to the right length.
        (
            file(&format!("{{{}}}", entry("a", "U8", "[18446744073709551615]", 0, u64::MAX)), 0),
            "overflow computing buffer size",
        ),
    ] {
        let found = refusal("lying.safetensors", &bytes);
        assert!(found.contains("lying.safetensors is malformed: ") && found.contains(message), "{found}");
    }
}

#[test]
fn unusual_formats_are_stepped_over() {
    let header = String::from_utf8(tower()[8..tower().len() - DATA].to_vec()).unwrap();
    let more = entry("cond_stage_model.transformer.text_model.odd", "F4", "[4]", DATA as u64, DATA as u64 + 2);
    let header = format!("{},{more}}}", header.strip_suffix('}').unwrap());
    let weights = text_encoder("odd.safetensors", &file(&header, DATA + 2)).unwrap();
    let message = weights.tensor("odd", &[2]).unwrap_err().to_string();
    assert!(message.contains("has elements of type an unusual format"), "{message}");
}
