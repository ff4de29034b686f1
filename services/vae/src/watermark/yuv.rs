//! OpenCV's `COLOR_BGR2YUV` and `COLOR_YUV2BGR` for bytes: fixed point with 14 fractional bits, rounded half up, clamped.
//!
//! The factors are those of OpenCV's `modules/imgproc/src/color_yuv.simd.hpp` (`R2YI` … `V2RI`); all 2²⁴ values of both ways were
//! compared with OpenCV 5.0.

const SHIFT: i32 = 14;
const HALF: i32 = 1 << (SHIFT - 1);
/// Where no colour is.
const GRAY: i32 = 128;

/// Red, green, blue → Y, U, V.
pub(super) fn from_rgb([red, green, blue]: [u8; 3]) -> [u8; 3] {
    let [red, green, blue] = [red, green, blue].map(i32::from);
    let y = (4899 * red + 9617 * green + 1868 * blue + HALF) >> SHIFT;
    let colour = |difference: i32, factor: i32| (difference * factor + (GRAY << SHIFT) + HALF) >> SHIFT;
    [y, colour(blue - y, 8061), colour(red - y, 14_369)].map(byte)
}

/// Y, U, V → red, green, blue.
pub(super) fn to_rgb([y, u, v]: [u8; 3]) -> [u8; 3] {
    let (y, u, v) = (i32::from(y), i32::from(u) - GRAY, i32::from(v) - GRAY);
    let red = y + ((18_678 * v + HALF) >> SHIFT);
    let green = y + ((-6472 * u - 9519 * v + HALF) >> SHIFT);
    let blue = y + ((33_292 * u + HALF) >> SHIFT);
    [red, green, blue].map(byte)
}

fn byte(value: i32) -> u8 {
    value.clamp(0, 255) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Printed by `cv2.cvtColor` of OpenCV 5.0.
    #[test]
    fn values_are_opencvs() {
        let cases = [
            ([0, 0, 0], [0, 128, 128]),
            ([255, 255, 255], [255, 128, 128]),
            ([255, 0, 0], [76, 91, 255]),
            ([0, 0, 255], [29, 239, 103]),
            ([255, 255, 0], [226, 17, 153]),
            ([12, 200, 77], [130, 102, 25]),
        ];
        for (rgb, yuv) in cases {
            assert_eq!(from_rgb(rgb), yuv, "{rgb:?}");
        }
        for (yuv, rgb) in
            [([130, 102, 25], [13, 200, 77]), ([29, 239, 103], [0, 0, 255]), ([200, 0, 255], [255, 177, 0])]
        {
            assert_eq!(to_rgb(yuv), rgb, "{yuv:?}");
        }
    }
}
