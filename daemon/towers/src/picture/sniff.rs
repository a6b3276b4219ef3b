//! The format of a file by its first bytes; never by a name or a header that somebody wrote.

/// Formats that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Jpeg,
    Png,
    WebP,
    Gif,
    Bmp,
}

impl Format {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Jpeg => "JPEG",
            Self::Png => "PNG",
            Self::WebP => "WebP",
            Self::Gif => "GIF",
            Self::Bmp => "BMP",
        }
    }
}

/// Bytes looked at to name a file that is not read.
const LOOKED_AT_BYTES: usize = 512;

/// The format, or what the bytes look like instead.
pub(super) fn sniff(bytes: &[u8]) -> Result<Format, String> {
    match bytes {
        [0xff, 0xd8, ..] => Ok(Format::Jpeg),
        [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => Ok(Format::Png),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Ok(Format::WebP),
        [b'G', b'I', b'F', b'8', ..] => Ok(Format::Gif),
        [b'B', b'M', ..] if bytes.len() >= 26 => Ok(Format::Bmp),
        _ => Err(describe(bytes)),
    }
}

fn describe(bytes: &[u8]) -> String {
    let binary = match bytes {
        [b'I', b'I', b'*', 0, ..] | [b'M', b'M', 0, b'*', ..] => Some("a TIFF picture"),
        [_, _, _, _, b'f', b't', b'y', b'p', b'a', b'v', b'i', ..] => Some("an AVIF picture"),
        [_, _, _, _, b'f', b't', b'y', b'p', b'h' | b'm', ..] => Some("a HEIF picture or MPEG-4 video"),
        [_, _, _, _, b'f', b't', b'y', b'p', ..] => Some("an MPEG-4 file"),
        [0xff, 0x0a, ..] | [0, 0, 0, 0x0c, b'J', b'X', b'L', ..] => Some("a JPEG XL picture"),
        [0, 0, 1, 0, ..] => Some("an icon file"),
        [b'%', b'P', b'D', b'F', ..] => Some("a PDF document"),
        [0x1f, 0x8b, ..] => Some("a gzip file"),
        [b'P', b'K', 3, 4, ..] => Some("a ZIP file"),
        _ => None,
    };
    if let Some(found) = binary {
        return found.to_owned();
    }
    let head = &bytes[..bytes.len().min(LOOKED_AT_BYTES)];
    let text = match std::str::from_utf8(head) {
        Ok(text) => text,
        // The window may end inside a character.
        Err(error) if error.error_len().is_none() => std::str::from_utf8(&head[..error.valid_up_to()]).unwrap_or_default(),
        Err(_) => "",
    };
    let text = text.trim_start_matches('\u{feff}').trim_start().to_ascii_lowercase();
    let printable = !text.is_empty() && !text.chars().any(|c| c.is_control() && !c.is_whitespace());
    if printable && text.contains("<svg") {
        "an SVG drawing".to_owned()
    } else if printable && (text.starts_with("<!doctype html") || text.contains("<html") || text.contains("<head")) {
        "an HTML page".to_owned()
    } else if printable && text.starts_with('<') {
        "an XML document".to_owned()
    } else if printable && text.starts_with(['{', '[']) {
        "JSON text".to_owned()
    } else if printable {
        "plain text".to_owned()
    } else {
        let first = bytes.iter().take(8).map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ");
        format!("bytes that begin with {first}")
    }
}

#[cfg(test)]
mod tests {
    use super::{Format, sniff};

    #[test]
    fn the_error_names_what_the_bytes_are_instead() {
        let cases: [(&[u8], &str); 8] = [
            (b"<!DOCTYPE html><html>404", "an HTML page"),
            (b"\xef\xbb\xbf  <html lang=zh>", "an HTML page"),
            (b"<?xml version='1.0'?><svg xmlns=''/>", "an SVG drawing"),
            (b"%PDF-1.7", "a PDF document"),
            (b"{\"error\": 404}", "JSON text"),
            ("没有这张图".as_bytes(), "plain text"),
            (b"\0\0\0\x20ftypavif", "an AVIF picture"),
            (b"\x01\x02\x03", "bytes that begin with 01 02 03"),
        ];
        for (bytes, found) in cases {
            assert_eq!(sniff(bytes), Err(found.to_owned()));
        }
        assert_eq!(sniff(b"\xff\xd8\xff"), Ok(Format::Jpeg));
    }
}
