//! Members of a group, out of the consumer protocol's own bytes.

use rdkafka::groups::GroupMemberInfo;

/// A member of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The member's id.
    pub id: String,
    /// Client id of its program.
    pub client: String,
    /// Address of its program.
    pub host: String,
    /// Partitions that it reads, as `topic:partition`.
    pub partitions: Vec<String>,
}

impl Member {
    pub(super) fn of(member: &GroupMemberInfo) -> Self {
        Self {
            id: member.id().to_owned(),
            client: member.client_id().to_owned(),
            host: member.client_host().trim_start_matches('/').to_owned(),
            // Bytes that are of another protocol are no partitions.
            partitions: member.assignment().and_then(assigned).unwrap_or_default(),
        }
    }
}

/// Partitions in the consumer protocol's assignment: version, then for each topic its name and the numbers.
fn assigned(bytes: &[u8]) -> Option<Vec<String>> {
    let mut rest = bytes.get(2..)?;
    let mut partitions = Vec::new();
    for _ in 0..int(&mut rest)? {
        let length = i16::from_be_bytes(take(&mut rest)?);
        let (name, after) = rest.split_at_checked(usize::try_from(length).ok()?)?;
        let name = std::str::from_utf8(name).ok()?;
        rest = after;
        for _ in 0..int(&mut rest)? {
            partitions.push(format!("{name}:{}", int(&mut rest)?));
        }
    }
    Some(partitions)
}

fn int(rest: &mut &[u8]) -> Option<i32> {
    take(rest).map(i32::from_be_bytes)
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (first, after) = rest.split_first_chunk::<N>()?;
    *rest = after;
    Some(*first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_assignment_is_read_and_what_is_none_is_refused() {
        let bytes = [&[0, 1, 0, 0, 0, 1, 0, 2][..], b"ab", &[0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0]].concat();
        assert_eq!(assigned(&bytes), Some(vec!["ab:0".to_owned(), "ab:3".to_owned()]));
        for cut in 0..bytes.len() - 4 {
            assert_eq!(assigned(&bytes[..cut]), None, "{cut} bytes");
        }
        assert_eq!(assigned(&[0, 1, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff]), None);
    }
}
