//! The segments of a JPEG file (ITU-T T.81 B.1), found as libjpeg finds them: for what its binding does not tell apart.

use memchr::memchr;

const EXTENDED_APP0: u8 = 0xe0;
const ADOBE_APP14: u8 = 0xee;
const COMMENT: u8 = 0xfe;
const START_OF_IMAGE: [u8; 2] = [0xff, 0xd8];
const END_OF_IMAGE: u8 = 0xd9;
const START_OF_SCAN: u8 = 0xda;
/// Marker and length.
const HEAD_BYTES: usize = 4;
/// Bytes of an APP0 and an APP14 segment below which libjpeg does not take them for JFIF's and Adobe's.
const JFIF_BYTES: usize = 14;
const ADOBE_BYTES: usize = 12;
/// Where JFIF's version and Adobe's colour transform stand.
const JFIF_MAJOR_AT: usize = HEAD_BYTES + 5;
const ADOBE_TRANSFORM_AT: usize = HEAD_BYTES + 11;
/// Where a frame header has its number of components.
const FRAME_COMPONENTS_AT: usize = HEAD_BYTES + 5;

/// What a walk over the whole file shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Survey {
    /// Scans begun.
    pub(super) scans: usize,
    /// Whether an end-of-image marker follows the first scan: one of a thumbnail, inside a segment, is none. libjpeg paints what is
    /// missing and warns, with the same words for a damaged file; Pillow refuses the one and takes the other.
    pub(super) ends: bool,
}

struct Segment<'a> {
    marker: u8,
    start: usize,
    bytes: &'a [u8],
}

/// From one marker to the next, over whatever is no marker between them: fill bytes, garbage, the data of a scan.
struct Segments<'a> {
    file: &'a [u8],
    at: usize,
}

impl<'a> Segments<'a> {
    const fn new(file: &'a [u8]) -> Self {
        Self { file, at: START_OF_IMAGE.len() }
    }
}

impl<'a> Iterator for Segments<'a> {
    type Item = Segment<'a>;

    fn next(&mut self) -> Option<Segment<'a>> {
        loop {
            self.at += memchr(0xff, self.file.get(self.at..)?)?;
            while *self.file.get(self.at + 1)? == 0xff {
                self.at += 1;
            }
            let (start, marker) = (self.at, self.file[self.at + 1]);
            let length = match marker {
                0x00 => {
                    self.at += 2;
                    continue;
                }
                // The length counts its own two bytes.
                0x01 | 0xd0..=0xd9 => 2,
                _ => 2 + usize::from(u16::from_be_bytes([*self.file.get(start + 2)?, *self.file.get(start + 3)?])).max(2),
            };
            self.at += length;
            return Some(Segment { marker, start, bytes: self.file.get(start..self.at)? });
        }
    }
}

pub(super) fn survey(file: &[u8]) -> Survey {
    let mut scans = 0;
    for segment in Segments::new(file) {
        match segment.marker {
            START_OF_SCAN => scans += 1,
            END_OF_IMAGE => return Survey { scans, ends: scans > 0 },
            _ => {}
        }
    }
    Survey { scans, ends: false }
}

/// The file with a header that says the same and has nothing to warn of: bytes between segments, application data and comments are
/// left out, an unknown version of JFIF is the known one, and an unknown Adobe transform is what libjpeg takes it for.
pub(super) fn with_plain_header(file: &[u8]) -> Vec<u8> {
    let components = Segments::new(file).take_while(|segment| segment.marker != START_OF_SCAN).find_map(|segment| {
        let frame = matches!(segment.marker, 0xc0..=0xcf) && !matches!(segment.marker, 0xc4 | 0xc8 | 0xcc);
        frame.then(|| segment.bytes.get(FRAME_COMPONENTS_AT).copied()).flatten()
    });
    let mut plain = START_OF_IMAGE.to_vec();
    for Segment { marker, start, bytes } in Segments::new(file) {
        let kept = plain.len();
        match (marker, &bytes[HEAD_BYTES.min(bytes.len())..]) {
            (START_OF_SCAN, _) => {
                plain.extend_from_slice(&file[start..]);
                break;
            }
            (EXTENDED_APP0, data) if data.len() >= JFIF_BYTES && data.starts_with(b"JFIF\0") => {
                plain.extend_from_slice(bytes);
                plain[kept + JFIF_MAJOR_AT] = 1;
            }
            (ADOBE_APP14, data) if data.len() >= ADOBE_BYTES && data.starts_with(b"Adobe") => {
                plain.extend_from_slice(bytes);
                let transform = &mut plain[kept + ADOBE_TRANSFORM_AT];
                *transform = match (*transform, components) {
                    (0, _) => 0,
                    (_, Some(4)) => 2,
                    _ => 1,
                };
            }
            (EXTENDED_APP0..=0xef | COMMENT, _) => {}
            _ => plain.extend_from_slice(bytes),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::{Survey, survey, with_plain_header};

    #[test]
    fn an_end_marker_of_a_thumbnail_does_not_hide_a_truncation() {
        let head = [0xff, 0xd8, 0xff, 0xe1, 0, 6, 0xff, 0xd8, 0xff, 0xd9];
        let scan = [0xff, 0xda, 0, 2, 1, 2, 0xff, 0x00, 3];
        let truncated = [&head[..], &scan].concat();
        assert_eq!(survey(&truncated), Survey { scans: 1, ends: false });
        assert_eq!(survey(&[&truncated[..], &[0xff, 0xd9, 0, 0]].concat()), Survey { scans: 1, ends: true });
        for length in 0..truncated.len() {
            assert!(!survey(&truncated[..length]).ends);
        }
    }

    #[test]
    fn an_end_marker_inside_a_table_between_two_scans_is_no_end() {
        let between =
            [0xff, 0xd8, 0xff, 0xda, 0, 2, 7, 0xff, 0xd3, 9, 0xff, 0xc4, 0, 6, 0xff, 0xd9, 1, 2, 0xff, 0xff, 0xda, 0, 2, 1];
        assert_eq!(survey(&between), Survey { scans: 2, ends: false });
        assert_eq!(survey(&[&between[..], &[0xff, 0xd9]].concat()), Survey { scans: 2, ends: true });
    }

    #[test]
    fn a_plain_header_keeps_tables_and_frames_and_mends_versions_and_transforms() {
        let jfif = [&[0xff, 0xe0, 0, 16][..], b"JFIF\0\x07\0\0\0\x01\0\x01\0\0"].concat();
        let adobe = [&[0xff, 0xee, 0, 14][..], b"Adobe\0\x64\0\0\0\0\x09"].concat();
        let frame = [0xff, 0xc0, 0, 8, 8, 0, 1, 0, 1, 3];
        let rest = [0xff, 0xda, 0, 2, 1, 0xff, 0x00, 0xff, 0xd9];
        let file = [&[0xff, 0xd8, 5, 5][..], &jfif, &[0xff, 0xfe, 0, 3, 9], &adobe, &[0, 0xff, 0x00, 1], &[0xff], &frame, &rest]
            .concat();
        let (mut mended_jfif, mut mended_adobe) = (jfif, adobe);
        mended_jfif[9] = 1;
        mended_adobe[15] = 1;
        assert_eq!(with_plain_header(&file), [&[0xff, 0xd8][..], &mended_jfif, &mended_adobe, &frame, &rest].concat());
    }
}
