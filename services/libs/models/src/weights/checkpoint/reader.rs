//! A cursor over the pickle's bytes: every read is bounded, and strings are ranges of the input, never copies.

/// A range of the pickle that holds UTF-8 text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: u32,
    pub(super) len: u32,
}

/// What is wrong with the pickle; the machine adds the offset.
pub(super) type Result<T> = std::result::Result<T, String>;

pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub(super) fn offset(&self) -> usize {
        self.at
    }

    pub(super) fn byte(&mut self) -> Result<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(super) fn u16(&mut self) -> Result<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn i32(&mut self) -> Result<i32> {
        self.array().map(i32::from_le_bytes)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let bytes =
            self.bytes.get(self.at..).and_then(|rest| rest.first_chunk()).ok_or_else(|| self.short(N as u64))?;
        self.at += N;
        Ok(*bytes)
    }

    /// The next `len` bytes.
    pub(super) fn take(&mut self, len: u64) -> Result<&'a [u8]> {
        let end = usize::try_from(len).ok().and_then(|len| self.at.checked_add(len));
        let bytes = end.and_then(|end| self.bytes.get(self.at..end)).ok_or_else(|| self.short(len))?;
        self.at += bytes.len();
        Ok(bytes)
    }

    /// The next `len` bytes as text.
    pub(super) fn text(&mut self, len: u64) -> Result<Span> {
        let start = self.at;
        let bytes = self.take(len)?;
        std::str::from_utf8(bytes).map_err(|error| format!("a string is not UTF-8: {error}"))?;
        // The pickle is at most 64 MiB, so both fit.
        Ok(Span { start: start as u32, len: bytes.len() as u32 })
    }

    /// The text up to the next line feed.
    pub(super) fn line(&mut self) -> Result<Span> {
        let rest = &self.bytes[self.at..];
        let len = rest.iter().position(|byte| *byte == b'\n').ok_or("the pickle ends within a name")?;
        let span = self.text(len as u64)?;
        self.at += 1;
        Ok(span)
    }

    fn short(&self, needed: u64) -> String {
        let left = self.bytes.len() - self.at;
        format!("the pickle is cut short: {needed} bytes are needed and {left} are left")
    }
}
