//! What somebody most likely meant.

/// The candidate that `name` most likely was meant to be: a part of it or at most a third of its letters away.
pub(crate) fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let limit = name.chars().count().div_ceil(3).max(1);
    let by_distance = candidates.filter(|c| !c.is_empty()).map(|candidate| {
        let contained = name.len() >= 4 && (candidate.starts_with(name) || name.starts_with(candidate));
        (if contained { 1 } else { strsim::osa_distance(name, candidate) }, candidate)
    });
    by_distance.min_by_key(|(distance, _)| *distance).filter(|(distance, _)| *distance <= limit).map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_suggested_only_when_it_is_near() {
        let names = ["batch_max", "queue_max", "wait_us_max"];
        assert_eq!(nearest("batch_mx", names.into_iter()), Some("batch_max"));
        assert_eq!(nearest("batch", names.into_iter()), Some("batch_max"));
        assert_eq!(nearest("colour", names.into_iter()), None);
    }

    #[test]
    fn a_swap_of_two_letters_is_one_edit() {
        assert_eq!(nearest("cdua", ["cpu", "cuda"].into_iter()), Some("cuda"));
    }
}
