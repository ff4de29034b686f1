//! HTTP/2's frames, as few and as plain as it takes to be half understood (RFC 9113, and RFC 7541 without tables or Huffman).

/// What a client says first.
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const INITIAL_WINDOW_SIZE: u16 = 4;
/// The first that a client opens.
const STREAM: u32 = 1;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// Settings; with `window` as what a stream may send unasked.
pub(crate) fn settings(window: Option<u32>) -> Vec<u8> {
    let mut payload = Vec::new();
    if let Some(window) = window {
        payload.extend(INITIAL_WINDOW_SIZE.to_be_bytes());
        payload.extend(window.to_be_bytes());
    }
    frame(SETTINGS, 0, 0, &payload)
}

/// The head of a gRPC call. Without `whole` more is to come.
pub(crate) fn head(authority: &str, path: &str, whole: bool) -> Vec<u8> {
    // Indices of the static table: POST, http.
    let mut block = vec![0x83, 0x86];
    // Literals without indexing, named by an index: :path, :authority, content-type (31 is 15 and 16).
    for (name, value) in [(&[0x04][..], path), (&[0x01], authority), (&[0x0f, 0x10], "application/grpc")] {
        block.extend(name);
        text(&mut block, value);
    }
    block.push(0);
    text(&mut block, "te");
    text(&mut block, "trailers");
    frame(HEADERS, if whole { END_HEADERS } else { 0 }, STREAM, &block)
}

/// One more header, and still not the last.
pub(crate) fn more_headers() -> Vec<u8> {
    let mut block = vec![0];
    text(&mut block, "x-more");
    text(&mut block, "and more");
    frame(CONTINUATION, 0, STREAM, &block)
}

/// A gRPC message as the whole body.
pub(crate) fn body(message: &[u8]) -> Vec<u8> {
    let mut payload = vec![0];
    payload.extend((message.len() as u32).to_be_bytes());
    payload.extend(message);
    frame(DATA, END_STREAM, STREAM, &payload)
}

/// A sign of life.
pub(crate) fn ping() -> Vec<u8> {
    frame(PING, 0, 0, &[0; 8])
}

/// A string of less than 127 bytes.
fn text(block: &mut Vec<u8>, text: &str) {
    block.push(text.len() as u8);
    block.extend(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_a_head_of_nine_bytes_and_its_payload() {
        assert_eq!(ping(), [0, 0, 8, 6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(settings(Some(0)), [0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0]);
        assert_eq!(body(&[7]), [0, 0, 6, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 1, 7]);
    }
}
