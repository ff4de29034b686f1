//! Latents as a NumPy array: `numpy.load` reads it, and so does nearly everything else.

use darkroom_client::Latents;

/// The header's length is a multiple of this, so that the data is aligned (NEP 1, "A Simple File Format for NumPy Arrays").
const ALIGNMENT: usize = 64;

/// Magic, version 1.0 and the header's length.
const PREAMBLE: usize = 10;

/// A version 1.0 file: little-endian f32, row-major, `[channels, height / 8, width / 8]`.
pub(crate) fn encode(latents: &Latents) -> Vec<u8> {
    let [channels, height, width] = latents.shape;
    let mut header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({channels}, {height}, {width}), }}");
    let unpadded = PREAMBLE + header.len() + 1;
    header.extend(std::iter::repeat_n(' ', unpadded.next_multiple_of(ALIGNMENT) - unpadded));
    header.push('\n');

    let mut file = Vec::with_capacity(PREAMBLE + header.len() + latents.values.len() * 4);
    file.extend_from_slice(b"\x93NUMPY\x01\x00");
    // The header holds three numbers: it never nears the format's 65,535 bytes.
    file.extend_from_slice(&(header.len() as u16).to_le_bytes());
    file.extend_from_slice(header.as_bytes());
    file.extend(latents.values.iter().flat_map(|value| value.to_le_bytes()));
    file
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_numpys() {
        let file = encode(&Latents { shape: [1, 1, 2], values: vec![1.0, -2.0] });
        assert_eq!(&file[..10], b"\x93NUMPY\x01\x00\x76\x00");
        assert_eq!(file.len(), 128 + 8);
        assert!(file[10..].starts_with(b"{'descr': '<f4', 'fortran_order': False, 'shape': (1, 1, 2), }"));
        assert_eq!(file[127], b'\n');
        assert_eq!(&file[128..132], &1.0f32.to_le_bytes());
    }
}
