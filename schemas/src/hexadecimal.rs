//! Bytes as lower-case hexadecimal digits: fingerprints, sums, and the ids of traces.

/// Lower-case hexadecimal digits of `bytes`.
pub fn encode(bytes: &[u8]) -> String {
    hex::encode(bytes)
}

/// Exactly `N` bytes of lower-case digits; `None` for anything else, so that a value has one spelling.
pub fn decode<const N: usize>(text: impl AsRef<[u8]>) -> Option<[u8; N]> {
    let text = text.as_ref();
    let mut bytes = [0; N];
    let is_lower = !text.iter().any(u8::is_ascii_uppercase);
    (is_lower && hex::decode_to_slice(text, &mut bytes).is_ok()).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_as_many_lower_case_digits_as_there_are_bytes_are_read() {
        assert_eq!(decode::<2>(encode(&[0x0a, 0xff])), Some([0x0a, 0xff]));
        for text in ["", "0a", "0aff0", "0aff00", "0AFF", "0aFf", "0ag0", " 0aff", "+aff"] {
            assert_eq!(decode::<2>(text), None, "{text}");
        }
    }
}
