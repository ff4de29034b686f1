//! The frames of an HTTP/2 connection, seen from their bytes as they pass by: kinds, flags and lengths, no contents.

/// What a client says before its first frame (RFC 9113, 3.4).
const PREFACE: usize = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".len();
/// Length (3), kind, flags, stream (4).
const HEAD: usize = 9;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// A client fills its frames of data; one with less than this only keeps the server busy, unless it is the last.
const SMALL: u32 = 32;

/// A frame's head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) length: u32,
}

impl Frame {
    /// Whether it moves a call on by itself: data. Of everything else a client could send any number without a purpose.
    pub(crate) fn is_payload(self) -> bool {
        self.kind == DATA && (self.length >= SMALL || self.flags & END_STREAM != 0)
    }

    /// Whether a call begins with it, or trailers do.
    pub(crate) fn is_head(self) -> bool {
        self.kind == HEADERS
    }

    /// Whether it is part of an answer, when the server sends it.
    pub(crate) fn is_answer(self) -> bool {
        matches!(self.kind, DATA | HEADERS)
    }
}

/// Follows one direction of a connection, in whatever pieces it comes. What is no HTTP/2 is for the HTTP layer to refuse.
#[derive(Debug)]
pub(crate) struct FrameReader {
    preface: usize,
    head: [u8; HEAD],
    filled: usize,
    current: Frame,
    payload: u32,
    frames: u64,
    /// Within HEADERS and CONTINUATIONs that are to be decoded together.
    in_block: bool,
}

impl FrameReader {
    /// What a client sends.
    pub(crate) fn of_client() -> Self {
        let current = Frame { kind: DATA, flags: 0, length: 0 };
        Self { preface: PREFACE, head: [0; HEAD], filled: 0, current, payload: 0, frames: 0, in_block: false }
    }

    /// What a server sends: no preface.
    pub(crate) fn of_server() -> Self {
        Self { preface: 0, ..Self::of_client() }
    }

    /// Takes the next bytes, and tells of each frame when its head is whole.
    pub(crate) fn read(&mut self, mut bytes: &[u8], mut tell: impl FnMut(Frame)) {
        let preface = self.preface.min(bytes.len());
        self.preface -= preface;
        bytes = &bytes[preface..];
        while !bytes.is_empty() {
            if self.payload > 0 {
                // A length has 24 bits.
                let length = bytes.len().min(self.payload as usize);
                bytes = &bytes[length..];
                self.payload -= length as u32;
            } else {
                let length = bytes.len().min(HEAD - self.filled);
                self.head[self.filled..self.filled + length].copy_from_slice(&bytes[..length]);
                self.filled += length;
                bytes = &bytes[length..];
                if self.filled < HEAD {
                    return;
                }
                self.filled = 0;
                let [a, b, c, kind, flags, ..] = self.head;
                self.current = Frame { kind, flags, length: u32::from_be_bytes([0, a, b, c]) };
                self.payload = self.current.length;
                self.in_block |= kind == HEADERS;
                tell(self.current);
            }
            if self.payload == 0 {
                self.frames += 1;
                let Frame { kind, flags, .. } = self.current;
                self.in_block &= !(matches!(kind, HEADERS | CONTINUATION) && flags & END_HEADERS != 0);
            }
        }
    }

    /// Whether the preface and the first frame, the settings, are there.
    pub(crate) fn is_open(&self) -> bool {
        self.frames > 0
    }

    /// Whether a call's headers have begun and not ended: nothing else can come before they do.
    pub(crate) fn in_headers(&self) -> bool {
        self.in_block
    }

    /// Whether another frame may begin here.
    pub(crate) fn at_boundary(&self) -> bool {
        self.preface == 0 && self.filled == 0 && self.payload == 0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes_of(frame: Frame) -> Vec<u8> {
        let [_, a, b, c] = frame.length.to_be_bytes();
        let mut bytes = vec![a, b, c, frame.kind, frame.flags, 0, 0, 0, 1];
        // Contents that would be read as other frames by whoever loses count.
        bytes.extend((0..frame.length).map(|at| (at % 7) as u8));
        bytes
    }

    proptest! {
        #[test]
        fn frames_are_the_same_in_whatever_pieces_they_come(
            frames in prop::collection::vec((0..12u8, any::<u8>(), 0..300u32), 0..20),
            cuts in prop::collection::vec(1..40usize, 1..40),
        ) {
            let frames: Vec<Frame> =
                frames.into_iter().map(|(kind, flags, length)| Frame { kind, flags, length }).collect();
            let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
            bytes.extend(frames.iter().flat_map(|frame| bytes_of(*frame)));

            let mut reader = FrameReader::of_client();
            let mut seen = Vec::new();
            let (mut rest, mut cuts) = (bytes.as_slice(), cuts.iter().cycle());
            while !rest.is_empty() {
                let (piece, after) = rest.split_at(rest.len().min(*cuts.next().unwrap()));
                reader.read(piece, |frame| seen.push(frame));
                rest = after;
            }
            prop_assert_eq!(&seen, &frames);
            prop_assert!(reader.at_boundary());
            prop_assert_eq!(reader.is_open(), !frames.is_empty());
            let mut in_headers = false;
            for frame in frames.iter().filter(|frame| matches!(frame.kind, HEADERS | CONTINUATION)) {
                in_headers = (in_headers || frame.kind == HEADERS) && frame.flags & END_HEADERS == 0;
            }
            prop_assert_eq!(reader.in_headers(), in_headers);
        }
    }

    #[test]
    fn what_is_half_there_is_known() {
        let mut reader = FrameReader::of_client();
        assert!(!reader.at_boundary() && !reader.is_open());
        reader.read(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", |_| ());
        assert!(reader.at_boundary() && !reader.is_open());
        let settings = bytes_of(Frame { kind: 4, flags: 0, length: 6 });
        reader.read(&settings[..12], |_| ());
        assert!(!reader.at_boundary() && !reader.is_open());
        reader.read(&settings[12..], |_| ());
        assert!(reader.at_boundary() && reader.is_open());
        reader.read(&bytes_of(Frame { kind: HEADERS, flags: 0, length: 3 }), |_| ());
        assert!(reader.at_boundary() && reader.in_headers());
        reader.read(&bytes_of(Frame { kind: CONTINUATION, flags: END_HEADERS, length: 0 }), |_| ());
        assert!(!reader.in_headers());
    }
}
