//! Readers of values that producers write and serde's own readers refuse.

use std::borrow::Cow;

use base64::Engine as _;
use base64::alphabet::STANDARD as ALPHABET;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::Number;

/// Doubles below it have one whole number each, 2^53.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
/// With or without padding. Bits behind the last byte are passed over, as Python, Go and Java do.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &ALPHABET,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent).with_decode_allow_trailing_bits(true),
);

/// `null` as an absent field: Go writes its nil slices and maps so.
pub(crate) fn null_as_absent<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// A whole number however it is written: to JSON Schema 17.0 and 1.7e1 are integers too. Above 2^53 it must be written as one, because
/// a double no longer tells it from its neighbours.
pub(crate) fn whole<'de, D: Deserializer<'de>, T: TryFrom<i128>>(deserializer: D) -> Result<T, D::Error> {
    let number = Number::deserialize(deserializer)?;
    whole_number(&number).and_then(|whole| T::try_from(whole).ok()).ok_or_else(|| {
        D::Error::custom(format!(
            "invalid value: {number}, expected a whole number of the field's range, above 2^53 without a point or exponent"
        ))
    })
}

/// [`whole`], absent or `null`.
pub(crate) fn optional_whole<'de, D: Deserializer<'de>, T: TryFrom<i128>>(deserializer: D) -> Result<Option<T>, D::Error> {
    struct Whole<T>(T);
    impl<'de, T: TryFrom<i128>> Deserialize<'de> for Whole<T> {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            whole(deserializer).map(Self)
        }
    }
    Ok(Option::<Whole<T>>::deserialize(deserializer)?.map(|whole| whole.0))
}

/// The number, where it is a whole one that was not rounded.
pub(crate) fn whole_number(number: &Number) -> Option<i128> {
    if let Some(whole) = number.as_i128() {
        return Some(whole);
    }
    let float = number.as_f64().filter(|float| float.fract() == 0.0 && float.abs() < EXACT_MAX)?;
    Some(float as i128)
}

/// Bytes of base64 as it is written: with line breaks (RFC 2045), without padding, in the alphabet for addresses (RFC 4648 §5), behind
/// the head of a data URL (RFC 2397).
///
/// # Errors
/// What is wrong with it.
pub fn decode_base64(text: &str) -> Result<Vec<u8>, String> {
    let mut text = Cow::Borrowed(text);
    if let Some((head, data)) = text.split_once(',')
        && head.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("data:"))
    {
        let is_base64 = head.rsplit(';').next().is_some_and(|last| last.trim().eq_ignore_ascii_case("base64"));
        if !is_base64 {
            return Err("a data URL that is not base64; send `data:image/…;base64,…`, or base64 alone".to_owned());
        }
        text = Cow::Owned(percent_decoded(data)?);
    }
    if text.contains(|c: char| c.is_ascii_whitespace() || matches!(c, '-' | '_')) {
        let plain = text.chars().filter(|c| !c.is_ascii_whitespace()).map(|c| match c {
            '-' => '+',
            '_' => '/',
            other => other,
        });
        text = Cow::Owned(plain.collect());
    }
    BASE64.decode(text.as_bytes()).map_err(|error| format!("invalid base64: {error}"))
}

/// The data of a data URL, in which any character may be percent-encoded (`%2B` for +).
fn percent_decoded(data: &str) -> Result<String, String> {
    let mut parts = data.split('%');
    let mut decoded = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let digits = part.get(..2).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()).filter(u8::is_ascii);
        let byte = byte.ok_or("a data URL with a % that no two hexadecimal digits of a base64 character follow")?;
        decoded.push(char::from(byte));
        decoded.push_str(&part[2..]);
    }
    Ok(decoded)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::{decode_base64, whole_number};

    #[test]
    fn base64_is_read_as_it_is_written() {
        let bytes = [0xfb, 0xff, 0xfe, 1];
        for text in [
            "+//+AQ==",
            "+//+AQ",
            "-__-AQ==",
            "-__-AQ",
            "+//+\r\nAQ==\r\n",
            " +//+ AQ ==",
            "data:image/png;base64,+//+AQ==",
            "DATA:;charset=utf-8;BASE64,\n-__-AQ",
            "data:image/png;base64,%2B%2f%2F%2bAQ%3D%3D",
            "+//+AR==",
        ] {
            assert_eq!(decode_base64(text).unwrap(), bytes, "{text:?}");
        }
        assert!(decode_base64("").unwrap().is_empty());
        for (text, what) in [
            ("data:image/svg+xml,%3Csvg", "not base64"),
            ("%%", "invalid base64"),
            ("+//+A", "invalid base64"),
            ("data:;base64,AA%3", "a % that"),
            ("data:;base64,AA%+1", "a % that"),
            ("data:;base64,AA%图", "a % that"),
            ("图", "invalid base64"),
        ] {
            assert!(decode_base64(text).unwrap_err().contains(what), "{text}");
        }
    }

    #[test]
    fn a_whole_number_is_one_however_it_is_written_and_is_never_rounded() {
        let whole = |text: &str| whole_number(&serde_json::from_str(text).unwrap());
        for (text, number) in [
            ("17", 17),
            ("17.0", 17),
            ("1.7e1", 17),
            ("-3.0", -3),
            ("1.76e12", 1_760_000_000_000),
            ("9223372036854775807", i128::from(i64::MAX)),
        ] {
            assert_eq!(whole(text), Some(number), "{text}");
        }
        for text in ["1.5", "1e17", "9007199254740992.0", "9007199254740993.0", "1e300"] {
            assert_eq!(whole(text), None, "{text}");
        }
    }
}
